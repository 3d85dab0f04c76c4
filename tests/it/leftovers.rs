//! Leftovers of ended incarnations: the first start settles what is proven to be managed, as a move
//! to the trash that can be undone, and only names the rest.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Daemon, Harness, wait_for};

/// A worktree and its registration, copied aside.
struct Copied {
    path: PathBuf,
    admin: PathBuf,
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp runs").success());
}

impl Copied {
    /// Copies both, then removes the environment and everything that is kept of it.
    fn and_removed(harness: &Harness, id: &str, path: &Path) -> Self {
        let admin = PathBuf::from(harness.git(path, &["rev-parse", "--absolute-git-dir"]));
        copy(path, &harness.path(format!("worktree-of-{id}")));
        copy(&admin, &harness.path(format!("admin-of-{id}")));
        harness.ok(&["rm", id, "--force"]);
        harness.drain();
        forget(harness);
        Self { path: path.to_owned(), admin }
    }

    /// Puts both back, as an interrupted removal or a partial backup would.
    fn put_back(&self, harness: &Harness, id: &str) {
        std::fs::create_dir_all(self.path.parent().expect("a place")).expect("a folder");
        std::fs::create_dir_all(self.admin.parent().expect("a folder")).expect("a folder");
        copy(&harness.path(format!("worktree-of-{id}")), &self.path);
        copy(&harness.path(format!("admin-of-{id}")), &self.admin);
    }
}

/// Empties the trash and drops all rescues.
fn forget(harness: &Harness) {
    harness.ok(&["trash", "empty"]);
    harness.drain();
    wait_for("an empty trash", || harness.ok(&["trash", "ls"]) == Value::Array(Vec::new()));
    for kept in harness.ok(&["rescue", "ls"]).as_array().expect("a list") {
        let (id, number) = (kept["id"].as_str().expect("text"), kept["incarnation"].to_string());
        harness.ok(&["rescue", "drop", id, "--incarnation", &number]);
    }
    harness.drain();
}

/// Waits for the sweep of a daemon start, and returns what it found.
fn swept(harness: &Harness, starts: usize) -> Value {
    let events = || {
        let events = harness.command(&["--json", "events"]).output().expect("runs");
        String::from_utf8_lossy(&events.stdout).into_owned()
    };
    let count = |kind: &str| events().matches(kind).count();
    wait_for("the sweep of the start", || count("\"SweepFinished\"") >= starts);
    let lines = events();
    let last = lines.lines().rev().find(|line| line.contains("\"SweepFinished\""));
    serde_json::from_str(last.expect("a sweep")).expect("an event")
}

fn starts(harness: &Harness) -> usize {
    let events = harness.command(&["--json", "events"]).output().expect("runs");
    let text = String::from_utf8_lossy(&events.stdout).into_owned();
    text.matches("\"SweepRequested\"").count()
}

fn settings(harness: &Harness, text: &str) {
    harness.write(&harness.path("home/.config/groundskeeper/config.toml"), text);
}

#[test]
fn first_start_archives_full_directory_of_ended_life() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    harness.write(&path.join("dir0/file0"), "changed\n");
    let copied = Copied::and_removed(&harness, "demo", &path);
    let before = starts(&harness);
    harness.ok(&["stop"]);
    copied.put_back(&harness, "demo");
    let _daemon = Daemon::start(&harness);
    let found = swept(&harness, before + 1);
    assert_eq!(found["held"], "", "{found:#}");
    harness.drain();
    assert!(!path.exists() && !path.parent().expect("a place").exists());
    assert!(!copied.admin.exists(), "git does not list it any more");
    let trash = harness.ok(&["trash", "ls"]);
    assert_eq!((&trash[0]["id"], &trash[0]["incarnation"]), (&"demo".into(), &1.into()));
    let back = harness.ok(&["restore", "demo"]);
    let back = Path::new(back["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(back.join("work")).expect("read"), "work\n");
    assert_eq!(std::fs::read_to_string(back.join("dir0/file0")).expect("read"), "changed\n");
    assert_eq!(harness.git(back, &["rev-parse", "--abbrev-ref", "HEAD"]), "gk/demo");
    harness.ok(&["rm", "demo", "--force"]);
    harness.drain();
    harness.check(&[&repo]);
}

/// A provision that was never published: its registration is still aside, where git does not see
/// it. Its files are kept like any other.
#[test]
fn first_start_archives_half_made_provision_of_ended_life() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    let copied = Copied::and_removed(&harness, "demo", &path);
    let before = starts(&harness);
    harness.ok(&["stop"]);
    copied.put_back(&harness, "demo");
    let name = copied.admin.file_name().expect("a name").to_str().expect("text");
    let folder = repo.join(".git/groundskeeper");
    std::fs::create_dir_all(&folder).expect("a folder");
    let staged = folder.join(format!("{name}.new"));
    std::fs::rename(&copied.admin, &staged).expect("moved aside");
    let _daemon = Daemon::start(&harness);
    swept(&harness, before + 1);
    harness.drain();
    assert!(!path.exists() && !staged.exists());
    let back = harness.ok(&["restore", "demo"]);
    let back = Path::new(back["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(back.join("work")).expect("read"), "work\n");
    harness.ok(&["rm", "demo", "--force"]);
    forget(&harness);
    assert!(!folder.exists(), "nothing of ours is left in the repository");
    harness.check(&[&repo]);
}

/// Killed after the move and before the record: the directory is in the trash without an archive.
#[test]
fn start_archives_unrecorded_trash_entry() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    let copied = Copied::and_removed(&harness, "demo", &path);
    harness.ok(&["stop"]);
    copied.put_back(&harness, "demo");
    for point in ["sweep.unregistered", "sweep.trashed"] {
        let mut daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", point)]);
        wait_for("the kill", || daemon.is_dead());
    }
    assert!(!path.exists(), "it is in the trash, unrecorded");
    let _daemon = Daemon::start(&harness);
    wait_for("the archive", || harness.ok(&["trash", "ls"])[0]["id"] == "demo");
    harness.drain();
    let back = harness.ok(&["restore", "demo"]);
    let back = Path::new(back["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(back.join("work")).expect("read"), "work\n");
    harness.ok(&["rm", "demo", "--force"]);
    harness.drain();
    harness.check(&[&repo]);
}

/// Without the marker, with the nonce of another life, or through a link, nothing is proven.
#[test]
fn unproven_directory_is_only_named() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    let copied = Copied::and_removed(&harness, "demo", &path);
    let marker = copied.admin.join("groundskeeper.json");
    let place = path.parent().expect("a place").to_owned();
    for case in ["no marker", "other nonce", "link"] {
        let before = starts(&harness);
        harness.ok(&["stop"]);
        copied.put_back(&harness, "demo");
        let elsewhere = harness.path("elsewhere");
        match case {
            "no marker" => std::fs::remove_file(&marker).expect("removed"),
            "link" => {
                std::fs::rename(&path, &elsewhere).expect("moved");
                std::os::unix::fs::symlink(&elsewhere, &path).expect("linked");
            }
            _ => {
                let text = std::fs::read_to_string(&marker).expect("read");
                let mut json: Value = serde_json::from_str(&text).expect("json");
                json["nonce"] = "ab".repeat(16).into();
                harness.write(&marker, &json.to_string());
            }
        }
        let daemon = Daemon::start(&harness);
        swept(&harness, before + 1);
        assert_eq!(std::fs::read_to_string(path.join("work")).expect("kept"), "work\n", "{case}");
        let report = harness.ok(&["sweep", "--apply"]);
        let all = report["findings"].as_array().expect("findings").iter();
        let named = all.filter(|f| f["path"] == place.to_str().expect("text"));
        let named: Vec<&Value> = named.collect();
        assert_eq!(named.len(), 1, "{case}: {report:#}");
        assert_eq!((&named[0]["ours"], &named[0]["settled"]), (&false.into(), &false.into()));
        drop(daemon);
        drop((std::fs::remove_dir_all(&place), std::fs::remove_dir_all(&elsewhere)));
        drop(std::fs::remove_dir_all(&copied.admin));
    }
}

/// The guard against a wrong log counts what has content.
#[test]
fn lock_files_do_not_hold_a_sweep_back() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let copied = Copied::and_removed(&harness, "demo", &path);
    let before = starts(&harness);
    harness.ok(&["stop"]);
    copied.put_back(&harness, "demo");
    let locks = harness.data().join("locks");
    for n in 0..300 {
        harness.write(&locks.join(format!("env-{n}")), "");
        harness.write(&locks.join(format!(".env-{n}.1")), "");
    }
    let _daemon = Daemon::start(&harness);
    let found = swept(&harness, before + 1);
    assert_eq!(found["held"], "", "the lock files are not counted");
    harness.drain();
    assert!(!path.exists(), "the directory is in the trash");
    wait_for("an empty folder of locks", || {
        std::fs::read_dir(&locks).expect("locks").flatten().count() == 0
    });
}

#[test]
fn held_sweep_is_reported_by_ls_and_doctor() {
    let harness = Harness::new();
    settings(&harness, "");
    let repo = harness.repo("project", 1);
    let ids: Vec<String> = (0..12).map(|n| format!("env{n}")).collect();
    for id in &ids {
        harness.new_env(id, &repo, &[]);
        harness.ok(&["rm", id]);
    }
    forget(&harness);
    let before = starts(&harness);
    harness.ok(&["stop"]);
    let places = ids.iter().map(|id| harness.data().join("worktrees").join(id));
    let places: Vec<PathBuf> = places.collect();
    for place in &places {
        std::fs::create_dir_all(place).expect("a folder");
    }
    let _daemon = Daemon::start(&harness);
    let found = swept(&harness, before + 1);
    assert!(found["held"].as_str().is_some_and(|held| held.contains("12 findings")), "{found:#}");
    assert!(places.iter().all(|place| place.exists()), "nothing is removed");
    let ls = harness.command(&["ls"]).output().expect("runs");
    let note = String::from_utf8_lossy(&ls.stderr).into_owned();
    assert!(note.contains("held back") && note.contains("sweep --apply --limit"), "{note}");
    let json = harness.command(&["--json", "ls"]).output().expect("runs");
    assert_eq!(json.stdout, b"[]\n", "no note among the environments");
    let doctor = harness.command(&["--json", "doctor"]).output().expect("runs");
    let checks: Value = serde_json::from_slice(&doctor.stdout).expect("json");
    let checks = checks.as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == "sweep").expect("a check");
    assert_eq!(check["status"], "warn", "{check:#}");
    let settled = harness.ok(&["sweep", "--apply", "--limit", "51"]);
    assert_eq!((&settled["settled"], &settled["held"]), (&12.into(), &"".into()), "{settled:#}");
    let ls = harness.command(&["ls"]).output().expect("runs");
    assert!(!String::from_utf8_lossy(&ls.stderr).contains("held back"));
}

/// A registration whose directory is gone, and a process that outlived its environment.
#[test]
fn first_start_settles_registration_and_process() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let copied = Copied::and_removed(&harness, "demo", &path);
    let before = starts(&harness);
    harness.ok(&["stop"]);
    std::fs::create_dir_all(copied.admin.parent().expect("a folder")).expect("a folder");
    copy(&harness.path("admin-of-demo"), &copied.admin);
    let mut orphan = Command::new("sleep");
    let orphan = orphan.arg("1017").current_dir("/").env("GROUNDSKEEPER_PATH", &path);
    let mut orphan = orphan.spawn().expect("started");
    let _daemon = Daemon::start(&harness);
    let found = swept(&harness, before + 1);
    let status = orphan.try_wait().expect("asked");
    drop((orphan.kill(), orphan.wait()));
    assert!(status.is_some(), "the process was ended: {found:#}");
    assert!(!copied.admin.exists(), "git does not list it any more");
    assert!(!harness.git(&repo, &["worktree", "list"]).contains("demo"));
}

/// git drops the commits of a registration that it does not see, so one that alone holds a commit
/// stays until the commit is on a branch.
#[test]
fn registration_with_own_commits_stays() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.git(&path, &["checkout", "-q", "--detach"]);
    harness.write(&path.join("new"), "new\n");
    let commit = harness.commit(&path, "only here");
    let copied = Copied::and_removed(&harness, "demo", &path);
    std::fs::create_dir_all(copied.admin.parent().expect("a folder")).expect("a folder");
    copy(&harness.path("admin-of-demo"), &copied.admin);
    let report = harness.ok(&["sweep", "--apply"]);
    assert!(report.to_string().contains(&commit), "{report:#}");
    assert!(copied.admin.exists(), "git still sees it");
    harness.git(&repo, &["branch", "kept", &commit]);
    harness.ok(&["sweep", "--apply"]);
    assert!(!copied.admin.exists());
}
