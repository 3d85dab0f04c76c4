//! Stale lock files of git: no verb waits long for one, managed ones are removed, all others are
//! reported.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Harness, wait_for};

/// Limit of the time of a verb that meets a lock that is never released.
const BOUND: Duration = Duration::from_secs(10);

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn run_timed<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = call();
    assert!(began.elapsed() < BOUND, "{what} took {:.1?}", began.elapsed());
    done
}

fn create_merged(harness: &Harness, repo: &Path, id: &str) {
    let path = harness.new_env(id, repo, &[]);
    harness.write(&path.join(id), "work\n");
    harness.commit(&path, id);
    harness.git(repo, &["merge", "-q", &format!("gk/{id}")]);
}

/// The branch stays.
#[test]
fn removal_reports_lock_on_branch() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    for (id, lock, packed) in [
        ("a", "packed-refs.lock", false),
        ("b", "refs/heads/gk/b.lock", false),
        ("c", "packed-refs.lock", true),
    ] {
        create_merged(&harness, &repo, id);
        if packed {
            harness.git(&repo, &["pack-refs", "--all"]);
        }
        let lock = repo.join(".git").join(lock);
        harness.write(&lock, "");
        let removed = run_timed("rm", || harness.ok(&["rm", id]));
        assert_eq!(
            (removed["phase"].as_str(), &removed["branch_deleted"]),
            (Some("tombstoned"), &false.into())
        );
        let why = removed["branch_reason"].as_str().expect("a reason");
        assert!(why.contains(text(&lock)) && why.contains("no process"), "{why}");
        assert!(lock.exists(), "it is not ours");
        std::fs::remove_file(&lock).expect("removed");
        assert_eq!(
            harness.git(&repo, &["branch", "--list", &format!("gk/{id}")]).trim(),
            format!("gk/{id}")
        );
    }
    // Without a lock, the same removal also deletes the branch.
    create_merged(&harness, &repo, "d");
    assert_eq!(harness.ok(&["rm", "d"])["branch_deleted"], true);
}

#[test]
fn provision_reports_lock_quickly() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let lock = repo.join(".git/refs/heads/gk/a.lock");
    harness.write(&lock, "");
    let (code, error) = run_timed("new", || harness.refused(&["new", "a", "--repo", text(&repo)]));
    assert_eq!((code, error["code"].as_str()), (4, Some("repository_locked")), "{error:#}");
    assert!(error.to_string().contains(text(&lock)), "{error:#}");
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("rm '")), "{error:#}");
    // A lock of another process on the packed refs does not prevent a new branch.
    harness.write(&repo.join(".git/packed-refs.lock"), "");
    harness.new_env("b", &repo, &[]);
    std::fs::remove_file(repo.join(".git/packed-refs.lock")).expect("removed");
    std::fs::remove_file(&lock).expect("removed");
    harness.new_env("a", &repo, &[]);
    harness.check(&[&repo]);
}

/// Restore and the emptying of the trash work while the repository has lock files.
#[test]
fn restore_and_trash_tolerate_locks() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    for id in ["a", "b"] {
        let path = harness.new_env(id, &repo, &[]);
        harness.write(&path.join("note"), id);
        harness.ok(&["rm", id, "--force"]);
    }
    let lock = repo.join(".git/packed-refs.lock");
    harness.write(&lock, "");
    run_timed("trash empty", || harness.gk(&["trash", "empty", "a"]));
    run_timed("restore", || harness.gk(&["restore", "b"]));
    run_timed("rescue drop", || harness.gk(&["rescue", "drop", "a"]));
    std::fs::remove_file(&lock).expect("removed");
    harness.gk(&["restore", "b"]);
    assert_eq!(harness.phase("b"), "ready");
}

/// A lock whose holder, a daemon, has died is removed. Others are reported.
#[test]
fn locks_report_age_holder_stale_removed() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("a", &repo, &[]);
    let admin = PathBuf::from(harness.git(&path, &["rev-parse", "--absolute-git-dir"]));
    let common = repo.join(".git");
    let (theirs, held) = (admin.join("index.lock"), common.join("config.lock"));
    let dead = common.join("refs/heads/gk/b.lock");
    harness.write(&theirs, "");
    harness.write(&held, "");
    harness.write(&dead, "held by groundskeeper 1 1\n");
    let holder = std::fs::File::open(&held).expect("open");
    let listed = harness.ok(&["doctor"]).to_string();
    assert!(listed.contains("no lock is left behind"), "young locks are not reported: {listed}");
    let is_old = || {
        let changed = held.metadata().and_then(|m| m.modified()).expect("there");
        changed.elapsed().is_ok_and(|age| age >= Duration::from_secs(11))
    };
    wait_for("the locks to be old", is_old);
    let listed = harness.ok(&["doctor"]).to_string();
    assert!(listed.contains(text(&theirs)) && listed.contains("no process"), "{listed}");
    // A child that another test was starting may have had the file open for a moment.
    let own = format!("pid {}", std::process::id());
    wait_for("its holder", || harness.ok(&["doctor"]).to_string().contains(&own));
    let swept = harness.ok(&["sweep", "--apply"]);
    let text_of = swept.to_string();
    assert!(text_of.contains(text(&theirs)) && text_of.contains(text(&held)), "{swept:#}");
    assert!(theirs.exists() && held.exists() && !dead.exists(), "{swept:#}");
    drop(holder);
}
