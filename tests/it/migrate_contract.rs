//! The page about the contract of `migrate` with programs in other languages, compared with what
//! the program prints. What needs no program is compared where it is defined.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::migrate::{TENANT, migrate, set_up_case};
use crate::support::{Daemon, Harness, sleep, wait_for};

const PAGE: &str = include_str!("../../src/migrate/contract.md");
const CASE: &str = "01-openapi-file-basic";

/// Returns the first column of the tables below a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let section = PAGE.split_once(&format!("# {heading}\n")).expect("the heading").1;
    let section = section.split("\n#").next().unwrap_or(section);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

fn args(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

#[test]
fn result_has_documented_keys() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let command = migrate(&place, TENANT);
    let wanted = documented("Result of a migration");
    let database = place.database();
    let database = database.to_str().expect("text");

    let rehearsed = harness.ok(&[&args(&command)[..], &["--dry-run"]].concat());
    let done = harness.ok(&args(&command));
    let current = harness.ok(&args(&command));
    let undone = harness.ok(&["migrate", "undo", database]);
    let listed = harness.ok(&["migrate", "status"]);
    let phases = ["rehearsed", "finished", "current", "undone"];
    for (answer, phase) in [rehearsed, done, current, undone].iter().zip(phases) {
        let mut wanted = wanted.clone();
        if phase != "undone" {
            // Only an undo puts files aside.
            assert!(wanted.remove("kept"), "it is documented");
        }
        assert_eq!(keys(answer), wanted, "{phase}");
        assert_eq!(answer["phase"], phase);
        for table in answer["tables"].as_array().expect("a list") {
            assert_eq!(keys(table), ["after", "before", "table"].map(str::to_owned).into());
        }
    }
    assert_eq!(listed[0]["phase"], "undone", "the latest first");
    assert_eq!(keys(&listed[0]), wanted);
}

#[test]
fn failure_has_documented_keys_and_code() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let missing = harness.path("missing.db");
    let missing = missing.to_str().expect("text");
    let cases = [
        (vec!["migrate", missing, "--recipe", "executor"], 3, "path_not_found"),
        (vec!["migrate", "undo", missing], 3, "migration_not_found"),
        (vec!["migrate", missing, "--recipe", "no-such-recipe"], 64, "invalid_request"),
    ];
    for (command, exit_code, name) in cases {
        let (code, answer) = harness.gk(&command);
        assert_eq!((code, answer["error"]["code"].as_str()), (exit_code, Some(name)), "{answer:#}");
        assert_eq!(keys(&answer), ["error".to_owned()].into());
        assert_eq!(keys(&answer["error"]), documented("Result of a failure"));
        assert!(documented("Codes").contains(name));
    }
    let (code, answer) = harness.gk(&["migrate", "--no-such-flag"]);
    assert_eq!((code, &answer["error"]["code"]), (64, &"invalid_request".into()), "{answer:#}");
    assert_eq!(keys(&answer["error"]), documented("Result of a failure"));

    let lock = rusqlite::Connection::open(place.data.join("data.db.owner-lock")).expect("opened");
    lock.execute_batch("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE").expect("locked");
    let (code, answer) = harness.gk(&args(&migrate(&place, TENANT)));
    assert_eq!((code, &answer["error"]["code"]), (4, &"database_in_use".into()), "{answer:#}");
}

/// The lines of a daemon's migration have the same form as those of a process.
#[test]
fn daemon_progress_is_one_object_a_line() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let _daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_FAULT", "sync:100ms:1")]);
    let command = migrate(&place, TENANT);
    let words = [&args(&command)[..], &["--progress", "json", "--json"]].concat();
    let output = harness.command(&words).stdin(Stdio::null()).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let lines: Vec<Value> = lines.filter(|line| line["phase"].is_string()).collect();
    let phases = documented("Phases");
    assert!(lines.len() > 1, "{text}");
    for line in &lines {
        assert!(phases.contains(line["phase"].as_str().expect("text")), "{line}");
        assert_eq!(line["attempts"], Value::Null, "{line}");
    }
    assert_eq!(lines.last().map(|line| &line["phase"]), Some(&"finished".into()));
}

/// The page names every variable that the sources of a migration read, and no other.
#[test]
fn environment_variables_are_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("a source");
    let sources = [
        "recipes.rs",
        "cli/args/global.rs",
        "migrate/recipes/executor/defaults.rs",
        "migrate/recipes/executor/secrets.rs",
    ];
    let sources: String = sources.map(read).concat();
    let mut found = BTreeSet::new();
    for text in sources.split('"').skip(1).step_by(2) {
        let is_name = text.len() > 5 && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        if is_name && ["GROUNDSKEEPER_", "EXECUTOR_", "XDG_"].iter().any(|p| text.starts_with(p)) {
            found.insert(text.to_owned());
        }
    }
    assert_eq!(documented("Environment variables"), found);
}

#[test]
fn ready_line_is_documented() {
    use groundskeeper::daemon::ready::READY;
    let lines: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("| `--ready")).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains(&format!("`{READY}SOCKET`")), "{}", lines[0]);
    let harness = Harness::new();
    for (more, wanted) in [(&["--listen", "127.0.0.1:0"][..], "PORT"), (&[][..], "SOCKET")] {
        assert!(lines[1].contains(&format!("`EXECUTOR_READY:{wanted}`")));
        let words = [&["daemon", "--ready-format", "executor"][..], more].concat();
        let out = harness.path("out");
        let to = std::fs::File::create(&out).expect("a file");
        let mut child =
            harness.command(&words).stdout(to).stderr(Stdio::null()).spawn().expect("starts");
        let line = || std::fs::read_to_string(&out).expect("read");
        wait_for("the ready line", || line().ends_with('\n'));
        let line = line();
        let value = line.trim_end().strip_prefix("EXECUTOR_READY:").expect("the prefix");
        match wanted {
            "PORT" => assert!(value.parse::<u16>().is_ok(), "{line}"),
            _ => assert!(Path::new(value).is_absolute(), "{line}"),
        }
        drop((child.kill(), child.wait()));
    }
}

/// A second signal ends the process at once with the code of the page.
#[test]
fn second_signal_ends_by_force() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let command = migrate(&place, TENANT);
    let words = [&args(&command)[..], &["--no-daemon", "--progress", "json"]].concat();
    let mut process = harness.command(&words);
    process.env("GROUNDSKEEPER_FAULT", "sync:2000ms:1").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = process.spawn().expect("starts");
    wait_for("the log", || harness.data().join("log.redb").exists());
    // The handler of signals is there before the log is.
    sleep(std::time::Duration::from_millis(200));
    for _ in 0..2 {
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
        sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    assert!(documented("Exit codes").contains("130"));
}
