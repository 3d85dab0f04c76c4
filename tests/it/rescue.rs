//! Content that a removal saves under a rescue ref, and content that never becomes a git object.

use std::path::{Path, PathBuf};

use crate::support::{Daemon, Harness, wait_for};

/// Returns the rescue ref of `demo`.
fn reference(harness: &Harness) -> String {
    let shown = harness.ok(&["rescue", "show", "demo"]);
    shown["rescue"].as_str().expect("a ref").to_owned()
}

/// Returns all blobs of a repository that contain a text.
fn blobs_with(harness: &Harness, repo: &Path, text: &str) -> Vec<String> {
    let all = harness.git(repo, &["cat-file", "--batch-all-objects", "--batch-check"]);
    let blobs = all.lines().filter(|l| l.contains(" blob ")).filter_map(|l| l.split(' ').next());
    blobs
        .filter(|oid| harness.git(repo, &["cat-file", "-p", oid]).contains(text))
        .map(str::to_owned)
        .collect()
}

/// Ignored files never become git objects.
#[test]
fn all_work_is_rescued_except_secrets() {
    let harness = Harness::new();
    let repo = harness.repo("project", 5);
    harness.write(&repo.join(".gitignore"), "*.secret\n");
    harness.commit(&repo, "ignore");
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("committed"), "in a commit\n");
    let commit = harness.commit(&path, "own work");
    harness.write(&path.join("staged"), "as staged\n");
    harness.git(&path, &["add", "staged"]);
    harness.write(&path.join("staged"), "as edited\n");
    harness.write(&path.join("README"), "changed\n");
    harness.write(&path.join("deep/new file"), "untracked\n");
    std::fs::remove_file(path.join("dir0/file1.txt")).expect("removed");
    harness.git(&path, &["update-index", "--skip-worktree", "dir0/file2.txt"]);
    harness.write(&path.join("dir0/file2.txt"), "hidden edit\n");
    harness.write(&path.join("key.secret"), "TOP-SECRET-VALUE\n");
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

    let removed = harness.ok(&["rm", "demo", "--force"]);
    let reference = reference(&harness);
    assert!(reference.starts_with("refs/groundskeeper/rescue/demo/1-"), "{reference}");
    assert_eq!(removed["rescue"], serde_json::json!([reference]), "{removed:#}");
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    harness.git(&repo, &["fsck", "--strict"]);
    let show = |what: &str| harness.git(&repo, &["show", &format!("{reference}{what}")]);
    assert_eq!(show(":README"), "changed");
    assert_eq!(show(":staged"), "as edited");
    assert_eq!(show(":deep/new file"), "untracked");
    assert_eq!(show(":dir0/file2.txt"), "hidden edit");
    assert_eq!(show("^2:staged"), "as staged", "the index is a commit of its own");
    assert_eq!(harness.git(&repo, &["rev-parse", &format!("{reference}^1")]), commit);
    let tree = harness.git(&repo, &["ls-tree", "-r", "--name-only", &reference]);
    assert!(!tree.contains("dir0/file1.txt") && !tree.contains("key.secret"), "{tree}");
    assert_eq!(blobs_with(&harness, &repo, "TOP-SECRET-VALUE"), Vec::<String>::new());
    // The worktree's index is archived unchanged.
    let kept = repo.join(".git/groundskeeper").read_dir().expect("a folder").next().expect("one");
    assert_eq!(std::fs::read(kept.expect("read").path().join("index")).expect("read"), index);
    let shown = harness.ok(&["rescue", "show", "demo"]);
    assert!(shown["holds"].to_string().contains("the index"), "{shown:#}");
    harness.check(&[&repo]);
}

#[test]
fn operations_and_stashes_are_rescued() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("README"), "stashed\n");
    harness.git(&path, &["stash", "-q"]);
    let stash = harness.git(&path, &["rev-parse", "refs/stash"]);
    harness.git(&path, &["switch", "-q", "-c", "side"]);
    harness.write(&path.join("README"), "side\n");
    let side = harness.commit(&path, "side");
    harness.git(&path, &["switch", "-q", "gk/demo"]);
    harness.write(&path.join("README"), "ours\n");
    let ours = harness.commit(&path, "ours");
    assert!(!harness.git_raw(&path, &["merge", "-q", "side"]).status.success(), "it conflicts");
    harness.ok(&["rm", "demo", "--force"]);
    harness.git(&repo, &["branch", "-D", "-q", "side"]);
    harness.git(&repo, &["stash", "drop", "-q"]);
    harness.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    let reference = reference(&harness);
    for held in [&stash, &side, &ours] {
        harness.git(&repo, &["merge-base", "--is-ancestor", held, &reference]);
    }
    let text = harness.git(&repo, &["show", &format!("{reference}:README")]);
    assert!(text.contains("<<<<<<<") && text.contains("side"), "{text}");
    harness.check(&[&repo]);
}

#[test]
fn rescue_persists_until_dropped() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("new"), "work\n");
    harness.ok(&["rm", "demo", "--force"]);
    harness.ok(&["trash", "empty"]);
    assert_eq!(harness.ok(&["trash", "ls"]).as_array().map(Vec::len), Some(0));
    assert_eq!(harness.ok(&["rescue", "ls"]).as_array().map(Vec::len), Some(1));
    let path =
        harness.path("").join(harness.ok(&["restore", "demo"])["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(path.join("new")).expect("back"), "work\n");
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "?? new", "as it was: untracked");
    let reference = reference(&harness);
    harness.ok(&["rescue", "drop", "demo"]);
    assert!(!harness.git_raw(&repo, &["rev-parse", "--verify", "-q", &reference]).status.success());
    let (code, error) = harness.refused(&["rescue", "drop", "demo"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("not_found")));
    harness.check(&[&repo]);
}

#[test]
fn clean_environment_creates_no_rescue() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("demo", &repo, &[]);
    let removed = harness.ok(&["rm", "demo"]);
    assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(0), "{removed:#}");
    let refs =
        harness.git(&repo, &["for-each-ref", "--format=%(refname)", "refs/groundskeeper/rescue"]);
    assert_eq!(refs, "");
}

/// Squashed or picked commits are merged in another form.
#[test]
fn equivalent_merged_content_is_safe() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let squash = harness.new_env("squash", &repo, &[]);
    for n in 0..3 {
        harness.write(&squash.join("README"), &format!("line {n}\n"));
        harness.commit(&squash, "step");
    }
    harness.git(&repo, &["merge", "-q", "--squash", "gk/squash"]);
    harness.git(&repo, &["commit", "-q", "-m", "squashed"]);
    // The branch that received the merge continues, with changes to the same lines.
    harness.write(&repo.join("README"), "line 2\nand more\n");
    harness.commit(&repo, "later");
    let picked = harness.new_env("picked", &repo, &[]);
    harness.write(&picked.join("a"), "a\n");
    let commit = harness.commit(&picked, "one");
    harness.write(&repo.join("other"), "o\n");
    harness.commit(&repo, "meanwhile");
    harness.git(&repo, &["cherry-pick", &commit]);
    let open = harness.new_env("open", &repo, &[]);
    harness.write(&open.join("b"), "b\n");
    harness.commit(&open, "not merged");

    for id in ["squash", "picked"] {
        let removed = harness.ok(&["rm", id]);
        assert_eq!(removed["branch_deleted"], true, "{removed:#}");
        assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(1), "by hash it is held");
    }
    let (code, error) = harness.refused(&["rm", "open"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")));
    assert!(error["evidence"].to_string().contains("unpushed: 1"), "{error:#}");
    let kept = harness.ok(&["rm", "open", "--force"]);
    assert_eq!(kept["branch_deleted"], false, "{kept:#}");
    harness.ok(&["restore", "open"]);
    let gone = harness.ok(&["rm", "open", "--force", "--branch", "delete"]);
    assert_eq!(gone["branch_deleted"], true, "{gone:#}");
    let rescue = gone["rescue"][0].as_str().expect("a ref");
    assert_eq!(harness.git(&repo, &["show", &format!("{rescue}^1:b")]), "b");
    harness.check(&[&repo]);
}

/// Sets up removals of `demo` and `clean`, the last one killed; both lie in the trash. A program
/// wrote to `demo` after its rescue.
fn set_up_late_work(harness: &Harness, repo: &Path) -> impl Fn(&str) -> PathBuf + use<> {
    let mut daemon = Daemon::start_with(harness, &[("GROUNDSKEEPER_KILL_AT", "trash.moved:2")]);
    let (clean, dirty) = (harness.new_env("clean", repo, &[]), harness.new_env("demo", repo, &[]));
    harness.ok(&["new", "kept", "--repo", repo.to_str().expect("text")]);
    harness.write(&dirty.join("early"), "early\n");
    harness.ok(&["rm", "clean"]);
    harness.refused(&["--no-autostart", "rm", "demo", "--force"]);
    wait_for("the end of a killed daemon", || daemon.is_dead());
    assert!(!clean.exists() && !dirty.exists(), "both are in the trash");
    let trash = harness.data().join("trash");
    let places: Vec<PathBuf> =
        std::fs::read_dir(trash).expect("a folder").flatten().map(|e| e.path()).collect();
    let trashed = move |id: &str| {
        let name = |p: &&PathBuf| p.file_name().expect("a name").to_string_lossy().into_owned();
        let place = places.iter().find(|p| name(p).starts_with(&format!("{id}.1-")));
        place.expect("it is in the trash").join("project")
    };
    harness.write(&trashed("demo").join("late"), "late\n");
    trashed
}

/// A program may write to the worktree between the rescue and the move to the trash.
#[test]
fn late_writes_are_rescued_from_trash() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let trashed = set_up_late_work(&harness, &repo);
    let _daemon = Daemon::start(&harness);
    wait_for("the end of the removal", || harness.phase("demo") == "tombstoned");
    harness.ok(&["trash", "empty"]);
    wait_for("the purge", || !trashed("demo").exists() && !trashed("clean").exists());
    let rescues = harness.ok(&["rescue", "ls"]);
    let all = rescues.as_array().expect("a list");
    assert_eq!(all.len(), 1, "a clean tree leaves no rescue: {rescues:#}");
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    let reference = reference(&harness);
    let show = |what: &str| harness.git(&repo, &["show", &format!("{reference}:{what}")]);
    assert_eq!((show("early"), show("late")), ("early".into(), "late".into()));
    let back = harness.ok(&["restore", "demo"]);
    let path = Path::new(back["path"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(path.join("late")).expect("read"), "late\n");
    harness.check(&[&repo]);
}

/// A look for late writes that finds none makes no object: it would be loose and unreachable, one
/// or two a removal.
#[test]
fn second_look_at_same_work_makes_no_object() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let mut daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", "trash.moved")]);
    let tree = harness.new_env("demo", &repo, &[]);
    harness.write(&tree.join("staged"), "in the index\n");
    harness.git(&tree, &["add", "staged"]);
    harness.write(&tree.join("work"), "in the tree\n");
    harness.refused(&["--no-autostart", "rm", "demo", "--force"]);
    wait_for("the end of a killed daemon", || daemon.is_dead());
    let before = harness.git(&repo, &["count-objects"]);
    let trash = std::fs::read_dir(harness.data().join("trash")).expect("a folder");
    let folder = trash.flatten().next().expect("its place in the trash").path();
    // The time stamp of the folder says that something may have been written.
    harness.write(&folder.join("project/late"), "gone again\n");
    std::fs::remove_file(folder.join("project/late")).expect("removed");
    let _daemon = Daemon::start(&harness);
    wait_for("the end of the removal", || harness.phase("demo") == "tombstoned");
    harness.ok(&["trash", "empty", "demo"]);
    assert_eq!(harness.git(&repo, &["count-objects"]), before);
    let unreachable = harness.git(&repo, &["fsck", "--unreachable", "--no-reflogs"]);
    assert_eq!(unreachable, "");
    let rescue = reference(&harness);
    assert_eq!(harness.git(&repo, &["show", &format!("{rescue}:work")]), "in the tree");
    assert_eq!(harness.git(&repo, &["show", &format!("{rescue}^2:staged")]), "in the index");
    harness.check(&[&repo]);
}

/// Work that an earlier attempt at the removal saved stays reachable, also when the tree is back at
/// what only a part of that rescue had.
#[test]
fn later_rescue_holds_earlier_one() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let mut daemon =
        Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", "rescue.referenced")]);
    let tree = harness.new_env("demo", &repo, &[]);
    harness.write(&tree.join("work"), "staged\n");
    harness.git(&tree, &["add", "work"]);
    harness.write(&tree.join("work"), "later than the index\n");
    harness.refused(&["--no-autostart", "rm", "demo", "--force"]);
    wait_for("the end of a killed daemon", || daemon.is_dead());
    let below = "refs/groundskeeper/rescue";
    let first = harness.git(&repo, &["for-each-ref", "--format=%(objectname)", below]);
    assert_eq!(first.len(), 40, "{first}");
    harness.write(&tree.join("work"), "staged\n");
    let _daemon = Daemon::start(&harness);
    wait_for("an end", || ["ready", "tombstoned"].contains(&harness.phase("demo").as_str()));
    harness.gk(&["rm", "demo", "--force"]);
    wait_for("the removal", || harness.phase("demo") == "tombstoned");
    harness.ok(&["trash", "empty", "demo"]);
    harness.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    let rescue = reference(&harness);
    harness.git(&repo, &["merge-base", "--is-ancestor", &first, &rescue]);
    assert_eq!(harness.git(&repo, &["show", &format!("{first}:work")]), "later than the index");
    assert_eq!(harness.git(&repo, &["show", &format!("{rescue}:work")]), "staged");
    harness.check(&[&repo]);
}

/// The repository's objects are missing, so late writes cannot be rescued.
#[test]
fn uninspectable_trash_is_never_purged() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let trashed = set_up_late_work(&harness, &repo);
    let (objects, away) = (repo.join(".git/objects"), repo.join(".git/objects.away"));
    std::fs::rename(&objects, &away).expect("moved away");
    let _daemon = Daemon::start(&harness);
    wait_for("the end of the removal", || harness.phase("demo") == "tombstoned");
    let emptied = || harness.ok(&["trash", "empty", "demo"]);
    let left = emptied();
    assert!(left[0]["error"]["message"].is_string(), "the reason is reported: {left:#}");
    // Each request is another attempt. Together they exceed the retry limit of an optional step.
    for _ in 0..5 {
        emptied();
    }
    let told = harness.command(&["trash", "ls"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("demo (incarnation 1) stays in the trash"), "{told}");
    assert!(trashed("demo").join("late").exists());
    std::fs::rename(&away, &objects).expect("moved back");
    emptied();
    wait_for("the purge", || !trashed("demo").exists());
    assert_eq!(harness.git(&repo, &["show", &format!("{}:late", reference(&harness))]), "late");
    harness.check(&[&repo]);
}
