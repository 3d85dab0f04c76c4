//! `rm`: what it refuses, what it removes, and what it never touches.

use std::path::{Path, PathBuf};

use crate::support::{Bench, Daemon, wait_for};

type Change<'a> = &'a dyn Fn(&Path);

fn refusal(bench: &Bench, id: &str) -> String {
    let (code, error) = bench.refused(&["rm", id]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")), "{error:#}");
    assert_eq!(bench.phase(id), "ready", "it is served as before");
    error["evidence"].to_string()
}

#[test]
fn work_at_risk_is_reported() {
    let bench = Bench::new();
    let repo = bench.repo("project", 5);
    bench.write(&repo.join(".gitignore"), "*.db\ntarget/\n*.env\n");
    bench.write(&repo.join(".worktreeinclude"), "*.env\n");
    bench.commit(&repo, "ignore");
    bench.write(&repo.join("a.env"), "A=1\n");

    let path = bench.new_env("clean", &repo, &[]);
    bench.write(&path.join("target/debug/x.o"), "rebuildable");
    assert!(path.join("a.env").exists(), "the included file is copied");
    bench.ok(&["rm", "clean"]);

    let cases: [(&str, &str, Change<'_>); 7] = [
        ("changed", "changed: README", &|p| bench.write(&p.join("README"), "edited\n")),
        ("untracked", "untracked: new.txt", &|p| bench.write(&p.join("new.txt"), "new\n")),
        ("ignored", "ignored: data.db", &|p| bench.write(&p.join("data.db"), "rows\n")),
        ("included", "ignored: a.env", &|p| bench.write(&p.join("a.env"), "A=2\n")),
        ("unpushed", "unpushed: 1 commits", &|p| {
            bench.write(&p.join("work"), "w\n");
            bench.commit(p, "work");
        }),
        ("hidden", "hidden from status: README", &|p| {
            bench.git(p, &["update-index", "--skip-worktree", "README"]);
            bench.write(&p.join("README"), "hidden edit\n");
        }),
        ("merging", "in progress: a merge", &|p| {
            let dir = bench.git(p, &["rev-parse", "--absolute-git-dir"]);
            let head = bench.git(p, &["rev-parse", "HEAD"]);
            bench.write(&PathBuf::from(dir).join("MERGE_HEAD"), &format!("{head}\n"));
        }),
    ];
    for (id, evidence, change) in cases {
        let path = bench.new_env(id, &repo, &[]);
        change(&path);
        let said = refusal(&bench, id);
        assert!(said.contains(evidence), "{id}: {said}");
        let shown = bench.ok(&["show", id]);
        assert_eq!(shown["refusal"]["code"], "unsafe_to_remove");
        let removed = bench.ok(&["rm", id, "--force"]);
        let trash = PathBuf::from(removed["trash"].as_str().expect("a trash"));
        assert!(trash.join("README").exists(), "nothing is unlinked");
    }
    let kept = bench.git(&repo, &["branch", "--list", "gk/*", "--format=%(refname:short)"]);
    assert_eq!(kept, "gk/unpushed", "a branch with commits of its own stays");
    bench.check(&[&repo]);
}

/// They are named, and need `--force`.
#[test]
fn files_beside_worktree_are_kept() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    let beside = path.with_file_name("scratch");
    bench.write(&beside.join("notes"), "work\n");
    assert!(refusal(&bench, "demo").contains("beside the worktree"));
    bench.ok(&["rm", "demo", "--force"]);
    assert!(beside.join("notes").exists() && !path.exists());
    std::fs::remove_dir_all(beside.parent().expect("a place")).expect("removed");
    bench.check(&[&repo]);
}

#[test]
fn detached_commits_get_rescue_ref() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    bench.git(&path, &["switch", "-q", "--detach"]);
    bench.write(&path.join("work"), "w\n");
    let commit = bench.commit(&path, "work on nothing");
    assert!(refusal(&bench, "demo").contains("unpushed: 1 commits"));
    let removed = bench.ok(&["rm", "demo", "--force"]);
    let reference = removed["rescue"][0].as_str().expect("a ref");
    bench.git(&repo, &["gc", "-q", "--prune=now"]);
    assert_eq!(bench.git(&repo, &["rev-parse", &format!("{reference}^1")]), commit);
    bench.check(&[&repo]);
}

#[test]
fn moved_worktree_is_refused() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    let (from, to) = (path.to_str().expect("text"), bench.path("elsewhere"));
    bench.git(&repo, &["worktree", "unlock", from]);
    bench.git(&repo, &["worktree", "move", from, to.to_str().expect("text")]);
    let (_, error) = bench.refused(&["rm", "demo", "--force"]);
    assert_eq!(error["code"], "not_ours", "{error:#}");
    assert_eq!(bench.git(&to, &["status", "--porcelain"]), "");
    bench.git(&repo, &["worktree", "move", to.to_str().expect("text"), from]);
    bench.ok(&["rm", "demo"]);
    bench.check(&[&repo]);
}

#[test]
fn pushed_or_merged_work_is_removable() {
    let bench = Bench::new();
    let origin = bench.repo("origin", 3);
    bench.git(&bench.path("."), &["clone", "-q", "origin", "clone"]);
    let clone = bench.path("clone");
    let path = bench.new_env("pushed", &clone, &[]);
    bench.write(&path.join("work"), "w\n");
    bench.commit(&path, "work");
    refusal(&bench, "pushed");
    bench.git(&path, &["push", "-q", "origin", "gk/pushed"]);
    bench.ok(&["rm", "pushed"]);

    let path = bench.new_env("merged", &clone, &[]);
    bench.write(&path.join("other"), "o\n");
    bench.commit(&path, "other");
    bench.git(&clone, &["merge", "-q", "gk/merged"]);
    bench.ok(&["rm", "merged"]);
    assert_eq!(bench.git(&clone, &["branch", "--list", "gk/*"]), "");
    bench.check(&[&clone, &origin]);
}

#[test]
fn unproven_directory_is_never_touched() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let not_ours = |id: &str| {
        let (code, error) = bench.refused(&["rm", id, "--force"]);
        assert_eq!((code, error["code"].as_str()), (1, Some("not_ours")), "{error:#}");
    };
    // Another directory at the path of the environment.
    let path = bench.new_env("swapped", &repo, &[]);
    std::fs::rename(&path, bench.path("moved-away")).expect("moved");
    bench.write(&path.join("precious"), "not made by groundskeeper\n");
    not_ours("swapped");
    assert!(path.join("precious").exists());
    std::fs::remove_dir_all(&path).expect("removed");
    std::fs::rename(bench.path("moved-away"), &path).expect("moved back");
    bench.ok(&["rm", "swapped"]);

    // A symbolic link at the path of the environment.
    let path = bench.new_env("linked", &repo, &[]);
    let elsewhere = bench.path("elsewhere");
    std::fs::rename(&path, &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, &path).expect("linked");
    not_ours("linked");
    assert!(elsewhere.join("README").exists());
    std::fs::remove_file(&path).expect("removed");
    std::fs::rename(&elsewhere, &path).expect("moved back");

    // A missing marker, and a marker of another incarnation.
    let dir = PathBuf::from(bench.git(&path, &["rev-parse", "--absolute-git-dir"]));
    let marker = dir.join("groundskeeper.json");
    let text = std::fs::read_to_string(&marker).expect("a marker");
    std::fs::remove_file(&marker).expect("removed");
    not_ours("linked");
    bench.write(&marker, &text.replace("\"incarnation\":1", "\"incarnation\":7"));
    not_ours("linked");
    bench.write(&marker, &text);
    bench.ok(&["rm", "linked"]);
    bench.check(&[&repo]);
}

/// The data directory lies inside another repository, which must not be taken for it.
#[test]
fn worktree_without_git_file_is_recognised() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    // The data directory lies inside another repository, as in a home under version control.
    bench.git(&bench.path("."), &["init", "-q"]);
    let path = bench.new_env("demo", &repo, &[]);
    std::fs::remove_file(path.join(".git")).expect("removed");
    bench.write(&path.join("new.txt"), "work\n");
    assert!(refusal(&bench, "demo").contains("untracked: new.txt"));
    bench.ok(&["rm", "demo", "--force"]);
    bench.drain();
}

#[test]
fn worktree_lock_is_held_until_removal() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    let text = path.to_str().expect("text");
    assert!(!bench.git_raw(&repo, &["worktree", "remove", text]).status.success());
    assert!(
        bench.git(&repo, &["worktree", "list", "--porcelain"]).contains("groundskeeper rm demo")
    );
    bench.ok(&["rm", "demo"]);
    assert!(!bench.git(&repo, &["worktree", "list", "--porcelain"]).contains("locked"));
}

/// A git process of a killed daemon runs longer than the next daemon waits, and the directory is in
/// the trash already. The removal is postponed and then continues from there.
#[test]
fn postponed_removal_continues_from_trash() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let mut daemon = Daemon::start_with(&bench, &[("GROUNDSKEEPER_KILL_AT", "trash.moved")]);
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("work"), "work\n");
    let lock = bench.data().join("locks");
    bench.refused(&["--no-autostart", "rm", "demo", "--force"]);
    wait_for("the end of a killed daemon", || daemon.is_dead());
    assert!(!path.exists(), "it is in the trash");
    let held: Vec<std::fs::File> = std::fs::read_dir(&lock)
        .expect("locks")
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("demo"))
        .map(|e| std::fs::File::open(e.path()).expect("opened"))
        .collect();
    assert!(!held.is_empty() && held.iter().all(|file| file.try_lock().is_ok()), "held");
    let _daemon = Daemon::start(&bench);
    wait_for("the removal to be postponed", || bench.phase("demo") == "retiring");
    drop(held);
    wait_for("the end of the removal", || bench.phase("demo") == "tombstoned");
    bench.drain();
    let rescues = bench.ok(&["rescue", "ls"]);
    assert_eq!(rescues[0]["id"], "demo", "{rescues:#}");
    let back = bench.ok(&["restore", "demo"]);
    let path = Path::new(back["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(path.join("work")).expect("read"), "work\n");
}
