//! The text log of a daemon, as JSON: every line is an object, and a line about a step or a record
//! leads to the record in the log.

use std::process::Command;

use serde_json::Value;

use crate::replay::json;
use crate::support::{Daemon, Harness};

/// Runs a daemon with the given arguments, creates and removes an environment, and returns the
/// lines that the daemon wrote to stderr.
fn log_lines(harness: &Harness, args: &[&str]) -> Vec<String> {
    let repo = harness.repo("project", 3);
    let command: Command = harness.command(&[&["daemon"], args].concat());
    let daemon = Daemon::of(harness, command);
    harness.new_env("demo", &repo, &[]);
    harness.ok(&["rm", "demo"]);
    assert!(daemon.terminate().success(), "the daemon ends in order");
    let text = std::fs::read_to_string(harness.path("daemon.err")).expect("a log");
    text.lines().map(str::to_owned).collect()
}

/// Returns the record with this seq, as `replay show` prints it.
fn record(harness: &Harness, seq: &Value) -> Value {
    let data = harness.data();
    json(&["show", data.to_str().expect("text"), &seq.as_u64().expect("a number").to_string()])
}

#[test]
fn json_log_line_leads_to_record() {
    let harness = Harness::new();
    let lines = log_lines(&harness, &["--log-format", "json", "-v"]);
    let parse = |line: &String| serde_json::from_str::<Value>(line).expect("an object a line");
    let lines: Vec<Value> = lines.iter().map(parse).collect();
    assert!(lines.iter().all(|line| line["level"].is_string() && line["message"].is_string()));

    // A step: its span says which one, of which incarnation, and which record made it owed.
    let is_step =
        |line: &&Value, step: &str| line["message"] == "step done" && line["span"]["step"] == step;
    for step in ["add_worktree", "move_to_trash"] {
        let line = lines.iter().find(|line| is_step(line, step));
        let span = &line.expect("the step is done")["span"];
        assert_eq!((&span["environment"], &span["incarnation"]), (&"demo".into(), &1.into()));
        assert_eq!(span["attempt"], 1, "{span}");
        assert_eq!(record(&harness, &span["seq"])["environment"], "demo", "{span}");
    }

    // A record: its line has its seq, and the span of the command that led to it.
    let is_record =
        |line: &&Value, kind: &str| line["message"] == "record appended" && line["kind"] == kind;
    for (kind, command) in [("ProvisionRequested", "provision"), ("Tombstoned", "settle")] {
        let line = lines.iter().find(|line| is_record(line, kind)).expect("the record's line");
        assert_eq!((&line["environment"], &line["incarnation"]), (&"demo".into(), &1.into()));
        assert_eq!(line["span"]["command"], command, "{line}");
        let shown = record(&harness, &line["seq"]);
        assert_eq!((&shown["kind"], &shown["environment"]), (&kind.into(), &"demo".into()));
    }
    // What settles a step stands inside the step.
    let last = lines.iter().find(|line| is_record(line, "Tombstoned")).expect("the end");
    assert_eq!(last["spans"][0]["environment"], "demo", "{last}");
}

/// Success is quiet at the usual level: a daemon that runs for months must not fill the disk.
#[test]
fn text_log_is_quiet_about_success() {
    let harness = Harness::new();
    let lines = log_lines(&harness, &[]);
    assert!(lines.iter().any(|line| line.contains("ready")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("demo")), "{lines:?}");
}

/// A level that is not understood is named, and the usual one is logged.
#[test]
fn unknown_level_is_named() {
    for (value, logs_steps) in [("groundskeeper=loud", false), ("groundskeeper=debug", true)] {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        let mut command = harness.command(&["daemon"]);
        command.env("GROUNDSKEEPER_LOG", value);
        let daemon = Daemon::of(&harness, command);
        harness.new_env("demo", &repo, &[]);
        assert!(daemon.terminate().success(), "the daemon ends in order");
        let text = std::fs::read_to_string(harness.path("daemon.err")).expect("a log");
        let is_refused = text.contains("GROUNDSKEEPER_LOG is not understood");
        assert_eq!(is_refused, !logs_steps, "{value}: {text}");
        assert_eq!(text.contains("step done"), logs_steps, "{value}: {text}");
        assert!(text.contains("ready"), "{value}: {text}");
    }
}

/// A parent may close its end of stderr while the daemon runs. A variable that is set to nothing
/// counts as not set.
#[test]
fn lost_log_ends_no_thread() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let daemon = harness.command(&["daemon", "-v"]);
    let mut command = Command::new("bash");
    command.args(["-c", r#"exec "$0" "$@" 2> >(:)"#]).arg(daemon.get_program());
    command.args(daemon.get_args());
    command.env("GROUNDSKEEPER_LOG_FORMAT", "");
    let daemon = Daemon::of(&harness, command);
    harness.new_env("demo", &repo, &[]);
    harness.ok(&["rm", "demo"]);
    assert!(daemon.terminate().success(), "the daemon ends in order");
}

/// Runs a command that must fail and returns its exit code and what it wrote to stderr.
fn failed(harness: &Harness, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = harness.command(args);
    let ran = command.envs(env.iter().copied()).output().expect("it runs");
    assert!(ran.stdout.is_empty(), "{args:?} prints {:?}", String::from_utf8_lossy(&ran.stdout));
    (ran.status.code(), String::from_utf8(ran.stderr).expect("text"))
}

/// The reason for the end of a process is a line of its log, before the log has begun and at every
/// level. A server that collects the log parses nothing else.
#[test]
fn failed_start_is_line_of_json_log() {
    let harness = Harness::new();
    let config = harness.path("broken.toml");
    harness.write(&config, "unknown = 1\n");
    let broken = ("GROUNDSKEEPER_CONFIG", config.to_str().expect("text"));
    let json = ("GROUNDSKEEPER_LOG_FORMAT", "json");
    let quiet = ("GROUNDSKEEPER_LOG", "off");
    let flag = "--log-format=json";
    let line = |args: &[&str], env: &[(&str, &str)], code: i32| {
        let (found, text) = failed(&harness, args, env);
        assert_eq!(found, Some(code), "{args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
        let line: Value = serde_json::from_str(&text).expect("an object");
        assert_eq!(line["level"], "ERROR", "{line}");
        assert!(line["timestamp"].is_string() && line["target"].is_string(), "{line}");
        line
    };
    for verb in ["daemon", "up", "server"] {
        let usage = line(&[verb, "--listen", "nowhere", "--log-format", "json"], &[], 64);
        let message = usage["message"].as_str().expect("text");
        assert!(message.starts_with("invalid value 'nowhere' for '--listen"), "{message}");
        line(&[verb, "--bad"], &[json], 64);
        line(&[verb, flag, "--bad"], &[quiet], 64);
    }
    let unknown = line(&["daemon", flag], &[broken, quiet], 64);
    assert_eq!(unknown["code"], "invalid_config", "{unknown}");
    assert!(unknown["hint"].is_string(), "{unknown}");
    assert!(unknown["causes"].as_str().is_some_and(|text| text.contains("unknown")), "{unknown}");

    let (_, text) = failed(&harness, &["daemon"], &[broken]);
    assert!(text.starts_with("error: ") && text.contains("[invalid_config]"), "{text}");
    let (_, text) = failed(&harness, &["ls", "--bad"], &[json]);
    assert!(text.starts_with("error: "), "a client has no log: {text}");
}
