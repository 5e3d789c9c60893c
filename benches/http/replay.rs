//! The statements of a GET, recorded from the app's own connection and sent again by a client that does nothing else: all at
//! once, and every answer is read and dropped.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use tokio_postgres::{Config, NoTls};

use crate::measure::{Call, milliseconds};
use crate::requests::{Get, new_subject};
use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::postgres::PASSWORD;
use crate::support::templates::MONITOR;
use crate::support::wire::Wire;

/// What precedes the time in the name of a request that is sent by [`TestApp`].
const REQUEST: &[u8] = b"00000000-test ";

/// What the app has sent for one GET.
#[derive(Debug)]
pub(crate) struct Recording {
    bytes: Vec<u8>,
    subject: String,
    /// When the request was made, which is the end of its name.
    made_at: Vec<u8>,
    /// How often the server says that it is ready for more.
    answers: usize,
}

impl Recording {
    /// Records each GET, warm.
    pub(crate) async fn of(database: &TestDatabase, gets: &[Get]) -> Vec<Self> {
        let wire = Wire::to(database.port());
        let app = TestApp::through(database, wire.port(), MONITOR).await;
        let mut recordings = Vec::new();
        for get in gets {
            let subject = new_subject();
            for _ in 0..2 {
                wire.traffic();
                let answer = app.invoke(&get.event(&subject, false)).await;
                answer.unwrap_or_else(|error| panic!("{}: {error:?}", get.name));
            }
            let traffic = wire.traffic();
            assert_eq!(traffic.round_trips, 1, "{}: {traffic:?}", get.name);
            recordings.push(Self::new(traffic.sent.0, subject));
        }
        recordings
    }

    fn new(bytes: Vec<u8>, subject: String) -> Self {
        let made_at = position(&bytes, REQUEST).map(|start| {
            let end = bytes[start + REQUEST.len()..].iter();
            end.take_while(|byte| byte.is_ascii_digit()).copied()
        });
        let made_at = made_at.expect("finding the request's name").collect();
        // A query of the simple protocol, and Sync.
        let answers = messages(&bytes).filter(|kind| matches!(kind, b'Q' | b'S'));
        Self {
            answers: answers.count(),
            bytes,
            subject,
            made_at,
        }
    }

    /// The same by another subject, as a request that was not counted yet.
    fn renewed(&self, subject: &str, number: usize) -> Vec<u8> {
        let bytes = replaced(&self.bytes, self.subject.as_bytes(), subject.as_bytes());
        let number = format!("{number:0width$}", width = self.made_at.len());
        replaced(&bytes, &self.made_at, number.as_bytes())
    }
}

/// A connection that is only written to and read from.
#[derive(Debug)]
pub(crate) struct Replayer {
    stream: TcpStream,
    received: Vec<u8>,
    /// How many requests it has sent.
    sent: usize,
}

impl Replayer {
    /// Connects as the app does; the driver signs in, and is then left out.
    pub(crate) async fn connect(database: &TestDatabase) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", database.port())).expect("connecting");
        stream.set_nodelay(true).expect("setting TCP_NODELAY");
        let driver = stream.try_clone().expect("cloning a socket");
        driver.set_nonblocking(true).expect("unblocking a socket");
        let driver = tokio::net::TcpStream::from_std(driver).expect("lending a socket");
        let mut config = Config::new();
        config.user(MONITOR).password(PASSWORD.as_str());
        config.dbname(&database.name).application_name("pgvigil");
        let signed_in = config.connect_raw(driver, NoTls).await.expect("signing in");
        // Says nothing to the server: whoever would say it was never polled.
        drop(signed_in);
        stream.set_nonblocking(false).expect("blocking a socket");
        Self {
            stream,
            received: vec![0; 4 << 20],
            sent: 0,
        }
    }

    /// Sends the statements of a GET at once, and reads until the last of them is answered. What is counted is bytes.
    pub(crate) fn send(&mut self, recording: &Recording, subject: &str) -> Call {
        self.sent += 1;
        let bytes = recording.renewed(subject, self.sent);
        let start = Instant::now();
        self.stream.write_all(&bytes).expect("sending statements");
        let (mut answers, mut read, mut end) = (0, 0, 0);
        while answers < recording.answers {
            let room = &mut self.received[end..];
            let length = self.stream.read(room).expect("reading answers");
            assert!(
                length > 0,
                "the server has left, or says more than expected"
            );
            end += length;
            while let Some(message) = first_message(&self.received[read..end]) {
                match message[0] {
                    b'Z' => answers += 1,
                    b'E' => panic!("{}", String::from_utf8_lossy(message)),
                    _ => {}
                }
                read += message.len();
            }
        }
        Call {
            cpu_ms: None,
            wall_ms: milliseconds(start.elapsed()),
            count: i64::try_from(end).unwrap_or(i64::MAX),
        }
    }
}

/// The first message, if all of it is there: its kind, then its length, which does not count the kind (the manual's chapter
/// "Message Formats").
fn first_message(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.get(1..)?.first_chunk()?;
    bytes.get(..1 + u32::from_be_bytes(*length) as usize)
}

/// The kinds of the messages, one after the other.
fn messages(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let message = first_message(rest)?;
        rest = &rest[message.len()..];
        message.first().copied()
    })
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut windows = bytes.windows(wanted.len());
    windows.position(|window| window == wanted)
}

/// With all of one text replaced by another, which is as long: every length stays what it was.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len(), "texts of one length");
    let (mut bytes, mut done) = (bytes.to_vec(), 0);
    while let Some(start) = position(&bytes[done..], old) {
        let end = done + start + old.len();
        bytes[done + start..end].copy_from_slice(new);
        done = end;
    }
    assert!(done > 0, "a text to replace");
    bytes
}
