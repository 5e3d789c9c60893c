//! What Secrets Manager can do to a request: each a clear error, none for longer than a caller waits.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::app::{Request, TestApp};
use crate::support::postgres::plain;
use crate::support::scratch::free_port;
use crate::support::secrets::{Turnstile, store};
use crate::support::templates::MONITOR;

/// A store that answers every request the same, or none at all.
fn always(answer: Option<(u16, &'static str)>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listening");
    let port = listener.local_addr().expect("asking for the port").port();
    // Waits for clients until the test process ends.
    thread::spawn(move || {
        let mut silent = Vec::new();
        for client in listener.incoming().flatten() {
            match answer {
                Some((status, body)) => answer_one(client, status, body),
                None => silent.push(client),
            }
        }
    });
    port
}

fn answer_one(mut client: TcpStream, status: u16, body: &str) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    // The secret's name is the end of the body.
    while !request.ends_with(b"}") {
        match client.read(&mut buffer) {
            Ok(length @ 1..) => request.extend_from_slice(&buffer[..length]),
            _ => return,
        }
    }
    let length = body.len();
    // A client that has gone is no concern of a store's.
    let _ = write!(
        client,
        "HTTP/1.1 {status} x\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

/// A caller waits for 29 seconds at a gateway, and the function gives a silent store up after five.
const LONG: Duration = Duration::from_secs(15);

#[tokio::test]
async fn whatever_the_store_answers_is_503_in_time_and_named_in_the_log() {
    let database = plain().database();
    let denied =
        r#"{"__type":"AccessDeniedException","Message":"User: hunter2 is not authorized"}"#;
    let throttled = r#"{"__type":"ThrottlingException","message":"Rate exceeded, hunter2"}"#;
    let failing = r#"{"__type":"InternalServiceError","message":"hunter2"}"#;
    let undecryptable = r#"{"__type":"DecryptionFailure","message":"hunter2"}"#;
    let no_text = r#"{"ARN":"a","Name":"n","SecretBinary":"aHVudGVyMg=="}"#;
    for (port, reason) in [
        (
            always(Some((400, denied))),
            "is denied: allow secretsmanager:GetSecretValue",
        ),
        (always(Some((400, throttled))), "ThrottlingException"),
        (always(Some((500, failing))), "InternalServiceError"),
        (always(Some((400, undecryptable))), "DecryptionFailure"),
        (always(Some((200, no_text))), "holds no text"),
        (always(Some((200, "<html>hunter2"))), "could not be read"),
        (always(None), "no answer in time"),
        (free_port(), "no connection to Secrets Manager"),
    ] {
        let login = store().create(&database.credentials(MONITOR));
        let id = login.id.clone();
        let app = TestApp::with_store(&database, login, &[], port).await;
        let started = Instant::now();
        let error = app.invoke(&json!({"task": "sample"})).await;
        let error = error.expect_err("no credentials");
        assert!(started.elapsed() < LONG, "{reason}");
        let message = error.error_message;
        assert!(
            message.contains(reason) && message.contains(&id),
            "{message}"
        );
        assert!(!message.contains("hunter2"), "{message}");

        let started = Instant::now();
        let answer = app.get_as("admin", "").await;
        assert!(started.elapsed() < LONG, "{reason}");
        let problem = (answer.status, answer.problem());
        assert_eq!(problem, (503, "secret_unavailable".to_owned()), "{reason}");
        assert!(!answer.text.contains(&id), "{}", answer.text);
    }
}

/// How long the function waits for a secret before it asks again.
const PATIENCE: Duration = Duration::from_secs(2);

/// The keys come before the login, and each takes a round trip to another service.
#[tokio::test]
async fn a_cold_start_fetches_its_two_secrets_at_once() {
    let database = plain().database();
    let gate = Turnstile::in_company_of(2);
    let login = store().create(&database.credentials(MONITOR));
    let id = login.id.clone();
    let app = TestApp::with_store(&database, login, &[], gate.port).await;
    assert_eq!(app.get_as("admin", "query_type=events").await.status, 200);
    assert_eq!(gate.fetches_of_id(&id), 1, "nobody fetched it twice");

    // Nobody without a token waits for a login that is not needed then.
    let gate = Turnstile::in_company_of(2);
    let login = store().create(&database.credentials(MONITOR));
    let app = TestApp::with_store(&database, login, &[], gate.port).await;
    let started = Instant::now();
    let request = Request::get("/api/monitoring/performance", "");
    assert_eq!(app.send(request).await.status, 401);
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}
