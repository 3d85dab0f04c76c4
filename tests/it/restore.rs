//! Restore of removed environments: byte for byte from the trash, or from the rescue ref without
//! it.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::support::{Harness, wait_for};

/// Returns content, mode, link target and mtime of everything in a tree except the `.git` file.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let (mut seen, mut todo) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = todo.pop() {
        let found = path.symlink_metadata().expect("there");
        let name = path.strip_prefix(root).expect("below").to_owned();
        let content = if found.is_dir() {
            todo.extend(path.read_dir().expect("read").map(|e| e.expect("an entry").path()));
            Vec::new()
        } else if found.is_symlink() {
            path.read_link().expect("a link").into_os_string().into_encoded_bytes()
        } else {
            std::fs::read(&path).expect("read")
        };
        if name != Path::new(".git") {
            // The mtime of the root changes with the `.git` file in it.
            let age = if name == Path::new("") { 0 } else { found.mtime_nsec() + found.mtime() };
            seen.insert(name, (found.mode(), age, content));
        }
    }
    seen
}

pub(crate) fn index_of(harness: &Harness, path: &Path) -> Vec<u8> {
    let dir = PathBuf::from(harness.git(path, &["rev-parse", "--absolute-git-dir"]));
    std::fs::read(dir.join("index")).expect("an index")
}

fn dirty(harness: &Harness, path: &Path) {
    harness.write(&path.join("README"), "edited\n");
    harness.write(&path.join("staged"), "staged\n");
    harness.git(path, &["add", "staged"]);
    harness.write(&path.join("new dir/new"), "untracked\n");
    harness.write(&path.join("data.db"), "rows\n");
    std::fs::create_dir_all(path.join("empty")).expect("a folder");
    std::os::unix::fs::symlink("../data.db", path.join("new dir/link")).expect("linked");
    std::os::unix::fs::symlink("/nowhere", path.join("dangling")).expect("linked");
    let mode = std::fs::Permissions::from_mode(0o555);
    harness.write(&path.join("cache.db/module/file"), "read-only\n");
    std::fs::set_permissions(path.join("cache.db/module"), mode).expect("mode");
}

fn scene() -> (Harness, PathBuf) {
    let harness = Harness::new();
    let repo = harness.repo("project", 5);
    harness.write(&repo.join(".gitignore"), "*.db\n");
    harness.commit(&repo, "ignore");
    (harness, repo)
}

#[test]
fn trash_restores_byte_for_byte() {
    let (harness, repo) = scene();
    let path = harness.new_env("demo", &repo, &[]);
    dirty(&harness, &path);
    let (before, index) = (snapshot(&path), index_of(&harness, &path));
    let status = harness.git(&path, &["status", "--porcelain", "--ignored"]);
    harness.ok(&["rm", "demo", "--force"]);
    let (code, error) = harness.refused(&["show", "demo"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("environment_destroyed")));
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("restore demo")), "{error:#}");

    let restored = harness.ok(&["restore", "demo"]);
    assert_eq!(restored["incarnation"], 2, "a new incarnation: {restored:#}");
    assert_eq!(restored["path"], path.to_str().expect("text"));
    assert_eq!(snapshot(&path), before);
    assert_eq!(index_of(&harness, &path), index);
    assert_eq!(harness.git(&path, &["status", "--porcelain", "--ignored"]), status);
    assert_eq!(harness.git(&path, &["branch", "--show-current"]), "gk/demo");
    assert!(harness.git(&repo, &["worktree", "list", "--porcelain"]).contains("incarnation 2"));
    harness.git(&path, &["stash", "-q", "-u"]);
    harness.ok(&["trash", "ls"]);
    harness.check(&[&repo]);
    harness.ok(&["rm", "demo", "--force"]);
    harness.check(&[&repo]);
}

/// It uses another branch name.
#[test]
fn restore_leaves_taken_branch_untouched() {
    let (harness, repo) = scene();
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "w\n");
    let work = harness.commit(&path, "work");
    harness.ok(&["rm", "demo", "--force", "--branch", "delete"]);
    harness.git(&repo, &["branch", "gk/demo", "main"]);
    let other = harness.git(&repo, &["rev-parse", "gk/demo"]);
    let restored = harness.ok(&["restore", "demo"]);
    assert_eq!(restored["branch"], "gk/demo-restored-2");
    assert_eq!(harness.git(&path, &["rev-parse", "HEAD"]), work);
    assert_eq!(harness.git(&repo, &["rev-parse", "gk/demo"]), other);
    harness.check(&[&repo]);
}

/// Another environment has used the name meanwhile.
#[test]
fn older_incarnation_can_be_restored() {
    let (harness, repo) = scene();
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("first"), "1\n");
    harness.ok(&["rm", "demo", "--force"]);
    harness.new_env("demo", &repo, &[]);
    let (code, error) = harness.refused(&["restore", "demo"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("environment_exists")), "{error:#}");
    harness.ok(&["rm", "demo"]);
    harness.ok(&["restore", "demo", "--incarnation", "1"]);
    assert!(path.join("first").exists());
    let (code, _) = harness.refused(&["restore", "never"]);
    assert_eq!(code, 3);
    harness.check(&[&repo]);
}

/// A foreign file at the path, or a missing repository, is the reason.
#[test]
fn failed_restore_keeps_archive() {
    let (harness, repo) = scene();
    let path = harness.new_env("demo", &repo, &[]);
    dirty(&harness, &path);
    let before = snapshot(&path);
    harness.ok(&["rm", "demo", "--force"]);
    // A foreign file occupies the path.
    harness.write(&path.join("foreign"), "not ours\n");
    let (_, error) = harness.refused(&["restore", "demo"]);
    assert_eq!(error["code"], "path_exists", "{error:#}");
    assert!(path.join("foreign").exists());
    std::fs::remove_dir_all(path.parent().expect("a place")).expect("removed");
    // The repository disappears and comes back. The drain makes sure that no git of the daemon runs
    // in it during the move.
    harness.drain();
    let aside = harness.path("far/away/aside");
    std::fs::create_dir_all(aside.parent().expect("a folder")).expect("made");
    std::fs::rename(&repo, &aside).expect("moved");
    let (_, error) = harness.refused(&["restore", "demo"]);
    assert_eq!(error["code"], "path_not_found", "{error:#}");
    std::fs::rename(&aside, &repo).expect("moved back");
    harness.ok(&["restore", "demo"]);
    assert_eq!(snapshot(&path), before);
    harness.ok(&["rm", "demo", "--force"]);
    harness.check(&[&repo]);
}

/// Read-only directories are no obstacle.
#[test]
fn trash_is_purged_by_age() {
    let (harness, repo) = scene();
    harness.write(&harness.path("home/.config/groundskeeper/config.toml"), "trash_days = 0\n");
    let path = harness.new_env("demo", &repo, &[]);
    dirty(&harness, &path);
    let removed = harness.ok(&["rm", "demo", "--force"]);
    let trash = PathBuf::from(removed["trash"].as_str().expect("a trash"));
    wait_for("the purge", || !trash.exists());
    wait_for("the record", || harness.ok(&["trash", "ls"]).as_array().is_some_and(Vec::is_empty));
    let events = harness.command(&["--json", "events"]).output().expect("runs");
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(events.contains("\"PurgeDecided\"") && events.contains("\"reason\":\"age\""));
    // The rescue ref still holds its work.
    assert_eq!(harness.ok(&["rescue", "ls"]).as_array().map(Vec::len), Some(1));
    assert!(!repo.join(".git/groundskeeper").exists(), "no registration is kept for nothing");
    harness.check(&[&repo]);
}
