//! Commits of every branch that was checked out in a worktree, and commits that only its reflog
//! holds.

use std::path::{Path, PathBuf};

use crate::support::Harness;

/// Commits left on a detached HEAD, reset away and so on; each is reported.
#[test]
fn reflog_only_commits_are_rescued() {
    type Make = fn(&Harness, &Path) -> String;
    let cases: [(&str, Make); 4] = [
        ("left detached", |harness, path| {
            harness.git(path, &["checkout", "-q", "--detach"]);
            harness.write(&path.join("lost"), "lost\n");
            let commit = harness.commit(path, "lost");
            harness.git(path, &["checkout", "-q", "gk/demo"]);
            commit
        }),
        ("reset away", |harness, path| {
            harness.write(&path.join("lost"), "lost\n");
            let commit = harness.commit(path, "lost");
            harness.git(path, &["reset", "-q", "--hard", "HEAD~1"]);
            commit
        }),
        ("private ref", |harness, path| {
            harness.write(&path.join("lost"), "lost\n");
            let commit = harness.commit(path, "lost");
            harness.git(path, &["update-ref", "refs/worktree/mine", &commit]);
            harness.git(path, &["reset", "-q", "--hard", "HEAD~1"]);
            harness.git(path, &["reflog", "expire", "--expire=now", "HEAD"]);
            commit
        }),
        ("bisected", |harness, path| {
            harness.git(path, &["checkout", "-q", "--detach"]);
            harness.write(&path.join("lost"), "lost\n");
            let commit = harness.commit(path, "lost");
            harness.git(path, &["bisect", "start", "-q", "HEAD", "HEAD~1"]);
            commit
        }),
    ];
    for (name, make) in cases {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        let path = harness.new_env("demo", &repo, &[]);
        let commit = make(&harness, &path);
        let removed = if name == "bisected" {
            harness.refused(&["rm", "demo"]);
            harness.ok(&["rm", "demo", "--force"])
        } else {
            // Commits in the reflog alone do not refuse a removal: the rescue ref holds them.
            let removed = harness.ok(&["rm", "demo"]);
            assert!(removed["notes"].to_string().contains("reflogs"), "{name}: {removed:#}");
            removed
        };
        assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(1), "{name}: {removed:#}");
        harness.ok(&["trash", "empty", "demo"]);
        harness.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
        harness.git(&repo, &["gc", "-q", "--prune=now"]);
        harness.git(&repo, &["cat-file", "-e", &commit]);
        harness.check_log();
    }
}

/// There are more commits than one commit can have as parents.
#[test]
fn many_lost_commits_are_all_rescued() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let mut commits = Vec::new();
    for n in 0..70 {
        harness.git(&path, &["commit", "-q", "--allow-empty", "-m", &format!("lost {n}")]);
        commits.push(harness.git(&path, &["rev-parse", "HEAD"]));
        harness.git(&path, &["reset", "-q", "--hard", "HEAD~1"]);
    }
    harness.ok(&["rm", "demo"]);
    harness.ok(&["trash", "empty"]);
    harness.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    for commit in commits {
        harness.git(&repo, &["cat-file", "-e", &commit]);
    }
}

/// The commits are on a branch that the user created in the worktree.
#[test]
fn unpushed_commits_are_found_after_restore() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let base = harness.ok(&["show", "demo"])["base"]["commit"].clone();
    harness.git(&path, &["switch", "-q", "-c", "other"]);
    harness.write(&path.join("mine"), "mine\n");
    harness.commit(&path, "mine");
    let refused = |when: &str| {
        let (_, error) = harness.refused(&["rm", "demo"]);
        assert!(error["evidence"].to_string().contains("unpushed"), "{when}: {error:#}");
        let shown = harness.ok(&["show", "demo"]);
        assert_eq!(shown["base"]["commit"], base, "{when}");
        assert_eq!(harness.git(&path, &["branch", "--show-current"]), "other", "{when}");
        harness.ok(&["rm", "demo", "--force"]);
    };
    refused("at first");
    harness.ok(&["restore", "demo"]);
    refused("back from the trash");
    harness.ok(&["trash", "empty"]);
    harness.ok(&["restore", "demo"]);
    refused("back from the rescue");
}

#[test]
fn restore_renames_branch_only_if_taken() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("mine"), "mine\n");
    harness.commit(&path, "mine");
    harness.write(&path.join("more"), "more\n");
    for (taken, branch) in [(false, "gk/demo"), (true, "gk/demo-restored-3")] {
        harness.ok(&["rm", "demo", "--force"]);
        harness.ok(&["trash", "empty"]);
        if taken {
            harness.git(&repo, &["branch", "-f", "gk/demo", "main"]);
        }
        assert_eq!(harness.ok(&["restore", "demo"])["branch"], branch);
        assert_eq!(harness.git(&path, &["status", "--porcelain"]), "?? more");
    }
}

#[test]
fn failed_setup_commit_is_restorable() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness
        .hook(&repo, "#!/bin/sh\necho made > made\ngit add made\ngit commit -q -m made\nexit 3\n");
    harness.ok(&["trust", "--repo", repo.to_str().expect("text")]);
    let (code, _) = harness.refused(&["new", "demo", "--repo", repo.to_str().expect("text")]);
    assert_ne!(code, 0);
    let restored = harness.ok(&["restore", "demo"]);
    assert_eq!(restored["branch"], "gk/demo");
    let path = std::path::PathBuf::from(restored["path"].as_str().expect("a path"));
    assert_eq!(harness.git(&path, &["log", "-1", "--format=%s"]), "made");
    harness.check(&[&repo]);
}

#[test]
fn failed_restore_leaves_no_branch() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    for from in ["trash", "rescue"] {
        harness.ok(&["rm", "demo", "--force"]);
        if from == "rescue" {
            harness.ok(&["trash", "empty"]);
        }
        let before = harness.git(&repo, &["branch", "--list"]);
        harness.write(&path.join("foreign"), "somebody else's\n");
        harness.refused(&["restore", "demo"]);
        assert_eq!(harness.git(&repo, &["branch", "--list"]), before, "{from}");
        assert!(path.join("foreign").exists(), "{from}");
        std::fs::remove_dir_all(&path).expect("removed");
        harness.ok(&["restore", "demo"]);
        assert_eq!(std::fs::read_to_string(path.join("work")).expect("back"), "work\n", "{from}");
    }
}

/// If HEAD has no reflog, only the branch's reflog holds an undone commit, and it goes with the
/// branch. For a detached HEAD only `ORIG_HEAD` knows it.
#[test]
fn undone_commit_without_reflog_is_rescued() {
    for detached in [false, true] {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        harness.git(&repo, &["config", "core.logAllRefUpdates", "false"]);
        let path = harness.new_env("demo", &repo, &[]);
        if detached {
            harness.git(&path, &["checkout", "-q", "--detach"]);
        }
        harness.write(&path.join("work"), "work\n");
        let commit = harness.commit(&path, "work");
        harness.git(&path, &["reset", "-q", "--hard", "HEAD~1"]);
        let removed = harness.ok(&["rm", "demo"]);
        let rescue = removed["rescue"][0].as_str().expect("a ref");
        harness.git(&repo, &["merge-base", "--is-ancestor", &commit, rescue]);
        assert_eq!(removed["branch_deleted"], true, "{removed:#}");
    }
}

#[test]
fn restore_repairs_damaged_head() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    let admin = PathBuf::from(harness.git(&path, &["rev-parse", "--absolute-git-dir"]));
    std::fs::write(admin.join("HEAD"), b"\xff garbage").expect("written");
    harness.ok(&["rm", "demo", "--force"]);
    let restored = harness.ok(&["restore", "demo"]);
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "?? work", "{restored:#}");
    assert_eq!(harness.git(&path, &["symbolic-ref", "HEAD"]), "refs/heads/gk/demo");
}

/// HEAD can be read there, and no commit is checked out: all files are work.
#[test]
fn unborn_head_is_rescued() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("mine"), "mine\n");
    harness.git(&path, &["add", "mine"]);
    harness.git(&path, &["commit", "-q", "-m", "mine"]);
    harness.git(&path, &["checkout", "-q", "--orphan", "fresh"]);
    let removed = harness.ok(&["rm", "demo", "--force"]);
    let rescue = removed["rescue"][0].as_str().expect("a rescue");
    assert_eq!(harness.git(&repo, &["show", &format!("{rescue}:README")]), "hello");
}
