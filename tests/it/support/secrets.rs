//! A real Secrets Manager endpoint: moto, one per test process.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::post;
use super::leash::Leash;
use super::scratch::{free_port, unique};
use super::tool;

/// Moto believes every signature; from the scope it learns which service and region is meant.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20250825/us-east-1/secretsmanager/aws4_request, \
                             SignedHeaders=host, Signature=0";

/// Moto as its own command starts it. For each event that a rule hands on it would build the same parsers of `JSONPath` again,
/// which takes longer than a publisher waits for ten of them: here each is built once.
const MOTO: &str = "
import functools, sys
import jsonpath_ng.ext
jsonpath_ng.ext.parse = functools.lru_cache(maxsize=None)(jsonpath_ng.ext.parse)
from moto.server import main
sys.exit(main())
";

/// The running endpoint.
#[derive(Debug)]
pub(crate) struct SecretStore {
    pub(crate) port: u16,
    _leash: Leash,
}

/// A secret of one test, under a name that no other test has.
#[derive(Debug)]
pub(crate) struct Secret {
    pub(crate) id: String,
}

/// The store that all tests share; each makes secrets of its own in it.
#[track_caller]
pub(crate) fn store() -> &'static SecretStore {
    static STORE: LazyLock<Result<SecretStore, String>> = LazyLock::new(SecretStore::start);
    let _ = tool("moto/bin/python");
    STORE.as_ref().unwrap_or_else(|problem| panic!("{problem}"))
}

impl SecretStore {
    fn start() -> Result<Self, String> {
        let port = free_port();
        let mut server = Leash::command("KILL", None);
        server.arg(tool("moto/bin/python")).args(["-c", MOTO]);
        server.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let leash = Leash::spawn(server);
        leash.wait_until_ready("moto", |_| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self {
            port,
            _leash: leash,
        })
    }

    /// What AWS's SDK must find in its environment to talk to this store.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        vec![
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ]
    }

    pub(crate) fn create(&self, value: &Value) -> Secret {
        self.create_text(&value.to_string())
    }

    /// A secret that is no JSON, like a key.
    pub(crate) fn create_text(&self, text: &str) -> Secret {
        let id = unique("test/");
        let parameters = json!({ "Name": id, "SecretString": text });
        self.call("CreateSecret", &parameters);
        Secret { id }
    }

    /// Gives a secret a new current value, as somebody who turns a password by hand does.
    ///
    /// Without staging labels: moto keeps AWSPENDING until it is removed, and after a staged rotation a plain put
    /// leaves it with two current versions, of which it answers the old one.
    pub(crate) fn replace(&self, id: &str, value: &Value) {
        let parameters = json!({ "SecretId": id, "SecretString": value.to_string() });
        self.call("PutSecretValue", &parameters);
    }

    pub(crate) fn delete(&self, secret: &Secret) {
        let parameters = json!({ "SecretId": secret.id, "ForceDeleteWithoutRecovery": true });
        self.call("DeleteSecret", &parameters);
    }

    /// The current value, or the type of the service's refusal.
    pub(crate) fn read(&self, secret: &Secret) -> Result<Value, String> {
        let answer = self.try_call("GetSecretValue", &json!({ "SecretId": secret.id }))?;
        let text = answer["SecretString"].as_str().unwrap_or_default();
        Ok(serde_json::from_str(text).expect("parsing a secret"))
    }

    fn call(&self, action: &str, parameters: &Value) {
        if let Err(kind) = self.try_call(action, parameters) {
            panic!("the secret store refused {action}: {kind}");
        }
    }

    fn try_call(&self, action: &str, parameters: &Value) -> Result<Value, String> {
        let target = format!("secretsmanager.{action}");
        let headers = [
            ("X-Amz-Target", target.as_str()),
            ("Content-Type", "application/x-amz-json-1.1"),
            ("Authorization", AUTHORIZATION),
        ];
        // Asked by many at once moto now and then trips over itself, with a page of HTML; the SDK tries such an answer again, too.
        let mut tries = 1;
        let answer = loop {
            let answer = post(self.port, "/", &headers, &parameters.to_string());
            let answer = answer.expect("asking the secret store");
            if answer.status < 500 || tries == 5 {
                break answer;
            }
            tries += 1;
        };
        let body: Value = serde_json::from_str(&answer.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", answer.status, answer.body));
        match answer.status {
            200 => Ok(body),
            _ => Err(body["__type"].to_string()),
        }
    }
}

/// Longer than anybody waits for a secret.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way to the store that counts who goes through, and can be closed.
#[derive(Debug)]
pub(crate) struct Turnstile {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<u8>>>,
    is_open: Arc<AtomicBool>,
}

impl Turnstile {
    pub(crate) fn new() -> Self {
        Self::in_company_of(1)
    }

    /// Lets a question through when so many are there, of as many secrets: whoever asks for one after the other waits in vain,
    /// however often he asks again.
    pub(crate) fn in_company_of(count: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listening");
        let turnstile = Self {
            port: listener.local_addr().expect("asking for the port").port(),
            asked: Arc::default(),
            is_open: Arc::new(AtomicBool::new(true)),
        };
        let (asked, is_open) = (Arc::clone(&turnstile.asked), Arc::clone(&turnstile.is_open));
        let store_port = store().port;
        let there: Arc<(Mutex<BTreeSet<Vec<u8>>>, Condvar)> = Arc::default();
        // Waits for clients until the test process ends.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                let upstream = TcpStream::connect(("127.0.0.1", store_port));
                let upstream = upstream.expect("connecting to the store");
                let (answers, back) = (upstream.try_clone(), client.try_clone());
                let (asked, is_open) = (Arc::clone(&asked), Arc::clone(&is_open));
                let there = Arc::clone(&there);
                thread::spawn(move || {
                    let mut question = Vec::new();
                    relay(client, upstream, |bytes| {
                        asked.lock().expect("locking").extend_from_slice(bytes);
                        question.extend_from_slice(bytes);
                        if let Some(secret) = secret_asked_for(&question) {
                            let (secrets, has_come) = &*there;
                            let mut secrets = secrets.lock().expect("locking");
                            secrets.insert(secret.to_vec());
                            has_come.notify_all();
                            let alone = |secrets: &mut BTreeSet<_>| secrets.len() < count;
                            let waited = has_come.wait_timeout_while(secrets, PATIENCE, alone);
                            drop(waited.expect("waiting for company"));
                            question.clear();
                        }
                        is_open.load(Ordering::SeqCst)
                    });
                });
                if let (Ok(answers), Ok(back)) = (answers, back) {
                    thread::spawn(move || relay(answers, back, |_| true));
                }
            }
        });
        turnstile
    }

    /// How often this secret was asked for.
    pub(crate) fn fetches_of(&self, secret: &Secret) -> usize {
        self.fetches_of_id(&secret.id)
    }

    pub(crate) fn fetches_of_id(&self, id: &str) -> usize {
        let asked = self.asked.lock().expect("locking");
        String::from_utf8_lossy(&asked).matches(id).count()
    }

    /// Lets nobody through any more, or everybody again.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::SeqCst);
    }
}

/// What a question for a secret says after its headers, where it is there already.
fn secret_asked_for(question: &[u8]) -> Option<&[u8]> {
    let is_one = question.windows(14).any(|word| word == b"GetSecretValue");
    let body = question.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    (is_one && question.len() > body).then(|| &question[body..])
}

/// Passes bytes on for as long as `pass` lets it.
fn relay(mut from: TcpStream, mut to: TcpStream, mut pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !pass(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        // It may be closed already.
        let _ = end.shutdown(Shutdown::Both);
    }
}
