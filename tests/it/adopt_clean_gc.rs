//! Adoption, cleaning, sizes and gc: they free space without any loss of work.

use std::path::{Path, PathBuf};

use crate::support::{Bench, Daemon, wait_for};

fn fill(bench: &Bench, path: &Path) {
    for n in 0..50 {
        bench.write(&path.join(format!("target/debug/object{n}")), &"x".repeat(10_000));
        bench.write(&path.join(format!("web/node_modules/p{n}/index.js")), "js\n");
    }
    bench.write(&path.join("build/tracked.txt"), "not output at all\n");
    bench.write(&path.join("local.db"), "rows\n");
    bench.write(&path.join("notes"), "untracked\n");
}

/// Tracked files and other ignored files stay. While a build runs, the clean is refused.
#[test]
fn clean_takes_rebuildable_output_only() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.write(&repo.join(".gitignore"), "target/\nnode_modules/\nbuild/\n*.db\n");
    bench.write(&repo.join("build/tracked.txt"), "tracked\n");
    bench.git(&repo, &["add", "-f", "build/tracked.txt"]);
    bench.commit(&repo, "a tracked file in a folder named build");
    let path = bench.new_env("demo", &repo, &[]);
    fill(&bench, &path);
    let usage = bench.ok(&["df"]);
    let rebuildable = usage["environments"][0]["rebuildable"]["apparent"].as_u64();
    assert!(rebuildable.is_some_and(|b| b >= 500_000), "{usage:#}");

    // A process has a file of `target` open, as a running build does.
    let object = std::fs::File::options().append(true).open(path.join("target/debug/object1"));
    let mut builder = {
        let mut command = std::process::Command::new("sleep");
        let object = object.expect("open");
        command.arg("1010").current_dir("/").stdout(object).spawn().expect("started")
    };
    let (code, error) = bench.refused(&["clean", "demo"]);
    assert_eq!((code, error["code"].as_str()), (4, Some("environment_busy")), "{error:#}");
    assert!(path.join("target/debug/object1").exists());
    drop((builder.kill(), builder.wait()));

    let cleaned = bench.ok(&["clean", "demo"]);
    let paths = cleaned["paths"].to_string();
    assert!(paths.contains("target") && paths.contains("web/node_modules"), "{cleaned:#}");
    assert!(!path.join("target").exists() && !path.join("web/node_modules").exists());
    for kept in ["build/tracked.txt", "local.db", "notes", "README"] {
        assert!(path.join(kept).exists(), "{kept}");
    }
    assert_eq!(bench.ok(&["clean", "demo"])["paths"].as_array().map(Vec::len), Some(0));
    let usage = bench.ok(&["df"]);
    assert_eq!(usage["environments"][0]["rebuildable"]["entries"], 0, "{usage:#}");
    bench.ok(&["rm", "demo", "--force"]);
    bench.check(&[&repo]);
}

/// Creates an environment with two directories that tools rebuild.
fn create_built(bench: &Bench) -> (PathBuf, PathBuf) {
    let repo = bench.repo("project", 3);
    bench.write(&repo.join(".gitignore"), "target/\nnode_modules/\n");
    bench.write(&repo.join("web/index.js"), "js\n");
    bench.commit(&repo, "what is ignored");
    let path = bench.new_env("demo", &repo, &[]);
    for file in BUILT {
        bench.write(&path.join(file), file);
    }
    (repo, path)
}

const BUILT: [&str; 2] = ["target/debug/object", "web/node_modules/p/index.js"];

fn has_all_output(place: &Path) -> bool {
    BUILT.iter().all(|file| std::fs::read_to_string(place.join(file)).is_ok_and(|t| t == *file))
}

#[test]
fn cleaned_output_can_be_restored() {
    let bench = Bench::new();
    let (repo, path) = create_built(&bench);
    let cleaned = bench.ok(&["clean", "demo"]);
    let place = PathBuf::from(cleaned["trash"].as_str().expect("a place"));
    assert!(place.starts_with(bench.data().join("trash")) && has_all_output(&place), "{cleaned:#}");
    assert!(!path.join("target").exists() && path.join("web/index.js").exists());
    let listed = bench.ok(&["trash", "ls"]);
    assert_eq!((&listed[0]["kind"], &listed[0]["id"]), (&"clean".into(), &"demo".into()));
    assert_eq!(listed[0]["expires_at"], cleaned["expires_at"], "{listed:#}");
    let usage = bench.ok(&["df"]);
    assert_eq!(usage["trash_bytes"], cleaned["size"]["allocated"], "{usage:#}");

    let undone = bench.ok(&["clean", "demo", "--undo"]);
    assert_eq!(undone["returned"].as_array().map(Vec::len), Some(2), "{undone:#}");
    assert!(has_all_output(&path) && !place.exists());
    assert_eq!(bench.ok(&["trash", "ls"]).as_array().map(Vec::len), Some(0));
    let (code, error) = bench.refused(&["clean", "demo", "--undo"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("not_found")), "{error:#}");

    // The undo does not overwrite output that was rebuilt meanwhile.
    bench.ok(&["clean", "demo"]);
    bench.write(&path.join("target/debug/object"), "built again");
    let undone = bench.ok(&["clean", "demo", "--undo"]);
    assert_eq!(undone["returned"][0], "web/node_modules", "{undone:#}");
    assert_eq!(undone["left"][0]["path"], "target", "{undone:#}");
    let text = std::fs::read_to_string(path.join("target/debug/object"));
    assert_eq!(text.expect("read"), "built again");
    let kept = PathBuf::from(undone["trash"].as_str().expect("a place"));
    assert!(kept.join("target/debug/object").exists());
    let (code, error) = bench.refused(&["clean", "demo", "--undo"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("path_exists")), "{error:#}");
    bench.ok(&["trash", "empty", "demo"]);
    assert!(!kept.exists());
    assert_eq!(bench.ok(&["trash", "ls"]).as_array().map(Vec::len), Some(0));
    bench.check(&[&repo]);
}

#[test]
fn clean_keeps_repositories() {
    let bench = Bench::new();
    let (repo, path) = create_built(&bench);
    bench.write(&path.join("target/checkout/.git/HEAD"), "ref: refs/heads/main\n");
    bench.write(&path.join("web/node_modules/p/lib/.git"), "gitdir: /elsewhere\n");
    for name in ["build/cache/HEAD", "build/cache/objects/x", "build/cache/refs/y"] {
        bench.write(&path.join(name), "");
    }
    bench.write(&repo.join(".git/info/exclude"), "build/\ndist/\n");
    bench.write(&path.join("dist/out.js"), "built\n");
    for how in [None, Some("--now")] {
        let args: Vec<&str> = ["clean", "demo"].into_iter().chain(how).collect();
        let cleaned = bench.ok(&args);
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
    assert!(bench.data().join("trash").exists());
    bench.ok(&["clean", "demo", "--undo"]);
    assert!(path.join("dist/out.js").exists());
}

/// A repository appeared in the output while it was in the trash.
#[test]
fn cleaned_repository_is_not_purged() {
    let bench = Bench::new();
    let (_, path) = create_built(&bench);
    let cleaned = bench.ok(&["clean", "demo"]);
    let place = PathBuf::from(cleaned["trash"].as_str().expect("a place"));
    bench.write(&place.join("target/late/.git"), "gitdir: /elsewhere\n");
    let left = bench.ok(&["trash", "empty"]);
    assert!(left[0]["error"].to_string().contains("holds a repository"), "{left:#}");
    assert!(has_all_output(&place));
    bench.ok(&["clean", "demo", "--undo"]);
    assert!(has_all_output(&path) && path.join("target/late/.git").exists());
}

#[test]
fn clean_now_cannot_be_undone() {
    let bench = Bench::new();
    let (repo, path) = create_built(&bench);
    let cleaned = bench.ok(&["clean", "demo", "--now"]);
    assert_eq!(
        (&cleaned["trash"], cleaned["paths"].as_array().map(Vec::len)),
        (&().into(), Some(2))
    );
    assert!(!path.join("target").exists());
    assert_eq!(std::fs::read_dir(bench.data().join("trash")).expect("read").count(), 0);
    assert_eq!(bench.refused(&["clean", "demo", "--undo"]).0, 3);
    assert_eq!(bench.gk(&["clean", "demo", "--undo", "--now"]).0, 64);
    bench.check(&[&repo]);
}

#[test]
fn clean_undo_requires_restore() {
    let bench = Bench::new();
    let (repo, path) = create_built(&bench);
    bench.ok(&["clean", "demo"]);
    bench.ok(&["rm", "demo"]);
    let (code, error) = bench.refused(&["clean", "demo", "--undo"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("environment_destroyed")), "{error:#}");
    assert!(error["hint"].to_string().contains("groundskeeper restore demo"), "{error:#}");
    bench.check(&[&repo]);
    bench.ok(&["restore", "demo"]);
    bench.ok(&["clean", "demo", "--undo"]);
    assert!(has_all_output(&path));
    bench.check(&[&repo]);
}

#[test]
fn killed_clean_can_be_undone() {
    let undo = ["clean.returned_one", "clean.returned_one:2"];
    let clean = ["clean.looked", "clean.renamed", "clean.moved_one", "clean.renamed:2"];
    let both = ["effect.performed", "engine.committed:2"];
    for point in clean.iter().chain(&undo).chain(&both) {
        let bench = Bench::new();
        let (repo, path) = create_built(&bench);
        bench.ok(&["stop"]);
        let mut daemon = Daemon::start_with(&bench, &[("GROUNDSKEEPER_KILL_AT", point)]);
        bench.gk(&["--no-autostart", "clean", "demo"]);
        bench.gk(&["--no-autostart", "clean", "demo", "--undo"]);
        wait_for("the end of the daemon", || daemon.is_dead());
        let _next = Daemon::start(&bench);
        bench.drain();
        bench.check(&[&repo]);
        if !has_all_output(&path) {
            bench.ok(&["clean", "demo", "--undo"]);
        }
        assert!(has_all_output(&path), "{point}");
        bench.ok(&["clean", "demo"]);
        bench.ok(&["trash", "empty"]);
        bench.check(&[&repo]);
    }
}

#[test]
fn killed_purge_is_finished_by_successor() {
    for point in ["clean.proven", "clean.unlinked_one", "clean.unlinked_one:4", "clean.unlinked"] {
        let bench = Bench::new();
        let (repo, path) = create_built(&bench);
        bench.ok(&["stop"]);
        let mut daemon = Daemon::start_with(&bench, &[("GROUNDSKEEPER_KILL_AT", point)]);
        bench.gk(&["--no-autostart", "clean", "demo", "--now"]);
        wait_for("the end of the daemon", || daemon.is_dead());
        let _next = Daemon::start(&bench);
        bench.check(&[&repo]);
        wait_for("the purge", || bench.ok(&["trash", "ls"]).as_array().is_some_and(Vec::is_empty));
        assert_eq!(std::fs::read_dir(bench.data().join("trash")).expect("read").count(), 0);
        assert!(!path.join("target").exists(), "{point}");
    }
}

/// It can be leased and used like any other.
#[test]
fn adopted_worktree_is_never_deleted() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.path("theirs");
    let text = path.to_str().expect("text");
    bench.git(&repo, &["worktree", "add", "-q", "-b", "theirs", text]);
    bench.write(&path.join("work"), "work\n");
    let adopted = bench.ok(&["adopt", text, "--id", "mine"]);
    assert_eq!((&adopted["phase"], &adopted["adopted"]), (&"ready".into(), &true.into()));
    assert_eq!(
        bench.ok(&["adopt", text, "--id", "mine"])["id"],
        "mine",
        "the repeated request succeeds"
    );
    assert_eq!(bench.refused(&["adopt", text, "--id", "other"]).0, 1);
    let lease = bench.ok(&["lease", "mine", "--for", "1h"]);
    assert_eq!(bench.refused(&["rm", "mine"]).0, 4);
    bench.ok(&["release", lease["id"].as_str().expect("an id")]);
    let ran = bench.command(&["exec", "mine", "--", "test", "-e", "work"]).status();
    assert!(ran.expect("runs").success());
    assert_eq!(bench.refused(&["clean", "mine"]).1["code"], "not_ours");
    bench.ok(&["gc"]);
    assert_eq!(bench.phase("mine"), "ready");
    bench.ok(&["rm", "mine", "--force"]);
    assert_eq!(bench.phase("mine"), "tombstoned");
    assert_eq!(std::fs::read_to_string(path.join("work")).expect("kept"), "work\n");
    assert!(bench.git(&repo, &["worktree", "list"]).contains("theirs"));
    assert!(bench.git(&repo, &["branch", "--list", "theirs"]).contains("theirs"));
    // A managed worktree and paths that are not worktrees cannot be adopted.
    let ours = bench.new_env("ours", &repo, &[]);
    for bad in [ours.as_path(), &bench.data(), &bench.path("home"), &bench.path("missing")] {
        let (code, error) = bench.refused(&["adopt", bad.to_str().expect("text")]);
        assert_ne!(code, 0, "{error:#}");
    }
}

#[test]
fn gc_reports_reasons_for_keeping() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    for id in ["clean", "dirty", "leased", "used"] {
        bench.new_env(id, &repo, &[]);
    }
    let place = |id: &str| bench.data().join("worktrees").join(id).join("project");
    bench.write(&place("dirty").join("new"), "work\n");
    bench.ok(&["lease", "leased", "--for", "1h", "--purpose", "agent"]);
    let mut user = std::process::Command::new("sleep");
    let mut user = user.arg("1011").current_dir(place("used")).spawn().expect("started");

    let young = bench.ok(&["gc", "--age", "1h"]).to_string();
    assert!(!young.contains("\"removed\""), "{young}");
    let busy = bench.ok(&["gc", "--idle", "1h"]).to_string();
    assert!(!busy.contains("\"removed\"") && busy.contains("last changed"), "{busy}");
    assert_eq!(
        bench.ok(&["gc", "--free", "0"]).as_array().map(Vec::len),
        Some(0),
        "enough is free"
    );
    let planned = bench.ok(&["gc", "--dry-run"]).to_string();
    assert!(planned.contains("would be removed"), "{planned}");
    assert_eq!(bench.phase("clean"), "ready");
    let report = bench.ok(&["gc"]);
    let fate = |id: &str| {
        let list = report.as_array().expect("a list");
        let found = list.iter().find(|s| s["id"] == id).cloned().expect("inspected");
        (found["outcome"].clone(), found["why"].to_string())
    };
    assert_eq!(fate("clean").0, "removed");
    for (id, why) in [("dirty", "untracked: new"), ("leased", "leased"), ("used", "process")] {
        let (outcome, said) = fate(id);
        assert!(outcome == "kept" && said.contains(why), "{id}: {said}");
        assert_eq!(bench.phase(id), "ready");
    }
    drop((user.kill(), user.wait()));
    bench.check(&[&repo]);
}

#[test]
fn rm_dry_run_changes_nothing() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    assert_eq!(bench.ok(&["rm", "demo", "--dry-run"])["safe"], true);
    bench.write(&path.join("new"), "work\n");
    let evidence = bench.ok(&["rm", "demo", "--dry-run"]);
    assert_eq!(evidence["safe"], false, "{evidence:#}");
    assert_eq!(evidence["unsaved"][0], "untracked: new");
    assert_eq!(bench.phase("demo"), "ready");
}
