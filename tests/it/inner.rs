//! Nested repositories in a worktree count as work, wherever they lie.

use std::path::{Path, PathBuf};

use crate::support::{Daemon, Harness};

/// Creates a repository with two commits, a side branch, an edit and an untracked file.
fn create_worked_repository(harness: &Harness, at: &Path) {
    harness.write(&at.join("x"), "x\n");
    harness.git(at, &["init", "-q"]);
    harness.commit(at, "first");
    harness.write(&at.join("y"), "y\n");
    harness.commit(at, "second");
    harness.git(at, &["branch", "side"]);
    harness.write(&at.join("x"), "edited\n");
    harness.write(&at.join("new"), "new\n");
}

fn check_unchanged(harness: &Harness, at: &Path, name: &str) {
    let status = harness.git(at, &["status", "--porcelain"]);
    assert_eq!(status, " M x\n?? new", "{name}");
    assert_eq!(harness.git(at, &["log", "-1", "--format=%s", "side"]), "second", "{name}");
    assert_eq!(std::fs::read_to_string(at.join("new")).expect("read"), "new\n", "{name}");
    harness.git(at, &["fsck", "--strict"]);
}

fn environment(harness: &Harness) -> (PathBuf, PathBuf) {
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitignore"), "node_modules/\ntarget/\n.venv/\nbuild/\n");
    harness.commit(&repo, "ignore");
    let path = harness.new_env("demo", &repo, &[]);
    (repo, path)
}

/// Checks that `clean` leaves a nested repository alone, that `rm` refuses without `--force`, and
/// that the rescue ref alone restores it after a forced removal.
fn check_removal_and_restore(harness: &Harness, repo: &Path, path: &Path, at: &str) {
    harness.ok(&["clean", "demo"]);
    assert!(path.join(at).exists(), "{at}: clean leaves it alone");
    let (code, error) = harness.refused(&["rm", "demo"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")), "{at}");
    assert!(error["evidence"].to_string().contains(at), "{at}: {error:#}");
    let kept = harness.ok(&["gc", "--age", "0s"]);
    assert!(kept.to_string().contains("repository"), "{at}: {kept:#}");
    let removed = harness.ok(&["rm", "demo", "--force"]);
    assert_eq!(removed["lacks"], serde_json::json!([]), "{at}: {removed:#}");
    harness.git(repo, &["fsck", "--strict"]);
    assert_eq!(harness.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{at}");
    harness.git(repo, &["gc", "-q", "--prune=now"]);
    harness.ok(&["restore", "demo"]);
}

/// Directories that tools rebuild are no exception.
#[test]
fn nested_clone_is_work_anywhere() {
    for at in ["tools/dep", "target/dep", ".venv/src/dep", "build/_deps/x", "node_modules/@a/b"] {
        let harness = Harness::new();
        let (repo, path) = environment(&harness);
        create_worked_repository(&harness, &path.join(at));
        check_removal_and_restore(&harness, &repo, &path, at);
        check_unchanged(&harness, &path.join(at), at);
        harness.ok(&["rm", "demo", "--force"]);
        harness.ok(&["rescue", "drop", "demo", "--incarnation", "1"]);
        let left =
            harness.git(&repo, &["for-each-ref", "--format=%(refname)", "refs/groundskeeper"]);
        assert!(!left.contains("/demo/1-"), "{at}: {left}");
    }
}

#[test]
fn clone_inside_clone_is_saved() {
    let harness = Harness::new();
    let (repo, path) = environment(&harness);
    for at in ["tools/a", "tools/a/vendor/b"] {
        create_worked_repository(&harness, &path.join(at));
    }
    check_removal_and_restore(&harness, &repo, &path, "tools/a/vendor/b");
    check_unchanged(&harness, &path.join("tools/a/vendor/b"), "the inner one");
    let outer = harness.git(&path.join("tools/a"), &["status", "--porcelain"]);
    assert_eq!(outer, " M x\n?? new\n?? vendor/");
}

/// It is shallow, has another object format, or is bare.
#[test]
fn unfetchable_repository_is_copied_whole() {
    let source = |harness: &Harness| {
        let source = harness.path("source");
        create_worked_repository(harness, &source);
        harness.git(&source, &["stash", "-q", "-u"]);
        source
    };
    for name in ["shallow", "sha256", "bare"] {
        let harness = Harness::new();
        let (repo, path) = environment(&harness);
        let at = path.join("build/dep");
        let place = at.to_str().expect("text");
        match name {
            "shallow" => {
                let url = format!("file://{}", source(&harness).display());
                harness.git(&repo, &["clone", "-q", "--depth", "1", &url, place]);
            }
            "sha256" => {
                std::fs::create_dir_all(&at).expect("made");
                harness.git(&at, &["init", "-q", "--object-format=sha256"]);
                harness.write(&at.join("x"), "x\n");
                harness.commit(&at, "second");
            }
            _ => {
                let source = source(&harness);
                let from = source.to_str().expect("text");
                harness.git(&repo, &["clone", "-q", "--bare", from, place]);
            }
        }
        if name != "bare" {
            harness.write(&at.join("new"), "new\n");
        }
        check_removal_and_restore(&harness, &repo, &path, "build/dep");
        let log = harness.git(&at, &["log", "-1", "--format=%s"]);
        assert_eq!(log, "second", "{name}");
        assert_eq!(at.join("new").exists(), name != "bare", "{name}");
    }
}

/// A nested worktree of the outer repository needs no copied objects, even if that repository is
/// shallow or partial. The rescue ref holds its commits that no branch has.
#[test]
fn nested_worktree_without_history_is_saved() {
    for how in [&["--depth", "1"][..], &["--filter=blob:none"]] {
        let harness = Harness::new();
        let source = harness.repo("source", 3);
        harness.write(&source.join(".gitignore"), "build/\n");
        harness.commit(&source, "ignore");
        harness.git(&source, &["config", "uploadpack.allowFilter", "true"]);
        let (url, repo) = (format!("file://{}", source.display()), harness.path("project"));
        let place = repo.to_str().expect("text");
        harness.git(&source, &[&["clone", "-q"], how, &[&url, place]].concat());
        let path = harness.new_env("demo", &repo, &[]);
        let inner = path.join("build/inner");
        let at = inner.to_str().expect("text");
        harness.git(&path, &["worktree", "add", "-q", "--detach", at]);
        harness.write(&inner.join("own"), "own\n");
        harness.commit(&inner, "made without a branch");
        let commit = harness.git(&inner, &["rev-parse", "HEAD"]);
        harness.write(&inner.join("new"), "new\n");
        // A branch of the user keeps its own commits, so no rescue ref holds them.
        let theirs = harness.git(&repo, &["commit-tree", "-m", "theirs", "HEAD^{tree}"]);
        harness.git(&repo, &["branch", "theirs", &theirs]);
        let removed = harness.ok(&["rm", "demo", "--force"]);
        assert_eq!(removed["lacks"], serde_json::json!([]), "{how:?}: {removed:#}");
        assert_eq!(harness.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{how:?}");
        let held = harness.git(&repo, &["rev-list", "--glob=refs/groundskeeper"]);
        assert!(held.contains(&commit) && !held.contains(&theirs), "{how:?}: {held}");
        harness.git(&repo, &["worktree", "prune", "--expire=now"]);
        harness.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
        harness.git(&repo, &["gc", "-q", "--prune=now"]);
        assert_eq!(harness.git(&repo, &["cat-file", "-t", &commit]), "commit", "{how:?}");
        harness.ok(&["restore", "demo"]);
        assert_eq!(harness.git(&inner, &["rev-parse", "HEAD"]), commit, "{how:?}");
        assert_eq!(harness.git(&inner, &["status", "--porcelain"]), "?? new", "{how:?}");
    }
}

/// It is named in the notes. A stash, an undone commit, a tag or an edit makes it work.
#[test]
fn clone_without_own_content_is_removed() {
    let harness = Harness::new();
    let (repo, path) = environment(&harness);
    let source = harness.repo("source", 3);
    let at = path.join("node_modules/dep");
    let (from, to) = (source.to_str().expect("text"), at.to_str().expect("text"));
    harness.git(&repo, &["clone", "-q", from, to]);
    let removed = harness.ok(&["rm", "demo"]);
    assert!(removed["notes"].to_string().contains("node_modules/dep"), "{removed:#}");
    assert_eq!(removed["rescue"], serde_json::json!([]), "{removed:#}");
    // A stash, an undone commit, a tag or an edit each makes the clone count as work.
    for what in ["stash", "reset", "tag", "edit"] {
        harness.ok(&["restore", "demo"]);
        harness.git(&at, &["checkout", "-q", "-f", "main"]);
        match what {
            "stash" => {
                harness.write(&at.join("README"), "stashed\n");
                harness.git(&at, &["stash", "-q"]);
            }
            "reset" => {
                harness.git(&at, &["stash", "clear"]);
                harness.write(&at.join("README"), "reset\n");
                harness.commit(&at, "reset away");
                harness.git(&at, &["reset", "-q", "--hard", "HEAD~1"]);
            }
            "tag" => {
                harness.git(&at, &["reflog", "expire", "--expire=now", "--all"]);
                let tree = harness.git(&at, &["rev-parse", "HEAD^{tree}"]);
                let commit = harness.git(&at, &["commit-tree", "-m", "tagged", &tree]);
                harness.git(&at, &["tag", "mine", &commit]);
            }
            _ => {
                harness.git(&at, &["tag", "-d", "mine"]);
                harness.write(&at.join("README"), "edited\n");
            }
        }
        let (_, error) = harness.refused(&["rm", "demo"]);
        assert!(error["evidence"].to_string().contains("node_modules/dep"), "{what}: {error:#}");
        harness.ok(&["rm", "demo", "--force"]);
    }
}

/// A setting that tells git's status to ignore them changes nothing.
#[test]
fn submodules_with_changes_are_work() {
    for ignore in ["", "submodule.s.ignore", "diff.ignoreSubmodules"] {
        let harness = Harness::new();
        let source = harness.repo("source", 2);
        let repo = harness.repo("project", 3);
        harness.git(&repo, &["submodule", "add", "-q", source.to_str().expect("text"), "s"]);
        harness.commit(&repo, "a submodule");
        let path = harness.new_env("demo", &repo, &[]);
        harness.git(&path, &["submodule", "update", "-q", "--init"]);
        if !ignore.is_empty() {
            harness.git(&repo, &["config", ignore, "all"]);
        }
        // An unchanged submodule does not refuse the removal.
        harness.ok(&["rm", "demo"]);
        harness.ok(&["restore", "demo"]);
        let at = path.join("s");
        harness.write(&at.join("own"), "own\n");
        harness.commit(&at, "second");
        harness.git(&at, &["branch", "side"]);
        harness.write(&at.join("new"), "new\n");
        let (_, error) = harness.refused(&["rm", "demo"]);
        assert!(error["evidence"].to_string().contains("repository: s"), "{ignore}: {error:#}");
        let removed = harness.ok(&["rm", "demo", "--force"]);
        assert_eq!(harness.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{removed:#}");
        harness.ok(&["restore", "demo"]);
        assert_eq!(harness.git(&at, &["status", "--porcelain"]), "?? new", "{ignore}");
        assert_eq!(harness.git(&at, &["log", "-1", "--format=%s", "side"]), "second", "{ignore}");
    }
}

/// Modes that a checkout does not create are recorded beside the files and applied after them.
#[test]
fn nested_file_modes_are_restored() {
    use std::os::unix::fs::PermissionsExt as _;
    let harness = Harness::new();
    let (repo, path) = environment(&harness);
    let at = "deep/dep";
    create_worked_repository(&harness, &path.join(at));
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path.join(at).join("new"), mode(0o600)).expect("set");
    check_removal_and_restore(&harness, &repo, &path, at);
    check_unchanged(&harness, &path.join(at), at);
    let found = path.join(at).join("new").metadata().expect("there").permissions().mode();
    assert_eq!(found & 0o777, 0o600);
}

/// Staged content of a nested repository, and the sides of its conflicts, may exist only in its
/// index.
#[test]
fn nested_index_content_is_rescued() {
    let harness = Harness::new();
    let (repo, path) = environment(&harness);
    let dep = path.join("deep/dep");
    create_worked_repository(&harness, &dep);
    harness.write(&dep.join("staged"), "only staged\n");
    harness.git(&dep, &["add", "staged"]);
    let blob = harness.git(&dep, &["hash-object", "staged"]);
    harness.write(&dep.join("staged"), "then written over\n");
    let lost = harness.git(&dep, &["commit-tree", "HEAD^{tree}", "-m", "the other side"]);
    harness.write(&dep.join(".git/MERGE_HEAD"), &format!("{lost}\n"));
    check_removal_and_restore(&harness, &repo, &path, "deep/dep");
    for object in [blob, lost] {
        harness.git(&repo, &["cat-file", "-e", &object]);
    }
}

#[test]
fn reconcile_keeps_environment_with_repository() {
    let harness = Harness::new();
    let (_, path) = environment(&harness);
    create_worked_repository(&harness, &path.join("deep/dep"));
    harness.ok(&["reconcile", "--live", "", "--epoch", "1"]);
    let told = || harness.ok(&["show", "demo"]).to_string().contains("deep/dep");
    crate::support::wait_for("it is refused", told);
    assert!(path.join("deep/dep/new").exists());
}

/// `git reset` with `submodule.recurse` leaves a pointer to a git directory that is not there, and
/// `git status` fails in such a worktree.
#[test]
fn worktree_with_unreadable_submodule_is_removed() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let daemon = Daemon::start(&harness);
    let made = harness.ok(&["new", "demo", "--repo", repo.to_str().expect("text")]);
    let at = PathBuf::from(made["path"].as_str().expect("a path"));
    let head = harness.git(&at, &["rev-parse", "HEAD"]);
    let link = format!("160000,{head},sub");
    harness.git(&at, &["update-index", "--add", "--cacheinfo", &link]);
    harness.write(&at.join("sub/.git"), "gitdir: ../nowhere\n");
    harness.write(&at.join("notes"), "work\n");
    assert!(!harness.git_raw(&at, &["status"]).status.success(), "the case that is tested");
    harness.ok(&["rm", "demo", "--force"]);
    harness.drain();
    assert_eq!(harness.phase("demo"), "tombstoned");
    let back = harness.ok(&["restore", "demo"]);
    let at = PathBuf::from(back["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(at.join("notes")).expect("read"), "work\n");
    daemon.terminate();
}
