//! The session with a control server: the host carries out the server's requests, and after any
//! interruption of either side both agree again.

use serde_json::{Value, json};

use crate::control_server::{Control, daemon, http, linked};
use crate::support::{Harness, wait_for};

const NOTHING: Value = Value::Null;

struct Scene {
    harness: Harness,
    control: Control,
    config: std::path::PathBuf,
    repo: std::path::PathBuf,
}

fn scene() -> Scene {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let control = Control::start(&harness);
    let key = control.key(&harness, "box");
    let config = linked(&harness, "config", &format!("ws://{}", control.port), &key);
    Scene { harness, control, config, repo }
}

fn phase(harness: &Harness, id: &str) -> String {
    let found = harness.ok(&["ls", "--all"]);
    let found = found.as_array().expect("a list").iter().find(|e| e["id"] == id).cloned();
    found.map(|e| e["phase"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

#[test]
fn server_drives_whole_life_cycle() {
    let Scene { harness, control, config, repo } = scene();
    let _daemon = daemon(&harness, &config);
    control.await_session("box");
    control.make("box", "demo", &repo);
    let of = "/v1/hosts/box/environments/demo";
    let row = control.ok("GET", of, &NOTHING);
    assert_eq!(row["status"], "ready");
    let place = std::path::PathBuf::from(row["path"].as_str().expect("a path"));
    assert!(place.join("README").exists());
    harness.write(&place.join("new"), "work\n");
    let status = control.ok("GET", &format!("{of}/status"), &NOTHING);
    assert_eq!(
        (status["untracked"].as_u64(), status["branch"].as_str()),
        (Some(1), Some("gk/demo"))
    );
    let diff = control.ok("GET", &format!("{of}/diff"), &NOTHING);
    assert_eq!(diff["id"], "demo", "{diff:#}");

    // A thread prevents the destroy, and a command runs for it.
    let thread = json!({ "id": "t1", "kind": "thread", "holder": "app" });
    let thread = control.ok("POST", &format!("{of}/threads"), &thread);
    wait_for("the lease", || harness.ok(&["show", "demo"])["leases"][0]["id"] == thread["lease"]);
    let run = json!({ "argv": ["sh", "-c", "echo out; echo err >&2; exit 3"], "thread": "t1" });
    let ran = control.ok("POST", &format!("{of}/exec?wait=30"), &run);
    let answer = &ran["answer"];
    assert_eq!((answer["code"].as_i64(), answer["stdout"].as_str()), (Some(3), Some("out\n")));
    assert_eq!(answer["stderr"], "err\n");
    let (code, busy) = control.call("DELETE", of, &NOTHING);
    assert_eq!((code, busy["code"].as_str()), (409, Some("environment_busy")), "{busy:#}");
    control.ok("DELETE", "/v1/hosts/box/threads/t1", &NOTHING);
    wait_for("the release", || harness.ok(&["show", "demo"])["leases"] == json!([]));

    // The host refuses to remove work at risk, and the row says so. With force it is rescued.
    let refused = control.ok("DELETE", &format!("{of}?wait=30"), &NOTHING);
    assert_eq!(refused["answer"]["code"], "unsafe_to_remove", "{refused:#}");
    let row = control.ok("GET", of, &NOTHING);
    let printed = (row["status"].as_str(), row["error"]["code"].as_str());
    assert_eq!(
        printed,
        (Some("ready"), Some("unsafe_to_remove")),
        "the row is ready and has the fault"
    );
    let gone = control.ok("DELETE", &format!("{of}?wait=30&force=true"), &NOTHING);
    assert_eq!(gone["status"], 200, "{gone:#}");
    assert_eq!(control.call("DELETE", of, &NOTHING).0, 204, "the repeated request succeeds");
    assert_eq!((control.row("box", "demo"), place.exists()), ("destroyed".to_owned(), false));
    let (code, answer) = control.call("GET", &format!("{of}/status"), &NOTHING);
    assert_eq!((code, answer["code"].as_str()), (410, Some("environment_destroyed")));

    let back = control.ok("POST", &format!("{of}/restore?wait=30"), &json!({}));
    assert_eq!(back["status"], 200, "{back:#}");
    let row = control.ok("GET", of, &NOTHING);
    assert_eq!((row["status"].as_str(), row["incarnation"].as_u64()), (Some("ready"), Some(2)));
    assert_eq!(std::fs::read_to_string(place.join("new")).expect("back"), "work\n");
    harness.ok(&["rm", "demo", "--force"]);
    wait_for("the row to follow", || control.row("box", "demo") == "destroyed");
    harness.check(&[&repo]);
}

/// The environment and the thread must exist before anything is queued.
#[test]
fn commands_for_unknown_targets_are_refused() {
    let Scene { harness, control, config, repo } = scene();
    let _daemon = daemon(&harness, &config);
    control.await_session("box");
    control.make("box", "demo", &repo);
    let of = "/v1/hosts/box/environments/demo";
    let refused = |method: &str, path: &str, body: Value| {
        let (status, answer) = control.call(method, path, &body);
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let exec = |thread: &str| json!({ "argv": ["true"], "thread": thread });
    let path = format!("{of}/exec");
    assert_eq!(refused("POST", &path, exec("nobody")), (404, "thread_not_found".into()));
    control.ok("POST", &format!("{of}/threads"), &json!({ "id": "orphan" }));
    assert_eq!(refused("POST", &path, exec("orphan")), (409, "no_holder".into()));
    control.ok("DELETE", "/v1/hosts/box/threads/orphan", &NOTHING);
    assert_eq!(refused("POST", &path, exec("orphan")), (410, "thread_ended".into()));
    let again = refused("DELETE", "/v1/hosts/box/threads/orphan", NOTHING);
    assert_eq!(again, (410, "thread_ended".into()));
    let unknown = refused("DELETE", "/v1/hosts/box/threads/nobody", NOTHING);
    assert_eq!(unknown, (404, "thread_not_found".into()));
    let nowhere = refused("GET", "/v1/hosts/box/environments/nothing/status", NOTHING);
    assert_eq!(nowhere, (404, "environment_not_found".into()));
    let stranger = refused("POST", "/v1/hosts/other/environments", json!({"id": "x", "repo": "/"}));
    assert_eq!(stranger, (404, "host_not_found".into()));

    // The host itself checks that a path belongs to the user; it does not trust the server.
    let body = json!({ "id": "evil", "repo": "/proc" });
    let made = control.ok("POST", "/v1/hosts/box/environments?wait=30", &body);
    assert_ne!(made["status"], 200, "{made:#}");
    assert_eq!(control.row("box", "evil"), "error");
    control.ok("DELETE", &format!("{of}?wait=30"), &NOTHING);
    let late = control.call("POST", &format!("{of}/threads"), &json!({ "id": "late" }));
    assert_eq!((late.0, late.1["code"].as_str()), (410, Some("environment_destroyed")));
}

#[test]
fn sides_agree_after_either_absence() {
    let Scene { harness, mut control, config, repo } = scene();
    let mut host = daemon(&harness, &config);
    control.await_session("box");
    for id in ["kept", "gone-there", "gone-here", "used"] {
        control.make("box", id, &repo);
    }
    let thread = json!({ "id": "t1", "holder": "app" });
    control.ok("POST", "/v1/hosts/box/environments/used/threads", &thread);
    wait_for("the lease", || harness.ok(&["show", "used"])["leases"] != json!([]));

    // The host is down: requests made meanwhile are carried out when it returns.
    host.kill();
    wait_for("the end of the session", || {
        control.ok("GET", "/v1/hosts/box", &NOTHING)["connected"] == false
    });
    let (code, _) = control.call("DELETE", "/v1/hosts/box/environments/gone-there", &NOTHING);
    assert_eq!((code, control.row("box", "gone-there")), (202, "destroying".to_owned()));
    let (code, answer) = control.call("GET", "/v1/hosts/box/environments/kept/status", &NOTHING);
    assert_eq!((code, answer["code"].as_str()), (502, Some("host_unavailable")));
    let mut host = daemon(&harness, &config);
    wait_for("the removal", || control.row("box", "gone-there") == "destroyed");
    assert_eq!(phase(&harness, "gone-there"), "tombstoned");

    // The server is down: events on the host are sent when it returns.
    let port = control.port.clone();
    control.kill();
    harness.ok(&["rm", "gone-here"]);
    harness.new_env("made-here", &repo, &[]);
    let mut control = Control::listen(&harness, &port);
    control.await_session("box");
    wait_for("the rows to follow", || {
        control.row("box", "gone-here") == "destroyed" && control.row("box", "made-here") == "ready"
    });
    for id in ["kept", "used", "made-here"] {
        assert_eq!(control.row("box", id), "ready");
        assert_eq!(phase(&harness, id), "ready");
    }

    // Both are down. After the restart the host still has what it was not told to remove.
    host.kill();
    control.kill();
    let control = Control::listen(&harness, &port);
    let _host = daemon(&harness, &config);
    control.await_session("box");
    wait_for("agreement", || {
        phase(&harness, "kept") == "ready" && control.row("box", "kept") == "ready"
    });
    harness.check(&[&repo]);
}

/// The live set of the next session retires the environment.
#[test]
fn lost_destroy_command_is_reconciled() {
    let Scene { harness, mut control, config, repo } = scene();
    let host = daemon(&harness, &config);
    control.await_session("box");
    for id in ["a", "b"] {
        control.make("box", id, &repo);
    }
    let port = control.port.clone();
    drop(host);
    control.kill();
    // The server loses its operations, as with an older copy of its tables.
    let db = harness.path("control/catalog.db");
    let sql = "UPDATE environments SET status = 'destroyed' WHERE id = 'a';
               UPDATE hosts SET epoch = epoch + 1;";
    rusqlite::Connection::open(db).expect("opened").execute_batch(sql).expect("changed");
    let control = Control::listen(&harness, &port);
    let _host = daemon(&harness, &config);
    control.await_session("box");
    wait_for("the live set to be applied", || phase(&harness, "a") == "tombstoned");
    assert_eq!(
        (phase(&harness, "b"), control.row("box", "a")),
        ("ready".into(), "destroyed".into())
    );
    let report = control.ok("GET", "/v1/hosts/box", &NOTHING)["reconciled"].clone();
    assert!(report["held"] == false, "{report:#}");
    harness.check(&[&repo]);
}

#[test]
fn session_needs_key_port_needs_token() {
    let Scene { harness, control, config, repo } = scene();
    let _daemon = daemon(&harness, &config);
    control.await_session("box");
    control.make("box", "demo", &repo);
    let port = || std::net::TcpStream::connect(&control.port).expect("connected");
    let (code, answer) = http(port(), "GET", "/v1/hosts", &NOTHING, "");
    assert_eq!((code, answer["code"].as_str()), (401, Some("unauthorized")));
    let token = std::fs::read_to_string(harness.path("control/admin-token")).expect("a token");
    let bearer = |key: &str| format!("authorization: Bearer {}\r\n", key.trim());
    assert_eq!(http(port(), "GET", "/v1/hosts", &NOTHING, &bearer(&token)).0, 200);
    let upgrade = |key: &str| {
        format!(
            "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: \
             dGhlIHNhbXBsZSBub25jZQ==\r\n{}",
            bearer(key)
        )
    };
    // Neither the token of the port nor a guess is accepted as a host's key.
    for key in [token.as_str(), "", "gkh_0", &"x".repeat(10_000)] {
        let (code, answer) = http(port(), "GET", "/v1/session", &NOTHING, &upgrade(key));
        assert_eq!((code, answer["code"].as_str()), (401, Some("unauthorized")), "{key}");
    }
    let key = std::fs::read_to_string(harness.path("box.key")).expect("a key");
    let (code, answer) = http(port(), "GET", "/v1/session", &NOTHING, &bearer(&key));
    assert_eq!((code, answer["code"].as_str()), (400, Some("invalid_request")), "no WebSocket");
    // The existing session is not affected.
    let status = control.ok("GET", "/v1/hosts/box/environments/demo/status", &NOTHING);
    assert_eq!(status["id"], "demo");
    // The server stores only hashes of keys, and the host's log contains no secret.
    let stored = std::fs::read(harness.path("control/catalog.db")).expect("a database");
    let log = std::fs::read(harness.data().join("log.redb")).expect("a log");
    for bytes in [stored, log] {
        let found = bytes.windows(key.trim().len()).any(|part| part == key.trim().as_bytes());
        assert!(!found, "the key is stored in the clear");
    }
}

/// A single record must be sent as well: the first record of a batch is not lost. A stale destroy
/// does not affect a new incarnation of the same name.
#[test]
fn records_reach_server_by_incarnation() {
    let Scene { harness, mut control, config, repo } = scene();
    let host = daemon(&harness, &config);
    control.await_session("box");
    // An adoption appends exactly one record.
    let clone = harness.repo("clone", 1);
    harness.ok(&["adopt", clone.to_str().expect("text"), "--id", "mine"]);
    wait_for("the row", || control.row("box", "mine") == "ready");
    control.make("box", "demo", &repo);
    drop(host);
    wait_for("the end of the session", || {
        control.ok("GET", "/v1/hosts/box", &NOTHING)["connected"] == false
    });
    // The server destroys the environment while the user, unknown to the server, removes and
    // recreates it on the host: two incarnations of one name.
    let (code, _) = control.call("DELETE", "/v1/hosts/box/environments/demo?force=true", &NOTHING);
    assert_eq!(code, 202);
    let local = crate::support::Daemon::start(&harness);
    harness.ok(&["rm", "demo"]);
    let place = harness.new_env("demo", &repo, &[]);
    harness.write(&place.join("work"), "of this life\n");
    drop(local);
    let _host = daemon(&harness, &config);
    control.await_session("box");
    wait_for("the new incarnation in the row", || {
        let row = control.ok("GET", "/v1/hosts/box/environments/demo", &NOTHING);
        row["status"] == "ready" && row["incarnation"] == 2
    });
    wait_for("the end of the stale operation", || {
        let db = rusqlite::Connection::open(harness.path("control/catalog.db")).expect("opened");
        let sql = "SELECT count(*) FROM operations WHERE status IS NULL";
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("counted") == 0
    });
    assert!(place.join("work").exists(), "the new incarnation was not to be removed");
    assert_eq!(phase(&harness, "demo"), "ready");
    control.kill();
}

#[test]
fn idempotency_key_serves_one_request() {
    let Scene { harness, control, config, repo } = scene();
    let _daemon = daemon(&harness, &config);
    control.await_session("box");
    control.make("box", "demo", &repo);
    let of = "/v1/hosts/box/environments/demo";
    let place = harness.data().join("worktrees/demo/project");
    harness.write(&place.join("new"), "work\n");
    let key = "idempotency-key: K\r\n";
    let delete = format!("{of}?wait=30");
    let (_, refused) = control.call_as("DELETE", &delete, &NOTHING, key);
    assert_eq!(refused["answer"]["code"], "unsafe_to_remove", "{refused:#}");
    let (_, again) = control.call_as("DELETE", &delete, &NOTHING, key);
    assert_eq!((&again["id"], control.row("box", "demo")), (&refused["id"], "ready".to_owned()));
    let exec = json!({ "argv": ["true"] });
    let (code, other) = control.call_as("POST", &format!("{of}/exec"), &exec, key);
    assert_eq!((code, other["code"].as_str()), (422, Some("idempotency_conflict")));
    assert!(place.join("new").exists());
    assert_eq!(phase(&harness, "demo"), "ready");
}

/// A client in another language uses both APIs from their documents alone.
#[test]
fn foreign_client_uses_documented_apis() {
    let Scene { harness, control, config, repo } = scene();
    let _daemon = daemon(&harness, &config);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let info = std::fs::read(harness.data().join("daemon.json")).expect("a daemon");
    let info: Value = serde_json::from_slice(&info).expect("json");
    let mut client = std::process::Command::new("python3");
    client.arg(root.join("tests/client/drive.py")).arg(root.join("schema")).arg(&control.socket);
    client.arg(info["socket"].as_str().expect("a path")).arg(&repo);
    let output = client.output().expect("python3 is installed");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{printed}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("operations of the server"), "{text}");
    harness.check(&[&repo]);
}
