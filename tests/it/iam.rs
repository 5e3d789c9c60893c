//! Tokens of RDS's IAM authentication in place of a password.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_sdk_secretsmanager::config::Credentials;
use pgvigil::db::iam::Recipient;
use serde_json::{Value, json};

use crate::support::app::{Request, TestApp};
use crate::support::database::TestDatabase;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::secrets::store;
use crate::support::tool;

/// Amazon's own generator, at a time that it is told.
const BOTOCORE: &str = r#"
import datetime, json, sys
import botocore.auth, botocore.session
case = json.load(sys.stdin)
at = datetime.datetime.fromtimestamp(case["at"], datetime.timezone.utc)
botocore.auth.get_current_datetime = lambda *_, **__: at
session = botocore.session.Session()
session.set_credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", case["session_token"])
client = session.create_client("rds", region_name="us-east-1")
print(client.generate_db_auth_token(case["host"], case["port"], case["user"], Region=case["region"]), end="")
"#;

fn amazons_token(case: &Value) -> String {
    let mut python = Command::new(tool("moto/bin/python"));
    python.args(["-c", BOTOCORE]).env_clear();
    let mut python = python
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("running python");
    let mut input = python.stdin.take().expect("its standard input");
    write!(input, "{case}").expect("saying what for");
    drop(input);
    let output = python.wait_with_output().expect("waiting for python");
    assert!(output.status.success(), "{case}");
    String::from_utf8(output.stdout).expect("reading a token")
}

/// The parameters' order is the signer's own choice: a signature is over them sorted.
fn parts(token: &str) -> (String, BTreeSet<String>) {
    let (address, parameters) = token.split_once('?').expect("an address with parameters");
    let parameters = parameters.split('&').map(str::to_owned);
    (address.to_owned(), parameters.collect())
}

#[test]
fn a_token_is_the_one_that_amazons_own_generator_makes() {
    for (host, user, region, session_token) in [
        (
            "weddings.abc123.eu-west-1.rds.amazonaws.com",
            "pgvigil",
            "eu-west-1",
            Value::Null,
        ),
        (
            "p.proxy-abc.cn-north-1.rds.amazonaws.com.cn",
            "a b+c*d~e/f@g=ü",
            "cn-north-1",
            json!("IQoJb3JpZ2luX2VjEJ//+/=*~ x"),
        ),
        ("127.0.0.1", "pgvigil", "us-east-1", Value::Null),
    ] {
        let at = 1_756_123_200_u64;
        let expected = amazons_token(&json!({
            "host": host, "port": 5433, "user": user, "region": region, "at": at, "session_token": session_token,
        }));
        let recipient = Recipient {
            host: host.to_owned(),
            port: 5433,
            user: user.to_owned(),
        };
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            session_token.as_str().map(str::to_owned),
            None,
            "tests",
        );
        let at = UNIX_EPOCH + Duration::from_secs(at);
        // The host's region counts where it names one.
        let token = recipient.token(credentials, Some("us-east-1"), at);
        let token = token.expect("signing");
        assert_eq!(parts(token.expose()), parts(&expected), "{host}");
        assert!(expected.contains("X-Amz-Expires=900"), "{expected}");
    }
}

/// What the function, with the credentials it has in these tests, signs at a moment.
fn token_at(database: &TestDatabase, login: &str, at: SystemTime) -> String {
    let recipient = Recipient {
        host: "127.0.0.1".to_owned(),
        port: database.port(),
        user: login.to_owned(),
    };
    let credentials = Credentials::new("test", "test", None, None, "tests");
    let token = recipient.token(credentials, Some("us-east-1"), at);
    token.expect("signing").expose().to_owned()
}

/// A server whose password is the token of one second stands in for one that verifies tokens.
#[tokio::test]
async fn each_connection_signs_in_with_a_token_of_its_own() {
    let database = plain().database();
    let login = database.new_monitor_login();
    let mut credentials = database.credentials(&login);
    credentials["auth"] = json!("iam");
    credentials["password"].take();
    let app = TestApp::with_secret(&database, store().create(&credentials), &[]).await;
    let health = async || {
        let request = Request::get("/api/monitoring/health", "");
        app.send(request).await.status
    };
    let sample = json!({"task": "sample"});
    let refused = async || {
        let error = app.invoke(&sample).await.expect_err("another second's");
        assert!(error.error_message.contains("login refused"), "{error:?}");
        assert!(error.error_message.contains("rds_iam"), "{error:?}");
        assert!(!error.error_message.contains("Signature"), "{error:?}");
    };
    refused().await;

    let started = Instant::now();
    let mut status = 0;
    while status != 200 {
        assert!(started.elapsed() < Duration::from_secs(30), "never let in");
        let at = SystemTime::now() + Duration::from_millis(1500);
        let token = token_at(&database, &login, at);
        let set = format!("alter role {login} password '{token}'");
        database.psql(SUPERUSER, &set).expect("setting a password");
        while status != 200 && SystemTime::now() < at + Duration::from_secs(1) {
            status = health().await;
        }
    }
    let until = Instant::now() + Duration::from_millis(1100);
    tokio::time::sleep_until(until.into()).await;
    assert_eq!(health().await, 200, "what is connected stays");

    let end = format!(
        "select pg_terminate_backend(pid, 20000) from pg_stat_activity where usename = '{login}'"
    );
    database.psql(SUPERUSER, &end).expect("ending sessions");
    refused().await;
}
