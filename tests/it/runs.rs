//! Commands that the daemon runs for a request end with it. After a kill, the next daemon ends them
//! before it does anything else.

use std::path::Path;
use std::process::Stdio;

use groundskeeper::world::process::table;
use serde_json::{Value, json};

use crate::api::call;
use crate::support::{Daemon, Harness, wait_for};

fn pid_in(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn await_pid(path: &Path) -> u32 {
    wait_for("a process", || pid_in(path).is_some());
    pid_in(path).expect("a pid")
}

fn is_running(pid: u32) -> bool {
    table::start_time(pid).expect("seen").is_some()
}

/// Requests a command on another thread, without waiting for its end.
fn run(harness: &Harness, request: &str, script: &str) -> std::thread::JoinHandle<(u16, Value)> {
    let body = json!({ "argv": ["sh", "-c", script] }).to_string();
    let headers = format!("content-type: application/json\r\nidempotency-key: {request}\r\n");
    let mut stream = crate::api::connect(harness);
    std::thread::spawn(move || {
        let request = format!(
            "POST /v1/environments/demo/run HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        crate::control_server::exchange(&mut stream, &request)
    })
}

/// A command outlives the connection that asked for it, and its end is recorded.
#[test]
fn disconnected_client_run_is_recorded() {
    use std::io::Write as _;
    let harness = Harness::new();
    let repo = harness.repo("project", 1);
    let _daemon = Daemon::start(&harness);
    harness.new_env("demo", &repo, &[]);
    let (begun, go) = (harness.path("begun"), harness.path("go"));
    let wait = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.02; done; exit 7",
        begun.display(),
        go.display()
    );
    let body = json!({ "argv": ["sh", "-c", wait] }).to_string();
    let mut stream = crate::api::connect(&harness);
    let request = format!(
        "POST /v1/environments/demo/run HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\
         content-type: application/json\r\nidempotency-key: K9\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    wait_for("the command", || begun.exists());
    drop(stream);
    // Answered after the daemon has noticed the end of the connection.
    harness.ok(&["ls"]);
    std::fs::write(&go, "").expect("written");
    wait_for("the recorded end", || {
        let (status, view) = run(&harness, "K9", "exit 0").join().expect("answered");
        status == 200 && view["code"] == 7
    });
}

/// Returns all records of one kind of event.
fn events_of(harness: &Harness, kind: &str) -> Vec<Value> {
    let events = harness.command(&["events", "--json"]).output().expect("asked").stdout;
    let events = String::from_utf8_lossy(&events).into_owned();
    let all = events.lines().map(|line| serde_json::from_str::<Value>(line).expect("json"));
    all.filter(|event| event["kind"] == kind).collect()
}

/// A run that ignores TERM, its helper in another session, and one without variables.
#[test]
fn orphaned_runs_end_before_successor_ready() {
    let harness = Harness::new();
    let repo = harness.repo("project", 1);
    let mut first = Daemon::start(&harness);
    harness.new_env("demo", &repo, &[]);
    // One command ignores TERM and has a helper in another session; another command has no
    // environment variables.
    let folder = harness.path("pids");
    std::fs::create_dir(&folder).expect("a folder");
    let at = folder.display();
    let script = format!(
        "trap '' TERM; setsid sh -c 'echo $$ > {at}/helper; exec sleep 1101' & \
         echo $$ > {at}/leader; while :; do echo tick >> {at}/ticks; sleep 0.02; done"
    );
    let asked = run(&harness, "K1", &script);
    let forgetful = format!("echo $$ > {at}/forgetful; exec env -i sleep 1102");
    let other = run(&harness, "K2", &forgetful);
    // A command that the user runs with `exec`.
    let mine = format!("echo $$ > {at}/mine; exec sleep 1103");
    let mut exec = harness.command(&["exec", "demo", "--", "sh", "-c", &mine]);
    let mut exec = exec.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let pids = ["leader", "helper", "forgetful"].map(|name| await_pid(&folder.join(name)));
    let mine = await_pid(&folder.join("mine"));

    first.kill();
    drop((asked.join(), other.join()));
    assert!(pids.iter().all(|pid| is_running(*pid)), "the runs survive the kill");
    let second = Daemon::start(&harness);
    for (pid, name) in pids.iter().zip(["leader", "helper", "forgetful"]) {
        assert!(!is_running(*pid), "{name} still runs beside the next daemon");
    }
    assert!(is_running(mine), "a command of the user keeps running");
    let ended = events_of(&harness, "RunFinished");
    let whys: Vec<&Value> = ended.iter().map(|event| &event["why"]).collect();
    assert_eq!(whys, ["interrupted", "interrupted"], "{ended:#?}");
    wait_for("their ends in the log", || events_of(&harness, "ProcessExited").len() >= 2);
    let processes = harness.ok(&["ps", "demo"]);
    let processes = processes.as_array().expect("a list").len();
    assert!(processes >= 1, "the running process is listed");

    // The same request again returns that result and runs nothing.
    let ticks = std::fs::read(folder.join("ticks")).expect("ticks");
    let headers = "content-type: application/json\r\nidempotency-key: K1\r\n";
    let body = json!({ "argv": ["sh", "-c", script] }).to_string();
    let (status, answer) = call(&harness, "POST", "/v1/environments/demo/run", headers, &body);
    assert_eq!((status, answer["why"].as_str()), (200, Some("interrupted")), "{answer:#}");
    assert_eq!(
        std::fs::read(folder.join("ticks")).expect("ticks"),
        ticks,
        "the run does not start again"
    );
    drop(exec.kill());
    drop(exec.wait());
    harness.ok(&["rm", "demo", "--force"]);
    assert!(!is_running(mine));
    drop(second);
}

#[test]
fn stopping_daemon_ends_its_runs() {
    let harness = Harness::new();
    let repo = harness.repo("project", 1);
    let first = Daemon::start(&harness);
    harness.new_env("demo", &repo, &[]);
    let file = harness.path("pid");
    let asked = run(&harness, "K", &format!("echo $$ > {}; exec sleep 1104", file.display()));
    let pid = await_pid(&file);
    assert!(first.terminate().success());
    drop(asked.join());
    assert!(!is_running(pid), "the run ended with its daemon");
    let _second = Daemon::start(&harness);
    let ended = events_of(&harness, "RunFinished");
    assert_eq!(ended.len(), 1, "{ended:#?}");
    assert_eq!(ended[0]["why"], "interrupted");
}
