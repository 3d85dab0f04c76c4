//! Content that a removal saves under a rescue ref, and content that never becomes a git object.

use std::path::{Path, PathBuf};

use crate::support::{Bench, Daemon, wait_for};

/// Returns the rescue ref of `demo`.
fn reference(bench: &Bench) -> String {
    let shown = bench.ok(&["rescue", "show", "demo"]);
    shown["rescue"].as_str().expect("a ref").to_owned()
}

/// Returns all blobs of a repository that contain a text.
fn blobs_with(bench: &Bench, repo: &Path, text: &str) -> Vec<String> {
    let all = bench.git(repo, &["cat-file", "--batch-all-objects", "--batch-check"]);
    let blobs = all.lines().filter(|l| l.contains(" blob ")).filter_map(|l| l.split(' ').next());
    blobs
        .filter(|oid| bench.git(repo, &["cat-file", "-p", oid]).contains(text))
        .map(str::to_owned)
        .collect()
}

/// Ignored files never become git objects.
#[test]
fn all_work_is_rescued_except_secrets() {
    let bench = Bench::new();
    let repo = bench.repo("project", 5);
    bench.write(&repo.join(".gitignore"), "*.secret\n");
    bench.commit(&repo, "ignore");
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("committed"), "in a commit\n");
    let commit = bench.commit(&path, "own work");
    bench.write(&path.join("staged"), "as staged\n");
    bench.git(&path, &["add", "staged"]);
    bench.write(&path.join("staged"), "as edited\n");
    bench.write(&path.join("README"), "changed\n");
    bench.write(&path.join("deep/new file"), "untracked\n");
    std::fs::remove_file(path.join("dir0/file1.txt")).expect("removed");
    bench.git(&path, &["update-index", "--skip-worktree", "dir0/file2.txt"]);
    bench.write(&path.join("dir0/file2.txt"), "hidden edit\n");
    bench.write(&path.join("key.secret"), "TOP-SECRET-VALUE\n");
    let index = std::fs::read(
        repo.join(".git/worktrees")
            .read_dir()
            .expect("a folder")
            .next()
            .expect("one")
            .expect("read")
            .path()
            .join("index"),
    );
    let index = index.expect("an index");

    let removed = bench.ok(&["rm", "demo", "--force"]);
    let reference = reference(&bench);
    assert!(reference.starts_with("refs/groundskeeper/rescue/demo/1-"), "{reference}");
    assert_eq!(removed["rescue"], serde_json::json!([reference]), "{removed:#}");
    bench.git(&repo, &["gc", "-q", "--prune=now"]);
    bench.git(&repo, &["fsck", "--strict"]);
    let show = |what: &str| bench.git(&repo, &["show", &format!("{reference}{what}")]);
    assert_eq!(show(":README"), "changed");
    assert_eq!(show(":staged"), "as edited");
    assert_eq!(show(":deep/new file"), "untracked");
    assert_eq!(show(":dir0/file2.txt"), "hidden edit");
    assert_eq!(show("^2:staged"), "as staged", "the index is a commit of its own");
    assert_eq!(bench.git(&repo, &["rev-parse", &format!("{reference}^1")]), commit);
    let tree = bench.git(&repo, &["ls-tree", "-r", "--name-only", &reference]);
    assert!(!tree.contains("dir0/file1.txt") && !tree.contains("key.secret"), "{tree}");
    assert_eq!(blobs_with(&bench, &repo, "TOP-SECRET-VALUE"), Vec::<String>::new());
    // The worktree's index is archived unchanged.
    let kept = repo.join(".git/groundskeeper").read_dir().expect("a folder").next().expect("one");
    assert_eq!(std::fs::read(kept.expect("read").path().join("index")).expect("read"), index);
    let shown = bench.ok(&["rescue", "show", "demo"]);
    assert!(shown["holds"].to_string().contains("the index"), "{shown:#}");
    bench.check(&[&repo]);
}

#[test]
fn operations_and_stashes_are_rescued() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("README"), "stashed\n");
    bench.git(&path, &["stash", "-q"]);
    let stash = bench.git(&path, &["rev-parse", "refs/stash"]);
    bench.git(&path, &["switch", "-q", "-c", "side"]);
    bench.write(&path.join("README"), "side\n");
    let side = bench.commit(&path, "side");
    bench.git(&path, &["switch", "-q", "gk/demo"]);
    bench.write(&path.join("README"), "ours\n");
    let ours = bench.commit(&path, "ours");
    assert!(!bench.git_raw(&path, &["merge", "-q", "side"]).status.success(), "it conflicts");
    bench.ok(&["rm", "demo", "--force"]);
    bench.git(&repo, &["branch", "-D", "-q", "side"]);
    bench.git(&repo, &["stash", "drop", "-q"]);
    bench.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
    bench.git(&repo, &["gc", "-q", "--prune=now"]);
    let reference = reference(&bench);
    for held in [&stash, &side, &ours] {
        bench.git(&repo, &["merge-base", "--is-ancestor", held, &reference]);
    }
    let text = bench.git(&repo, &["show", &format!("{reference}:README")]);
    assert!(text.contains("<<<<<<<") && text.contains("side"), "{text}");
    bench.check(&[&repo]);
}

#[test]
fn rescue_persists_until_dropped() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("new"), "work\n");
    bench.ok(&["rm", "demo", "--force"]);
    bench.ok(&["trash", "empty"]);
    assert_eq!(bench.ok(&["trash", "ls"]).as_array().map(Vec::len), Some(0));
    assert_eq!(bench.ok(&["rescue", "ls"]).as_array().map(Vec::len), Some(1));
    let path =
        bench.path("").join(bench.ok(&["restore", "demo"])["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(path.join("new")).expect("back"), "work\n");
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), "?? new", "as it was: untracked");
    let reference = reference(&bench);
    bench.ok(&["rescue", "drop", "demo"]);
    assert!(!bench.git_raw(&repo, &["rev-parse", "--verify", "-q", &reference]).status.success());
    let (code, error) = bench.refused(&["rescue", "drop", "demo"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("not_found")));
    bench.check(&[&repo]);
}

#[test]
fn clean_environment_creates_no_rescue() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.new_env("demo", &repo, &[]);
    let removed = bench.ok(&["rm", "demo"]);
    assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(0), "{removed:#}");
    let refs =
        bench.git(&repo, &["for-each-ref", "--format=%(refname)", "refs/groundskeeper/rescue"]);
    assert_eq!(refs, "");
}

/// Squashed or picked commits are merged in another form.
#[test]
fn equivalent_merged_content_is_safe() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let squash = bench.new_env("squash", &repo, &[]);
    for n in 0..3 {
        bench.write(&squash.join("README"), &format!("line {n}\n"));
        bench.commit(&squash, "step");
    }
    bench.git(&repo, &["merge", "-q", "--squash", "gk/squash"]);
    bench.git(&repo, &["commit", "-q", "-m", "squashed"]);
    // The branch that received the merge continues, with changes to the same lines.
    bench.write(&repo.join("README"), "line 2\nand more\n");
    bench.commit(&repo, "later");
    let picked = bench.new_env("picked", &repo, &[]);
    bench.write(&picked.join("a"), "a\n");
    let commit = bench.commit(&picked, "one");
    bench.write(&repo.join("other"), "o\n");
    bench.commit(&repo, "meanwhile");
    bench.git(&repo, &["cherry-pick", &commit]);
    let open = bench.new_env("open", &repo, &[]);
    bench.write(&open.join("b"), "b\n");
    bench.commit(&open, "not merged");

    for id in ["squash", "picked"] {
        let removed = bench.ok(&["rm", id]);
        assert_eq!(removed["branch_deleted"], true, "{removed:#}");
        assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(1), "by hash it is held");
    }
    let (code, error) = bench.refused(&["rm", "open"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")));
    assert!(error["evidence"].to_string().contains("unpushed: 1"), "{error:#}");
    let kept = bench.ok(&["rm", "open", "--force"]);
    assert_eq!(kept["branch_deleted"], false, "{kept:#}");
    bench.ok(&["restore", "open"]);
    let gone = bench.ok(&["rm", "open", "--force", "--branch", "delete"]);
    assert_eq!(gone["branch_deleted"], true, "{gone:#}");
    let rescue = gone["rescue"][0].as_str().expect("a ref");
    assert_eq!(bench.git(&repo, &["show", &format!("{rescue}^1:b")]), "b");
    bench.check(&[&repo]);
}

/// Sets up removals of `demo` and `clean`, the last one killed; both lie in the trash. A program
/// wrote to `demo` after its rescue.
fn set_up_late_work(bench: &Bench, repo: &Path) -> impl Fn(&str) -> PathBuf + use<> {
    let mut daemon = Daemon::start_with(bench, &[("GROUNDSKEEPER_KILL_AT", "trash.moved:2")]);
    let (clean, dirty) = (bench.new_env("clean", repo, &[]), bench.new_env("demo", repo, &[]));
    bench.ok(&["new", "kept", "--repo", repo.to_str().expect("text")]);
    bench.write(&dirty.join("early"), "early\n");
    bench.ok(&["rm", "clean"]);
    bench.refused(&["--no-autostart", "rm", "demo", "--force"]);
    wait_for("the end of a killed daemon", || daemon.is_dead());
    assert!(!clean.exists() && !dirty.exists(), "both are in the trash");
    let trash = bench.data().join("trash");
    let places: Vec<PathBuf> =
        std::fs::read_dir(trash).expect("a folder").flatten().map(|e| e.path()).collect();
    let trashed = move |id: &str| {
        let name = |p: &&PathBuf| p.file_name().expect("a name").to_string_lossy().into_owned();
        let place = places.iter().find(|p| name(p).starts_with(&format!("{id}.1-")));
        place.expect("it is in the trash").join("project")
    };
    bench.write(&trashed("demo").join("late"), "late\n");
    trashed
}

/// A program may write to the worktree between the rescue and the move to the trash.
#[test]
fn late_writes_are_rescued_from_trash() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let trashed = set_up_late_work(&bench, &repo);
    let _daemon = Daemon::start(&bench);
    wait_for("the end of the removal", || bench.phase("demo") == "tombstoned");
    bench.ok(&["trash", "empty"]);
    wait_for("the purge", || !trashed("demo").exists() && !trashed("clean").exists());
    let rescues = bench.ok(&["rescue", "ls"]);
    let all = rescues.as_array().expect("a list");
    assert_eq!(all.len(), 1, "a clean tree leaves no rescue: {rescues:#}");
    bench.git(&repo, &["gc", "-q", "--prune=now"]);
    let reference = reference(&bench);
    let show = |what: &str| bench.git(&repo, &["show", &format!("{reference}:{what}")]);
    assert_eq!((show("early"), show("late")), ("early".into(), "late".into()));
    let back = bench.ok(&["restore", "demo"]);
    let path = Path::new(back["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(path.join("late")).expect("read"), "late\n");
    bench.check(&[&repo]);
}

/// The repository's objects are missing, so late writes cannot be rescued.
#[test]
fn uninspectable_trash_is_never_purged() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let trashed = set_up_late_work(&bench, &repo);
    let (objects, away) = (repo.join(".git/objects"), repo.join(".git/objects.away"));
    std::fs::rename(&objects, &away).expect("moved away");
    let _daemon = Daemon::start(&bench);
    wait_for("the end of the removal", || bench.phase("demo") == "tombstoned");
    let emptied = || bench.ok(&["trash", "empty", "demo"]);
    let left = emptied();
    assert!(left[0]["error"]["message"].is_string(), "the reason is reported: {left:#}");
    // Each request is another attempt. Together they exceed the retry limit of an optional step.
    for _ in 0..5 {
        emptied();
    }
    let told = bench.command(&["trash", "ls"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("demo (incarnation 1) stays in the trash"), "{told}");
    assert!(trashed("demo").join("late").exists());
    std::fs::rename(&away, &objects).expect("moved back");
    emptied();
    wait_for("the purge", || !trashed("demo").exists());
    assert_eq!(bench.git(&repo, &["show", &format!("{}:late", reference(&bench))]), "late");
    bench.check(&[&repo]);
}
