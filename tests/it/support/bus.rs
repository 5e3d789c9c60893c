//! A real EventBridge endpoint (moto's), with a queue behind a rule so that a test reads what was delivered; and, in front of it, an
//! edge of the network that fails on purpose.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::config::Credentials;
use pgvigil::notify::Bus;
use serde_json::{Value, json};

use super::http::post;
use super::scratch::unique;
use super::secrets::store;

/// A bus of one test, and what is delivered from it.
#[derive(Debug)]
pub(crate) struct TestBus {
    pub(crate) name: String,
    queue_url: String,
    edge: Edge,
}

/// For how long a call is held that is never answered.
pub(crate) const SILENCE: Duration = Duration::from_secs(20);

/// What the edge does with a call of `PutEvents`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Fault {
    /// Passes it on.
    #[default]
    None,
    /// Passes on all entries but those whose detail holds this, and answers that these failed.
    Entries(&'static str),
    /// Refuses a call as a whole when the detail of one of its entries holds this, and passes on the others.
    Calls(&'static str),
    /// Answers with this status and type of error.
    Refusal(u16, &'static str),
    /// Answers as if all was well, and says of no entry that it was taken.
    Nothing,
    /// Takes the call and never answers.
    Silence,
    /// Passes it on and loses the answer.
    LostAnswer,
    /// Takes no connection.
    Closed,
}

/// A fake at the edge of the network, and the only one: what it passes on goes to the real endpoint.
#[derive(Debug)]
struct Edge {
    port: u16,
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    fault: Fault,
    calls: Vec<Value>,
}

impl TestBus {
    /// A bus whose rule takes what is of our source to a queue, as a rule of an operator would.
    pub(crate) fn new() -> Self {
        let name = unique("bus-");
        call("events", "AWSEvents.CreateEventBus", &json!({"Name": name}));
        let queue = call("sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": name}));
        let rule = json!({"Name": name, "EventBusName": name, "EventPattern": "{\"source\": [\"pgvigil\"]}"});
        call("events", "AWSEvents.PutRule", &rule);
        let target = format!("arn:aws:sqs:us-east-1:123456789012:{name}");
        let targets = json!({"Rule": name, "EventBusName": name, "Targets": [{"Id": "queue", "Arn": target}]});
        call("events", "AWSEvents.PutTargets", &targets);
        Self {
            queue_url: queue["QueueUrl"].as_str().expect("a queue").to_owned(),
            name,
            edge: Edge::new(),
        }
    }

    /// The bus as the function has it.
    pub(crate) async fn client(&self) -> Bus {
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(format!("http://127.0.0.1:{}", self.edge.port))
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "tests"));
        Bus::new(&pgvigil::aws::from_loader(loader).await, self.name.clone())
    }

    /// From now on.
    pub(crate) fn fail_by(&self, fault: Fault) {
        self.edge.state.lock().expect("locking").fault = fault;
    }

    /// The calls that have come to the edge since this was last asked.
    pub(crate) fn calls(&self) -> Vec<Value> {
        std::mem::take(&mut self.edge.state.lock().expect("locking").calls)
    }

    /// What was delivered since this was last asked, in the order of its arrival.
    pub(crate) fn delivered(&self) -> Vec<Value> {
        let mut delivered = Vec::new();
        loop {
            let wanted = json!({"QueueUrl": self.queue_url, "MaxNumberOfMessages": 10});
            let answer = call("sqs", "AmazonSQS.ReceiveMessage", &wanted);
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                return delivered;
            }
            for message in messages {
                let body = message["Body"].as_str().expect("a body");
                delivered.push(serde_json::from_str(body).expect("parsing a message"));
                let done =
                    json!({"QueueUrl": self.queue_url, "ReceiptHandle": message["ReceiptHandle"]});
                call("sqs", "AmazonSQS.DeleteMessage", &done);
            }
        }
    }

    /// The same, only of one detail type: its details.
    pub(crate) fn delivered_of(&self, detail_type: &str) -> Vec<Value> {
        let delivered = self.delivered().into_iter();
        let of_type = delivered.filter(|event| event["detail-type"] == detail_type);
        of_type.map(|mut event| event["detail"].take()).collect()
    }
}

/// Asks moto, which tells the service by the scope of the signature.
fn call(service: &str, action: &str, parameters: &Value) -> Value {
    let answer = try_call(service, action, &parameters.to_string());
    assert_eq!(answer.0, 200, "{action}: {}", answer.1);
    serde_json::from_str(&answer.1).unwrap_or_default()
}

fn try_call(service: &str, action: &str, body: &str) -> (u16, String) {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=test/20250825/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    );
    let headers = [
        ("X-Amz-Target", action),
        ("Content-Type", "application/x-amz-json-1.1"),
        ("Authorization", authorization.as_str()),
    ];
    let answer = post(store().port, "/", &headers, body).expect("asking moto");
    (answer.status, answer.body)
}

impl Edge {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listening");
        let edge = Self {
            port: listener.local_addr().expect("asking for the port").port(),
            state: Arc::default(),
            is_over: Arc::default(),
        };
        let (state, is_over) = (Arc::clone(&edge.state), Arc::clone(&edge.is_over));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let state = Arc::clone(&state);
                thread::spawn(move || serve(client, &state));
            }
        });
        edge
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One call a connection.
fn serve(mut client: TcpStream, state: &Mutex<State>) {
    let fault = state.lock().expect("locking").fault.clone();
    if fault == Fault::Closed {
        return;
    }
    let Some(body) = body_of(&client) else {
        return;
    };
    let call: Value = serde_json::from_str(&body).expect("parsing a call");
    state.lock().expect("locking").calls.push(call.clone());
    let (status, answer) = match fault {
        Fault::None => pass_on(&call),
        Fault::Entries(holding) => pass_on_but(call, holding),
        Fault::Calls(holding) if body.contains(&holding.replace('"', "\\\"")) => (
            400,
            json!({"__type": "ValidationException", "message": "on purpose"}).to_string(),
        ),
        Fault::Calls(_) => pass_on(&call),
        Fault::Refusal(status, kind) => (
            status,
            json!({"__type": kind, "message": "on purpose"}).to_string(),
        ),
        Fault::Nothing => (
            200,
            json!({"FailedEntryCount": 0, "Entries": []}).to_string(),
        ),
        Fault::Silence => {
            thread::sleep(SILENCE);
            return;
        }
        Fault::LostAnswer => {
            pass_on(&call);
            return;
        }
        Fault::Closed => return,
    };
    let head = format!(
        "HTTP/1.1 {status} .\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    // Whoever asked may have gone.
    let _ = client.write_all((head + &answer).as_bytes());
}

fn pass_on(call: &Value) -> (u16, String) {
    try_call("events", "AWSEvents.PutEvents", &call.to_string())
}

fn pass_on_but(mut call: Value, holding: &str) -> (u16, String) {
    let entries = call["Entries"].as_array().cloned().unwrap_or_default();
    let fails = |entry: &Value| {
        entry["Detail"]
            .as_str()
            .is_some_and(|d| d.contains(holding))
    };
    let passed: Vec<Value> = entries.iter().filter(|e| !fails(e)).cloned().collect();
    let mut results = Vec::new().into_iter();
    if !passed.is_empty() {
        call["Entries"] = Value::Array(passed);
        let (status, answer) = pass_on(&call);
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("parsing an answer");
        results = answer["Entries"]
            .as_array()
            .cloned()
            .unwrap_or_default()
            .into_iter();
    }
    let failure = json!({"ErrorCode": "InternalFailure", "ErrorMessage": "on purpose"});
    let of_each: Vec<Value> = entries
        .iter()
        .map(|entry| match fails(entry) {
            true => failure.clone(),
            false => results.next().expect("a result"),
        })
        .collect();
    let failed = entries.iter().filter(|entry| fails(entry)).count();
    (
        200,
        json!({"FailedEntryCount": failed, "Entries": of_each}).to_string(),
    )
}

fn body_of(client: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}
