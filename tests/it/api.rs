//! The API socket: access control, malformed and oversized requests, resumed event streams, and
//! only one daemon for a data directory.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control_server::Control;
use crate::support::{Daemon, Harness, WAIT_LIMIT};

fn socket(harness: &Harness) -> PathBuf {
    let info = std::fs::read(harness.data().join("daemon.json")).expect("a daemon");
    let info: Value = serde_json::from_slice(&info).expect("json");
    PathBuf::from(info["socket"].as_str().expect("a path"))
}

pub(crate) fn connect(harness: &Harness) -> UnixStream {
    let stream = UnixStream::connect(socket(harness)).expect("connected");
    stream.set_read_timeout(Some(WAIT_LIMIT)).expect("a limit");
    stream
}

/// Sends raw bytes and returns status and body of the answer; the status is 0 without an answer.
fn raw(harness: &Harness, request: &[u8]) -> (u16, Value) {
    let mut stream = connect(harness);
    // The write may fail: the daemon may answer and close before all of a bad request is written.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map(|(_, b)| b.to_owned()).unwrap_or_default();
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

pub(crate) fn call(
    harness: &Harness,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, Value) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\
         {headers}\r\n{body}",
        body.len()
    );
    raw(harness, request.as_bytes())
}

/// A killed daemon leaves its socket behind.
#[test]
fn socket_is_private_and_stale_replaced() {
    let harness = Harness::new();
    let mut daemon = Daemon::start(&harness);
    let path = socket(&harness);
    assert_eq!(path.symlink_metadata().expect("there").mode() & 0o777, 0o600);
    let folder = path.parent().expect("a folder").metadata().expect("there");
    assert_eq!(folder.mode() & 0o777, 0o700);
    daemon.kill();
    assert!(path.exists(), "a killed daemon leaves its socket");
    let _daemon = Daemon::start(&harness);
    harness.ok(&["ls"]);
}

#[test]
fn long_data_directory_gets_short_socket() {
    let harness = Harness::new();
    let deep = harness.path("x".repeat(60)).join("y".repeat(60));
    let run = |verb: &str| {
        let mut command = std::process::Command::new(crate::support::PROGRAM);
        command.env("HOME", harness.path("home")).env("XDG_RUNTIME_DIR", harness.dir.path());
        command.env_remove("GROUNDSKEEPER_HOME").arg("--data-dir").arg(&deep);
        let output = command.args(["--json", verb]).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run("ls");
    run("stop");
}

#[test]
fn second_daemon_names_lock_holder() {
    let harness = Harness::new();
    let daemon = Daemon::start(&harness);
    let (code, error) = harness.refused(&["daemon"]);
    assert_eq!((code, error["code"].as_str()), (4, Some("already_running")));
    let message = error["message"].as_str().expect("text");
    assert!(message.contains(&daemon.child.id().to_string()), "{message}");
}

#[test]
fn malformed_requests_are_refused_without_effect() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let bad_bodies =
        ["", "{", "[]", "{\"repo\":1}", "{\"repo\":\"/\",\"nope\":1}", "{\"repo\":\"x\"}"];
    for body in bad_bodies {
        let (status, answer) = call(&harness, "POST", "/v1/environments", "", body);
        assert_eq!(
            (status, answer["code"].as_str()),
            (400, Some("invalid_request")),
            "{body}: {answer}"
        );
        assert!(answer["hint"].as_str().is_some_and(|h| !h.is_empty()));
    }
    for (method, path, status) in [
        ("GET", "/v1/environments/a%2Fb", 400),
        ("GET", "/v1/environments/%00", 400),
        ("GET", "/v1/environments/%FF", 400),
        ("GET", "/v1/environments/none", 404),
        ("GET", "/v1/nothing", 404),
        ("PATCH", "/v1/environments", 405),
        ("DELETE", "/v1/environments/x/processes/many", 400),
        ("GET", "/v1/migrations/%FF", 400),
        ("DELETE", "/v1/environments/x?wait=-1", 400),
        ("GET", "/v1/environments?all=maybe", 400),
        ("GET", "/v1/events?since=-1", 400),
        ("DELETE", "/v1/environments/x?force=perhaps", 400),
    ] {
        let (found, answer) = call(&harness, method, path, "", "");
        assert_eq!(found, status, "{method} {path}: {answer}");
        assert!(answer["code"].is_string(), "{method} {path}: {answer}");
        assert_eq!((&answer["detail"], &answer["status"]), (&answer["message"], &json!(found)));
        assert!(answer["title"].as_str().is_some_and(|title| !title.is_empty()), "{answer}");
    }
    let key = format!("idempotency-key: {}\r\n", "k".repeat(200));
    assert_eq!(call(&harness, "POST", "/v1/environments", &key, "{\"repo\":\"/\"}").0, 400);
    assert_eq!(call(&harness, "GET", "/v1/events", "last-event-id: x\r\n", "").0, 400);
    for garbage in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"\xff\xfe"] {
        let mut stream = connect(&harness);
        drop(stream.write_all(garbage));
        drop(stream.shutdown(std::net::Shutdown::Write));
        drop(stream.read_to_end(&mut Vec::new()));
    }
    assert_eq!(harness.ok(&["ls", "--all"]), json!([]));
}

/// The refusal names the limit of the route.
#[test]
fn oversized_requests_are_refused() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let control = Control::start(&harness);
    let refused = |(status, answer): (u16, Value), limit: usize| {
        assert_eq!((status, answer["code"].as_str()), (413, Some("request_too_large")), "{answer}");
        assert_eq!(answer["message"], format!("the request is larger than {limit} bytes"));
    };
    for (path, limit) in [("/v1/environments", 65_536), ("/v1/reconcile", 2_097_152)] {
        let body = json!({ "repo": "x".repeat(limit) });
        refused(call(&harness, "POST", path, "", &body.to_string()), limit);
        let (status, answer) = call(&harness, "POST", path, "", &" ".repeat(limit));
        assert_eq!((status, answer["code"].as_str()), (400, Some("invalid_request")), "{answer}");
    }
    let body = json!({ "id": "x".repeat(2_097_152) });
    refused(control.call("POST", "/v1/hosts", &body), 2_097_152);
    let head = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(200_000));
    let (status, _) = raw(&harness, head.as_bytes());
    assert!(matches!(status, 0 | 414 | 431), "{status}");
    harness.ok(&["ls"]);
}

/// The same key with another request is a conflict.
#[test]
fn idempotency_key_repeats_no_request() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let body = json!({ "repo": repo }).to_string();
    let key = "idempotency-key: once\r\n";
    let first = call(&harness, "POST", "/v1/environments?wait=60", key, &body);
    let again = call(&harness, "POST", "/v1/environments?wait=60", key, &body);
    assert_eq!(first.0, 200, "{}", first.1);
    assert_eq!(first.1["id"], again.1["id"], "no second environment with a generated name");
    let id = first.1["id"].as_str().expect("an id");
    let path = format!("/v1/environments/{id}");
    let (status, answer) = call(&harness, "DELETE", &path, key, "");
    assert_eq!((status, answer["code"].as_str()), (422, Some("idempotency_conflict")), "{answer}");
    // Another body under the same key, although it names no other environment.
    let other = json!({ "repo": repo, "base": "HEAD" }).to_string();
    let (status, answer) = call(&harness, "POST", "/v1/environments", key, &other);
    assert_eq!((status, answer["code"].as_str()), (422, Some("idempotency_conflict")), "{answer}");
    // One that was refused may be sent again without its mistake.
    let key = "idempotency-key: mended\r\n";
    assert_eq!(call(&harness, "POST", "/v1/environments", key, "{\"repo\":\"x\"}").0, 400);
    assert_eq!(call(&harness, "POST", "/v1/environments?wait=60", key, &body).0, 200);
}

/// With no time to wait the answer is that the work goes on, and of which environment.
#[test]
fn wait_of_zero_is_answered_at_once() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let body = json!({ "repo": repo, "id": "demo" }).to_string();
    let (status, answer) = call(&harness, "POST", "/v1/environments?wait=0", "", &body);
    assert!([200, 202].contains(&status), "{status} {answer}");
    assert_eq!(answer["id"], "demo");
    assert_eq!(call(&harness, "POST", "/v1/environments?wait=60", "", &body).0, 200);
    harness.write(&PathBuf::from(answer["path"].as_str().expect("a path")).join("new"), "work\n");
    let (status, answer) = call(&harness, "DELETE", "/v1/environments/demo?wait=0", "", "");
    assert!([202, 409].contains(&status), "{status} {answer}");
    assert_eq!(call(&harness, "DELETE", "/v1/environments/demo?wait=60", "", "").0, 409);
}

#[test]
fn event_stream_resumes_without_gap() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    harness.new_env("demo", &repo, &[]);
    let (_, all) = call(&harness, "GET", "/v1/events", "", "");
    let all = all.as_str().map_or_else(|| all.to_string(), str::to_owned);
    assert!(all.contains("EnvironmentReady"), "{all}");

    let mut stream = connect(&harness);
    let request = "GET /v1/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\
                   last-event-id: 2\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut ids = BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .filter_map(|l| l.strip_prefix("id: ").and_then(|id| id.parse::<u64>().ok()));
    assert_eq!(ids.next(), Some(3), "the record after the last received one");
    assert_eq!(ids.next(), Some(4));
    harness.ok(&["rm", "demo"]);
    let rest: Vec<u64> = ids.take(5).collect();
    assert!(rest.windows(2).all(|w| w[1] == w[0] + 1), "{rest:?}");
}

#[test]
fn ten_thousand_connections_are_survived() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let path = socket(&harness);
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _raised = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    let wanted = limit.maximum.unwrap_or(20_000).saturating_sub(500).min(10_000);
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..wanted {
        match UnixStream::connect(&path) {
            Ok(stream) => open.push(stream),
            Err(_) => refused += 1,
        }
    }
    // The last connection exceeds the limit and gets an answer that says so.
    let mut last = open.pop().expect("one");
    last.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let mut answer = String::new();
    drop(last.read_to_string(&mut answer));
    assert!(answer.contains("503") && answer.contains("limit_reached"), "{answer:?}");
    eprintln!("{} open, {refused} refused by the system", open.len());
    drop(open);
    crate::support::wait_for("space for a new environment", || harness.gk(&["ls"]).0 == 0);
}

/// A client that starts the daemon by itself reports it as well.
#[test]
fn failed_daemon_start_reports_cause() {
    let harness = Harness::new();
    let config = harness.path("home/.config/groundskeeper/config.toml");
    harness.write(&config, "branch_prefx = \"x\"\n");
    let (code, error) = harness.refused(&["daemon"]);
    assert_eq!((code, error["code"].as_str()), (64, Some("invalid_config")));
    assert!(error["causes"].to_string().contains("branch_prefx"), "{error}");
    let (_, error) = harness.refused(&["ls"]);
    assert!(
        error["evidence"].to_string().contains("branch_prefx"),
        "started by the client: {error}"
    );
    std::fs::remove_file(&config).expect("removed");

    let mut command = harness.command(&["--json", "daemon"]);
    let output = command.env("PATH", "/nonexistent").output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("git_missing") && text.contains("install git"), "{text}");

    let file = harness.path("a-file");
    harness.write(&file, "");
    let output = std::process::Command::new(crate::support::PROGRAM)
        .args(["--json", "--data-dir"])
        .arg(&file)
        .arg("daemon")
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn no_autostart_refuses_without_daemon() {
    let harness = Harness::new();
    let (code, error) = harness.refused(&["--no-autostart", "ls"]);
    assert_eq!((code, error["code"].as_str()), (2, Some("daemon_unreachable")));
    assert!(!harness.data().exists(), "no data directory was created");
}

#[test]
fn data_directory_is_private() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    for name in [".", "worktrees", "trash", "locks", "transcripts"] {
        let mode = harness.data().join(name).metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

#[test]
fn doctor_reports_problems_without_daemon() {
    let harness = Harness::new();
    let checks = harness.ok(&["doctor"]);
    assert!(checks.as_array().is_some_and(|c| c.iter().all(|c| c["status"] == "ok")), "{checks:#}");
    let mut command = harness.command(&["--json", "doctor"]);
    let output = command.env("PATH", "/nonexistent").output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"fail\""));
}

/// Such a text would reach git or the system, which cannot have it; some of these steps were tried
/// again and again.
#[test]
fn nul_characters_are_refused_everywhere() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("demo", &repo, &[]);
    let repo = repo.to_str().expect("text");
    let bad = "a\\u0000b";
    for (method, path, body) in [
        ("POST", "/v1/environments", format!("{{\"repo\":\"/{bad}\"}}")),
        ("POST", "/v1/environments", format!("{{\"repo\":\"{repo}\",\"base\":\"{bad}\"}}")),
        ("POST", "/v1/environments", format!("{{\"repo\":\"{repo}\",\"branch\":\"{bad}\"}}")),
        ("POST", "/v1/environments", format!("{{\"repo\":\"{repo}\",\"attributes\":\"{bad}\"}}")),
        ("POST", "/v1/environments/demo/leases", format!("{{\"purpose\":\"{bad}\"}}")),
        ("POST", "/v1/environments/demo/run", format!("{{\"command\":[\"{bad}\"]}}")),
        ("POST", "/v1/adopt", format!("{{\"path\":\"/{bad}\"}}")),
        ("POST", "/v1/migrations", format!("{{\"database\":\"/{bad}\",\"recipe\":\"executor\"}}")),
        ("PUT", "/v1/trust", format!("{{\"repo\":\"/{bad}\"}}")),
        ("GET", "/v1/trust?repo=/a%00b", String::new()),
        ("GET", "/v1/environments/demo%00", String::new()),
        ("GET", "/v1/events?environment=a%00", String::new()),
    ] {
        let (status, answer) = call(&harness, method, path, "", &body);
        assert_eq!((status, &answer["code"]), (400, &"invalid_request".into()), "{path} {body}");
    }
    let all = harness.ok(&["ls", "--all"]);
    assert_eq!(all.as_array().map(Vec::len), Some(1), "nothing was begun: {all:#}");
}
