//! Our own checkout is git's checkout: same files, same modes, same index, clean at once.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::support::Bench;

/// Path to (mode, contents or link target) of everything but `.git`.
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

fn rich_repo(bench: &Bench) -> PathBuf {
    let repo = bench.repo("project", 900);
    bench.write(&repo.join("deep/er/and/deeper/file"), "x");
    bench.write(&repo.join("empty"), "");
    bench.write(&repo.join("binary"), "\0\u{1}\u{2}\n\r\n");
    bench.write(&repo.join("dir0.txt"), "sorts between dir0 and dir0/");
    bench.write(&repo.join("script.sh"), "#!/bin/sh\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(repo.join("script.sh"), mode).expect("mode");
    std::os::unix::fs::symlink("deep/er", repo.join("link")).expect("linked");
    std::os::unix::fs::symlink("/nowhere/at/all", repo.join("dir1/dangling")).expect("linked");
    bench.write(&repo.join(".gitattributes"), "* text=auto\n*.bin binary\n*.c diff=cpp\n");
    bench.write(&repo.join("big"), &"0123456789abcdef".repeat(100_000));
    bench.commit(&repo, "rich");
    repo
}

#[test]
fn it_is_the_same_as_gits_own() {
    let bench = Bench::new();
    let repo = rich_repo(&bench);
    let path = bench.new_env("demo", &repo, &[]);
    assert_eq!(bench.ok(&["show", "demo"])["checkout"]["by"], "parallel");
    bench.git(&repo, &["worktree", "add", "-q", "--detach", "../reference"]);
    let reference = bench.path("reference");
    assert!(tree(&path) == tree(&reference), "the trees differ");
    for args in [&["ls-files", "-s"][..], &["ls-files", "-v"], &["status", "--porcelain"]] {
        assert_eq!(bench.git(&path, args), bench.git(&reference, args), "{args:?}");
    }
    assert_eq!(bench.git(&path, &["diff-index", "--cached", "HEAD"]), "");
    assert_eq!(bench.git(&path, &["diff-files"]), "", "clean without a refresh");
    bench.git(&path, &["fsck", "--strict"]);
    let tree_of_index = bench.git(&path, &["write-tree"]);
    assert_eq!(tree_of_index, bench.git(&repo, &["rev-parse", "main^{tree}"]));
    bench.check(&[&repo]);
}

#[test]
fn files_of_a_dirty_source_are_never_taken_for_the_commit() {
    let bench = Bench::new();
    let repo = rich_repo(&bench);
    bench.git(&repo, &["worktree", "add", "-q", "--detach", "../reference"]);
    bench.write(&repo.join("README"), "HELLO\n");
    bench.write(&repo.join("dir0/file7.txt"), "edited\n");
    std::fs::remove_file(repo.join("dir1/file60.txt")).expect("removed");
    std::fs::remove_file(repo.join("dir1/file61.txt")).expect("removed");
    std::os::unix::fs::symlink("../README", repo.join("dir1/file61.txt")).expect("linked");
    std::fs::remove_dir_all(repo.join("deep")).expect("removed");
    std::fs::remove_file(repo.join("dir2/file110.txt")).expect("removed");
    let pipe = repo.join("dir2/file110.txt");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    let path = bench.new_env("demo", &repo, &[]);
    assert_eq!(bench.ok(&["show", "demo"])["checkout"]["by"], "parallel");
    assert!(tree(&path) == tree(&bench.path("reference")), "the trees differ");
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), "");
    // From another commit, where next to nothing in the source fits.
    let path = bench.new_env("old", &repo, &["--base", "main~1"]);
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), "");
    assert_eq!(bench.git(&path, &["diff", "--stat", "HEAD"]), "");
}

#[test]
fn no_index_entry_is_racy_and_a_quick_edit_is_seen() {
    let bench = Bench::new();
    let repo = rich_repo(&bench);
    let path = bench.new_env("demo", &repo, &[]);
    let git_dir = PathBuf::from(bench.git(&path, &["rev-parse", "--absolute-git-dir"]));
    let index = git_dir.join("index").metadata().expect("an index");
    for file in ["README", "script.sh", "dir0/file7.txt"] {
        let meta = path.join(file).metadata().expect("a file");
        assert!(meta.mtime() < index.mtime(), "{file} is as young as the index");
    }
    // Same size, the very next moment: the hardest edit to notice.
    bench.write(&path.join("README"), "HELLO\n");
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), " M README");
}

#[test]
fn git_does_it_where_contents_change_on_the_way() {
    let bench = Bench::new();
    let repo = bench.repo("project", 450);
    bench.write(&repo.join(".gitattributes"), "*.crlf text eol=crlf\n");
    bench.write(&repo.join("a.crlf"), "one\ntwo\n");
    bench.commit(&repo, "line endings");
    let path = bench.new_env("eol", &repo, &[]);
    let shown = bench.ok(&["show", "eol"]);
    assert_eq!(shown["checkout"]["by"], "git");
    assert_eq!(shown["checkout"]["reason"], "attribute eol=crlf");
    assert_eq!(std::fs::read_to_string(path.join("a.crlf")).expect("read"), "one\r\ntwo\r\n");
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), "");

    bench.git(&repo, &["config", "filter.up.smudge", "tr a-z A-Z"]);
    bench.git(&repo, &["config", "filter.up.clean", "tr A-Z a-z"]);
    bench.write(&repo.join(".gitattributes"), "*.up filter=up\n");
    bench.write(&repo.join("a.up"), "text\n");
    bench.commit(&repo, "filter");
    let path = bench.new_env("filter", &repo, &[]);
    assert_eq!(std::fs::read_to_string(path.join("a.up")).expect("read"), "TEXT\n");
    bench.check(&[&repo]);
}

#[test]
fn the_index_of_gits_own_checkout_is_settled_or_refreshed_once() {
    let bench = Bench::new();
    let repo = bench.repo("small", 10);
    let events = |id: &str| {
        bench.drain();
        let events = bench.command(&["--json", "events", "--env", id]).output().expect("runs");
        String::from_utf8_lossy(&events.stdout).into_owned()
    };
    bench.new_env("demo", &repo, &[]);
    let text = events("demo");
    assert!(text.contains(r#""racy":false"#) && !text.contains("IndexRefreshed"), "{text}");
    // One that is kept in two files is left to git.
    bench.git(&repo, &["config", "core.splitIndex", "true"]);
    bench.new_env("split", &repo, &[]);
    let text = events("split");
    assert!(text.contains(r#""done":true"#) && text.contains("IndexRefreshed"), "{text}");
    bench.check(&[&repo]);
}

#[test]
fn worktree_settings_and_sparse_patterns_are_taken_along() {
    let bench = Bench::new();
    let repo = bench.repo("project", 450);
    bench.git(&repo, &["sparse-checkout", "set", "--no-cone", "/dir0/", "/README"]);
    let path = bench.new_env("demo", &repo, &[]);
    assert!(path.join("README").exists() && path.join("dir0").exists());
    assert!(!path.join("dir1").exists(), "sparse as the worktree it came from");
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), "");
    bench.ok(&["rm", "demo"]);
    bench.check(&[&repo]);
}

/// A tree that git itself would never write: a link, and a directory of the same name with a link
/// in it, which would be made wherever the first one leads.
#[test]
fn a_tree_that_leads_out_of_the_worktree_is_left_to_git() {
    use std::io::Write as _;
    let bench = Bench::new();
    let repo = bench.repo("project", 450);
    let outside = bench.path("outside");
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
    let rest = bench.git(&repo, &["ls-tree", "main"]);
    let odd = format!("{rest}\n120000 blob {link}\tzz\n040000 tree {inner}\tzz\n");
    let tree = feed(&["mktree"], &odd);
    let commit = bench.git(&repo, &["commit-tree", "-m", "odd", &tree]);
    bench.gk(&["new", "demo", "--repo", repo.to_str().expect("text"), "--base", &commit]);
    assert_eq!(std::fs::read_dir(&outside).expect("a folder").count(), 0, "nothing got out");
}
