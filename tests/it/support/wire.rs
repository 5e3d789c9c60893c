//! What goes over the wire between the app and a cluster: how often somebody waits, and which statements have names.

use std::fmt;
use std::io::{self, Read, Write};
use std::mem::{replace, take};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Who has sent nothing for this long waits for an answer, also on a busy two-core machine.
const SILENCE: Duration = Duration::from_millis(300);

/// A proxy in front of a server, which hands out answers only when the client has fallen silent.
///
/// So what is counted does not depend on how fast the server is or how the bytes are cut: whoever sends more only after an
/// answer has made one more round trip, and whoever sends everything at once has made one.
#[derive(Debug)]
pub(crate) struct Wire {
    port: u16,
    traffic: Arc<Mutex<Traffic>>,
    is_closed: Arc<AtomicBool>,
}

/// What was sent since somebody last asked.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Traffic {
    pub(crate) connections: usize,
    /// How often a client began to send: at first, or after it had been given an answer.
    pub(crate) round_trips: usize,
    /// How many statements were parsed by the server, and the names of those that were given one.
    pub(crate) parsed: usize,
    pub(crate) named: Vec<String>,
    /// All of it, as it was sent.
    pub(crate) sent: Sent,
}

/// Bytes, of which a failure shows only how many there are.
#[derive(Default, PartialEq)]
pub(crate) struct Sent(pub(crate) Vec<u8>);

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

enum Event {
    Sent(Vec<u8>),
    Answered(Vec<u8>),
    Ended,
}

impl Wire {
    /// Listens, and leads to a port of this machine.
    pub(crate) fn to(server_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listening");
        let wire = Self {
            port: listener.local_addr().expect("asking for the port").port(),
            traffic: Arc::default(),
            is_closed: Arc::default(),
        };
        let (traffic, is_closed) = (Arc::clone(&wire.traffic), Arc::clone(&wire.is_closed));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_closed.load(Ordering::Relaxed) {
                    break;
                }
                let traffic = Arc::clone(&traffic);
                thread::spawn(move || relay(client, server_port, &traffic));
            }
        });
        wire
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What was sent since this was last asked.
    pub(crate) fn traffic(&self) -> Traffic {
        take(&mut self.traffic.lock().expect("reading the traffic"))
    }
}

impl Drop for Wire {
    /// Whoever waits for connections has to be woken to notice that it should not.
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Carries one connection until either side ends it.
fn relay(client: TcpStream, server_port: u16, traffic: &Mutex<Traffic>) {
    // A server that is not there ends the connection, as it would have.
    let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)) else {
        return;
    };
    let (sender, events) = channel();
    read_on(&client, sender.clone(), Event::Sent);
    read_on(&server, sender, Event::Answered);
    traffic.lock().expect("counting").connections += 1;
    let _ = pump(&events, &client, &server, traffic);
    for stream in [client, server] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn read_on(stream: &TcpStream, sender: Sender<Event>, event: fn(Vec<u8>) -> Event) {
    let mut stream = stream.try_clone().expect("cloning a socket");
    thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(length @ 1..) = stream.read(&mut chunk) {
            if sender.send(event(chunk[..length].to_vec())).is_err() {
                return;
            }
        }
        let _ = sender.send(Event::Ended);
    });
}

fn pump(
    events: &Receiver<Event>,
    mut client: &TcpStream,
    mut server: &TcpStream,
    traffic: &Mutex<Traffic>,
) -> io::Result<()> {
    let mut held = Vec::new();
    let mut messages = Messages::default();
    let mut was_answered = true;
    let mut last_sent_at = Instant::now();
    loop {
        let patience = match held.is_empty() {
            true => Duration::from_secs(3600),
            false => SILENCE.saturating_sub(last_sent_at.elapsed()),
        };
        match events.recv_timeout(patience) {
            Ok(Event::Sent(bytes)) => {
                last_sent_at = Instant::now();
                let mut traffic = traffic.lock().expect("counting");
                traffic.round_trips += usize::from(take(&mut was_answered));
                for name in messages.parsed_in(&bytes) {
                    traffic.parsed += 1;
                    traffic
                        .named
                        .extend(Some(name).filter(|name| !name.is_empty()));
                }
                traffic.sent.0.extend_from_slice(&bytes);
                drop(traffic);
                server.write_all(&bytes)?;
            }
            Ok(Event::Answered(bytes)) => held.extend(bytes),
            Err(RecvTimeoutError::Timeout) => {
                was_answered = true;
                client.write_all(&take(&mut held))?;
            }
            Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected) => {
                return client.write_all(&held);
            }
        }
    }
}

/// Cuts a client's bytes into messages (the manual's chapter "Message Formats").
#[derive(Default)]
struct Messages {
    rest: Vec<u8>,
    has_started: bool,
}

impl Messages {
    /// The names of the statements in those Parse messages that these bytes complete.
    fn parsed_in(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(bytes);
        let mut names = Vec::new();
        // Only the first message has no type. Every length counts itself.
        while let Some(length) = self
            .rest
            .get(usize::from(self.has_started)..)
            .and_then(|rest| rest.first_chunk())
            .map(|length| usize::from(self.has_started) + u32::from_be_bytes(*length) as usize)
            && self.rest.len() >= length
        {
            let message: Vec<u8> = self.rest.drain(..length).collect();
            if replace(&mut self.has_started, true) && message[0] == b'P' {
                let name = message[5..].split(|byte| *byte == 0).next();
                names.push(String::from_utf8_lossy(name.unwrap_or_default()).into_owned());
            }
        }
        names
    }
}
