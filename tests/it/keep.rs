//! Adoption, cleaning, sizes and gc: using less without losing anything.

use std::path::Path;

use crate::support::Bench;

fn fill(bench: &Bench, path: &Path) {
    for n in 0..50 {
        bench.write(&path.join(format!("target/debug/object{n}")), &"x".repeat(10_000));
        bench.write(&path.join(format!("web/node_modules/p{n}/index.js")), "js\n");
    }
    bench.write(&path.join("build/tracked.txt"), "not output at all\n");
    bench.write(&path.join("local.db"), "rows\n");
    bench.write(&path.join("notes"), "untracked\n");
}

#[test]
fn clean_drops_what_tools_rebuild_and_nothing_else() {
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

    // Something is being built.
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

#[test]
fn an_adopted_worktree_is_leased_and_never_deleted() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.path("theirs");
    let text = path.to_str().expect("text");
    bench.git(&repo, &["worktree", "add", "-q", "-b", "theirs", text]);
    bench.write(&path.join("work"), "work\n");
    let adopted = bench.ok(&["adopt", text, "--id", "mine"]);
    assert_eq!((&adopted["phase"], &adopted["adopted"]), (&"ready".into(), &true.into()));
    assert_eq!(bench.ok(&["adopt", text, "--id", "mine"])["id"], "mine", "again is a success");
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
    // Nothing of ours, and nothing that is no worktree.
    let ours = bench.new_env("ours", &repo, &[]);
    for bad in [ours.as_path(), &bench.data(), &bench.path("home"), &bench.path("missing")] {
        let (code, error) = bench.refused(&["adopt", bad.to_str().expect("text")]);
        assert_ne!(code, 0, "{error:#}");
    }
}

#[test]
fn gc_takes_what_nobody_needs_and_says_why_it_keeps_the_rest() {
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
        let found = list.iter().find(|s| s["id"] == id).cloned().expect("looked at");
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
fn a_dry_run_of_rm_changes_nothing() {
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
