//! Unexpected clients of a server: other versions, other hosts, broken messages, a second daemon
//! with the same key. Each gets a reason, and no existing session suffers.

use std::path::Path;
use std::sync::Barrier;

use groundskeeper::session::protocol::{FromHost, FromServer, Open, PATH, Protocols};
use groundskeeper::session::transport::Wire;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::api::call;
use crate::control_server::{Control, daemon, linked};
use crate::support::{Daemon, Harness, wait_for};

const NOTHING: Value = Value::Null;

type Host = Wire<UnixStream, FromServer, FromHost>;

fn open_message() -> Open {
    Open {
        host: None,
        instance: "stranger".to_owned(),
        boot: 1,
        version: "0".to_owned(),
        protocol: Protocols::OURS,
        log: "a log".to_owned(),
        head: 0,
        loaded: Vec::new(),
        leases: Vec::new(),
    }
}

async fn connect(control: &Control, key: &Path) -> Host {
    let key = std::fs::read_to_string(key).expect("a key");
    let stream = UnixStream::connect(&control.socket).await.expect("connected");
    Wire::connect(stream, "x", PATH, key.trim()).await.expect("entered")
}

/// Returns the code with which the server refuses an `open`.
async fn refused(control: &Control, key: &Path, open: Open) -> String {
    match send_open(control, key, open).await {
        FromServer::Refused(refused) => refused.problem.code,
        other => panic!("{other:?}"),
    }
}

async fn send_open(control: &Control, key: &Path, open: Open) -> FromServer {
    let mut wire = connect(control, key).await;
    wire.send(&FromHost::Open(Box::new(open))).await.expect("sent");
    wire.receive().await.expect("answered")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

struct Scene {
    harness: Harness,
    control: Control,
    config: std::path::PathBuf,
    other: std::path::PathBuf,
    _daemon: Daemon,
}

/// Sets up a server with a session that must not suffer, and the key of another host.
fn scene() -> Scene {
    let harness = Harness::new();
    let repo = harness.repo("project", 1);
    let control = Control::start(&harness);
    let key = control.key(&harness, "box");
    let other = control.key(&harness, "other");
    let config = linked(&harness, "config", &format!("unix:{}", control.socket.display()), &key);
    let daemon = daemon(&harness, &config);
    control.await_session("box");
    control.make("box", "demo", &repo);
    Scene { harness, control, config, other, _daemon: daemon }
}

fn check_session(control: &Control) {
    let status = control.ok("GET", "/v1/hosts/box/environments/demo/status", &NOTHING);
    assert_eq!(status["id"], "demo");
}

#[test]
fn invalid_session_is_refused_with_reason() {
    let scene = scene();
    let (control, key) = (&scene.control, &scene.other);
    runtime().block_on(async {
        let newer = Open { protocol: Protocols { min: 7, max: 9 }, ..open_message() };
        assert_eq!(refused(control, key, newer).await, "protocol_mismatch");
        let stranger = Open { host: Some("box".to_owned()), ..open_message() };
        assert_eq!(refused(control, key, stranger).await, "unauthorized");
        let mut early = connect(control, key).await;
        early.send(&FromHost::Ping).await.expect("sent");
        let answer = early.receive().await.expect("answered");
        assert!(matches!(answer, FromServer::Refused(r) if r.problem.code == "invalid_request"));

        // A message with the name of another session ends this session, not the other one.
        let mut replayed = connect(control, key).await;
        replayed.send(&FromHost::Open(Box::new(open_message()))).await.expect("sent");
        let FromServer::Opened(opened) = replayed.receive().await.expect("answered") else {
            panic!("not opened");
        };
        assert!(
            opened.live.is_some_and(|live| live.live.is_empty()),
            "no environment of another host"
        );
        replayed.set_session("the name of another session");
        replayed.send(&FromHost::Ping).await.expect("sent");
        while let Ok(message) = replayed.receive().await {
            assert!(!matches!(message, FromServer::Pong), "it was answered");
        }
    });
    check_session(control);
}

/// The first message of a killed daemon may arrive after that of its successor.
#[test]
fn late_open_does_not_replace_successor() {
    let scene = scene();
    let (control, key) = (&scene.control, scene.harness.path("box.key"));
    let (_, about) = call(&scene.harness, "GET", "/v1/daemon", "", "");
    let log = about["log_id"].as_str().expect("an id").to_owned();
    assert_eq!(about["boot"], 1);
    let late = Open { instance: "dead".to_owned(), boot: 0, log, ..open_message() };
    // On a busy machine the daemon may lose its session by itself, which proves nothing: retried.
    for _ in 0..3 {
        let opened = || call(&scene.harness, "GET", "/v1/daemon", "", "").1["session"].clone();
        let before = opened();
        let answer = runtime().block_on(send_open(control, &key, late.clone()));
        control.await_session("box");
        check_session(control);
        let after = opened();
        assert_eq!(after["stage"], "open", "{after:#}");
        if before["opened"] != after["opened"] {
            continue;
        }
        let FromServer::Refused(refused) = answer else { panic!("{answer:?}") };
        assert_eq!(refused.problem.code, "already_running");
        return;
    }
    panic!("the session keeps breaking");
}

/// Both use the key of one host. The first daemon goes on without a session.
#[test]
fn second_daemon_replaces_first_session() {
    let scene = scene();
    let second = Harness::new();
    let config = second.path("config.toml");
    std::fs::copy(&scene.config, &config).expect("copied");
    let _second = daemon(&second, &config);
    let stage = |harness: &Harness| {
        let (_, info) = call(harness, "GET", "/v1/daemon", "", "");
        info["session"]["stage"].as_str().unwrap_or_default().to_owned()
    };
    wait_for("the second session", || stage(&second) == "open");
    wait_for("the end of the first", || stage(&scene.harness) == "ended");
    // The replaced daemon keeps serving local users and loses nothing.
    assert_eq!(scene.harness.ok(&["show", "demo"])["phase"], "ready");
    // Environments that the second daemon lacks are reported missing and not created again.
    wait_for("the row to report it", || scene.control.row("box", "demo") == "error");
    assert_eq!(second.ok(&["ls", "--all"]), json!([]));
}

#[test]
fn broken_session_keeps_running_work() {
    let scene = scene();
    let flag = scene.harness.path("flag");
    let script = format!("until [ -e {} ]; do sleep 0.02; done; echo done", flag.display());
    let body = json!({ "argv": ["sh", "-c", script] });
    let path = "/v1/hosts/box/environments/demo/exec";
    let started = scene.control.ok("POST", path, &body);
    wait_for("the start", || {
        scene.harness.ok(&["show", "demo"])["id"] == "demo" && {
            let found = scene.harness.ok(&["ps", "demo"]);
            found.as_array().is_some_and(|all| !all.is_empty())
        }
    });
    let mut control = scene.control;
    control.kill();
    let control = Control::listen(&scene.harness, &control.port.clone());
    control.await_session("box");
    scene.harness.write(&flag, "");
    let id = started["id"].as_str().expect("an id");
    wait_for("the answer", || {
        let found = control.ok("GET", &format!("/v1/operations/{id}"), &NOTHING);
        found["answer"]["stdout"] == "done\n"
    });
}

/// Exactly one of the two succeeds.
#[test]
fn thread_and_destroy_race_has_winner() {
    let scene = scene();
    let repo = scene.harness.path("project");
    for n in 0..12 {
        let id = format!("race{n}");
        scene.control.make("box", &id, &repo);
        let of = format!("/v1/hosts/box/environments/{id}");
        let (gate, control) = (Barrier::new(2), &scene.control);
        let (thread, destroy) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                gate.wait();
                let body = json!({ "id": format!("t{n}"), "holder": "test" });
                control.call("POST", &format!("{of}/threads"), &body)
            });
            gate.wait();
            let destroy = control.call("DELETE", &format!("{of}?wait=30"), &NOTHING);
            (thread.join().expect("asked"), destroy)
        });
        match (thread.0, destroy.0) {
            (201, 409) => assert_eq!(control.row("box", &id), "ready"),
            (410, 200) => assert_eq!(control.row("box", &id), "destroyed"),
            other => panic!("{other:?}: {thread:?} {destroy:?}"),
        }
    }
}
