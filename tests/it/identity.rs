//! Incarnations, logs and data directories that must not be confused, and data directories and
//! repositories that have moved.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{Bench, wait_for};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Returns all refs and worktrees of a repository, which must not change.
fn refs_and_worktrees(bench: &Bench, repo: &Path) -> (String, String) {
    (bench.git(repo, &["for-each-ref"]), bench.git(repo, &["worktree", "list"]))
}

/// Two data directories on one repository use different refs for one environment id.
#[test]
fn data_directories_share_no_names() {
    let (one, two) = (Bench::new(), Bench::new());
    let repo = one.repo("project", 3);
    let first = one.new_env("demo", &repo, &[]);
    one.git(&repo, &["branch", "gk/two"]);
    let second = two.new_env("demo", &repo, &["--branch", "gk/two"]);
    one.write(&first.join("one"), "one\n");
    two.write(&second.join("two"), "two\n");
    let held = |bench: &Bench| {
        let removed = bench.ok(&["rm", "demo", "--force"]);
        bench.ok(&["trash", "empty"]);
        removed["rescue"][0].as_str().expect("a ref").to_owned()
    };
    let refs = (held(&one), held(&two));
    assert_ne!(refs.0, refs.1);
    one.ok(&["rescue", "drop", "demo"]);
    two.ok(&["restore", "demo"]);
    assert_eq!(std::fs::read_to_string(second.join("two")).expect("back"), "two\n");
    let (code, _) = one.refused(&["restore", "demo"]);
    assert_eq!(code, 3);
}

/// The data directory was wiped and started anew.
#[test]
fn recreated_data_directory_keeps_old_refs() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let life = |work: &str| {
        let path = bench.new_env("demo", &repo, &[]);
        bench.write(&path.join("work"), work);
        bench.ok(&["rm", "demo", "--force"])["rescue"][0].as_str().expect("a ref").to_owned()
    };
    let before = life("before\n");
    bench.ok(&["stop"]);
    std::fs::remove_dir_all(bench.data()).expect("wiped");
    let after = life("after\n");
    bench.ok(&["trash", "empty"]);
    bench.ok(&["rescue", "drop", "demo"]);
    assert_eq!(bench.git(&repo, &["show", &format!("{before}:work")]), "before");
    assert!(!bench.git_raw(&repo, &["rev-parse", "-q", "--verify", &after]).status.success());
}

/// The log was restored from a backup; incarnations begun after it are left alone.
#[test]
fn restored_log_treats_later_as_foreign() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let known = bench.new_env("known", &repo, &[]);
    bench.ok(&["stop"]);
    let (log, backup) = (bench.data().join("log.redb"), bench.path("backup"));
    std::fs::copy(&log, &backup).expect("copied");
    let live = bench.new_env("live", &repo, &[]);
    bench.write(&live.join("work"), "work\n");
    let gone = bench.new_env("gone", &repo, &[]);
    bench.write(&gone.join("work"), "work\n");
    let trash = bench.ok(&["rm", "gone", "--force"])["trash"].as_str().expect("a path").to_owned();
    bench.drain();
    bench.ok(&["stop"]);
    std::fs::copy(&backup, &log).expect("restored");
    let before = refs_and_worktrees(&bench, &repo);

    // The path belongs to an incarnation that the log does not know, so no other incarnation may
    // roll it back.
    let (_, error) = bench.refused(&["new", "live", "--repo", text(&repo)]);
    assert!(["path_exists", "branch_exists"].contains(&error["code"].as_str().unwrap_or_default()));
    drop(bench.gk(&["rm", "live", "--force"]));
    let found = bench.ok(&["sweep"]);
    let named = found.to_string();
    assert!(named.contains("adopt") && named.contains(text(&live)), "{found:#}");
    bench.ok(&["sweep", "--dry-run"]);
    assert_eq!(refs_and_worktrees(&bench, &repo), before, "nothing was touched");
    assert_eq!(std::fs::read_to_string(live.join("work")).expect("there"), "work\n");
    assert!(Path::new(&trash).join("work").exists());
    let doctor = bench.ok(&["doctor"]);
    assert!(doctor.to_string().contains("older copy"), "{doctor:#}");

    // A known environment continues, and so does a new incarnation of a forgotten name.
    bench.write(&known.join("more"), "more\n");
    bench.refused(&["rm", "known"]);
    bench.ok(&["rm", "known", "--force"]);
    bench.git(&repo, &["branch", "again"]);
    let again = bench.new_env("gone", &repo, &["--branch", "again"]);
    bench.write(&again.join("work"), "second\n");
    let second = bench.ok(&["rm", "gone", "--force"]);
    assert_ne!(second["trash"].as_str(), Some(trash.as_str()));
    assert_eq!(std::fs::read_to_string(Path::new(&trash).join("work")).expect("there"), "work\n");
    bench.ok(&["adopt", text(&live)]);
}

/// The later incarnation lies in the same directory.
#[test]
fn older_log_leaves_later_incarnation() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    bench.ok(&["stop"]);
    let (log, backup) = (bench.data().join("log.redb"), bench.path("backup"));
    std::fs::copy(&log, &backup).expect("copied");
    bench.write(&path.join("work"), "work\n");
    bench.ok(&["rm", "demo", "--force"]);
    bench.ok(&["restore", "demo"]);
    bench.ok(&["stop"]);
    std::fs::copy(&backup, &log).expect("restored");
    bench.refused(&["rm", "demo", "--force"]);
    assert!(path.join("work").exists());
    // Even without a reachable marker: the `.git` pointer file proves the difference.
    std::fs::rename(&repo, bench.path("away")).expect("moved");
    std::fs::create_dir(bench.path("elsewhere")).expect("made");
    std::fs::rename(bench.path("away"), bench.path("elsewhere/away")).expect("moved");
    bench.refused(&["rm", "demo", "--force", "--no-rescue"]);
    assert!(path.join("work").exists());
}

#[test]
fn copied_data_directory_leaves_original_untouched() {
    check_copy(false);
}

/// The copy also contains the info file of the original's daemon.
#[test]
fn running_copy_gets_own_daemon() {
    check_copy(true);
}

fn check_copy(while_it_runs: bool) {
    let (original, copy) = (Bench::new(), Bench::new());
    let repo = original.repo("project", 3);
    let path = original.new_env("demo", &repo, &[]);
    original.write(&path.join("work"), "work\n");
    let gone = original.new_env("gone", &repo, &[]);
    original.write(&gone.join("work"), "work\n");
    original.ok(&["rm", "gone", "--force"]);
    original.drain();
    if !while_it_runs {
        original.ok(&["stop"]);
    }
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([original.data(), copy.data()])
        .status()
        .expect("cp runs");
    assert!(copied.success());
    let before = refs_and_worktrees(&original, &repo);
    for _ in 0..2 {
        for args in [
            &["rm", "demo", "--force"][..],
            &["restore", "gone"],
            &["trash", "empty"],
            &["rescue", "drop", "gone"],
            &["sweep"],
            &["gc", "--age", "0s"],
        ] {
            drop(copy.gk(args));
        }
        copy.ok(&["stop"]);
    }
    assert_eq!(refs_and_worktrees(&original, &repo), before);
    let made = copy.new_env("own", &repo, &[]);
    assert!(made.starts_with(copy.data()), "{}", made.display());
    original.refused(&["rm", "demo"]);
    original.ok(&["rm", "demo", "--force"]);
    original.ok(&["restore", "gone"]);
    assert_eq!(std::fs::read_to_string(gone.join("work")).expect("there"), "work\n");
    copy.ok(&["rm", "own"]);
    copy.check_log();
}

/// The id of its log proves it, with or without a symlink at the old path.
#[test]
fn moved_data_directory_is_recognised() {
    for link in [false, true] {
        let (old, new) = (Bench::new(), Bench::new());
        let repo = old.repo("project", 3);
        let path = old.new_env("live", &repo, &[]);
        old.write(&path.join("work"), "work\n");
        for id in ["gone", "rescued"] {
            let path = old.new_env(id, &repo, &[]);
            old.write(&path.join("work"), "work\n");
            old.ok(&["rm", id, "--force"]);
        }
        old.ok(&["trash", "empty", "rescued"]);
        old.ok(&["stop"]);
        std::fs::rename(old.data(), new.data()).expect("moved");
        let bench = if link {
            std::os::unix::fs::symlink(new.data(), old.data()).expect("linked");
            &old
        } else {
            &new
        };
        bench.ok(&["status", "live"]);
        let (_, error) = bench.refused(&["rm", "live"]);
        assert!(error["evidence"].to_string().contains("work"), "{error:#}");
        let removed = bench.ok(&["rm", "live", "--force"]);
        assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(1));
        for id in ["live", "gone", "rescued"] {
            let restored = bench.ok(&["restore", id]);
            let path = PathBuf::from(restored["path"].as_str().expect("a path"));
            assert!(path.starts_with(new.data()), "{}", path.display());
            assert_eq!(std::fs::read_to_string(path.join("work")).expect("back"), "work\n");
            bench.git(&path, &["status"]);
        }
        bench.new_env("more", &repo, &[]);
        let found = bench.ok(&["sweep"]);
        assert_eq!(found["findings"], json!([]), "{found:#}");
        assert_eq!(bench.git(&repo, &["worktree", "prune", "-n", "-v"]), "");
        bench.ok(&["stop"]);
    }
}

/// The markers in its worktree registrations prove it.
#[test]
fn moved_repository_is_recognised() {
    for how in ["renamed", "repaired", "linked", "named", "while stopped"] {
        let bench = Bench::new();
        let repo = bench.repo("folder/project", 3);
        let path = bench.new_env("live", &repo, &[]);
        bench.write(&path.join("work"), "work\n");
        for id in ["gone", "rescued"] {
            let path = bench.new_env(id, &repo, &[]);
            bench.write(&path.join("work"), "work\n");
            bench.ok(&["rm", id, "--force"]);
        }
        bench.ok(&["trash", "empty", "rescued"]);
        let far = how == "named";
        let new = bench.path(if far { "far/away/project" } else { "folder/renamed" });
        if how == "while stopped" {
            bench.ok(&["stop"]);
        }
        std::fs::create_dir_all(new.parent().expect("a folder")).expect("made");
        std::fs::rename(&repo, &new).expect("moved");
        match how {
            "repaired" => drop(bench.git(&new, &["worktree", "repair", text(&path)])),
            "linked" => std::os::unix::fs::symlink(&new, &repo).expect("linked"),
            "named" => drop(bench.new_env("more", &new, &[])),
            _ => {}
        }
        bench.ok(&["status", "live"]);
        let (_, error) = bench.refused(&["rm", "live"]);
        assert!(error["evidence"].to_string().contains("work"), "{how}: {error:#}");
        let removed = bench.ok(&["rm", "live", "--force"]);
        assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(1), "{how}: {removed:#}");
        for id in ["live", "gone", "rescued"] {
            let restored = bench.ok(&["restore", id]);
            let path = PathBuf::from(restored["path"].as_str().expect("a path"));
            assert_eq!(
                std::fs::read_to_string(path.join("work")).expect("back"),
                "work\n",
                "{how}"
            );
            bench.git(&path, &["status"]);
        }
        assert_eq!(bench.git(&new, &["worktree", "prune", "-n", "-v"]), "", "{how}");
        let found = bench.ok(&["sweep"]);
        assert_eq!(found["settled"], 0, "{how}: {found:#}");
        if how != "linked" {
            std::fs::rename(&new, &repo).expect("moved back");
            if far {
                bench.new_env("again", &repo, &[]);
            }
            bench.ok(&["status", "live"]);
            bench.ok(&["rm", "live", "--force"]);
        }
    }
}

/// When the repository is back, the entry is rescued and can be purged.
#[test]
fn missing_repository_keeps_trash() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("work"), "work\n");
    let away = bench.path("some/where/else");
    std::fs::create_dir_all(away.parent().expect("a folder")).expect("made");
    std::fs::rename(&repo, &away).expect("moved");
    let (_, error) = bench.refused(&["rm", "demo", "--force"]);
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("--no-rescue")), "{error:#}");
    let removed = bench.ok(&["rm", "demo", "--force", "--no-rescue"]);
    let trash = PathBuf::from(removed["trash"].as_str().expect("a path"));
    assert_ne!(removed["lacks"], json!([]), "{removed:#}");
    bench.ok(&["trash", "empty"]);
    let (_, error) = bench.refused(&["trash", "empty", "demo"]);
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("--lose")), "{error:#}");
    assert!(trash.join("work").exists());
    std::fs::rename(&away, &repo).expect("moved back");
    bench.ok(&["sweep"]);
    wait_for("a rescue", || bench.ok(&["rescue", "ls"]) != json!([]));
    assert_eq!(bench.ok(&["trash", "empty", "demo"]), json!([]));
    bench.ok(&["restore", "demo"]);
    assert_eq!(std::fs::read_to_string(path.join("work")).expect("back"), "work\n");
}

/// `git worktree prune`, or a new repository at the path, has removed the registration.
#[test]
fn pruned_registration_allows_removal() {
    for replaced in [false, true] {
        let bench = Bench::new();
        let repo = bench.repo("project", 3);
        let path = bench.new_env("demo", &repo, &[]);
        bench.write(&path.join("work"), "work\n");
        let admin = PathBuf::from(bench.git(&path, &["rev-parse", "--absolute-git-dir"]));
        if replaced {
            std::fs::rename(&repo, bench.path("before")).expect("moved");
            bench.repo("project", 1);
            // The search for a moved repository must not find the old one.
            std::fs::remove_dir_all(bench.path("before")).expect("removed");
        } else {
            std::fs::remove_dir_all(&admin).expect("removed");
        }
        let (code, error) = bench.refused(&["rm", "demo"]);
        assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")), "{error:#}");
        let removed = bench.ok(&["rm", "demo", "--force"]);
        let reference = removed["rescue"][0].as_str().unwrap_or_else(|| panic!("{removed:#}"));
        assert_eq!(bench.git(&repo, &["show", &format!("{reference}:work")]), "work");
        assert!(!path.exists());
        bench.drain();
        bench.ok(&["trash", "empty", "demo"]);
        bench.ok(&["new", "demo", "--repo", text(&repo)]);
    }
}

/// The log is older than the move of its data directory and contains the old paths.
#[test]
fn older_log_after_move_finds_worktrees() {
    for link in [false, true] {
        let (old, new) = (Bench::new(), Bench::new());
        let repo = old.repo("project", 3);
        let path = old.new_env("live", &repo, &[]);
        old.write(&path.join("work"), "work\n");
        old.ok(&["stop"]);
        let backup = new.path("backup");
        std::fs::copy(old.data().join("log.redb"), &backup).expect("copied");
        std::fs::rename(old.data(), new.data()).expect("moved");
        if link {
            std::os::unix::fs::symlink(new.data(), old.data()).expect("linked");
        }
        new.ok(&["status", "live"]);
        new.ok(&["stop"]);
        std::fs::copy(&backup, new.data().join("log.redb")).expect("restored");
        let status = new.ok(&["status", "live"]);
        assert!(status.to_string().contains("work"), "{status:#}");
        let removed = new.ok(&["rm", "live", "--force"]);
        assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(1), "{removed:#}");
        new.ok(&["restore", "live"]);
        new.ok(&["stop"]);
    }
}

/// git links a submodule's worktree and repository to each other by relative paths.
#[test]
fn submodules_work_after_move() {
    let (old, new) = (Bench::new(), Bench::new());
    let (inner, outer) = (old.repo("inner", 2), old.repo("outer", 2));
    let repo = old.repo("project", 3);
    old.git(&outer, &["submodule", "add", "-q", text(&inner), "deep/inner"]);
    old.commit(&outer, "inner");
    old.git(&repo, &["submodule", "add", "-q", text(&outer), "outer"]);
    old.commit(&repo, "outer");
    let path = old.new_env("live", &repo, &[]);
    old.git(&path, &["submodule", "update", "-q", "--init", "--recursive"]);
    old.ok(&["stop"]);
    std::fs::rename(old.data(), new.data()).expect("moved");
    new.ok(&["status", "live"]);
    let path = new.data().join("worktrees/live/project");
    for module in ["outer", "outer/deep/inner"] {
        let top = new.git(&path.join(module), &["rev-parse", "--show-toplevel"]);
        assert_eq!(top, text(&path.join(module)));
        assert_eq!(new.git(&path.join(module), &["status", "--porcelain"]), "");
    }
    assert_eq!(new.git(&path, &["status", "--porcelain"]), "");
}
