//! `verify-full`: the right authority, the right name and today's date, or no connection; never a fallback.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use native_tls::TlsConnector;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslConnector, SslMethod, SslStream, SslVerifyMode};
use openssl::x509::X509;
use postgres_native_tls::MakeTlsConnector;
use serde_json::json;
use tokio_postgres::config::{ChannelBinding, SslMode};

use crate::support::app::TestApp;
use crate::support::postgres::{Cluster, ClusterOptions, plain};
use crate::support::secrets::store;
use crate::support::templates::MONITOR;
use crate::support::tls::{Authority, Certificate};
use crate::support::wait::wait_until;

fn cluster_with(certificate: Certificate) -> Cluster {
    Cluster::start(ClusterOptions {
        certificate: Some(certificate),
        ..ClusterOptions::default()
    })
}

#[tokio::test]
async fn a_server_that_is_not_who_it_should_be_gets_no_password() {
    let (authority, stranger) = (Authority::new("right"), Authority::new("stranger"));
    let right = authority.file().display().to_string();
    let wrong = stranger.file().display().to_string();
    let named = cluster_with(authority.issue_local());
    let misnamed = cluster_with(authority.issue_foreign());
    let expired = cluster_with(authority.issue_expired());
    for (cluster, ca_file, refusal) in [
        (&named, right.as_str(), None),
        (&named, &wrong, Some("certificate verify failed")),
        // Without the file only the public roots are left.
        (&named, "", Some("certificate verify failed")),
        (&misnamed, &right, Some("mismatch")),
        (&expired, &right, Some("certificate has expired")),
        (plain(), &right, Some("server does not support tls")),
    ] {
        let variables = [
            ("DATABASE_TLS", "verify-full"),
            ("DATABASE_CA_FILE", ca_file),
        ];
        let database = cluster.database();
        let app = TestApp::with_login(&database, MONITOR, &variables).await;
        match (app.invoke(&json!({"task": "sample"})).await, refusal) {
            (Ok(report), None) => assert_eq!(report["status"], "done"),
            (Err(error), Some(reason)) => {
                let message = error.error_message.to_lowercase();
                assert!(message.contains("no connection"), "{message}");
                assert!(message.contains(reason), "{message}");
            }
            (result, refusal) => panic!("expected {refusal:?}: {result:?}"),
        }
    }
}

/// Somebody in the middle, with a certificate that the authority was talked into: only channel binding tells.
struct Impostor {
    port: u16,
}

/// What a client asks first (manual, "`SSLRequest`").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// How long one side is listened to before the other.
const GLANCE: Duration = Duration::from_millis(5);

impl Impostor {
    fn before(server_port: u16, certificate: &Certificate) -> Self {
        let mut acceptor =
            SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("setting up TLS");
        let key = PKey::private_key_from_pem(&certificate.key_pem).expect("reading a key");
        let own = X509::from_pem(&certificate.certificate_pem).expect("reading a certificate");
        acceptor.set_private_key(&key).expect("taking the key");
        acceptor.set_certificate(&own).expect("taking it");
        let acceptor = acceptor.build();
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listening");
        let port = listener.local_addr().expect("asking for the port").port();
        // Waits for clients until the test process ends.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let acceptor = acceptor.clone();
                thread::spawn(move || between(&acceptor, client, server_port));
            }
        });
        Self { port }
    }
}

/// Decrypts what either side says and encrypts it for the other, until one has gone.
fn between(acceptor: &SslAcceptor, mut client: TcpStream, server_port: u16) -> Option<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request).ok()?;
    client.write_all(b"S").ok()?;
    let mut client = acceptor.accept(client).ok()?;

    let mut server = TcpStream::connect(("127.0.0.1", server_port)).ok()?;
    server.write_all(&SSL_REQUEST).ok()?;
    server.read_exact(&mut request[..1]).ok()?;
    let mut connector = SslConnector::builder(SslMethod::tls_client()).ok()?;
    connector.set_verify(SslVerifyMode::NONE);
    let connector = connector.build().configure().ok()?;
    let mut server = connector.verify_hostname(false).connect("x", server).ok()?;
    for stream in [&client, &server] {
        stream.get_ref().set_read_timeout(Some(GLANCE)).ok()?;
    }
    while pass(&mut client, &mut server) && pass(&mut server, &mut client) {}
    Some(())
}

fn pass(from: &mut SslStream<TcpStream>, to: &mut SslStream<TcpStream>) -> bool {
    let mut buffer = [0; 16 * 1024];
    match from.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) => to.write_all(&buffer[..length]).is_ok(),
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Where the server offers SCRAM with channel binding, it is used: who decrypts in between is found out by the server.
#[tokio::test]
async fn scram_is_bound_to_the_servers_own_certificate() {
    let authority = Authority::new("right");
    let ca_file = authority.file().display().to_string();
    let cluster = cluster_with(authority.issue_local());
    let database = cluster.database();
    let impostor = Impostor::before(cluster.port(), &authority.issue_local());

    // The trap is there: without channel binding the one in the middle is believed.
    let credentials = database.credentials_through(impostor.port, MONITOR);
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(impostor.port).user(MONITOR);
    config.password(credentials["password"].as_str().unwrap_or_default());
    config.dbname(&database.name).ssl_mode(SslMode::Require);
    config.channel_binding(ChannelBinding::Disable);
    let root = std::fs::read(&ca_file).expect("reading the root");
    let root = native_tls::Certificate::from_pem(&root).expect("reading the root");
    let mut connector = TlsConnector::builder();
    connector.add_root_certificate(root);
    let connector = MakeTlsConnector::new(connector.build().expect("setting up TLS"));
    let believed = config.connect(connector).await;
    drop(
        believed
            .map_err(|error| error.to_string())
            .expect("being believed"),
    );

    let variables = [
        ("DATABASE_TLS", "verify-full"),
        ("DATABASE_CA_FILE", ca_file.as_str()),
    ];
    let app = TestApp::with_secret(&database, store().create(&credentials), &variables).await;
    let error = app.invoke(&json!({"task": "sample"})).await;
    let error = error.expect_err("somebody in the middle").error_message;
    assert!(error.contains("login refused"), "{error}");
    // What the server writes reaches us by a pipe, a moment later.
    wait_until("the server says why", async || {
        cluster.log().contains("channel binding")
    })
    .await;

    let app = TestApp::with_login(&database, MONITOR, &variables).await;
    assert_eq!(app.task(json!({"task": "sample"})).await["status"], "done");
}
