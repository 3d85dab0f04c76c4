//! The fast status check without git must agree with git: no work where there is none, and never
//! "no work" where there is some.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::api::call;
use crate::support::{Daemon, Harness};

/// Returns the number of processes that the daemon has started so far.
pub(crate) fn started(harness: &Harness) -> u64 {
    let (status, info) = call(harness, "GET", "/v1/daemon", "", "");
    assert_eq!(status, 200, "{info}");
    info["processes_started"].as_u64().expect("a number")
}

type Change = (&'static str, fn(&Harness, &Path));

/// Ways to have work in a worktree. The check must detect each.
const WORK: [Change; 20] = [
    ("changed, same size", |b, at| b.write(&at.join("file1"), "ONE 2\n")),
    ("changed, same size, old time", |b, at| {
        let time = at.join("file1").metadata().and_then(|m| m.modified()).expect("a time");
        b.write(&at.join("file1"), "ONE 1\n");
        let file = std::fs::File::options().write(true).open(at.join("file1")).expect("open");
        file.set_modified(time).expect("dated");
    }),
    ("mode", |_, at| {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(at.join("file1"), mode).expect("set");
    }),
    ("deleted", |_, at| std::fs::remove_file(at.join("sub/deep/leaf")).expect("removed")),
    ("a link instead", |_, at| {
        std::fs::remove_file(at.join("file1")).expect("removed");
        symlink("file2", at.join("file1")).expect("linked");
    }),
    ("a folder instead", |_, at| {
        std::fs::remove_file(at.join("file1")).expect("removed");
        std::fs::create_dir(at.join("file1")).expect("made");
        std::fs::write(at.join("file1/x"), "x").expect("written");
    }),
    ("untracked", |b, at| b.write(&at.join("new"), "x")),
    ("untracked, deep", |b, at| b.write(&at.join("sub/deep/new"), "x")),
    ("untracked where others are ignored", |b, at| b.write(&at.join("sub/.gitkeep"), "x")),
    ("ignored and not to be rebuilt", |b, at| b.write(&at.join("secret.env"), "x")),
    ("a rebuildable name that is not ignored", |b, at| b.write(&at.join("dist/x"), "x")),
    ("a file of a rebuildable name", |b, at| b.write(&at.join("sub/node_modules"), "x")),
    ("a link of a rebuildable name", |_, at| symlink("..", at.join("node_modules")).expect("")),
    ("taken back from being ignored", |b, at| {
        b.write(&at.join(".gitignore"), "node_modules/*\n!node_modules/keep\n");
        b.write(&at.join("node_modules/keep"), "x");
    }),
    ("taken back below", |b, at| {
        b.write(&at.join("sub/.gitignore"), "!node_modules\n");
        b.write(&at.join("sub/node_modules/x"), "x");
    }),
    ("staged and reverted", |b, at| {
        let text = std::fs::read_to_string(at.join("file1")).expect("read");
        b.write(&at.join("file1"), "staged\n");
        b.git(at, &["add", "file1"]);
        b.write(&at.join("file1"), &text);
    }),
    ("committed", |b, at| {
        b.write(&at.join("file1"), "committed\n");
        b.git(at, &["commit", "-q", "-a", "-m", "work"]);
    }),
    ("meant to be added", |b, at| {
        b.write(&at.join("later"), "x");
        b.git(at, &["add", "-N", "later"]);
    }),
    ("hidden", |b, at| {
        b.git(at, &["update-index", "--assume-unchanged", "file1"]);
        b.write(&at.join("file1"), "hidden\n");
    }),
    ("a repository inside", |b, at| {
        std::fs::create_dir(at.join("inner")).expect("made");
        b.git(&at.join("inner"), &["init", "-q"]);
        b.write(&at.join("inner/x"), "x");
    }),
];

fn repository(harness: &Harness) -> std::path::PathBuf {
    let repo = harness.repo("project", 6);
    harness.write(&repo.join(".gitignore"), "node_modules/\n/target\n*.env\nsub/node_modules\n");
    harness.write(&repo.join("sub/deep/leaf"), "leaf\n");
    harness.write(&repo.join("file1"), "one 1\n");
    harness.write(&repo.join("file2"), "two 2\n");
    symlink("file2", repo.join("link")).expect("linked");
    harness.git(&repo, &["add", "-A"]);
    harness.git(&repo, &["commit", "-q", "-m", "more"]);
    repo
}

#[test]
fn clean_worktree_needs_no_process() {
    let harness = Harness::new();
    let repo = repository(&harness);
    let _daemon = Daemon::start(&harness);
    let at = harness.new_env("demo", &repo, &[]);
    for name in ["node_modules/a/b", "target/debug/x"] {
        harness.write(&at.join(name), "built");
    }
    harness.git(&repo, &["commit", "-q", "--allow-empty", "-m", "elsewhere"]);
    let before = started(&harness);
    for _ in 0..3 {
        assert_eq!(harness.ok(&["rm", "demo", "--dry-run"])["safe"], true);
    }
    assert_eq!(started(&harness), before, "git was asked");
    assert_eq!(harness.git(&at, &["status", "--porcelain"]), "");
}

#[test]
fn fast_check_finds_all_work() {
    let harness = Harness::new();
    let repo = repository(&harness);
    let _daemon = Daemon::start(&harness);
    for (n, (what, change)) in WORK.into_iter().enumerate() {
        let id = format!("demo{n}");
        let at = harness.new_env(&id, &repo, &[]);
        assert_eq!(harness.ok(&["rm", &id, "--dry-run"])["safe"], true, "{what}: before");
        change(&harness, &at);
        let seen = harness.ok(&["rm", &id, "--dry-run"]);
        assert_eq!(seen["safe"], false, "{what}: {seen:#}");
    }
}
