//! Leftovers of crashes and of other programs: all are reported, and only provably managed ones are
//! settled.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Daemon, Harness, wait_for};

fn find<'a>(report: &'a Value, path: &Path) -> &'a Value {
    let list = report["findings"].as_array().expect("findings");
    let found = list.iter().find(|f| f["path"] == path.to_str().expect("text"));
    found.unwrap_or_else(|| panic!("{} is not in {report:#}", path.display()))
}

fn admin_of(harness: &Harness, path: &Path) -> PathBuf {
    PathBuf::from(harness.git(path, &["rev-parse", "--absolute-git-dir"]))
}

#[test]
fn healthy_host_sweeps_nothing() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("demo", &repo, &[]);
    harness.new_env("gone", &repo, &[]);
    harness.ok(&["rm", "gone"]);
    let report = harness.ok(&["sweep"]);
    assert_eq!(report["found"], 0, "{report:#}");
    harness.check(&[&repo]);
}

/// A step deletes its ref first and the folder next, and makes them in the other order.
#[test]
fn empty_folder_of_refs_is_left_while_step_runs() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let end = harness.path("end");
    let started = harness.path("started");
    let script = format!(
        "#!/bin/sh\n: > '{}'\nuntil test -e '{}'; do sleep 0.02; done\n",
        started.display(),
        end.display()
    );
    harness.hook(&repo, &script);
    harness.ok(&["trust", "--repo", repo.to_str().expect("text")]);
    let folder = repo.join(".git/refs/groundskeeper/trash/demo");
    std::thread::scope(|scope| {
        let maker = scope.spawn(|| harness.new_env("demo", &repo, &[]));
        wait_for("the hook to run", || started.exists());
        std::fs::create_dir_all(&folder).expect("a folder");
        let report = harness.ok(&["sweep"]);
        std::fs::write(&end, "").expect("written");
        assert_eq!(report["found"], 0, "{report:#}");
        maker.join().expect("made");
    });
    harness.drain();
    std::fs::create_dir_all(&folder).expect("a folder");
    let report = harness.ok(&["sweep", "--apply"]);
    assert_eq!(find(&report, &folder)["settled"], true, "{report:#}");
}

#[test]
fn sweep_settles_managed_reports_foreign() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("demo", &repo, &[]);
    let path = harness.new_env("gone", &repo, &[]);
    let admin = admin_of(&harness, &path);
    let copy = harness.path("admin-copy");
    let copied = std::process::Command::new("cp").arg("-a").args([&admin, &copy]).status();
    assert!(copied.expect("cp runs").success());
    harness.ok(&["rm", "gone"]);
    harness.drain();
    assert!(!admin.exists(), "the registration was archived");
    // A registration that came back (from a backup, for example), an empty directory, an
    // interrupted removal and an unused lock; and three things that are foreign.
    std::fs::rename(&copy, &admin).expect("moved back");
    let empty = harness.data().join("worktrees/gone");
    std::fs::create_dir_all(&empty).expect("a folder");
    let doomed = harness.data().join("trash/.rollback-old.1");
    harness.write(&doomed.join("half/made"), "x");
    let lock = harness.data().join("locks/nobody");
    harness.write(&lock, "");
    let stranger = harness.data().join("worktrees/stranger");
    harness.write(&stranger.join("project/work"), "work\n");
    let unknown = harness.data().join("trash/unknown.1");
    harness.write(&unknown.join("project/work"), "work\n");

    let named = harness.ok(&["sweep"]);
    assert_eq!((&named["settled"], &named["found"]), (&0.into(), &6.into()), "{named:#}");
    for ours in [&admin, &empty, &doomed, &lock] {
        assert_eq!(find(&named, ours)["ours"], true, "{named:#}");
        assert!(ours.exists(), "only named");
    }
    // The limit counts what has content: the lock file goes in any case.
    let held = harness.ok(&["sweep", "--apply", "--limit", "2"]);
    assert_eq!(held["settled"], 1, "{held:#}");
    assert!(held["held"].as_str().is_some_and(|h| h.contains("3 findings")), "{held:#}");
    assert!(!lock.exists() && admin.exists() && empty.exists() && doomed.exists());
    let settled = harness.ok(&["sweep", "--apply"]);
    assert_eq!(settled["settled"], 3, "{settled:#}");
    for ours in [&admin, &empty, &doomed, &lock] {
        assert!(!ours.exists(), "{}", ours.display());
    }
    for theirs in [stranger.join("project/work"), unknown.join("project/work")] {
        assert_eq!(std::fs::read_to_string(&theirs).expect("kept"), "work\n");
    }
    std::fs::remove_dir_all(&stranger).expect("removed");
    std::fs::remove_dir_all(&unknown).expect("removed");
    assert_eq!(harness.ok(&["sweep"])["found"], 0);
    harness.check(&[&repo]);
}

#[test]
fn lost_log_deletes_nothing() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    let trashed = harness.new_env("old", &repo, &[]);
    harness.write(&trashed.join("work"), "work\n");
    let trash = harness.ok(&["rm", "old", "--force"])["trash"].as_str().map(PathBuf::from);
    harness.ok(&["stop"]);
    std::fs::remove_file(harness.data().join("log.redb")).expect("lost");
    for n in 0..3 {
        let how = if n == 0 { &["daemon", "--start-over"][..] } else { &["daemon"] };
        let _daemon = Daemon::of(&harness, harness.command(how));
        let report = harness.ok(&["sweep", "--apply"]);
        assert_eq!(report["settled"], 0, "{report:#}");
        assert_eq!(harness.ok(&["show", "demo"])["adopted"], true);
    }
    assert_eq!(std::fs::read_to_string(path.join("work")).expect("kept"), "work\n");
    assert!(trash.is_some_and(|t| t.join("work").exists()));
    assert!(harness.git(&repo, &["worktree", "list"]).contains("worktrees/demo"));
}

#[test]
fn foreign_worktrees_are_reported_with_details() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("demo", &repo, &[]);
    let theirs = repo.join(".claude/worktrees/fix");
    let text = theirs.to_str().expect("text");
    harness.git(&repo, &["worktree", "add", "-q", "-b", "fix", text]);
    harness.write(&theirs.join("new"), "work\n");
    let cursor = harness.path("home/.cursor/worktrees/project/x1");
    harness.git(&repo, &["worktree", "add", "-q", "--detach", cursor.to_str().expect("text")]);
    let missing = harness.path("missing");
    harness.git(&repo, &["worktree", "add", "-q", "--detach", missing.to_str().expect("text")]);
    std::fs::remove_dir_all(&missing).expect("removed");
    let report = harness.ok(&["sweep", "--apply"]);
    let detail = |path: &Path| find(&report, path)["detail"].as_str().expect("text").to_owned();
    assert!(detail(&theirs).contains("Claude Code") && detail(&theirs).contains("1 changes"));
    assert!(detail(&cursor).contains("Cursor") && detail(&cursor).contains("no changes"));
    let list = report["findings"].as_array().expect("findings");
    assert!(list.iter().any(|f| f["kind"] == "registration of others"), "{report:#}");
    assert_eq!(report["settled"], 0, "{report:#}");
    harness.ok(&["adopt", text, "--id", "fix"]);
    let report = harness.ok(&["sweep"]).to_string();
    assert!(!report.contains(text), "the adopted worktree is still reported: {report}");
    assert!(theirs.join("new").exists());
}

#[test]
fn orphaned_process_is_ended() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.ok(&["rm", "demo"]);
    let orphan = |path: &Path| {
        let mut command = std::process::Command::new("sleep");
        command.arg("1013").current_dir("/").env("GROUNDSKEEPER_PATH", path);
        command.spawn().expect("started")
    };
    let mut ours = orphan(&path);
    let mut unknown = orphan(&harness.data().join("worktrees/never/project"));
    let place = |pid: u32| PathBuf::from(format!("/proc/{pid}"));
    let named = harness.ok(&["sweep"]);
    assert_eq!(find(&named, &place(ours.id()))["ours"], true, "{named:#}");
    assert_eq!(find(&named, &place(unknown.id()))["ours"], false, "{named:#}");
    let lives =
        |pid| groundskeeper::world::process::table::start_time(pid).expect("seen").is_some();
    assert!(lives(ours.id()));
    harness.ok(&["sweep", "--apply"]);
    assert!(!lives(ours.id()) && lives(unknown.id()));
    drop((unknown.kill(), unknown.wait(), ours.wait()));
}

#[test]
fn clean_leftovers_settle_if_logged() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("demo", &repo, &[]);
    let trash = harness.data().join("trash");
    let known = trash.join(".cleaned-demo.3");
    // An entry from a later time than this log, one of an unknown environment, and one with a
    // nested repository.
    let kept = [".cleaned-demo.99999", ".cleaned-other.3", ".cleaned-demo.4"];
    for name in [".cleaned-demo.3"].into_iter().chain(kept) {
        harness.write(&trash.join(name).join("project/target/object"), "built\n");
    }
    harness.write(&trash.join(".cleaned-demo.4/project/target/x/.git"), "gitdir: /elsewhere\n");
    let report = harness.ok(&["sweep", "--apply"]);
    assert_eq!((&report["found"], &report["settled"]), (&4.into(), &1.into()), "{report:#}");
    assert!(report.to_string().contains("holds a repository (project/target/x)"), "{report:#}");
    assert!(!known.exists());
    for name in kept {
        assert!(trash.join(name).join("project/target/object").exists(), "{name}");
    }
}
