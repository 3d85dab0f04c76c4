//! Nested repositories in a worktree count as work, wherever they lie.

use std::path::{Path, PathBuf};

use crate::support::Bench;

/// Creates a repository with two commits, a side branch, an edit and an untracked file.
fn create_worked_repository(bench: &Bench, at: &Path) {
    bench.write(&at.join("x"), "x\n");
    bench.git(at, &["init", "-q"]);
    bench.commit(at, "first");
    bench.write(&at.join("y"), "y\n");
    bench.commit(at, "second");
    bench.git(at, &["branch", "side"]);
    bench.write(&at.join("x"), "edited\n");
    bench.write(&at.join("new"), "new\n");
}

fn check_unchanged(bench: &Bench, at: &Path, name: &str) {
    let status = bench.git(at, &["status", "--porcelain"]);
    assert_eq!(status, " M x\n?? new", "{name}");
    assert_eq!(bench.git(at, &["log", "-1", "--format=%s", "side"]), "second", "{name}");
    assert_eq!(std::fs::read_to_string(at.join("new")).expect("read"), "new\n", "{name}");
    bench.git(at, &["fsck", "--strict"]);
}

fn environment(bench: &Bench) -> (PathBuf, PathBuf) {
    let repo = bench.repo("project", 3);
    bench.write(&repo.join(".gitignore"), "node_modules/\ntarget/\n.venv/\nbuild/\n");
    bench.commit(&repo, "ignore");
    let path = bench.new_env("demo", &repo, &[]);
    (repo, path)
}

/// Checks that `clean` leaves a nested repository alone, that `rm` refuses without `--force`, and
/// that the rescue ref alone restores it after a forced removal.
fn check_removal_and_restore(bench: &Bench, repo: &Path, path: &Path, at: &str) {
    bench.ok(&["clean", "demo"]);
    assert!(path.join(at).exists(), "{at}: clean leaves it alone");
    let (code, error) = bench.refused(&["rm", "demo"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")), "{at}");
    assert!(error["evidence"].to_string().contains(at), "{at}: {error:#}");
    let kept = bench.ok(&["gc", "--age", "0s"]);
    assert!(kept.to_string().contains("repository"), "{at}: {kept:#}");
    let removed = bench.ok(&["rm", "demo", "--force"]);
    assert_eq!(removed["lacks"], serde_json::json!([]), "{at}: {removed:#}");
    bench.git(repo, &["fsck", "--strict"]);
    assert_eq!(bench.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{at}");
    bench.git(repo, &["gc", "-q", "--prune=now"]);
    bench.ok(&["restore", "demo"]);
}

/// Directories that tools rebuild are no exception.
#[test]
fn nested_clone_is_work_anywhere() {
    for at in ["tools/dep", "target/dep", ".venv/src/dep", "build/_deps/x", "node_modules/@a/b"] {
        let bench = Bench::new();
        let (repo, path) = environment(&bench);
        create_worked_repository(&bench, &path.join(at));
        check_removal_and_restore(&bench, &repo, &path, at);
        check_unchanged(&bench, &path.join(at), at);
        bench.ok(&["rm", "demo", "--force"]);
        bench.ok(&["rescue", "drop", "demo", "--incarnation", "1"]);
        let left = bench.git(&repo, &["for-each-ref", "--format=%(refname)", "refs/groundskeeper"]);
        assert!(!left.contains("/demo/1-"), "{at}: {left}");
    }
}

#[test]
fn clone_inside_clone_is_saved() {
    let bench = Bench::new();
    let (repo, path) = environment(&bench);
    for at in ["tools/a", "tools/a/vendor/b"] {
        create_worked_repository(&bench, &path.join(at));
    }
    check_removal_and_restore(&bench, &repo, &path, "tools/a/vendor/b");
    check_unchanged(&bench, &path.join("tools/a/vendor/b"), "the inner one");
    let outer = bench.git(&path.join("tools/a"), &["status", "--porcelain"]);
    assert_eq!(outer, " M x\n?? new\n?? vendor/");
}

/// It is shallow, has another object format, or is bare.
#[test]
fn unfetchable_repository_is_copied_whole() {
    let source = |bench: &Bench| {
        let source = bench.path("source");
        create_worked_repository(bench, &source);
        bench.git(&source, &["stash", "-q", "-u"]);
        source
    };
    for name in ["shallow", "sha256", "bare"] {
        let bench = Bench::new();
        let (repo, path) = environment(&bench);
        let at = path.join("build/dep");
        let place = at.to_str().expect("text");
        match name {
            "shallow" => {
                let url = format!("file://{}", source(&bench).display());
                bench.git(&repo, &["clone", "-q", "--depth", "1", &url, place]);
            }
            "sha256" => {
                std::fs::create_dir_all(&at).expect("made");
                bench.git(&at, &["init", "-q", "--object-format=sha256"]);
                bench.write(&at.join("x"), "x\n");
                bench.commit(&at, "second");
            }
            _ => {
                let source = source(&bench);
                let from = source.to_str().expect("text");
                bench.git(&repo, &["clone", "-q", "--bare", from, place]);
            }
        }
        if name != "bare" {
            bench.write(&at.join("new"), "new\n");
        }
        check_removal_and_restore(&bench, &repo, &path, "build/dep");
        let log = bench.git(&at, &["log", "-1", "--format=%s"]);
        assert_eq!(log, "second", "{name}");
        assert_eq!(at.join("new").exists(), name != "bare", "{name}");
    }
}

/// A nested worktree of the outer repository needs no copied objects, even if that repository is
/// shallow or partial. The rescue ref holds its commits that no branch has.
#[test]
fn nested_worktree_without_history_is_saved() {
    for how in [&["--depth", "1"][..], &["--filter=blob:none"]] {
        let bench = Bench::new();
        let source = bench.repo("source", 3);
        bench.write(&source.join(".gitignore"), "build/\n");
        bench.commit(&source, "ignore");
        bench.git(&source, &["config", "uploadpack.allowFilter", "true"]);
        let (url, repo) = (format!("file://{}", source.display()), bench.path("project"));
        let place = repo.to_str().expect("text");
        bench.git(&source, &[&["clone", "-q"], how, &[&url, place]].concat());
        let path = bench.new_env("demo", &repo, &[]);
        let inner = path.join("build/inner");
        let at = inner.to_str().expect("text");
        bench.git(&path, &["worktree", "add", "-q", "--detach", at]);
        bench.write(&inner.join("own"), "own\n");
        bench.commit(&inner, "made without a branch");
        let commit = bench.git(&inner, &["rev-parse", "HEAD"]);
        bench.write(&inner.join("new"), "new\n");
        // A branch of the user keeps its own commits, so no rescue ref holds them.
        let theirs = bench.git(&repo, &["commit-tree", "-m", "theirs", "HEAD^{tree}"]);
        bench.git(&repo, &["branch", "theirs", &theirs]);
        let removed = bench.ok(&["rm", "demo", "--force"]);
        assert_eq!(removed["lacks"], serde_json::json!([]), "{how:?}: {removed:#}");
        assert_eq!(bench.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{how:?}");
        let held = bench.git(&repo, &["rev-list", "--glob=refs/groundskeeper"]);
        assert!(held.contains(&commit) && !held.contains(&theirs), "{how:?}: {held}");
        bench.git(&repo, &["worktree", "prune", "--expire=now"]);
        bench.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
        bench.git(&repo, &["gc", "-q", "--prune=now"]);
        assert_eq!(bench.git(&repo, &["cat-file", "-t", &commit]), "commit", "{how:?}");
        bench.ok(&["restore", "demo"]);
        assert_eq!(bench.git(&inner, &["rev-parse", "HEAD"]), commit, "{how:?}");
        assert_eq!(bench.git(&inner, &["status", "--porcelain"]), "?? new", "{how:?}");
    }
}

/// It is named in the notes. A stash, an undone commit, a tag or an edit makes it work.
#[test]
fn clone_without_own_content_is_removed() {
    let bench = Bench::new();
    let (repo, path) = environment(&bench);
    let source = bench.repo("source", 3);
    let at = path.join("node_modules/dep");
    let (from, to) = (source.to_str().expect("text"), at.to_str().expect("text"));
    bench.git(&repo, &["clone", "-q", from, to]);
    let removed = bench.ok(&["rm", "demo"]);
    assert!(removed["notes"].to_string().contains("node_modules/dep"), "{removed:#}");
    assert_eq!(removed["rescue"], serde_json::json!([]), "{removed:#}");
    // A stash, an undone commit, a tag or an edit each makes the clone count as work.
    for what in ["stash", "reset", "tag", "edit"] {
        bench.ok(&["restore", "demo"]);
        bench.git(&at, &["checkout", "-q", "-f", "main"]);
        match what {
            "stash" => {
                bench.write(&at.join("README"), "stashed\n");
                bench.git(&at, &["stash", "-q"]);
            }
            "reset" => {
                bench.git(&at, &["stash", "clear"]);
                bench.write(&at.join("README"), "reset\n");
                bench.commit(&at, "reset away");
                bench.git(&at, &["reset", "-q", "--hard", "HEAD~1"]);
            }
            "tag" => {
                bench.git(&at, &["reflog", "expire", "--expire=now", "--all"]);
                let tree = bench.git(&at, &["rev-parse", "HEAD^{tree}"]);
                let commit = bench.git(&at, &["commit-tree", "-m", "tagged", &tree]);
                bench.git(&at, &["tag", "mine", &commit]);
            }
            _ => {
                bench.git(&at, &["tag", "-d", "mine"]);
                bench.write(&at.join("README"), "edited\n");
            }
        }
        let (_, error) = bench.refused(&["rm", "demo"]);
        assert!(error["evidence"].to_string().contains("node_modules/dep"), "{what}: {error:#}");
        bench.ok(&["rm", "demo", "--force"]);
    }
}

/// A setting that tells git's status to ignore them changes nothing.
#[test]
fn submodules_with_changes_are_work() {
    for ignore in ["", "submodule.s.ignore", "diff.ignoreSubmodules"] {
        let bench = Bench::new();
        let source = bench.repo("source", 2);
        let repo = bench.repo("project", 3);
        bench.git(&repo, &["submodule", "add", "-q", source.to_str().expect("text"), "s"]);
        bench.commit(&repo, "a submodule");
        let path = bench.new_env("demo", &repo, &[]);
        bench.git(&path, &["submodule", "update", "-q", "--init"]);
        if !ignore.is_empty() {
            bench.git(&repo, &["config", ignore, "all"]);
        }
        // An unchanged submodule does not refuse the removal.
        bench.ok(&["rm", "demo"]);
        bench.ok(&["restore", "demo"]);
        let at = path.join("s");
        bench.write(&at.join("own"), "own\n");
        bench.commit(&at, "second");
        bench.git(&at, &["branch", "side"]);
        bench.write(&at.join("new"), "new\n");
        let (_, error) = bench.refused(&["rm", "demo"]);
        assert!(error["evidence"].to_string().contains("repository: s"), "{ignore}: {error:#}");
        let removed = bench.ok(&["rm", "demo", "--force"]);
        assert_eq!(bench.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{removed:#}");
        bench.ok(&["restore", "demo"]);
        assert_eq!(bench.git(&at, &["status", "--porcelain"]), "?? new", "{ignore}");
        assert_eq!(bench.git(&at, &["log", "-1", "--format=%s", "side"]), "second", "{ignore}");
    }
}

/// Modes that a checkout does not create are recorded beside the files and applied after them.
#[test]
fn nested_file_modes_are_restored() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let (repo, path) = environment(&bench);
    let at = "deep/dep";
    create_worked_repository(&bench, &path.join(at));
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path.join(at).join("new"), mode(0o600)).expect("set");
    check_removal_and_restore(&bench, &repo, &path, at);
    check_unchanged(&bench, &path.join(at), at);
    let found = path.join(at).join("new").metadata().expect("there").permissions().mode();
    assert_eq!(found & 0o777, 0o600);
}

/// Staged content of a nested repository, and the sides of its conflicts, may exist only in its
/// index.
#[test]
fn nested_index_content_is_rescued() {
    let bench = Bench::new();
    let (repo, path) = environment(&bench);
    let dep = path.join("deep/dep");
    create_worked_repository(&bench, &dep);
    bench.write(&dep.join("staged"), "only staged\n");
    bench.git(&dep, &["add", "staged"]);
    let blob = bench.git(&dep, &["hash-object", "staged"]);
    bench.write(&dep.join("staged"), "then written over\n");
    let lost = bench.git(&dep, &["commit-tree", "HEAD^{tree}", "-m", "the other side"]);
    bench.write(&dep.join(".git/MERGE_HEAD"), &format!("{lost}\n"));
    check_removal_and_restore(&bench, &repo, &path, "deep/dep");
    for object in [blob, lost] {
        bench.git(&repo, &["cat-file", "-e", &object]);
    }
}

#[test]
fn reconcile_keeps_environment_with_repository() {
    let bench = Bench::new();
    let (_, path) = environment(&bench);
    create_worked_repository(&bench, &path.join("deep/dep"));
    bench.ok(&["reconcile", "--live", "", "--epoch", "1"]);
    let told = || bench.ok(&["show", "demo"]).to_string().contains("deep/dep");
    crate::support::wait_for("it is refused", told);
    assert!(path.join("deep/dep/new").exists());
}
