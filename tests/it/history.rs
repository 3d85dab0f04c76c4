//! Commits of every branch that was checked out in a worktree, and commits that only its reflog
//! holds.

use std::path::{Path, PathBuf};

use crate::support::Bench;

/// Commits left on a detached HEAD, reset away and so on; each is reported.
#[test]
fn reflog_only_commits_are_rescued() {
    type Make = fn(&Bench, &Path) -> String;
    let cases: [(&str, Make); 4] = [
        ("left detached", |bench, path| {
            bench.git(path, &["checkout", "-q", "--detach"]);
            bench.write(&path.join("lost"), "lost\n");
            let commit = bench.commit(path, "lost");
            bench.git(path, &["checkout", "-q", "gk/demo"]);
            commit
        }),
        ("reset away", |bench, path| {
            bench.write(&path.join("lost"), "lost\n");
            let commit = bench.commit(path, "lost");
            bench.git(path, &["reset", "-q", "--hard", "HEAD~1"]);
            commit
        }),
        ("private ref", |bench, path| {
            bench.write(&path.join("lost"), "lost\n");
            let commit = bench.commit(path, "lost");
            bench.git(path, &["update-ref", "refs/worktree/mine", &commit]);
            bench.git(path, &["reset", "-q", "--hard", "HEAD~1"]);
            bench.git(path, &["reflog", "expire", "--expire=now", "HEAD"]);
            commit
        }),
        ("bisected", |bench, path| {
            bench.git(path, &["checkout", "-q", "--detach"]);
            bench.write(&path.join("lost"), "lost\n");
            let commit = bench.commit(path, "lost");
            bench.git(path, &["bisect", "start", "-q", "HEAD", "HEAD~1"]);
            commit
        }),
    ];
    for (name, make) in cases {
        let bench = Bench::new();
        let repo = bench.repo("project", 3);
        let path = bench.new_env("demo", &repo, &[]);
        let commit = make(&bench, &path);
        let removed = if name == "bisected" {
            bench.refused(&["rm", "demo"]);
            bench.ok(&["rm", "demo", "--force"])
        } else {
            // Commits in the reflog alone do not refuse a removal: the rescue ref holds them.
            let removed = bench.ok(&["rm", "demo"]);
            assert!(removed["notes"].to_string().contains("reflogs"), "{name}: {removed:#}");
            removed
        };
        assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(1), "{name}: {removed:#}");
        bench.ok(&["trash", "empty", "demo"]);
        bench.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
        bench.git(&repo, &["gc", "-q", "--prune=now"]);
        bench.git(&repo, &["cat-file", "-e", &commit]);
        bench.check_log();
    }
}

/// There are more commits than one commit can have as parents.
#[test]
fn many_lost_commits_are_all_rescued() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    let mut commits = Vec::new();
    for n in 0..70 {
        bench.git(&path, &["commit", "-q", "--allow-empty", "-m", &format!("lost {n}")]);
        commits.push(bench.git(&path, &["rev-parse", "HEAD"]));
        bench.git(&path, &["reset", "-q", "--hard", "HEAD~1"]);
    }
    bench.ok(&["rm", "demo"]);
    bench.ok(&["trash", "empty"]);
    bench.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
    bench.git(&repo, &["gc", "-q", "--prune=now"]);
    for commit in commits {
        bench.git(&repo, &["cat-file", "-e", &commit]);
    }
}

/// The commits are on a branch that the user created in the worktree.
#[test]
fn unpushed_commits_are_found_after_restore() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    let base = bench.ok(&["show", "demo"])["base"]["commit"].clone();
    bench.git(&path, &["switch", "-q", "-c", "other"]);
    bench.write(&path.join("mine"), "mine\n");
    bench.commit(&path, "mine");
    let refused = |when: &str| {
        let (_, error) = bench.refused(&["rm", "demo"]);
        assert!(error["evidence"].to_string().contains("unpushed"), "{when}: {error:#}");
        let shown = bench.ok(&["show", "demo"]);
        assert_eq!(shown["base"]["commit"], base, "{when}");
        assert_eq!(bench.git(&path, &["branch", "--show-current"]), "other", "{when}");
        bench.ok(&["rm", "demo", "--force"]);
    };
    refused("at first");
    bench.ok(&["restore", "demo"]);
    refused("back from the trash");
    bench.ok(&["trash", "empty"]);
    bench.ok(&["restore", "demo"]);
    refused("back from the rescue");
}

#[test]
fn restore_renames_branch_only_if_taken() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("mine"), "mine\n");
    bench.commit(&path, "mine");
    bench.write(&path.join("more"), "more\n");
    for (taken, branch) in [(false, "gk/demo"), (true, "gk/demo-restored-3")] {
        bench.ok(&["rm", "demo", "--force"]);
        bench.ok(&["trash", "empty"]);
        if taken {
            bench.git(&repo, &["branch", "-f", "gk/demo", "main"]);
        }
        assert_eq!(bench.ok(&["restore", "demo"])["branch"], branch);
        assert_eq!(bench.git(&path, &["status", "--porcelain"]), "?? more");
    }
}

#[test]
fn failed_setup_commit_is_restorable() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.hook(&repo, "#!/bin/sh\necho made > made\ngit add made\ngit commit -q -m made\nexit 3\n");
    bench.ok(&["trust", "--repo", repo.to_str().expect("text")]);
    let (code, _) = bench.refused(&["new", "demo", "--repo", repo.to_str().expect("text")]);
    assert_ne!(code, 0);
    let restored = bench.ok(&["restore", "demo"]);
    assert_eq!(restored["branch"], "gk/demo");
    let path = std::path::PathBuf::from(restored["path"].as_str().expect("a path"));
    assert_eq!(bench.git(&path, &["log", "-1", "--format=%s"]), "made");
    bench.check(&[&repo]);
}

#[test]
fn failed_restore_leaves_no_branch() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("work"), "work\n");
    for from in ["trash", "rescue"] {
        bench.ok(&["rm", "demo", "--force"]);
        if from == "rescue" {
            bench.ok(&["trash", "empty"]);
        }
        let before = bench.git(&repo, &["branch", "--list"]);
        bench.write(&path.join("foreign"), "somebody else's\n");
        bench.refused(&["restore", "demo"]);
        assert_eq!(bench.git(&repo, &["branch", "--list"]), before, "{from}");
        assert!(path.join("foreign").exists(), "{from}");
        std::fs::remove_dir_all(&path).expect("removed");
        bench.ok(&["restore", "demo"]);
        assert_eq!(std::fs::read_to_string(path.join("work")).expect("back"), "work\n", "{from}");
    }
}

/// If HEAD has no reflog, only the branch's reflog holds an undone commit, and it goes with the
/// branch.
#[test]
fn branch_reflog_commits_are_rescued() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.git(&repo, &["config", "core.logAllRefUpdates", "false"]);
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("work"), "work\n");
    let commit = bench.commit(&path, "work");
    bench.git(&path, &["reset", "-q", "--hard", "HEAD~1"]);
    let removed = bench.ok(&["rm", "demo"]);
    let rescue = removed["rescue"][0].as_str().expect("a ref");
    bench.git(&repo, &["merge-base", "--is-ancestor", &commit, rescue]);
    assert_eq!(removed["branch_deleted"], true, "{removed:#}");
}

#[test]
fn restore_repairs_damaged_head() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("work"), "work\n");
    let admin = PathBuf::from(bench.git(&path, &["rev-parse", "--absolute-git-dir"]));
    std::fs::write(admin.join("HEAD"), b"\xff garbage").expect("written");
    bench.ok(&["rm", "demo", "--force"]);
    let restored = bench.ok(&["restore", "demo"]);
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), "?? work", "{restored:#}");
    assert_eq!(bench.git(&path, &["symbolic-ref", "HEAD"]), "refs/heads/gk/demo");
}
