//! A limit of age on rescues: counted from the day on which it is set, named a day before a rescue
//! goes, and never set by default.

use std::path::Path;

use serde_json::Value;

use crate::former_lives::events;
use crate::replay::{json, text};
use crate::support::{Daemon, Harness, wait_for};

const DAY: u64 = 86_400;

/// Starts a daemon whose clock is some seconds ahead.
fn start(harness: &Harness, settings: &str, ahead: u64) -> Daemon {
    let (config, clock) = (harness.path("config.toml"), harness.path("clock"));
    harness.write(&config, settings);
    harness.write(&clock, &ahead.to_string());
    let env = [("GROUNDSKEEPER_CONFIG", text(&config)), ("GROUNDSKEEPER_CLOCK_FILE", text(&clock))];
    Daemon::start_with(harness, &env)
}

fn refs(harness: &Harness, repo: &Path) -> String {
    harness.git(repo, &["for-each-ref", "refs/groundskeeper"])
}

fn rescues(harness: &Harness) -> Vec<Value> {
    harness.ok(&["rescue", "ls"]).as_array().expect("a list").clone()
}

fn doctor(harness: &Harness) -> Value {
    let (_, checks) = harness.gk(&["doctor"]);
    let checks = checks.as_array().expect("checks").clone();
    checks.into_iter().find(|check| check["name"] == "rescues").expect("the check of rescues")
}

fn announced(harness: &Harness) -> Vec<Value> {
    let all = events(harness, &[]).into_iter();
    all.filter(|event| event["kind"] == "RescueExpiryAnnounced").collect()
}

#[test]
fn aged_rescue_is_named_a_day_before_it_is_dropped() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let daemon = start(&harness, "trash_days = 3\n", 0);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("note"), "work\n");
    harness.ok(&["rm", "demo", "--force"]);
    harness.ok(&["trash", "empty"]);
    assert_eq!(rescues(&harness)[0]["rescue_expires_at"], Value::Null);
    harness.ok(&["stop"]);
    drop(daemon);

    // A hundred days later the user sets a limit: nothing goes at once.
    let limit = "trash_days = 3\nrescue_days = 30\n";
    let daemon = start(&harness, limit, 100 * DAY);
    harness.drain();
    let listed = rescues(&harness);
    assert!(listed[0]["rescue_expires_at"].is_string(), "{listed:#?}");
    assert_eq!(listed[0]["rescue_expires_soon"], false);
    assert_eq!(doctor(&harness)["status"], "ok");
    // The clock of a running daemon goes on. It looks when it is asked for something.
    harness.write(&harness.path("clock"), &((129 * DAY) + 60).to_string());
    wait_for("the announcement", || {
        harness.ok(&["trash", "empty"]);
        !announced(&harness).is_empty()
    });
    assert!(!refs(&harness, &repo).is_empty(), "it is only announced");
    let check = doctor(&harness);
    assert_eq!(check["status"], "warn", "{check:#}");
    assert!(check["detail"].as_str().is_some_and(|d| d.contains("demo")), "{check:#}");
    assert_eq!(rescues(&harness)[0]["rescue_expires_soon"], true);
    harness.ok(&["stop"]);
    drop(daemon);

    // It is still there until the announced time, also across a restart.
    let daemon = start(&harness, limit, 130 * DAY);
    harness.drain();
    assert_eq!((rescues(&harness).len(), announced(&harness).len()), (1, 1));
    harness.ok(&["stop"]);
    drop(daemon);
    let _daemon = start(&harness, limit, 130 * DAY + 300);
    wait_for("the drop", || rescues(&harness).is_empty());
    assert_eq!(refs(&harness, &repo), "", "its ref is gone");
    harness.ok(&["stop"]);
    let checked = json(&["check-replay", text(&harness.data())]);
    assert_eq!(checked["ok"], true, "{checked:#}");
}

/// A limit that is taken back in time keeps what was announced.
#[test]
fn limit_taken_back_keeps_rescue() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let limit = "trash_days = 1\nrescue_days = 2\n";
    let daemon = start(&harness, limit, 0);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("note"), "work\n");
    harness.ok(&["rm", "demo", "--force"]);
    harness.ok(&["trash", "empty"]);
    harness.ok(&["stop"]);
    drop(daemon);
    let daemon = start(&harness, limit, 10 * DAY);
    wait_for("the announcement", || !announced(&harness).is_empty());
    harness.ok(&["stop"]);
    drop(daemon);
    let _daemon = start(&harness, "rescue_days = \"never\"\n", 400 * DAY);
    harness.drain();
    let listed = rescues(&harness);
    assert_eq!((listed.len(), &listed[0]["rescue_expires_at"]), (1, &Value::Null), "{listed:#?}");
    assert!(!refs(&harness, &repo).is_empty());
    let restored = harness.ok(&["restore", "demo"]);
    let path = restored["path"].as_str().expect("a path");
    assert_eq!(std::fs::read_to_string(Path::new(path).join("note")).expect("kept"), "work\n");
}
