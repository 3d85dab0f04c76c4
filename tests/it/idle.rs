//! What a daemon holds while it has nothing to do: all daemons and editors of a user share its
//! inotify instances.

use crate::support::{Daemon, Harness, wait_for};
use crate::watching::{Stream, await_watched, counts};

/// Counts the inotify instances of a process.
fn instances(daemon: &Daemon) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).expect("a process");
    let links = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy() == "anon_inode:inotify").count()
}

#[test]
fn inotify_instances_are_held_while_watching_only() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let daemon = Daemon::start(&harness);
    let at = harness.new_env("demo", &repo, &[]);
    harness.ok(&["status", "demo"]);
    assert_eq!(instances(&daemon), 0, "nothing is watched");
    for round in 0..2 {
        let mut stream = Stream::open(&harness, "&environment=demo", "");
        await_watched(&harness, 1);
        assert_eq!(instances(&daemon), 1, "one is enough for a worktree");
        harness.write(&at.join("new"), &format!("{round}\n"));
        stream.await_change("demo", "files");
        drop(stream);
        // The daemon finds out that the client is gone when it writes to it the next time.
        wait_for("the end of watching", || instances(&daemon) == 0);
        assert_eq!(counts(&harness)["instances"], 0);
    }
}

/// As when other programs of the user hold all instances.
#[test]
fn refused_inotify_instance_leads_to_polling() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_FAULT", "inotify:EMFILE:1")]);
    harness.new_env("demo", &repo, &[]);
    let _stream = Stream::open(&harness, "&environment=demo", "");
    wait_for("polling", || counts(&harness)["stages"]["polling"].as_u64() == Some(1));
    assert_eq!((counts(&harness)["degraded"].as_u64(), instances(&daemon)), (Some(1), 0));
    wait_for("a poll", || counts(&harness)["polls"].as_u64().is_some_and(|n| n > 0));
    let checks = harness.ok(&["doctor"]);
    let checks = checks.as_array().expect("a list");
    let watching = checks.iter().find(|check| check["name"] == "watching").expect("a check");
    assert_eq!(watching["status"], "warn", "{watching:#}");
    let printed = std::fs::read_to_string(harness.path("daemon.err")).expect("a log");
    assert!(printed.contains("fs.inotify.max_user_instances"), "{printed}");
}

/// A step becomes due while the idle daemon makes its log ready for a fast open: nothing else would
/// remind it of the step.
#[test]
fn step_that_is_due_during_checkpoint_is_started() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let slow = [("GROUNDSKEEPER_FAULT", "checkpoint:3000ms:1")];
    let _daemon = Daemon::start_with(&harness, &slow);
    // The refresh of a new index is due after a second.
    harness.new_env("demo", &repo, &[]);
    let is_done = || harness.ok(&["show", "demo"])["step"].is_null();
    wait_for("the refresh of the index", is_done);
}
