//! Adoption, cleaning, sizes and gc: they free space without any loss of work.

use std::path::{Path, PathBuf};

use crate::support::{Daemon, Harness, wait_for};

fn fill(harness: &Harness, path: &Path) {
    for n in 0..50 {
        harness.write(&path.join(format!("target/debug/object{n}")), &"x".repeat(10_000));
        harness.write(&path.join(format!("web/node_modules/p{n}/index.js")), "js\n");
    }
    harness.write(&path.join("build/tracked.txt"), "not output at all\n");
    harness.write(&path.join("local.db"), "rows\n");
    harness.write(&path.join("notes"), "untracked\n");
}

/// Tracked files and other ignored files stay. While a build runs, the clean is refused.
#[test]
fn clean_takes_rebuildable_output_only() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitignore"), "target/\nnode_modules/\nbuild/\n*.db\n");
    harness.write(&repo.join("build/tracked.txt"), "tracked\n");
    harness.git(&repo, &["add", "-f", "build/tracked.txt"]);
    harness.commit(&repo, "a tracked file in a folder named build");
    let path = harness.new_env("demo", &repo, &[]);
    fill(&harness, &path);
    let usage = harness.ok(&["df"]);
    let rebuildable = usage["environments"][0]["rebuildable"]["apparent"].as_u64();
    assert!(rebuildable.is_some_and(|b| b >= 500_000), "{usage:#}");

    // A process has a file of `target` open, as a running build does.
    let object = std::fs::File::options().append(true).open(path.join("target/debug/object1"));
    let mut builder = {
        let mut command = std::process::Command::new("sleep");
        let object = object.expect("open");
        command.arg("1010").current_dir("/").stdout(object).spawn().expect("started")
    };
    let (code, error) = harness.refused(&["clean", "demo"]);
    assert_eq!((code, error["code"].as_str()), (4, Some("environment_busy")), "{error:#}");
    assert!(path.join("target/debug/object1").exists());
    drop((builder.kill(), builder.wait()));

    let cleaned = harness.ok(&["clean", "demo"]);
    let paths = cleaned["paths"].to_string();
    assert!(paths.contains("target") && paths.contains("web/node_modules"), "{cleaned:#}");
    assert!(!path.join("target").exists() && !path.join("web/node_modules").exists());
    for kept in ["build/tracked.txt", "local.db", "notes", "README"] {
        assert!(path.join(kept).exists(), "{kept}");
    }
    assert_eq!(harness.ok(&["clean", "demo"])["paths"].as_array().map(Vec::len), Some(0));
    let usage = harness.ok(&["df"]);
    assert_eq!(usage["environments"][0]["rebuildable"]["entries"], 0, "{usage:#}");
    harness.ok(&["rm", "demo", "--force"]);
    harness.check(&[&repo]);
}

/// Creates an environment with two directories that tools rebuild.
fn create_built(harness: &Harness) -> (PathBuf, PathBuf) {
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitignore"), "target/\nnode_modules/\n");
    harness.write(&repo.join("web/index.js"), "js\n");
    harness.commit(&repo, "what is ignored");
    let path = harness.new_env("demo", &repo, &[]);
    for file in BUILT {
        harness.write(&path.join(file), file);
    }
    (repo, path)
}

const BUILT: [&str; 2] = ["target/debug/object", "web/node_modules/p/index.js"];

fn has_all_output(place: &Path) -> bool {
    BUILT.iter().all(|file| std::fs::read_to_string(place.join(file)).is_ok_and(|t| t == *file))
}

#[test]
fn cleaned_output_can_be_restored() {
    let harness = Harness::new();
    let (repo, path) = create_built(&harness);
    let cleaned = harness.ok(&["clean", "demo"]);
    let place = PathBuf::from(cleaned["trash"].as_str().expect("a place"));
    assert!(
        place.starts_with(harness.data().join("trash")) && has_all_output(&place),
        "{cleaned:#}"
    );
    assert!(!path.join("target").exists() && path.join("web/index.js").exists());
    let listed = harness.ok(&["trash", "ls"]);
    assert_eq!((&listed[0]["kind"], &listed[0]["id"]), (&"clean".into(), &"demo".into()));
    assert_eq!(listed[0]["expires_at"], cleaned["expires_at"], "{listed:#}");
    let usage = harness.ok(&["df"]);
    assert_eq!(usage["trash_bytes"], cleaned["size"]["allocated"], "{usage:#}");

    let undone = harness.ok(&["clean", "demo", "--undo"]);
    assert_eq!(undone["returned"].as_array().map(Vec::len), Some(2), "{undone:#}");
    assert!(has_all_output(&path) && !place.exists());
    assert_eq!(harness.ok(&["trash", "ls"]).as_array().map(Vec::len), Some(0));
    let (code, error) = harness.refused(&["clean", "demo", "--undo"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("not_found")), "{error:#}");

    // The undo does not overwrite output that was rebuilt meanwhile.
    harness.ok(&["clean", "demo"]);
    harness.write(&path.join("target/debug/object"), "built again");
    let undone = harness.ok(&["clean", "demo", "--undo"]);
    assert_eq!(undone["returned"][0], "web/node_modules", "{undone:#}");
    assert_eq!(undone["left"][0]["path"], "target", "{undone:#}");
    let text = std::fs::read_to_string(path.join("target/debug/object"));
    assert_eq!(text.expect("read"), "built again");
    let kept = PathBuf::from(undone["trash"].as_str().expect("a place"));
    assert!(kept.join("target/debug/object").exists());
    let (code, error) = harness.refused(&["clean", "demo", "--undo"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("path_exists")), "{error:#}");
    harness.ok(&["trash", "empty", "demo"]);
    assert!(!kept.exists());
    assert_eq!(harness.ok(&["trash", "ls"]).as_array().map(Vec::len), Some(0));
    harness.check(&[&repo]);
}

#[test]
fn clean_keeps_repositories() {
    let harness = Harness::new();
    let (repo, path) = create_built(&harness);
    harness.write(&path.join("target/checkout/.git/HEAD"), "ref: refs/heads/main\n");
    harness.write(&path.join("web/node_modules/p/lib/.git"), "gitdir: /elsewhere\n");
    for name in ["build/cache/HEAD", "build/cache/objects/x", "build/cache/refs/y"] {
        harness.write(&path.join(name), "");
    }
    harness.write(&repo.join(".git/info/exclude"), "build/\ndist/\n");
    harness.write(&path.join("dist/out.js"), "built\n");
    for how in [None, Some("--now")] {
        let args: Vec<&str> = ["clean", "demo"].into_iter().chain(how).collect();
        let cleaned = harness.ok(&args);
        let left = cleaned["left"].as_array().expect("a list");
        let paths: Vec<&str> = left.iter().filter_map(|l| l["path"].as_str()).collect();
        assert_eq!(paths, ["build", "target", "web/node_modules"], "{cleaned:#}");
        let why = |l: &serde_json::Value| l["why"].to_string();
        assert!(left.iter().all(|l| why(l).contains("holds a repository")), "{cleaned:#}");
        assert!(has_all_output(&path) && path.join("build/cache/HEAD").exists());
        assert!(
            !path.join("dist").exists() || how.is_some(),
            "output without a repository is removed"
        );
    }
    assert!(harness.data().join("trash").exists());
    harness.ok(&["clean", "demo", "--undo"]);
    assert!(path.join("dist/out.js").exists());
}

/// A repository appeared in the output while it was in the trash.
#[test]
fn cleaned_repository_is_not_purged() {
    let harness = Harness::new();
    let (_, path) = create_built(&harness);
    let cleaned = harness.ok(&["clean", "demo"]);
    let place = PathBuf::from(cleaned["trash"].as_str().expect("a place"));
    harness.write(&place.join("target/late/.git"), "gitdir: /elsewhere\n");
    let left = harness.ok(&["trash", "empty"]);
    assert!(left[0]["error"].to_string().contains("holds a repository"), "{left:#}");
    assert!(has_all_output(&place));
    harness.ok(&["clean", "demo", "--undo"]);
    assert!(has_all_output(&path) && path.join("target/late/.git").exists());
}

#[test]
fn clean_now_cannot_be_undone() {
    let harness = Harness::new();
    let (repo, path) = create_built(&harness);
    let cleaned = harness.ok(&["clean", "demo", "--now"]);
    assert_eq!(
        (&cleaned["trash"], cleaned["paths"].as_array().map(Vec::len)),
        (&().into(), Some(2))
    );
    assert!(!path.join("target").exists());
    assert_eq!(std::fs::read_dir(harness.data().join("trash")).expect("read").count(), 0);
    assert_eq!(harness.refused(&["clean", "demo", "--undo"]).0, 3);
    assert_eq!(harness.gk(&["clean", "demo", "--undo", "--now"]).0, 64);
    harness.check(&[&repo]);
}

#[test]
fn clean_undo_requires_restore() {
    let harness = Harness::new();
    let (repo, path) = create_built(&harness);
    harness.ok(&["clean", "demo"]);
    harness.ok(&["rm", "demo"]);
    let (code, error) = harness.refused(&["clean", "demo", "--undo"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("environment_destroyed")), "{error:#}");
    assert!(error["hint"].to_string().contains("groundskeeper restore demo"), "{error:#}");
    harness.check(&[&repo]);
    harness.ok(&["restore", "demo"]);
    harness.ok(&["clean", "demo", "--undo"]);
    assert!(has_all_output(&path));
    harness.check(&[&repo]);
}

#[test]
fn killed_clean_can_be_undone() {
    let undo = ["clean.returned_one", "clean.returned_one:2"];
    let clean = ["clean.looked", "clean.renamed", "clean.moved_one", "clean.renamed:2"];
    let both = ["effect.performed", "engine.committed:2"];
    for point in clean.iter().chain(&undo).chain(&both) {
        let harness = Harness::new();
        let (repo, path) = create_built(&harness);
        harness.ok(&["stop"]);
        let mut daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", point)]);
        harness.gk(&["--no-autostart", "clean", "demo"]);
        harness.gk(&["--no-autostart", "clean", "demo", "--undo"]);
        wait_for("the end of the daemon", || daemon.is_dead());
        let _next = Daemon::start(&harness);
        harness.drain();
        harness.check(&[&repo]);
        if !has_all_output(&path) {
            harness.ok(&["clean", "demo", "--undo"]);
        }
        assert!(has_all_output(&path), "{point}");
        harness.ok(&["clean", "demo"]);
        harness.ok(&["trash", "empty"]);
        harness.check(&[&repo]);
    }
}

#[test]
fn killed_purge_is_finished_by_successor() {
    for point in ["clean.proven", "clean.unlinked_one", "clean.unlinked_one:4", "clean.unlinked"] {
        let harness = Harness::new();
        let (repo, path) = create_built(&harness);
        harness.ok(&["stop"]);
        let mut daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", point)]);
        harness.gk(&["--no-autostart", "clean", "demo", "--now"]);
        wait_for("the end of the daemon", || daemon.is_dead());
        let _next = Daemon::start(&harness);
        harness.check(&[&repo]);
        wait_for("the purge", || {
            harness.ok(&["trash", "ls"]).as_array().is_some_and(Vec::is_empty)
        });
        assert_eq!(std::fs::read_dir(harness.data().join("trash")).expect("read").count(), 0);
        assert!(!path.join("target").exists(), "{point}");
    }
}

/// It can be leased and used like any other.
#[test]
fn adopted_worktree_is_never_deleted() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.path("theirs");
    let text = path.to_str().expect("text");
    harness.git(&repo, &["worktree", "add", "-q", "-b", "theirs", text]);
    harness.write(&path.join("work"), "work\n");
    let adopted = harness.ok(&["adopt", text, "--id", "mine"]);
    assert_eq!((&adopted["phase"], &adopted["adopted"]), (&"ready".into(), &true.into()));
    assert_eq!(
        harness.ok(&["adopt", text, "--id", "mine"])["id"],
        "mine",
        "the repeated request succeeds"
    );
    assert_eq!(harness.refused(&["adopt", text, "--id", "other"]).0, 1);
    let lease = harness.ok(&["lease", "mine", "--for", "1h"]);
    assert_eq!(harness.refused(&["rm", "mine"]).0, 4);
    harness.ok(&["release", lease["id"].as_str().expect("an id")]);
    let ran = harness.command(&["exec", "mine", "--", "test", "-e", "work"]).status();
    assert!(ran.expect("runs").success());
    assert_eq!(harness.refused(&["clean", "mine"]).1["code"], "not_ours");
    harness.ok(&["gc"]);
    assert_eq!(harness.phase("mine"), "ready");
    harness.ok(&["rm", "mine", "--force"]);
    assert_eq!(harness.phase("mine"), "tombstoned");
    assert_eq!(std::fs::read_to_string(path.join("work")).expect("kept"), "work\n");
    assert!(harness.git(&repo, &["worktree", "list"]).contains("theirs"));
    assert!(harness.git(&repo, &["branch", "--list", "theirs"]).contains("theirs"));
    // A managed worktree and paths that are not worktrees cannot be adopted.
    let ours = harness.new_env("ours", &repo, &[]);
    for bad in [ours.as_path(), &harness.data(), &harness.path("home"), &harness.path("missing")] {
        let (code, error) = harness.refused(&["adopt", bad.to_str().expect("text")]);
        assert_ne!(code, 0, "{error:#}");
    }
}

#[test]
fn gc_reports_reasons_for_keeping() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    for id in ["clean", "dirty", "leased", "used"] {
        harness.new_env(id, &repo, &[]);
    }
    let place = |id: &str| harness.data().join("worktrees").join(id).join("project");
    harness.write(&place("dirty").join("new"), "work\n");
    harness.ok(&["lease", "leased", "--for", "1h", "--purpose", "agent"]);
    let mut user = std::process::Command::new("sleep");
    let mut user = user.arg("1011").current_dir(place("used")).spawn().expect("started");

    let young = harness.ok(&["gc", "--age", "1h"]).to_string();
    assert!(!young.contains("\"removed\""), "{young}");
    let busy = harness.ok(&["gc", "--idle", "1h"]).to_string();
    assert!(!busy.contains("\"removed\"") && busy.contains("last changed"), "{busy}");
    assert_eq!(
        harness.ok(&["gc", "--free", "0"]).as_array().map(Vec::len),
        Some(0),
        "enough is free"
    );
    let planned = harness.ok(&["gc", "--dry-run"]).to_string();
    assert!(planned.contains("would be removed"), "{planned}");
    assert_eq!(harness.phase("clean"), "ready");
    let report = harness.ok(&["gc"]);
    let fate = |id: &str| {
        let list = report.as_array().expect("a list");
        let found = list.iter().find(|s| s["id"] == id).cloned().expect("inspected");
        (found["outcome"].clone(), found["why"].to_string())
    };
    assert_eq!(fate("clean").0, "removed");
    for (id, why) in [("dirty", "untracked: new"), ("leased", "leased"), ("used", "process")] {
        let (outcome, printed) = fate(id);
        assert!(outcome == "kept" && printed.contains(why), "{id}: {printed}");
        assert_eq!(harness.phase(id), "ready");
    }
    drop((user.kill(), user.wait()));
    harness.check(&[&repo]);
}

#[test]
fn rm_dry_run_changes_nothing() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    assert_eq!(harness.ok(&["rm", "demo", "--dry-run"])["safe"], true);
    harness.write(&path.join("new"), "work\n");
    let evidence = harness.ok(&["rm", "demo", "--dry-run"]);
    assert_eq!(evidence["safe"], false, "{evidence:#}");
    assert_eq!(evidence["unsaved"][0], "untracked: new");
    assert_eq!(harness.phase("demo"), "ready");
}
