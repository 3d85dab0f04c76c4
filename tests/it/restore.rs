//! Restore of removed environments: byte for byte from the trash, or from the rescue ref without
//! it.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::support::{Bench, wait_for};

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

pub(crate) fn index_of(bench: &Bench, path: &Path) -> Vec<u8> {
    let dir = PathBuf::from(bench.git(path, &["rev-parse", "--absolute-git-dir"]));
    std::fs::read(dir.join("index")).expect("an index")
}

fn dirty(bench: &Bench, path: &Path) {
    bench.write(&path.join("README"), "edited\n");
    bench.write(&path.join("staged"), "staged\n");
    bench.git(path, &["add", "staged"]);
    bench.write(&path.join("new dir/new"), "untracked\n");
    bench.write(&path.join("data.db"), "rows\n");
    std::fs::create_dir_all(path.join("empty")).expect("a folder");
    std::os::unix::fs::symlink("../data.db", path.join("new dir/link")).expect("linked");
    std::os::unix::fs::symlink("/nowhere", path.join("dangling")).expect("linked");
    let mode = std::fs::Permissions::from_mode(0o555);
    bench.write(&path.join("cache.db/module/file"), "read-only\n");
    std::fs::set_permissions(path.join("cache.db/module"), mode).expect("mode");
}

fn scene() -> (Bench, PathBuf) {
    let bench = Bench::new();
    let repo = bench.repo("project", 5);
    bench.write(&repo.join(".gitignore"), "*.db\n");
    bench.commit(&repo, "ignore");
    (bench, repo)
}

#[test]
fn trash_restores_byte_for_byte() {
    let (bench, repo) = scene();
    let path = bench.new_env("demo", &repo, &[]);
    dirty(&bench, &path);
    let (before, index) = (snapshot(&path), index_of(&bench, &path));
    let status = bench.git(&path, &["status", "--porcelain", "--ignored"]);
    bench.ok(&["rm", "demo", "--force"]);
    let (code, error) = bench.refused(&["show", "demo"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("environment_destroyed")));
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("restore demo")), "{error:#}");

    let restored = bench.ok(&["restore", "demo"]);
    assert_eq!(restored["incarnation"], 2, "a new incarnation: {restored:#}");
    assert_eq!(restored["path"], path.to_str().expect("text"));
    assert_eq!(snapshot(&path), before);
    assert_eq!(index_of(&bench, &path), index);
    assert_eq!(bench.git(&path, &["status", "--porcelain", "--ignored"]), status);
    assert_eq!(bench.git(&path, &["branch", "--show-current"]), "gk/demo");
    assert!(bench.git(&repo, &["worktree", "list", "--porcelain"]).contains("incarnation 2"));
    bench.git(&path, &["stash", "-q", "-u"]);
    bench.ok(&["trash", "ls"]);
    bench.check(&[&repo]);
    bench.ok(&["rm", "demo", "--force"]);
    bench.check(&[&repo]);
}

/// It uses another branch name.
#[test]
fn restore_leaves_taken_branch_untouched() {
    let (bench, repo) = scene();
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("work"), "w\n");
    let work = bench.commit(&path, "work");
    bench.ok(&["rm", "demo", "--force", "--branch", "delete"]);
    bench.git(&repo, &["branch", "gk/demo", "main"]);
    let other = bench.git(&repo, &["rev-parse", "gk/demo"]);
    let restored = bench.ok(&["restore", "demo"]);
    assert_eq!(restored["branch"], "gk/demo-restored-2");
    assert_eq!(bench.git(&path, &["rev-parse", "HEAD"]), work);
    assert_eq!(bench.git(&repo, &["rev-parse", "gk/demo"]), other);
    bench.check(&[&repo]);
}

/// Another environment has used the name meanwhile.
#[test]
fn older_incarnation_can_be_restored() {
    let (bench, repo) = scene();
    let path = bench.new_env("demo", &repo, &[]);
    bench.write(&path.join("first"), "1\n");
    bench.ok(&["rm", "demo", "--force"]);
    bench.new_env("demo", &repo, &[]);
    let (code, error) = bench.refused(&["restore", "demo"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("environment_exists")), "{error:#}");
    bench.ok(&["rm", "demo"]);
    bench.ok(&["restore", "demo", "--incarnation", "1"]);
    assert!(path.join("first").exists());
    let (code, _) = bench.refused(&["restore", "never"]);
    assert_eq!(code, 3);
    bench.check(&[&repo]);
}

/// A foreign file at the path, or a missing repository, is the reason.
#[test]
fn failed_restore_keeps_archive() {
    let (bench, repo) = scene();
    let path = bench.new_env("demo", &repo, &[]);
    dirty(&bench, &path);
    let before = snapshot(&path);
    bench.ok(&["rm", "demo", "--force"]);
    // A foreign file occupies the path.
    bench.write(&path.join("foreign"), "not ours\n");
    let (_, error) = bench.refused(&["restore", "demo"]);
    assert_eq!(error["code"], "path_exists", "{error:#}");
    assert!(path.join("foreign").exists());
    std::fs::remove_dir_all(path.parent().expect("a place")).expect("removed");
    // The repository disappears and comes back. The drain makes sure that no git of the daemon runs
    // in it during the move.
    bench.drain();
    let aside = bench.path("far/away/aside");
    std::fs::create_dir_all(aside.parent().expect("a folder")).expect("made");
    std::fs::rename(&repo, &aside).expect("moved");
    let (_, error) = bench.refused(&["restore", "demo"]);
    assert_eq!(error["code"], "path_not_found", "{error:#}");
    std::fs::rename(&aside, &repo).expect("moved back");
    bench.ok(&["restore", "demo"]);
    assert_eq!(snapshot(&path), before);
    bench.ok(&["rm", "demo", "--force"]);
    bench.check(&[&repo]);
}

/// Read-only directories are no obstacle.
#[test]
fn trash_is_purged_by_age() {
    let (bench, repo) = scene();
    bench.write(&bench.path("home/.config/groundskeeper/config.toml"), "trash_days = 0\n");
    let path = bench.new_env("demo", &repo, &[]);
    dirty(&bench, &path);
    let removed = bench.ok(&["rm", "demo", "--force"]);
    let trash = PathBuf::from(removed["trash"].as_str().expect("a trash"));
    wait_for("the purge", || !trash.exists());
    wait_for("the record", || bench.ok(&["trash", "ls"]).as_array().is_some_and(Vec::is_empty));
    let events = bench.command(&["--json", "events"]).output().expect("runs");
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(events.contains("\"PurgeDecided\"") && events.contains("\"reason\":\"age\""));
    // The rescue ref still holds its work.
    assert_eq!(bench.ok(&["rescue", "ls"]).as_array().map(Vec::len), Some(1));
    assert!(!repo.join(".git/groundskeeper").exists(), "no registration is kept for nothing");
    bench.check(&[&repo]);
}
