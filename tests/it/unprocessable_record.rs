//! A server that cannot accept one record: the daemon sends all others, skips that one, reports
//! the skip, and continues.

use std::path::Path;
use std::sync::{Arc, Mutex};

use groundskeeper::session::protocol::{
    Ack, Close, Events, FromHost, FromServer, Nack, Opened, Watch,
};
use groundskeeper::session::transport::{Wire, accept};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::api::call;
use crate::control_server::{daemon, linked};
use crate::support::{Harness, wait_for};

/// Record of what the fake server received, and of its answers.
#[derive(Debug, Default)]
struct Transcript {
    /// Accepted records, in the order of their arrival.
    taken: Vec<u64>,
    /// Refused batches, as first and last seq.
    refused: Vec<(u64, u64)>,
    acked: u64,
    sessions: u32,
}

/// A fake server that refuses every batch that contains a given record.
struct RejectingServer {
    address: String,
    transcript: Arc<Mutex<Transcript>>,
    _runtime: tokio::runtime::Runtime,
}

/// Returns whether the server refuses a record.
type Poison = fn(kind: &str, environment: &str) -> bool;

impl RejectingServer {
    fn start(poison: Poison) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let transcript = Arc::new(Mutex::new(Transcript::default()));
        let shared = Arc::clone(&transcript);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &shared, poison).await;
            }
        });
        Self { address, transcript, _runtime: runtime }
    }

    fn with_transcript<T>(&self, read: impl FnOnce(&Transcript) -> T) -> T {
        read(&self.transcript.lock().expect("not poisoned"))
    }
}

/// Serves one session until the connection or the server ends it.
async fn serve(mut stream: TcpStream, transcript: &Mutex<Transcript>, poison: Poison) {
    let Some(key) = upgrade(&mut stream).await else { return };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {}\r\n\r\n",
        accept(&key)
    );
    if stream.write_all(answer.as_bytes()).await.is_err() {
        return;
    }
    let mut wire: Wire<TcpStream, FromHost, FromServer> = Wire::accepted(stream).await;
    let Ok(FromHost::Open(_)) = wire.receive().await else { return };
    let (session, acked) = {
        let mut transcript = transcript.lock().expect("not poisoned");
        transcript.sessions += 1;
        (format!("s{}", transcript.sessions), transcript.acked)
    };
    let opened = Opened {
        session: session.clone(),
        server: "fussy".to_owned(),
        host: "box".to_owned(),
        protocol: 1,
        heartbeat_ms: 1_000,
        lease_ms: 30_000,
        live: None,
        acked,
        watch: Watch::default(),
    };
    if wire.send(&FromServer::Opened(opened)).await.is_err() {
        return;
    }
    wire.set_session(&session);
    while let Ok(message) = wire.receive().await {
        let FromHost::Events(events) = message else { continue };
        let answer = decide(&events, &mut transcript.lock().expect("not poisoned"), poison);
        if wire.send(&answer).await.is_err() {
            return;
        }
    }
    drop(wire.send(&FromServer::Close(Close { reason: "shutdown".to_owned() })).await);
}

/// Reads the request for a WebSocket and returns its key.
async fn upgrade(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let key = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    };
    head.lines().find_map(key)
}

fn decide(events: &Events, transcript: &mut Transcript, poison: Poison) -> FromServer {
    let (first, last) = (events.first, events.last);
    assert_eq!(first, transcript.acked.max(first), "an accepted record was sent again");
    if events.records.iter().any(|record| poison(&record.kind, &record.environment)) {
        transcript.refused.push((first, last));
        return FromServer::Nack(Nack { first, last, why: "it cannot be stored".to_owned() });
    }
    transcript.taken.extend(events.records.iter().map(|record| record.seq));
    transcript.acked = last;
    FromServer::Ack(Ack { seq: last })
}

fn session(harness: &Harness) -> Value {
    call(harness, "GET", "/v1/daemon", "", "").1["session"].clone()
}

/// Returns the log's records about environments: seq, kind, environment.
fn records(harness: &Harness) -> Vec<(u64, String, String)> {
    let events = harness.command(&["events", "--json"]).output().expect("asked").stdout;
    let events = String::from_utf8_lossy(&events).into_owned();
    let all = events.lines().map(|line| serde_json::from_str::<Value>(line).expect("json"));
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let all = all
        .map(|e| (e["seq"].as_u64().expect("a number"), text(&e["kind"]), text(&e["environment"])));
    all.filter(|(_, _, environment)| !environment.is_empty()).collect()
}

fn key(harness: &Harness) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let key = harness.path("key");
    harness.write(&key, "any\n");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode");
    key
}

/// Waits until all records are acknowledged, and compares the received ones with the log. Returns
/// the number of refused ones.
fn check_all_but_poison(harness: &Harness, server: &RejectingServer, poison: Poison) -> usize {
    let head = || call(harness, "GET", "/v1/daemon", "", "").1["seq"].as_u64().expect("a number");
    wait_for("all records to be acknowledged", || {
        session(harness)["acked"].as_u64() == Some(head())
    });
    let all = records(harness);
    let (bad, good): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, kind, env)| poison(kind, env));
    let good: Vec<u64> = good.into_iter().map(|(seq, ..)| seq).collect();
    assert_eq!(
        server.with_transcript(|transcript| transcript.taken.clone()),
        good,
        "all other records arrived once and in order"
    );
    bad.len()
}

#[test]
fn unprocessable_record_is_skipped() {
    let poison: Poison = |kind, environment| kind == "EnvironmentReady" && environment == "env3";
    let server = RejectingServer::start(poison);
    let harness = Harness::new();
    let repo = harness.repo("project", 1);
    // The log grows beyond one batch before the first session.
    {
        let _alone = crate::support::Daemon::start(&harness);
        for n in 0..6 {
            harness.new_env(&format!("env{n}"), &repo, &[]);
        }
    }
    let key = key(&harness);
    let config = linked(&harness, "config", &format!("ws://{}", server.address), &key);
    let host = daemon(&harness, &config);
    assert_eq!(check_all_but_poison(&harness, &server, poison), 1);
    let refused = server.with_transcript(|transcript| transcript.refused.clone());
    let (first, last) = *refused.last().expect("refused");
    assert_eq!(first, last, "the last rejected batch is one record: {refused:?}");
    // The daemon halves a refused batch: 256 records take eight rounds, each smaller than the last.
    assert!(refused.len() <= 9, "{refused:?}");
    assert!(refused.windows(2).all(|w| w[1].1 - w[1].0 < w[0].1 - w[0].0), "{refused:?}");
    assert_eq!(session(&harness)["skipped"], 1);
    let printed = std::fs::read_to_string(harness.path("daemon.err")).expect("a log");
    assert!(
        printed.contains("the server rejected a record") && printed.contains("EnvironmentReady"),
        "{printed}"
    );

    // The session continues, and the skipped record is not sent again.
    harness.new_env("later", &repo, &[]);
    harness.ok(&["rm", "env3"]);
    assert_eq!(check_all_but_poison(&harness, &server, poison), 1);
    assert_eq!(server.with_transcript(|transcript| transcript.refused.len()), refused.len());
    drop(host);
    let _again = daemon(&harness, &config);
    wait_for("another session", || server.with_transcript(|transcript| transcript.sessions >= 2));
    assert_eq!(check_all_but_poison(&harness, &server, poison), 1);
    assert_eq!(
        server.with_transcript(|transcript| transcript.refused.len()),
        refused.len(),
        "the record is not sent in a new session"
    );
    harness.check(&[Path::new(&repo)]);
}

#[test]
fn rejecting_server_receives_everything_once() {
    let poison: Poison = |_, _| true;
    let server = RejectingServer::start(poison);
    let harness = Harness::new();
    let repo = harness.repo("project", 1);
    let key = key(&harness);
    let config = linked(&harness, "config", &format!("ws://{}", server.address), &key);
    let _host = daemon(&harness, &config);
    wait_for("a session", || session(&harness)["stage"] == "open");
    harness.new_env("demo", &repo, &[]);
    let bad = check_all_but_poison(&harness, &server, poison);
    assert_eq!(session(&harness)["skipped"].as_u64(), Some(bad as u64));
    let refused = server.with_transcript(|transcript| transcript.refused.len());
    assert!(refused <= 2 * bad + 8, "{refused} refusals for {bad} records");
    assert_eq!(harness.ok(&["show", "demo"])["phase"], "ready");
}
