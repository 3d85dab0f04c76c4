//! `rm`: what it refuses, what it removes, and what it never touches.

use std::path::{Path, PathBuf};

use crate::support::{Daemon, Harness, wait_for};

type Change<'a> = &'a dyn Fn(&Path);

fn refusal(harness: &Harness, id: &str) -> String {
    let (code, error) = harness.refused(&["rm", id]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")), "{error:#}");
    assert_eq!(harness.phase(id), "ready", "it is served as before");
    error["evidence"].to_string()
}

#[test]
fn work_at_risk_is_reported() {
    let harness = Harness::new();
    let repo = harness.repo("project", 5);
    harness.write(&repo.join(".gitignore"), "*.db\ntarget/\n*.env\n");
    harness.write(&repo.join(".worktreeinclude"), "*.env\n");
    harness.commit(&repo, "ignore");
    harness.write(&repo.join("a.env"), "A=1\n");

    let path = harness.new_env("clean", &repo, &[]);
    harness.write(&path.join("target/debug/x.o"), "rebuildable");
    assert!(path.join("a.env").exists(), "the included file is copied");
    harness.ok(&["rm", "clean"]);

    let cases: [(&str, &str, Change<'_>); 7] = [
        ("changed", "changed: README", &|p| harness.write(&p.join("README"), "edited\n")),
        ("untracked", "untracked: new.txt", &|p| harness.write(&p.join("new.txt"), "new\n")),
        ("ignored", "ignored: data.db", &|p| harness.write(&p.join("data.db"), "rows\n")),
        ("included", "ignored: a.env", &|p| harness.write(&p.join("a.env"), "A=2\n")),
        ("unpushed", "unpushed: 1 commits", &|p| {
            harness.write(&p.join("work"), "w\n");
            harness.commit(p, "work");
        }),
        ("hidden", "hidden from status: README", &|p| {
            harness.git(p, &["update-index", "--skip-worktree", "README"]);
            harness.write(&p.join("README"), "hidden edit\n");
        }),
        ("merging", "in progress: a merge", &|p| {
            let dir = harness.git(p, &["rev-parse", "--absolute-git-dir"]);
            let head = harness.git(p, &["rev-parse", "HEAD"]);
            harness.write(&PathBuf::from(dir).join("MERGE_HEAD"), &format!("{head}\n"));
        }),
    ];
    for (id, evidence, change) in cases {
        let path = harness.new_env(id, &repo, &[]);
        change(&path);
        let printed = refusal(&harness, id);
        assert!(printed.contains(evidence), "{id}: {printed}");
        let shown = harness.ok(&["show", id]);
        assert_eq!(shown["refusal"]["code"], "unsafe_to_remove");
        let removed = harness.ok(&["rm", id, "--force"]);
        let trash = PathBuf::from(removed["trash"].as_str().expect("a trash"));
        assert!(trash.join("README").exists(), "nothing is unlinked");
    }
    let kept = harness.git(&repo, &["branch", "--list", "gk/*", "--format=%(refname:short)"]);
    assert_eq!(kept, "gk/unpushed", "a branch with commits of its own stays");
    harness.check(&[&repo]);
}

/// They are named, and need `--force`.
#[test]
fn files_beside_worktree_are_kept() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let beside = path.with_file_name("scratch");
    harness.write(&beside.join("notes"), "work\n");
    assert!(refusal(&harness, "demo").contains("beside the worktree"));
    harness.ok(&["rm", "demo", "--force"]);
    assert!(beside.join("notes").exists() && !path.exists());
    std::fs::remove_dir_all(beside.parent().expect("a place")).expect("removed");
    harness.check(&[&repo]);
}

#[test]
fn detached_commits_get_rescue_ref() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.git(&path, &["switch", "-q", "--detach"]);
    harness.write(&path.join("work"), "w\n");
    let commit = harness.commit(&path, "work on nothing");
    assert!(refusal(&harness, "demo").contains("unpushed: 1 commits"));
    let removed = harness.ok(&["rm", "demo", "--force"]);
    let reference = removed["rescue"][0].as_str().expect("a ref");
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    assert_eq!(harness.git(&repo, &["rev-parse", &format!("{reference}^1")]), commit);
    harness.check(&[&repo]);
}

#[test]
fn moved_worktree_is_refused() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let (from, to) = (path.to_str().expect("text"), harness.path("elsewhere"));
    harness.git(&repo, &["worktree", "unlock", from]);
    harness.git(&repo, &["worktree", "move", from, to.to_str().expect("text")]);
    let (_, error) = harness.refused(&["rm", "demo", "--force"]);
    assert_eq!(error["code"], "not_ours", "{error:#}");
    assert_eq!(harness.git(&to, &["status", "--porcelain"]), "");
    harness.git(&repo, &["worktree", "move", to.to_str().expect("text"), from]);
    harness.ok(&["rm", "demo"]);
    harness.check(&[&repo]);
}

#[test]
fn pushed_or_merged_work_is_removable() {
    let harness = Harness::new();
    let origin = harness.repo("origin", 3);
    harness.git(&harness.path("."), &["clone", "-q", "origin", "clone"]);
    let clone = harness.path("clone");
    let path = harness.new_env("pushed", &clone, &[]);
    harness.write(&path.join("work"), "w\n");
    harness.commit(&path, "work");
    refusal(&harness, "pushed");
    harness.git(&path, &["push", "-q", "origin", "gk/pushed"]);
    harness.ok(&["rm", "pushed"]);

    let path = harness.new_env("merged", &clone, &[]);
    harness.write(&path.join("other"), "o\n");
    harness.commit(&path, "other");
    harness.git(&clone, &["merge", "-q", "gk/merged"]);
    harness.ok(&["rm", "merged"]);
    assert_eq!(harness.git(&clone, &["branch", "--list", "gk/*"]), "");
    harness.check(&[&clone, &origin]);
}

#[test]
fn unproven_directory_is_never_touched() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let not_ours = |id: &str| {
        let (code, error) = harness.refused(&["rm", id, "--force"]);
        assert_eq!((code, error["code"].as_str()), (1, Some("not_ours")), "{error:#}");
    };
    // Another directory at the path of the environment.
    let path = harness.new_env("swapped", &repo, &[]);
    std::fs::rename(&path, harness.path("moved-away")).expect("moved");
    harness.write(&path.join("precious"), "not made by groundskeeper\n");
    not_ours("swapped");
    assert!(path.join("precious").exists());
    std::fs::remove_dir_all(&path).expect("removed");
    std::fs::rename(harness.path("moved-away"), &path).expect("moved back");
    harness.ok(&["rm", "swapped"]);

    // A symbolic link at the path of the environment.
    let path = harness.new_env("linked", &repo, &[]);
    let elsewhere = harness.path("elsewhere");
    std::fs::rename(&path, &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, &path).expect("linked");
    not_ours("linked");
    assert!(elsewhere.join("README").exists());
    std::fs::remove_file(&path).expect("removed");
    std::fs::rename(&elsewhere, &path).expect("moved back");

    // A missing marker, and a marker of another incarnation.
    let dir = PathBuf::from(harness.git(&path, &["rev-parse", "--absolute-git-dir"]));
    let marker = dir.join("groundskeeper.json");
    let text = std::fs::read_to_string(&marker).expect("a marker");
    std::fs::remove_file(&marker).expect("removed");
    not_ours("linked");
    harness.write(&marker, &text.replace("\"incarnation\":1", "\"incarnation\":7"));
    not_ours("linked");
    harness.write(&marker, &text);
    harness.ok(&["rm", "linked"]);
    harness.check(&[&repo]);
}

/// The data directory lies inside another repository, which must not be taken for it.
#[test]
fn worktree_without_git_file_is_recognised() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    // The data directory lies inside another repository, as in a home under version control.
    harness.git(&harness.path("."), &["init", "-q"]);
    let path = harness.new_env("demo", &repo, &[]);
    std::fs::remove_file(path.join(".git")).expect("removed");
    harness.write(&path.join("new.txt"), "work\n");
    assert!(refusal(&harness, "demo").contains("untracked: new.txt"));
    harness.ok(&["rm", "demo", "--force"]);
    harness.drain();
}

#[test]
fn worktree_lock_is_held_until_removal() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let text = path.to_str().expect("text");
    assert!(!harness.git_raw(&repo, &["worktree", "remove", text]).status.success());
    assert!(
        harness.git(&repo, &["worktree", "list", "--porcelain"]).contains("groundskeeper rm demo")
    );
    harness.ok(&["rm", "demo"]);
    assert!(!harness.git(&repo, &["worktree", "list", "--porcelain"]).contains("locked"));
}

/// A git process of a killed daemon runs longer than the next daemon waits, and the directory is in
/// the trash already. The removal is postponed and then continues from there.
#[test]
fn postponed_removal_continues_from_trash() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let mut daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", "trash.moved")]);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    let lock = harness.data().join("locks");
    harness.refused(&["--no-autostart", "rm", "demo", "--force"]);
    wait_for("the end of a killed daemon", || daemon.is_dead());
    assert!(!path.exists(), "it is in the trash");
    let held: Vec<std::fs::File> = std::fs::read_dir(&lock)
        .expect("locks")
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("demo"))
        .map(|e| std::fs::File::open(e.path()).expect("opened"))
        .collect();
    assert!(!held.is_empty() && held.iter().all(|file| file.try_lock().is_ok()), "held");
    let _daemon = Daemon::start(&harness);
    wait_for("the removal to be postponed", || harness.phase("demo") == "retiring");
    drop(held);
    wait_for("the end of the removal", || harness.phase("demo") == "tombstoned");
    harness.drain();
    let rescues = harness.ok(&["rescue", "ls"]);
    assert_eq!(rescues[0]["id"], "demo", "{rescues:#}");
    let back = harness.ok(&["restore", "demo"]);
    let path = Path::new(back["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(path.join("work")).expect("read"), "work\n");
}
