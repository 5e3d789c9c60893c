//! Clusters: gone when they should be, and configured as they were asked to be.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;
use std::process::{Command, Stdio};

use native_tls::TlsConnector;
use postgres_native_tls::MakeTlsConnector;

use crate::support::postgres::{Cluster, ClusterOptions, SUPERUSER};
use crate::support::programs::run;
use crate::support::scratch;
use crate::support::tls::{Authority, Certificate};
use crate::support::wait::wait_until;

/// Set for the copy of this test binary that is started to be killed.
const VICTIM: &str = "PGVIGIL_HARNESS_VICTIM";

#[test]
fn cluster_is_gone_after_drop() {
    let cluster = Cluster::start(ClusterOptions::default());
    let (process, directory) = (cluster.process_id(), cluster.directory().to_owned());
    assert!(is_running(process) && directory.exists());
    drop(cluster);
    assert!(!is_running(process));
    assert!(!directory.exists());
}

#[test]
fn cluster_lives_as_long_as_its_databases() {
    let cluster = Cluster::start(ClusterOptions::default());
    let (process, database) = (cluster.process_id(), cluster.empty_database());
    drop(cluster);
    assert_eq!(database.psql(SUPERUSER, "select 1").as_deref(), Ok("1\n"));
    drop(database);
    assert!(!is_running(process));
}

/// Runs this very test in a second process, which starts a cluster and is killed while it holds it.
#[tokio::test]
async fn killed_test_process_leaves_nothing() {
    if env::var_os(VICTIM).is_some() {
        return await_death();
    }
    let mut victim = Command::new(env::current_exe().expect("finding this binary"))
        .args([
            "--exact",
            "harness::cluster::killed_test_process_leaves_nothing",
        ])
        .env(VICTIM, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .expect("starting this binary again");
    let output = BufReader::new(victim.stdout.take().expect("taking its output"));
    let report = output.lines().map_while(Result::ok);
    let report = report.filter_map(|line| line.strip_prefix("victim: ").map(str::to_owned));
    let [process, cluster, scratch] =
        <[String; 3]>::try_from(report.take(3).collect::<Vec<_>>()).expect("reading its report");
    let process = process.parse().expect("parsing a process id");
    assert!(is_running(process) && Path::new(&cluster).exists() && Path::new(&scratch).exists());

    victim.kill().expect("killing the process");
    victim.wait().expect("burying the process");
    wait_until("all it started is gone", async || {
        !is_running(process) && !Path::new(&cluster).exists() && !Path::new(&scratch).exists()
    })
    .await;
}

fn await_death() {
    let cluster = Cluster::start(ClusterOptions::default());
    let report = [
        cluster.process_id().to_string(),
        cluster.directory().display().to_string(),
        scratch::directory().display().to_string(),
    ];
    let mut output = stdout();
    report.iter().for_each(|line| {
        writeln!(output, "\nvictim: {line}").expect("writing the report");
    });
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn tls_cluster_accepts_who_trusts_its_authority() {
    let authority = Authority::new("ours");
    let cluster = tls_cluster(authority.issue_local());
    assert!(connect_with_tls(&cluster, &authority).await.is_ok());
    let stranger = Authority::new("somebody else's");
    assert!(connect_with_tls(&cluster, &stranger).await.is_err());
}

#[tokio::test]
async fn tls_cluster_with_a_foreign_name_is_refused() {
    let authority = Authority::new("ours");
    let cluster = tls_cluster(authority.issue_foreign());
    assert!(connect_with_tls(&cluster, &authority).await.is_err());
}

fn tls_cluster(certificate: Certificate) -> Cluster {
    Cluster::start(ClusterOptions {
        certificate: Some(certificate),
        ..ClusterOptions::default()
    })
}

/// Connects only if the server proves, by a certificate of this authority, that it is 127.0.0.1.
async fn connect_with_tls(cluster: &Cluster, authority: &Authority) -> Result<(), String> {
    let database = cluster.empty_database();
    let pem = fs::read(authority.file()).expect("reading a certificate");
    let root = native_tls::Certificate::from_pem(&pem).expect("parsing a certificate");
    let mut connector = TlsConnector::builder();
    connector
        .disable_built_in_roots(true)
        .add_root_certificate(root);
    let connector = MakeTlsConnector::new(connector.build().expect("configuring TLS"));
    let url = format!("{}?sslmode=require", database.url_for(SUPERUSER));
    let config: tokio_postgres::Config = url.parse().expect("parsing an address");
    let connected = config.connect(connector).await;
    let (client, connection) = connected.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let question = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let encrypted = client.query_one(question, &[]).await;
    assert!(
        encrypted
            .expect("asking about the session")
            .get::<_, bool>(0)
    );
    Ok(())
}

#[test]
fn cluster_takes_its_options() {
    let cluster = Cluster::start(ClusterOptions {
        pg_stat_statements: false,
        max_connections: 17,
        settings: "track_activity_query_size = 256",
        ..ClusterOptions::default()
    });
    let database = cluster.empty_database();
    let show = |name: &str| database.psql(SUPERUSER, &format!("show {name}"));
    assert_eq!(show("max_connections").as_deref(), Ok("17\n"));
    assert_eq!(show("track_activity_query_size").as_deref(), Ok("256B\n"));
    assert_eq!(show("shared_preload_libraries").as_deref(), Ok("\n"));
    assert_eq!(show("port"), Ok(format!("{}\n", cluster.port())));
    let version = show("server_version").expect("asking for the version");
    assert!(version.starts_with(&cluster.major_version().to_string()));
    assert!(cluster.log().contains("ready to accept connections"));
}

/// Whether a process exists; asked the way that works on every Unix.
fn is_running(process: u32) -> bool {
    let mut kill = Command::new("sh");
    kill.args(["-c", &format!("kill -0 {process}")]);
    run(kill, "").is_ok()
}
