//! `backup` and `replay restore`: a log that was copied while its daemon ran is put back after a
//! loss.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::replay::{json, replay};
use crate::support::{Daemon, Harness};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn backup_of_running_daemon_is_restored_after_loss() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let mut daemon = Daemon::start(&harness);
    let before = harness.new_env("before", &repo, &[]);
    let file = harness.path("log.backup");
    let made = harness.ok(&["backup", text(&file)]);
    assert_eq!(made["records"], made["seq"], "{made:#}");
    let mode = file.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "its owner alone reads it");
    assert_eq!(json(&["verify", text(&file)])["ok"], true);
    let after = harness.new_env("after", &repo, &[]);

    // Nothing is replaced, by neither of them.
    let (_, error) = harness.refused(&["backup", text(&file)]);
    assert!(error["message"].to_string().contains("exists already"), "{error:#}");
    std::fs::remove_file(harness.data().join("log.redb")).expect("removed");
    let data = harness.data();
    assert_ne!(replay(&["restore", text(&file), text(&data)]).code, 0, "a daemon owns it");
    daemon.kill();
    let restored = replay(&["restore", text(&file), text(&data)]);
    assert_eq!(restored.code, 0, "{} {}", restored.out, restored.err);
    assert_ne!(replay(&["restore", text(&file), text(&data)]).code, 0, "a log is there");

    let _daemon = Daemon::start(&harness);
    let listed = harness.ok(&["ls"]);
    let ids: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|e| e["id"].as_str()).collect();
    assert_eq!(ids, ["before"]);
    harness.ok(&["rm", "before"]);
    assert!(!before.exists() && after.exists(), "what began after the backup is left alone");
    harness.check_log();
}

/// A copy that breaks off leaves no file behind.
#[test]
fn backup_that_cannot_be_written_leaves_nothing() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let (_, error) = harness.refused(&["backup", text(&harness.path("no/such/folder/file"))]);
    assert!(error["message"].to_string().contains("no/such/folder"), "{error:#}");
    let here = |dir: &Path| {
        let entries = std::fs::read_dir(dir).expect("listed").flatten();
        entries.filter(|e| e.file_name().to_string_lossy().contains("full")).count()
    };
    let file = harness.path("full");
    std::fs::write(&file, "mine").expect("written");
    harness.refused(&["backup", text(&file)]);
    assert_eq!(std::fs::read_to_string(&file).expect("kept"), "mine");
    assert_eq!(here(harness.dir.path()), 1, "only that file");
}
