//! Live sets on a real host: which environments are retired, kept, or put on hold.

use serde_json::Value;

use crate::api::call;
use crate::support::{Daemon, Harness, wait_for};

fn phase(harness: &Harness, id: &str) -> String {
    let found = harness.ok(&["ls", "--all"]);
    let found = found.as_array().expect("a list").iter().find(|e| e["id"] == id).cloned();
    found.map(|e| e["phase"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|v| v.as_str().expect("a name")).collect()
}

/// A dirty one is rescued first.
#[test]
fn unlisted_environments_retire_unless_used() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    for id in ["listed", "idle", "dirty", "leased", "lived-in"] {
        harness.new_env(id, &repo, &[]);
    }
    let place = |id: &str| harness.data().join("worktrees").join(id).join("project");
    harness.write(&place("dirty").join("work"), "of a day\n");
    harness.ok(&["lease", "leased", "--for", "1h"]);
    // A process that is not registered is found when the worktree is inspected.
    let mut sleeper = std::process::Command::new("sleep");
    let mut sleeper = sleeper.arg("1020").current_dir(place("lived-in")).spawn().expect("started");

    let found = harness.ok(&["reconcile", "--live", "listed,never", "--epoch", "3"]);
    assert_eq!(names(&found["retired"]), ["dirty", "idle", "lived-in"]);
    assert_eq!((found["held"].as_bool(), names(&found["missing"])), (Some(false), vec!["never"]));
    assert_eq!(
        (&found["kept"][0]["id"], &found["kept"][0]["why"]),
        (&"leased".into(), &"leased".into())
    );
    wait_for("both gone", || {
        phase(&harness, "idle") == "tombstoned" && phase(&harness, "dirty") == "tombstoned"
    });
    wait_for("the environment in use to be ready again", || phase(&harness, "lived-in") == "ready");
    let shown = harness.ok(&["show", "lived-in"]);
    assert!(shown.to_string().contains("but processes run in it"), "{shown:#}");
    assert!(!place("idle").exists() && place("lived-in").exists() && place("listed").exists());
    harness.ok(&["restore", "dirty"]);
    assert_eq!(std::fs::read_to_string(place("dirty").join("work")).expect("back"), "of a day\n");

    let old = harness.ok(&["reconcile", "--live", "", "--epoch", "2"]);
    assert_eq!(
        (old["outdated"].as_bool(), phase(&harness, "listed")),
        (Some(true), "ready".into())
    );
    drop((sleeper.kill(), sleeper.wait()));
    harness.ok(&["reconcile", "--live", "listed,dirty,leased", "--epoch", "3"]);
    wait_for("the rest gone", || phase(&harness, "lived-in") == "tombstoned");
    // An environment that is listed again after its removal does not come back by itself.
    let again = harness.ok(&["reconcile", "--live", "listed,dirty,leased,idle", "--epoch", "4"]);
    assert_eq!(
        (names(&again["missing"]), phase(&harness, "idle")),
        (vec!["idle"], "tombstoned".into())
    );
    harness.check(&[&repo]);
}

/// It waits across a restart, and environments leased meanwhile stay.
#[test]
fn large_retirement_awaits_confirmation() {
    let harness = Harness::new();
    let repo = harness.repo("project", 1);
    let mut daemon = Daemon::start(&harness);
    for n in 0..6 {
        harness.new_env(&format!("env{n}"), &repo, &[]);
    }
    let held = harness.ok(&["reconcile", "--live", "", "--epoch", "1"]);
    assert_eq!((held["held"].as_bool(), names(&held["retired"]).len()), (Some(true), 6));
    assert_eq!(harness.refused(&["reconcile", "--confirm", "2"]).0, 64);
    daemon.kill();
    let _daemon = Daemon::start(&harness);
    assert_eq!(phase(&harness, "env0"), "ready", "the set stays held across a restart");
    harness.ok(&["lease", "env3", "--for", "1h"]);
    let done = harness.ok(&["reconcile", "--confirm", "1"]);
    assert_eq!(names(&done["retired"]).len(), 5, "one environment is in use");
    wait_for("five gone", || {
        let all = harness.ok(&["ls"]);
        all.as_array().map(Vec::len) == Some(1)
    });
    assert_eq!(phase(&harness, "env3"), "ready");
    harness.check(&[&repo]);
}

/// No single record holds so many names. They are in several, and every daemon starts on them.
#[test]
fn long_live_set_is_kept_in_several_records() {
    let harness = Harness::new();
    let mut daemon = Daemon::start(&harness);
    let ids: Vec<String> = (0..150_000).map(|n| format!("e{n}")).collect();
    let body = serde_json::json!({ "live": ids, "epoch": 1, "server": "s" }).to_string();
    for _ in 0..2 {
        let (status, report) = call(&harness, "POST", "/v1/reconcile", "", &body);
        assert_eq!(status, 200, "{report:#}");
        assert_eq!(report["missing"].as_array().map(Vec::len), Some(ids.len()));
        assert_eq!(harness.ok(&["ls"]), serde_json::json!([]));
        daemon.kill();
        daemon = Daemon::start(&harness);
    }
    harness.check_log();
}
