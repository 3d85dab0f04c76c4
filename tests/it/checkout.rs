//! The parallel checkout gives the same result as git's: same files, modes and index, clean at
//! once.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::clean_check::started;
use crate::support::{Daemon, Harness, wait_for};

/// Maps each path below a root, except `.git`, to its mode and its contents or link target.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).expect("a folder").flatten() {
            let path = entry.path();
            let relative = path.strip_prefix(root).expect("below").to_owned();
            if relative == Path::new(".git") {
                continue;
            }
            let meta = path.symlink_metadata().expect("there");
            if meta.is_dir() {
                todo.push(path);
                found.insert(relative, (meta.mode(), Vec::new()));
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).expect("a link");
                found.insert(relative, (0, target.into_os_string().into_encoded_bytes()));
            } else {
                found.insert(relative, (meta.mode(), std::fs::read(&path).expect("read")));
            }
        }
    }
    found
}

fn rich_repo(harness: &Harness) -> PathBuf {
    let repo = harness.repo("project", 900);
    harness.write(&repo.join("deep/er/and/deeper/file"), "x");
    harness.write(&repo.join("empty"), "");
    harness.write(&repo.join("binary"), "\0\u{1}\u{2}\n\r\n");
    harness.write(&repo.join("dir0.txt"), "sorts between dir0 and dir0/");
    harness.write(&repo.join("script.sh"), "#!/bin/sh\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(repo.join("script.sh"), mode).expect("mode");
    std::os::unix::fs::symlink("deep/er", repo.join("link")).expect("linked");
    std::os::unix::fs::symlink("/nowhere/at/all", repo.join("dir1/dangling")).expect("linked");
    harness.write(&repo.join(".gitattributes"), "* text=auto\n*.bin binary\n*.c diff=cpp\n");
    harness.write(&repo.join("big"), &"0123456789abcdef".repeat(100_000));
    harness.commit(&repo, "rich");
    repo
}

#[test]
fn parallel_checkout_matches_git() {
    let harness = Harness::new();
    let repo = rich_repo(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    assert_eq!(harness.ok(&["show", "demo"])["checkout"]["by"], "parallel");
    harness.git(&repo, &["worktree", "add", "-q", "--detach", "../reference"]);
    let reference = harness.path("reference");
    assert!(tree(&path) == tree(&reference), "the trees differ");
    for args in [&["ls-files", "-s"][..], &["ls-files", "-v"], &["status", "--porcelain"]] {
        assert_eq!(harness.git(&path, args), harness.git(&reference, args), "{args:?}");
    }
    assert_eq!(harness.git(&path, &["diff-index", "--cached", "HEAD"]), "");
    assert_eq!(harness.git(&path, &["diff-files"]), "", "clean without a refresh");
    harness.git(&path, &["fsck", "--strict"]);
    let tree_of_index = harness.git(&path, &["write-tree"]);
    assert_eq!(tree_of_index, harness.git(&repo, &["rev-parse", "main^{tree}"]));
    harness.check(&[&repo]);
}

/// A file of the source is used only where it hashes to the wanted object.
#[test]
fn dirty_source_files_are_not_copied() {
    let harness = Harness::new();
    let repo = rich_repo(&harness);
    harness.git(&repo, &["worktree", "add", "-q", "--detach", "../reference"]);
    harness.write(&repo.join("README"), "HELLO\n");
    harness.write(&repo.join("dir0/file7.txt"), "edited\n");
    std::fs::remove_file(repo.join("dir1/file60.txt")).expect("removed");
    std::fs::remove_file(repo.join("dir1/file61.txt")).expect("removed");
    std::os::unix::fs::symlink("../README", repo.join("dir1/file61.txt")).expect("linked");
    std::fs::remove_dir_all(repo.join("deep")).expect("removed");
    std::fs::remove_file(repo.join("dir2/file110.txt")).expect("removed");
    let pipe = repo.join("dir2/file110.txt");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    let path = harness.new_env("demo", &repo, &[]);
    assert_eq!(harness.ok(&["show", "demo"])["checkout"]["by"], "parallel");
    assert!(tree(&path) == tree(&harness.path("reference")), "the trees differ");
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "");
    // From another commit, for which hardly any file of the source can be reused.
    let path = harness.new_env("old", &repo, &["--base", "main~1"]);
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "");
    assert_eq!(harness.git(&path, &["diff", "--stat", "HEAD"]), "");
}

/// Writes other bytes of the same size and restores the old mtime: the hardest edit to detect.
fn edit_keeping_mtime(path: &Path) {
    let time = path.metadata().and_then(|m| m.modified()).expect("a time");
    std::fs::write(path, "HELLO\n").expect("written");
    std::fs::File::options()
        .write(true)
        .open(path)
        .and_then(|f| f.set_modified(time))
        .expect("dated");
}

/// Returns a fresh worktree with a file that was edited in the second of its checkout. Creates
/// another worktree if that second ends too soon.
fn edit_within_checkout_second(harness: &Harness, mut make: impl FnMut(u32) -> PathBuf) -> PathBuf {
    let clock = || {
        harness.write(&harness.path("clock"), "");
        harness.path("clock").metadata().expect("there").ctime()
    };
    let (mut tries, mut made) = (0, PathBuf::new());
    wait_for("an edit in the second of its checkout", || {
        let second = clock();
        wait_for("the next second", || clock() > second);
        tries += 1;
        made = make(tries);
        let readme = made.join("README");
        let before = readme.metadata().expect("there").ctime();
        edit_keeping_mtime(&readme);
        readme.metadata().expect("there").ctime() == before
    });
    made
}

/// Counts the index entries whose files every status must read, as they are as young as the index.
fn young_entries(harness: &Harness, path: &Path) -> usize {
    let git_dir = PathBuf::from(harness.git(path, &["rev-parse", "--absolute-git-dir"]));
    let index = git_dir.join("index").metadata().expect("an index").mtime();
    let listed = harness.git(path, &["ls-files", "--debug"]);
    let times = listed.lines().filter_map(|line| line.trim().strip_prefix("mtime: "));
    let seconds = times.map(|time| time.split(':').next().and_then(|s| s.parse::<i64>().ok()));
    seconds.filter(|second| second.expect("a number") >= index).count()
}

/// An edit within the second of the checkout shows as in a worktree of git.
#[test]
fn immediate_edit_shows_in_status() {
    for files in [10, 450] {
        let harness = Harness::new();
        let repo = harness.repo("project", files);
        let _daemon = Daemon::start(&harness);
        let reference = edit_within_checkout_second(&harness, |n| {
            let path = harness.path(format!("reference{n}"));
            harness
                .git(&repo, &["worktree", "add", "-q", "--detach", path.to_str().expect("text")]);
            path
        });
        let expected = harness.git(&reference, &["status", "--porcelain"]);
        assert_eq!(expected, " M README");
        for moment in ["at once", "after the refresh"] {
            let make = |n| harness.new_env(&format!("{}{n}", moment.replace(' ', "-")), &repo, &[]);
            let path = edit_within_checkout_second(&harness, make);
            let by = if files < 400 { "git" } else { "parallel" };
            let id = path.iter().rev().nth(1).and_then(|n| n.to_str()).expect("an id");
            assert_eq!(harness.ok(&["show", id])["checkout"]["by"], by);
            if moment != "at once" {
                harness.drain();
                assert_eq!(young_entries(&harness, &path), 0, "{files} files");
            }
            assert_eq!(
                harness.ok(&["rm", id, "--dry-run"])["safe"],
                false,
                "{files} files, {moment}"
            );
            let seen = harness.git(&path, &["status", "--porcelain"]);
            assert_eq!(seen, expected, "{files} files, {moment}");
            assert_eq!(harness.refused(&["rm", id]).1["code"], "unsafe_to_remove");
        }
    }
}

#[test]
fn content_conversion_uses_git_checkout() {
    let harness = Harness::new();
    let repo = harness.repo("project", 450);
    harness.write(&repo.join(".gitattributes"), "*.crlf text eol=crlf\n");
    harness.write(&repo.join("a.crlf"), "one\ntwo\n");
    harness.commit(&repo, "line endings");
    let path = harness.new_env("eol", &repo, &[]);
    let shown = harness.ok(&["show", "eol"]);
    assert_eq!(shown["checkout"]["by"], "git");
    assert_eq!(shown["checkout"]["reason"], "attribute eol=crlf");
    assert_eq!(std::fs::read_to_string(path.join("a.crlf")).expect("read"), "one\r\ntwo\r\n");
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "");

    harness.git(&repo, &["config", "filter.up.smudge", "tr a-z A-Z"]);
    harness.git(&repo, &["config", "filter.up.clean", "tr A-Z a-z"]);
    harness.write(&repo.join(".gitattributes"), "*.up filter=up\n");
    harness.write(&repo.join("a.up"), "text\n");
    harness.commit(&repo, "filter");
    let path = harness.new_env("filter", &repo, &[]);
    assert_eq!(std::fs::read_to_string(path.join("a.up")).expect("read"), "TEXT\n");
    harness.check(&[&repo]);
}

#[test]
fn checkout_index_settles_without_git() {
    let harness = Harness::new();
    let (small, large) = (harness.repo("small", 10), harness.repo("large", 450));
    let _daemon = Daemon::start(&harness);
    let events = |id: &str| {
        harness.drain();
        let events = harness.command(&["--json", "events", "--env", id]).output().expect("runs");
        String::from_utf8_lossy(&events.stdout).into_owned()
    };
    for (id, repo) in [("small", &small), ("large", &large)] {
        let path = harness.new_env(id, repo, &[]);
        let before = started(&harness);
        let text = events(id);
        assert!(text.contains("IndexRefreshed") && text.contains(r#""done":true"#), "{text}");
        assert_eq!(started(&harness), before, "git was asked");
        assert_eq!(young_entries(&harness, &path), 0, "{id}");
        let index = || harness.git(&path, &["ls-files", "--debug"]);
        let settled = index();
        assert_eq!(harness.git(&path, &["status", "--porcelain"]), "");
        assert_eq!(index(), settled, "a status has nothing to write");
    }
    // A split index is refreshed by git.
    harness.git(&small, &["config", "core.splitIndex", "true"]);
    harness.new_env("split", &small, &[]);
    let text = events("split");
    assert!(text.contains(r#""done":true"#) && text.contains("IndexRefreshed"), "{text}");
    harness.check(&[&small, &large]);
}

#[test]
fn locked_index_is_not_settled() {
    let harness = Harness::new();
    let repo = harness.repo("project", 10);
    let _daemon = Daemon::start(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    let git_dir = PathBuf::from(harness.git(&path, &["rev-parse", "--absolute-git-dir"]));
    harness.write(&git_dir.join("index.lock"), "theirs");
    harness.drain();
    assert_eq!(std::fs::read_to_string(git_dir.join("index.lock")).expect("there"), "theirs");
    let events = harness.command(&["--json", "events", "--env", "demo"]).output().expect("runs");
    let text = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(text.contains(r#""done":false"#), "{text}");
    std::fs::remove_file(git_dir.join("index.lock")).expect("removed");
    harness.check(&[&repo]);
}

#[test]
fn sparse_settings_are_copied() {
    let harness = Harness::new();
    let repo = harness.repo("project", 450);
    harness.git(&repo, &["sparse-checkout", "set", "--no-cone", "/dir0/", "/README"]);
    let path = harness.new_env("demo", &repo, &[]);
    assert!(path.join("README").exists() && path.join("dir0").exists());
    assert!(!path.join("dir1").exists(), "sparse like its source worktree");
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "");
    harness.ok(&["rm", "demo"]);
    harness.check(&[&repo]);
}

/// Uses a tree that git itself never writes: a link, and a directory of the same name with a link
/// in it. A naive checkout would create the second link at the target of the first.
#[test]
fn unsafe_tree_is_left_to_git() {
    use std::io::Write as _;
    let harness = Harness::new();
    let repo = harness.repo("project", 450);
    let outside = harness.path("outside");
    std::fs::create_dir(&outside).expect("a folder");
    let feed = |args: &[&str], input: &str| {
        let mut child = std::process::Command::new("git")
            .arg("-C")
            .arg(&repo)
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("git runs");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("fed");
        let output = child.wait_with_output().expect("ended");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    };
    let link = feed(&["hash-object", "-w", "--stdin"], outside.to_str().expect("text"));
    let inner = feed(&["mktree"], &format!("120000 blob {link}\tplanted\n"));
    let rest = harness.git(&repo, &["ls-tree", "main"]);
    let odd = format!("{rest}\n120000 blob {link}\tzz\n040000 tree {inner}\tzz\n");
    let tree = feed(&["mktree"], &odd);
    let commit = harness.git(&repo, &["commit-tree", "-m", "odd", &tree]);
    harness.gk(&["new", "demo", "--repo", repo.to_str().expect("text"), "--base", &commit]);
    assert_eq!(
        std::fs::read_dir(&outside).expect("a folder").count(),
        0,
        "nothing was written outside"
    );
}
