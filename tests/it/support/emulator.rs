//! The Lambda binary under AWS's runtime interface emulator: what is closest to the cloud without one.

use std::net::TcpStream;
use std::process::Command;

use super::database::TestDatabase;
use super::http::{Response, post};
use super::leash::Leash;
use super::scratch::free_port;
use super::secrets::{Secret, store};
use super::token::{AUDIENCE, ISSUER, KEY};
use super::tool;

const INVOCATIONS: &str = "/2015-03-31/functions/function/invocations";

/// An emulated function. It initialises at the first invocation, like a cold start.
#[derive(Debug)]
pub(crate) struct Emulator {
    port: u16,
    leash: Leash,
}

impl Emulator {
    /// Starts the emulator with our binary, which sees these variables, and of the test's own only `PATH`.
    #[track_caller]
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let port = free_port();
        let leash = Leash::spawn(command(port, variables));
        leash
            .wait_until_ready("the Lambda emulator", |_| {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            })
            .unwrap_or_else(|problem| panic!("{problem}"));
        Self { port, leash }
    }

    /// Starts the function on a database, in token or gateway mode, with its secrets in the real store: the monitor's login,
    /// the migrating role's and the key.
    pub(crate) fn start_on(
        database: &TestDatabase,
        auth_mode: &str,
        login: Secret,
    ) -> (Self, Vec<Secret>) {
        let secrets = vec![
            login,
            store().create(&database.credentials(database.migrator())),
            store().create_text(KEY),
        ];
        let mut variables = store().environment();
        variables.extend([
            ("DATABASE_SECRET_ID", secrets[0].id.clone()),
            ("MIGRATION_SECRET_ID", secrets[1].id.clone()),
            // The same one under another name.
            ("DATABASE_TARGETS", format!("reports={}", secrets[0].id)),
            ("DATABASE_TLS", "disable".to_owned()),
            ("AUTH_MODE", auth_mode.to_owned()),
            ("AUTH_SECRET_ID", secrets[2].id.clone()),
            ("AUTH_ISSUER", ISSUER.to_owned()),
            ("AUTH_AUDIENCE", AUDIENCE.to_owned()),
            ("AUTH_ROLE_CLAIM", "cognito:groups".to_owned()),
        ]);
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        (Self::start(&variables), secrets)
    }

    /// Invokes the function with an event. The status is the emulator's, the body the function's.
    pub(crate) fn invoke(&self, event: &str) -> Response {
        post(self.port, INVOCATIONS, &[], event).expect("invoking the function")
    }

    /// What the function and the emulator have written so far, on both streams.
    pub(crate) fn log(&self) -> String {
        self.leash.log()
    }
}

/// SIGTERM, because the emulator then stops the function too, which a killed emulator would leave behind.
fn command(port: u16, variables: &[(&str, &str)]) -> Command {
    let mut command = Leash::command("TERM", None);
    command.env_clear();
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.envs(variables.iter().copied());
    command.arg(tool("lambda/bin/aws-lambda-rie"));
    command.arg("--runtime-interface-emulator-address");
    command.arg(format!("127.0.0.1:{port}"));
    command.arg("--runtime-api-address");
    command.arg(format!("127.0.0.1:{}", free_port()));
    command.arg(env!("CARGO_BIN_EXE_pgvigil"));
    command
}
