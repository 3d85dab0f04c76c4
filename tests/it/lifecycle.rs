//! The basic life cycle: an environment is created, used, and removed for good.

use std::path::PathBuf;

use crate::support::{Daemon, Harness};

#[test]
fn environment_is_created_and_removed() {
    let harness = Harness::new();
    let repo = harness.repo("project", 30);
    let path = harness.new_env("demo", &repo, &[]);
    assert_eq!(path, harness.data().join("worktrees/demo/project"));
    assert_eq!(harness.git(&path, &["branch", "--show-current"]), "gk/demo");
    assert_eq!(
        harness.git(&path, &["rev-parse", "HEAD"]),
        harness.git(&repo, &["rev-parse", "main"])
    );
    assert_eq!(
        std::fs::read_to_string(path.join("dir0/file7.txt")).expect("read"),
        "7\n".repeat(8)
    );

    let shown = harness.ok(&["show", "demo"]);
    assert_eq!((shown["phase"].as_str(), shown["incarnation"].as_u64()), (Some("ready"), Some(1)));
    assert_eq!(shown["base_ref"], "refs/heads/main");
    assert_eq!(harness.ok(&["ls"]).as_array().map(Vec::len), Some(1));

    let removed = harness.ok(&["rm", "demo"]);
    assert_eq!(removed["phase"], "tombstoned");
    let trash = PathBuf::from(removed["trash"].as_str().expect("a trash"));
    assert!(trash.join("README").exists() && !path.exists());
    assert_eq!(harness.git(&repo, &["branch", "--list", "gk/*"]), "");
    assert_eq!(harness.ok(&["ls"]).as_array().map(Vec::len), Some(0));
    let (code, error) = harness.refused(&["show", "demo"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("environment_destroyed")));
    let (code, error) = harness.refused(&["show", "other"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("environment_not_found")));
    harness.check(&[&repo]);
}

/// So does the removal of one whose directory is missing, and on request of an unknown one.
#[test]
fn repeated_removal_succeeds() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    assert_eq!(harness.ok(&["rm", "never", "--if-exists"])["phase"], "tombstoned");
    harness.new_env("demo", &repo, &[]);
    let first = harness.ok(&["rm", "demo"]);
    assert_eq!(harness.ok(&["rm", "demo"]), first);
    harness.new_env("gone", &repo, &[]);
    std::fs::remove_dir_all(harness.data().join("worktrees/gone")).expect("removed");
    assert_eq!(harness.ok(&["rm", "gone"])["trash"], serde_json::Value::Null);
    harness.check(&[&repo]);
}

/// The same name for another repository is refused.
#[test]
fn repeated_new_returns_same_environment() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    assert_eq!(harness.new_env("demo", &repo, &[]), path);
    let other = harness.repo("other", 3);
    let (code, error) = harness.refused(&["new", "demo", "--repo", other.to_str().expect("text")]);
    assert_eq!((code, error["code"].as_str()), (1, Some("environment_exists")));
    let kinds = harness.command(&["--json", "events", "--env", "demo"]).output().expect("runs");
    let text = String::from_utf8_lossy(&kinds.stdout).into_owned();
    assert_eq!(text.matches("ProvisionRequested").count(), 1, "{text}");
}

/// A restart of the daemon does not recreate a removed environment.
#[test]
fn new_incarnation_needs_explicit_request() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("demo", &repo, &[]);
    harness.ok(&["rm", "demo"]);
    harness.ok(&["stop"]);
    assert_eq!(harness.phase("demo"), "tombstoned", "a restart does not bring it back");
    harness.new_env("demo", &repo, &[]);
    assert_eq!(harness.ok(&["show", "demo"])["incarnation"], 2);
    harness.check(&[&repo]);
}

#[test]
fn missing_name_is_generated() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let made = harness.ok(&["new", "--repo", repo.to_str().expect("text")]);
    let id = made["id"].as_str().expect("an id");
    assert!(id.starts_with("env-") && id.len() == 12, "{id}");
    assert_eq!(made["branch"], format!("gk/{id}"));
}

#[test]
fn restart_preserves_all_environments() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("a", &repo, &[]);
    harness.new_env("b", &repo, &[]);
    harness.ok(&["rm", "a"]);
    harness.drain();
    let before = harness.ok(&["ls", "--all"]);
    harness.ok(&["stop"]);
    assert_eq!(harness.ok(&["ls", "--all"]), before);
    harness.ok(&["stop"]);
    let daemon = Daemon::start(&harness);
    assert_eq!(harness.ok(&["ls", "--all"]), before);
    assert!(daemon.terminate().success(), "SIGTERM is an orderly end");
    harness.check(&[&repo]);
}

#[test]
fn lease_prevents_removal() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("demo", &repo, &[]);
    let lease = harness.ok(&["lease", "demo", "--for", "10m", "--purpose", "terminal"]);
    let id = lease["id"].as_str().expect("an id");
    let (code, error) = harness.refused(&["rm", "demo"]);
    assert_eq!((code, error["code"].as_str()), (4, Some("environment_busy")));
    assert!(error["evidence"][0].as_str().is_some_and(|e| e.contains("terminal")), "{error}");
    assert_eq!(harness.ok(&["show", "demo"])["leases"][0]["id"], id);
    harness.ok(&["release", id]);
    harness.ok(&["release", id]);
    harness.ok(&["rm", "demo"]);
    let (code, error) = harness.refused(&["lease", "demo", "--for", "1m"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("environment_destroyed")));
}

#[test]
fn lease_expires_by_itself() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("demo", &repo, &[]);
    harness.ok(&["lease", "demo", "--for", "4s"]);
    harness.refused(&["rm", "demo"]);
    crate::support::wait_for("the lease to end", || {
        harness.ok(&["show", "demo"])["leases"].as_array().is_some_and(Vec::is_empty)
    });
    harness.ok(&["rm", "demo"]);
    let (code, _) = harness.refused(&["lease", "demo", "--for", "30d"]);
    assert_ne!(code, 0);
}

/// A repeated `new` returns the existing environment, but fails if its directory is missing.
#[test]
fn new_fails_if_directory_missing() {
    let harness = Harness::new();
    let repo = harness.repo("project", 2);
    let path = harness.new_env("demo", &repo, &[]);
    let from = repo.to_str().expect("text");
    harness.ok(&["new", "demo", "--repo", from]);
    std::fs::remove_dir_all(&path).expect("removed");
    let (code, error) = harness.refused(&["new", "demo", "--repo", from]);
    assert_eq!((code, error["code"].as_str()), (3, Some("path_not_found")), "{error:#}");
    // The steps in the hint resolve it.
    harness.ok(&["rm", "demo", "--force"]);
    harness.ok(&["new", "demo", "--repo", from]);
    assert!(path.join("README").exists());
}
