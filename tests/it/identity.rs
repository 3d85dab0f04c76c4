//! Incarnations, logs and data directories that must not be confused, and data directories and
//! repositories that have moved.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{Harness, wait_for};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Returns all refs and worktrees of a repository, which must not change.
fn refs_and_worktrees(harness: &Harness, repo: &Path) -> (String, String) {
    (harness.git(repo, &["for-each-ref"]), harness.git(repo, &["worktree", "list"]))
}

/// Two data directories on one repository use different refs for one environment id.
#[test]
fn data_directories_share_no_names() {
    let (one, two) = (Harness::new(), Harness::new());
    let repo = one.repo("project", 3);
    let first = one.new_env("demo", &repo, &[]);
    one.git(&repo, &["branch", "gk/two"]);
    let second = two.new_env("demo", &repo, &["--branch", "gk/two"]);
    one.write(&first.join("one"), "one\n");
    two.write(&second.join("two"), "two\n");
    let held = |harness: &Harness| {
        let removed = harness.ok(&["rm", "demo", "--force"]);
        harness.ok(&["trash", "empty"]);
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
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let life = |work: &str| {
        let path = harness.new_env("demo", &repo, &[]);
        harness.write(&path.join("work"), work);
        harness.ok(&["rm", "demo", "--force"])["rescue"][0].as_str().expect("a ref").to_owned()
    };
    let before = life("before\n");
    harness.ok(&["stop"]);
    std::fs::remove_dir_all(harness.data()).expect("wiped");
    let after = life("after\n");
    harness.ok(&["trash", "empty"]);
    harness.ok(&["rescue", "drop", "demo"]);
    assert_eq!(harness.git(&repo, &["show", &format!("{before}:work")]), "before");
    assert!(!harness.git_raw(&repo, &["rev-parse", "-q", "--verify", &after]).status.success());
}

/// The log was restored from a backup; incarnations begun after it are left alone.
#[test]
fn restored_log_treats_later_as_foreign() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let known = harness.new_env("known", &repo, &[]);
    harness.ok(&["stop"]);
    let (log, backup) = (harness.data().join("log.redb"), harness.path("backup"));
    std::fs::copy(&log, &backup).expect("copied");
    let live = harness.new_env("live", &repo, &[]);
    harness.write(&live.join("work"), "work\n");
    let gone = harness.new_env("gone", &repo, &[]);
    harness.write(&gone.join("work"), "work\n");
    let trash =
        harness.ok(&["rm", "gone", "--force"])["trash"].as_str().expect("a path").to_owned();
    harness.drain();
    harness.ok(&["stop"]);
    std::fs::copy(&backup, &log).expect("restored");
    let before = refs_and_worktrees(&harness, &repo);

    // The path belongs to an incarnation that the log does not know, so no other incarnation may
    // roll it back.
    let (_, error) = harness.refused(&["new", "live", "--repo", text(&repo)]);
    assert!(["path_exists", "branch_exists"].contains(&error["code"].as_str().unwrap_or_default()));
    drop(harness.gk(&["rm", "live", "--force"]));
    let found = harness.ok(&["sweep"]);
    let named = found.to_string();
    assert!(named.contains("adopt") && named.contains(text(&live)), "{found:#}");
    harness.ok(&["sweep", "--dry-run"]);
    assert_eq!(refs_and_worktrees(&harness, &repo), before, "nothing was touched");
    assert_eq!(std::fs::read_to_string(live.join("work")).expect("there"), "work\n");
    assert!(Path::new(&trash).join("work").exists());
    let doctor = harness.ok(&["doctor"]);
    assert!(doctor.to_string().contains("older copy"), "{doctor:#}");

    // A known environment continues, and so does a new incarnation of a forgotten name.
    harness.write(&known.join("more"), "more\n");
    harness.refused(&["rm", "known"]);
    harness.ok(&["rm", "known", "--force"]);
    harness.git(&repo, &["branch", "again"]);
    let again = harness.new_env("gone", &repo, &["--branch", "again"]);
    harness.write(&again.join("work"), "second\n");
    let second = harness.ok(&["rm", "gone", "--force"]);
    assert_ne!(second["trash"].as_str(), Some(trash.as_str()));
    assert_eq!(std::fs::read_to_string(Path::new(&trash).join("work")).expect("there"), "work\n");
    harness.ok(&["adopt", text(&live)]);
}

/// The later incarnation lies in the same directory.
#[test]
fn older_log_leaves_later_incarnation() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.ok(&["stop"]);
    let (log, backup) = (harness.data().join("log.redb"), harness.path("backup"));
    std::fs::copy(&log, &backup).expect("copied");
    harness.write(&path.join("work"), "work\n");
    harness.ok(&["rm", "demo", "--force"]);
    harness.ok(&["restore", "demo"]);
    harness.ok(&["stop"]);
    std::fs::copy(&backup, &log).expect("restored");
    harness.refused(&["rm", "demo", "--force"]);
    assert!(path.join("work").exists());
    // Even without a reachable marker: the `.git` pointer file proves the difference.
    std::fs::rename(&repo, harness.path("away")).expect("moved");
    std::fs::create_dir(harness.path("elsewhere")).expect("made");
    std::fs::rename(harness.path("away"), harness.path("elsewhere/away")).expect("moved");
    harness.refused(&["rm", "demo", "--force", "--no-rescue"]);
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

fn copy_data(original: &Harness, copy: &Harness) {
    let mut cp = std::process::Command::new("cp");
    let copied = cp.arg("-a").args([original.data(), copy.data()]).status().expect("cp runs");
    assert!(copied.success());
}

fn check_copy(while_it_runs: bool) {
    let (original, copy) = (Harness::new(), Harness::new());
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
    copy_data(&original, &copy);
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

/// A rescue that the original has dropped is not held again by a copy, whose log still has it.
#[test]
fn copy_holds_no_rescue_of_original() {
    let (original, copy) = (Harness::new(), Harness::new());
    let repo = original.repo("project", 3);
    let path = original.new_env("gone", &repo, &[]);
    original.write(&path.join("work"), "work\n");
    original.ok(&["rm", "gone", "--force"]);
    original.drain();
    original.ok(&["stop"]);
    copy_data(&original, &copy);
    original.ok(&["trash", "empty"]);
    original.ok(&["rescue", "drop", "gone"]);
    original.drain();
    let before = refs_and_worktrees(&original, &repo);
    for _ in 0..2 {
        copy.ok(&["sweep", "--apply"]);
        copy.ok(&["stop"]);
    }
    assert_eq!(refs_and_worktrees(&original, &repo), before);
}

/// The id of its log proves it, with or without a symlink at the old path.
#[test]
fn moved_data_directory_is_recognised() {
    for link in [false, true] {
        let (old, new) = (Harness::new(), Harness::new());
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
        let harness = if link {
            std::os::unix::fs::symlink(new.data(), old.data()).expect("linked");
            &old
        } else {
            &new
        };
        harness.ok(&["status", "live"]);
        let (_, error) = harness.refused(&["rm", "live"]);
        assert!(error["evidence"].to_string().contains("work"), "{error:#}");
        let removed = harness.ok(&["rm", "live", "--force"]);
        assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(1));
        for id in ["live", "gone", "rescued"] {
            let restored = harness.ok(&["restore", id]);
            let path = PathBuf::from(restored["path"].as_str().expect("a path"));
            assert!(path.starts_with(new.data()), "{}", path.display());
            assert_eq!(std::fs::read_to_string(path.join("work")).expect("back"), "work\n");
            harness.git(&path, &["status"]);
        }
        harness.new_env("more", &repo, &[]);
        let found = harness.ok(&["sweep"]);
        assert_eq!(found["findings"], json!([]), "{found:#}");
        assert_eq!(harness.git(&repo, &["worktree", "prune", "-n", "-v"]), "");
        harness.ok(&["stop"]);
    }
}

/// The markers in its worktree registrations prove it.
#[test]
fn moved_repository_is_recognised() {
    for how in ["renamed", "repaired", "linked", "named", "while stopped"] {
        let harness = Harness::new();
        let repo = harness.repo("folder/project", 3);
        let path = harness.new_env("live", &repo, &[]);
        harness.write(&path.join("work"), "work\n");
        for id in ["gone", "rescued"] {
            let path = harness.new_env(id, &repo, &[]);
            harness.write(&path.join("work"), "work\n");
            harness.ok(&["rm", id, "--force"]);
        }
        harness.ok(&["trash", "empty", "rescued"]);
        let far = how == "named";
        let new = harness.path(if far { "far/away/project" } else { "folder/renamed" });
        if how == "while stopped" {
            harness.ok(&["stop"]);
        }
        std::fs::create_dir_all(new.parent().expect("a folder")).expect("made");
        std::fs::rename(&repo, &new).expect("moved");
        match how {
            "repaired" => drop(harness.git(&new, &["worktree", "repair", text(&path)])),
            "linked" => std::os::unix::fs::symlink(&new, &repo).expect("linked"),
            "named" => drop(harness.new_env("more", &new, &[])),
            _ => {}
        }
        harness.ok(&["status", "live"]);
        let (_, error) = harness.refused(&["rm", "live"]);
        assert!(error["evidence"].to_string().contains("work"), "{how}: {error:#}");
        let removed = harness.ok(&["rm", "live", "--force"]);
        assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(1), "{how}: {removed:#}");
        for id in ["live", "gone", "rescued"] {
            let restored = harness.ok(&["restore", id]);
            let path = PathBuf::from(restored["path"].as_str().expect("a path"));
            assert_eq!(
                std::fs::read_to_string(path.join("work")).expect("back"),
                "work\n",
                "{how}"
            );
            harness.git(&path, &["status"]);
        }
        assert_eq!(harness.git(&new, &["worktree", "prune", "-n", "-v"]), "", "{how}");
        let found = harness.ok(&["sweep"]);
        assert_eq!(found["settled"], 0, "{how}: {found:#}");
        if how != "linked" {
            std::fs::rename(&new, &repo).expect("moved back");
            if far {
                harness.new_env("again", &repo, &[]);
            }
            harness.ok(&["status", "live"]);
            harness.ok(&["rm", "live", "--force"]);
        }
    }
}

/// When the repository is back, the entry is rescued and can be purged.
#[test]
fn missing_repository_keeps_trash() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    let away = harness.path("some/where/else");
    std::fs::create_dir_all(away.parent().expect("a folder")).expect("made");
    std::fs::rename(&repo, &away).expect("moved");
    let (_, error) = harness.refused(&["rm", "demo", "--force"]);
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("--no-rescue")), "{error:#}");
    let removed = harness.ok(&["rm", "demo", "--force", "--no-rescue"]);
    let trash = PathBuf::from(removed["trash"].as_str().expect("a path"));
    assert_ne!(removed["lacks"], json!([]), "{removed:#}");
    harness.ok(&["trash", "empty"]);
    let (_, error) = harness.refused(&["trash", "empty", "demo"]);
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("--lose")), "{error:#}");
    assert!(trash.join("work").exists());
    std::fs::rename(&away, &repo).expect("moved back");
    harness.ok(&["sweep"]);
    wait_for("a rescue", || harness.ok(&["rescue", "ls"]) != json!([]));
    assert_eq!(harness.ok(&["trash", "empty", "demo"]), json!([]));
    harness.ok(&["restore", "demo"]);
    assert_eq!(std::fs::read_to_string(path.join("work")).expect("back"), "work\n");
}

/// `git worktree prune`, or a new repository at the path, has removed the registration.
#[test]
fn pruned_registration_allows_removal() {
    for replaced in [false, true] {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        let path = harness.new_env("demo", &repo, &[]);
        harness.write(&path.join("work"), "work\n");
        let admin = PathBuf::from(harness.git(&path, &["rev-parse", "--absolute-git-dir"]));
        if replaced {
            std::fs::rename(&repo, harness.path("before")).expect("moved");
            harness.repo("project", 1);
            // The search for a moved repository must not find the old one.
            std::fs::remove_dir_all(harness.path("before")).expect("removed");
        } else {
            std::fs::remove_dir_all(&admin).expect("removed");
        }
        let (code, error) = harness.refused(&["rm", "demo"]);
        assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")), "{error:#}");
        let removed = harness.ok(&["rm", "demo", "--force"]);
        let reference = removed["rescue"][0].as_str().unwrap_or_else(|| panic!("{removed:#}"));
        assert_eq!(harness.git(&repo, &["show", &format!("{reference}:work")]), "work");
        assert!(!path.exists());
        harness.drain();
        harness.ok(&["trash", "empty", "demo"]);
        harness.ok(&["new", "demo", "--repo", text(&repo)]);
    }
}

/// The log is older than the move of its data directory and contains the old paths.
#[test]
fn older_log_after_move_finds_worktrees() {
    for link in [false, true] {
        let (old, new) = (Harness::new(), Harness::new());
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
    let (old, new) = (Harness::new(), Harness::new());
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
