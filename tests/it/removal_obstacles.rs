//! Hard cases of a removal: obstacles in the tree, hidden content, and concurrent programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Daemon, Harness, wait_for};

fn mount(args: &[&str]) -> bool {
    let mut command = Command::new("mount");
    command.args(args).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

fn unmount(at: &Path) {
    let done = Command::new("umount").arg(at).status().expect("umount runs");
    assert!(done.success(), "{} cannot be unmounted", at.display());
}

/// Returns the rescue ref of a removal.
fn reference(removed: &serde_json::Value) -> String {
    removed["rescue"][0].as_str().expect("a ref").to_owned()
}

/// Deleting the tree would delete the content of the mount. In the trash, a mount prevents the
/// purge.
#[test]
fn removal_refuses_mounted_directory() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitignore"), "target/\n");
    harness.commit(&repo, "ignore");
    let path = harness.new_env("demo", &repo, &[]);
    let precious = harness.path("precious");
    harness.write(&precious.join("file"), "kept\n");
    let inside = path.join("target/mnt");
    std::fs::create_dir_all(&inside).expect("a folder");
    let (from, to) = (precious.to_str().expect("text"), inside.to_str().expect("text"));
    if !mount(&["--bind", from, to]) {
        eprintln!("mounts are not allowed here; the guard is tested by what follows them");
        return;
    }
    let (_, error) = harness.refused(&["rm", "demo", "--force"]);
    let printed = error.to_string();
    assert!(printed.contains("mounted inside") && printed.contains("umount"), "{printed}");
    assert_eq!(harness.phase("demo"), "ready", "refused before any change");
    let refs = harness.git(&repo, &["for-each-ref", "refs/groundskeeper"]);
    assert_eq!((refs.as_str(), harness.ok(&["rescue", "ls"])), ("", serde_json::json!([])));
    assert_eq!(harness.refused(&["clean", "demo"]).0, 4);
    unmount(&inside);
    let trash = harness.ok(&["rm", "demo", "--force"])["trash"].as_str().map(PathBuf::from);
    // A mount that appears in the trash.
    let inside = trash.expect("a trash").join("target/mnt");
    assert!(mount(&["--bind", from, inside.to_str().expect("text")]));
    harness.ok(&["trash", "empty"]);
    let left = harness.ok(&["trash", "ls"]);
    assert!(left[0]["error"].to_string().contains("mounted"), "{left:#}");
    unmount(&inside);
    assert_eq!(std::fs::read_to_string(precious.join("file")).expect("kept"), "kept\n");
}

/// The entry goes to a trash directory on the file system of the worktree.
#[test]
fn trash_on_other_file_system_works() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("new"), "work\n");
    harness.write(&repo.join(".git/info/exclude"), "target/\n");
    harness.write(&path.join("target/object"), "built\n");
    let trash = harness.data().join("trash");
    if !mount(&["-t", "tmpfs", "none", trash.to_str().expect("text")]) {
        return;
    }
    let beside = harness.data().join("worktrees/.trash");
    let cleaned = harness.ok(&["clean", "demo"]);
    let place = PathBuf::from(cleaned["trash"].as_str().expect("a place"));
    assert!(place.starts_with(&beside) && place.join("target/object").exists(), "{cleaned:#}");
    harness.ok(&["clean", "demo", "--undo"]);
    assert!(path.join("target/object").exists() && !place.exists());
    harness.ok(&["clean", "demo", "--now"]);
    let removed = harness.ok(&["rm", "demo", "--force"]);
    let place = PathBuf::from(removed["trash"].as_str().expect("a place"));
    assert!(place.starts_with(&beside), "{removed:#}");
    harness.ok(&["restore", "demo"]);
    assert_eq!(std::fs::read_to_string(path.join("new")).expect("back"), "work\n");
    harness.ok(&["rm", "demo", "--force"]);
    harness.ok(&["trash", "empty"]);
    assert!(!place.exists());
    harness.ok(&["stop"]);
    unmount(&trash);
}

/// Targets of links stay, nested repositories are saved, and a tree may be deeper than `PATH_MAX`.
#[test]
fn removal_handles_links_nesting_and_depth() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&harness.path("home/.config/groundskeeper/config.toml"), "trash_days = 0\n");
    let outside = harness.path("outside");
    harness.write(&outside.join("file"), "kept\n");
    let path = harness.new_env("demo", &repo, &[]);
    std::os::unix::fs::symlink(&outside, path.join("out")).expect("linked");
    let nested = path.join("vendor/nested");
    std::fs::create_dir_all(&nested).expect("a folder");
    harness.git(&nested, &["init", "-q"]);
    harness.write(&nested.join("inner"), "inner work\n");
    harness.commit(&nested, "inner");
    // Deeper than the path limit of the system, so it is created one level at a time.
    let made = Command::new("sh")
        .arg("-c")
        .arg("n=0; while [ $n -lt 3000 ]; do mkdir d && cd -P d || exit 1; n=$((n+1)); done")
        .current_dir(&path)
        .status();
    assert!(made.expect("sh runs").success());
    let (_, error) = harness.refused(&["rm", "demo"]);
    assert!(
        error["evidence"].to_string().contains("nested repository: vendor/nested"),
        "{error:#}"
    );
    let removed = harness.ok(&["rm", "demo", "--force"]);
    let trash = PathBuf::from(removed["trash"].as_str().expect("a trash"));
    wait_for("the purge", || !trash.exists());
    assert_eq!(std::fs::read_to_string(outside.join("file")).expect("kept"), "kept\n");
    let shown = harness.ok(&["rescue", "show", "demo"]);
    assert_eq!(shown["nested"][0]["path"], "vendor/nested", "{shown:#}");
    harness.check(&[&repo]);
}

#[test]
fn ignored_files_beside_tracked_are_work() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join("build/make.sh"), "make\n");
    harness.write(&repo.join(".gitignore"), "build/*.env\n/dist/\n.venv/lib\n");
    harness.commit(&repo, "a folder named build that is none");
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("dist/out.js"), "built\n");
    harness.write(&path.join(".venv/lib/site.py"), "installed\n");
    harness.ok(&["clean", "demo"]);
    assert!(!path.join("dist").exists() && !path.join(".venv/lib").exists());
    harness.write(&path.join("build/local.env"), "SECRET=1\n");
    assert_eq!(harness.ok(&["clean", "demo"])["paths"].as_array().map(Vec::len), Some(0));
    assert!(path.join("build/local.env").exists());
    let (_, error) = harness.refused(&["rm", "demo"]);
    assert!(error["evidence"].to_string().contains("ignored: build/local.env"), "{error:#}");
}

/// Neither may count the other's branch as the place that holds its commits.
#[test]
fn concurrent_removals_keep_shared_commits() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("one", &repo, &[]);
    harness.write(&path.join("work"), "w\n");
    let commit = harness.commit(&path, "work");
    harness.new_env("two", &repo, &["--base", "gk/one"]);
    let start = |id: &str| {
        let mut command = harness.command(&["rm", id]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started")
    };
    let (mut one, mut two) = (start("one"), start("two"));
    drop((one.wait(), two.wait()));
    harness.drain();
    harness.ok(&["trash", "empty"]);
    harness.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    harness.git(&repo, &["cat-file", "-e", &commit]);
    harness.check(&[&repo]);
}

#[test]
fn branch_not_created_here_is_kept() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.git(&repo, &["branch", "develop"]);
    let path = harness.new_env("demo", &repo, &[]);
    harness.git(&path, &["switch", "-q", "develop"]);
    harness.ok(&["rm", "demo"]);
    harness.ok(&["restore", "demo"]);
    assert_eq!(harness.git(&path, &["branch", "--show-current"]), "develop");
    harness.ok(&["rm", "demo"]);
    assert!(harness.git(&repo, &["branch", "--list", "develop"]).contains("develop"));
}

/// An edit within the second of its `git add`, and what `rebase --autostash` put aside.
#[test]
fn same_second_edits_and_autostash_rescued() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("f"), "one\n");
    harness.git(&path, &["add", "f"]);
    harness.write(&path.join("f"), "two\n");
    let reference = reference(&harness.ok(&["rm", "demo", "--force"]));
    assert_eq!(harness.git(&repo, &["show", &format!("{reference}:f")]), "two");

    let path = harness.new_env("rebase", &repo, &[]);
    harness.write(&path.join("README"), "ours\n");
    harness.commit(&path, "ours");
    harness.write(&repo.join("README"), "theirs\n");
    harness.commit(&repo, "theirs");
    harness.write(&path.join("dir0/file1.txt"), "not committed\n");
    assert!(!harness.git_raw(&path, &["rebase", "-q", "--autostash", "main"]).status.success());
    let reference = self::reference(&harness.ok(&["rm", "rebase", "--force"]));
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    let parents = harness.git(&repo, &["log", "-1", "--format=%P", &reference]);
    let holds = |commit: &str| {
        let shown = harness.git_raw(&repo, &["show", &format!("{commit}:dir0/file1.txt")]);
        String::from_utf8_lossy(&shown.stdout) == "not committed\n"
    };
    assert!(parents.split(' ').any(holds), "{parents}");
}

/// The hints lead from `--force` to `--no-rescue`. The last copy is purged only with `--lose`.
#[test]
fn missing_repository_allows_forced_removal() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("new"), "work\n");
    std::fs::remove_dir_all(&repo).expect("removed");
    let (code, error) = harness.refused(&["rm", "demo"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")), "{error:#}");
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("--force")), "{error:#}");
    let (_, error) = harness.refused(&["rm", "demo", "--force"]);
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("--no-rescue")), "{error:#}");
    let removed = harness.ok(&["rm", "demo", "--force", "--no-rescue"]);
    let trash = PathBuf::from(removed["trash"].as_str().expect("a trash"));
    assert_eq!(std::fs::read_to_string(trash.join("new")).expect("kept"), "work\n");
    assert_eq!(harness.phase("demo"), "tombstoned");
    harness.ok(&["trash", "empty"]);
    assert!(trash.exists(), "it is the last copy");
    harness.ok(&["trash", "empty", "demo", "--lose"]);
    assert!(!trash.exists());
}

#[test]
fn foreign_worktree_lock_needs_force() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    let text = path.to_str().expect("text");
    harness.git(&repo, &["worktree", "unlock", text]);
    harness.git(&repo, &["worktree", "lock", "--reason", "on a stick", text]);
    let (_, error) = harness.refused(&["rm", "demo"]);
    assert!(error["evidence"].to_string().contains("locked: on a stick"), "{error:#}");
    harness.ok(&["rm", "demo", "--force"]);
    harness.check(&[&repo]);
}

/// A hook that hangs or is not trusted does not prevent the removal.
#[test]
fn teardown_hook_is_trusted_and_bounded() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.teardown_hook(
        &repo,
        "#!/bin/sh\necho down > \"$GROUNDSKEEPER_SOURCE/../ran\"\necho log > out.log\n",
    );
    harness.new_env("untrusted", &repo, &[]);
    let removed = harness.ok(&["rm", "untrusted"]);
    assert_eq!(removed["hook"]["code"], "not_trusted", "{removed:#}");
    assert!(!harness.path("ran").exists());
    let text = repo.to_str().expect("text");
    harness.ok(&["trust", "--repo", text, "--hash", &harness.teardown_hash(&repo)]);
    harness.new_env("demo", &repo, &[]);
    let removed = harness.ok(&["rm", "demo"]);
    assert_eq!(removed["hook"], serde_json::Value::Null, "{removed:#}");
    assert!(
        harness.path("ran").exists(),
        "the hook ran, and its output did not refuse the removal"
    );
    assert_eq!(removed["rescue"].as_array().map(Vec::len), Some(1), "it is rescued");
    std::fs::remove_file(harness.path("ran")).expect("removed");
    harness.new_env("without", &repo, &[]);
    harness.ok(&["rm", "without", "--no-teardown"]);
    assert!(!harness.path("ran").exists());

    // A hook that hangs and leaves a process in another session.
    harness.ok(&["stop"]);
    harness.write(
        &harness.path("home/.config/groundskeeper/config.toml"),
        "teardown_limit_seconds = 1\ngrace_milliseconds = 100\n",
    );
    let pid = harness.path("pid");
    let hides = format!(
        "#!/bin/sh\n(cd / && setsid env -i sh -c 'echo $$ > {}; exec sleep 1012' >/dev/null 2>&1 &)\n\
         sleep 1000\n",
        pid.display()
    );
    harness.teardown_hook(&repo, &hides);
    let _daemon = Daemon::start(&harness);
    harness.ok(&["trust", "--repo", text, "--hash", &harness.teardown_hash(&repo)]);
    harness.new_env("hangs", &repo, &[]);
    let removed = harness.ok(&["rm", "hangs"]);
    assert_eq!(removed["hook"]["code"], "timeout", "{removed:#}");
    let pid: u32 = std::fs::read_to_string(pid).expect("a pid").trim().parse().expect("a number");
    assert_eq!(
        groundskeeper::world::process::table::start_time(pid).expect("seen"),
        None,
        "the process ended with the hook"
    );
    harness.check(&[&repo]);
}

#[test]
fn full_disk_during_rescue_loses_nothing() {
    let harness = Harness::new();
    let small = harness.path("small");
    std::fs::create_dir(&small).expect("a folder");
    if !mount(&["-t", "tmpfs", "-o", "size=24m", "none", small.to_str().expect("text")]) {
        return;
    }
    let repo = small.join("project");
    std::fs::create_dir(&repo).expect("a folder");
    harness.git(&repo, &["init", "-q"]);
    harness.commit_files(&repo, 3);
    let path = harness.new_env("demo", &repo, &[]);
    // Random bytes do not compress in a git object.
    let noise = Command::new("sh")
        .arg("-c")
        .arg("head -c 40000000 /dev/urandom > noise")
        .current_dir(&path)
        .status();
    assert!(noise.expect("sh runs").success());
    let (_, error) = harness.refused(&["rm", "demo", "--force"]);
    assert_eq!(error["code"], "disk_full", "{error:#}");
    assert_eq!(harness.phase("demo"), "retiring", "ready for use, and the removal is retried");
    assert!(path.join("noise").exists());
    let removed = harness.ok(&["rm", "demo", "--force", "--no-rescue"]);
    let trash = PathBuf::from(removed["trash"].as_str().expect("a trash"));
    assert_eq!(trash.join("noise").metadata().expect("kept").len(), 40_000_000);
    harness.ok(&["restore", "demo"]);
    assert_eq!(path.join("noise").metadata().expect("back").len(), 40_000_000);
    harness.ok(&["stop"]);
    unmount(&small);
}

#[test]
fn removals_survive_gc_and_second_daemon() {
    let harness = Harness::new();
    let repo = harness.repo("project", 40);
    for n in 0..8 {
        let path = harness.new_env(&format!("env{n}"), &repo, &[]);
        harness.write(&path.join("work"), &format!("work {n}\n"));
    }
    let mut second = harness.command(&["daemon"]);
    let second = second.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("runs");
    assert_eq!(second.code(), Some(4), "another daemon owns the data directory");
    let held: Vec<String> = std::thread::scope(|scope| {
        let gc = scope.spawn(|| {
            for _ in 0..5 {
                // A gc that prunes an object just before its rescue ref is created may then find
                // that ref and fail. The rescue is repeated in that case.
                drop(harness.git_raw(&repo, &["gc", "-q", "--prune=now"]));
            }
        });
        let rm = |n| reference(&harness.ok(&["rm", &format!("env{n}"), "--force"]));
        let held = (0..8).map(rm).collect();
        drop(gc.join());
        held
    });
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    for (n, reference) in held.iter().enumerate() {
        let name = format!("{reference}:work");
        assert_eq!(harness.git(&repo, &["show", &name]), format!("work {n}"));
    }
    harness.check(&[&repo]);
}

/// A gc that read the refs before the rescue was made unlinks its objects after it was checked.
#[test]
fn rescue_outlives_gc_that_began_before_it() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    // It looks like a gc that spares no recent object: a process, and the mark that git sets.
    let mut gc = Command::new("sh");
    gc.args(["-c", "read line", "gc", "--prune=now"]).stdin(Stdio::piped());
    let mut gc = gc.spawn().expect("started");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    harness.write(&repo.join(".git/gc.pid"), &format!("{} {host}", gc.id()));
    let removed = std::thread::scope(|scope| {
        let removal = scope.spawn(|| harness.ok(&["rm", "demo", "--force"]));
        let refs = ["for-each-ref", "--format=%(objectname)", "refs/groundskeeper/rescue"];
        wait_for("the rescue", || !harness.git(&repo, &refs).is_empty());
        let commit = harness.git(&repo, &refs);
        let object = repo.join(".git/objects").join(&commit[..2]).join(&commit[2..]);
        std::fs::remove_file(object).expect("a loose object");
        std::fs::remove_file(repo.join(".git/gc.pid")).expect("over");
        removal.join().expect("removed")
    });
    gc.kill().expect("killed");
    gc.wait().expect("ended");
    let name = format!("{}:work", reference(&removed));
    assert_eq!(harness.git(&repo, &["show", &name]), "work");
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    harness.check(&[&repo]);
}

#[test]
fn submodule_work_survives_removal_and_restore() {
    let harness = Harness::new();
    let inner = harness.repo("inner", 2);
    let repo = harness.repo("project", 2);
    let inner = inner.to_string_lossy().into_owned();
    harness.git(&repo, &["submodule", "--quiet", "add", &inner, "module"]);
    harness.git(&repo, &["commit", "-q", "-m", "module"]);
    let path = harness.new_env("demo", &repo, &[]);
    harness.git(&path, &["submodule", "--quiet", "update", "--init"]);
    harness.write(&path.join("module/new"), "work\n");
    harness.git(&path.join("module"), &["add", "new"]);
    harness.git(&path.join("module"), &["commit", "-q", "-m", "work in the module"]);
    let commit = harness.git(&path.join("module"), &["rev-parse", "HEAD"]);
    let (_, error) = harness.refused(&["rm", "demo"]);
    assert!(error["evidence"].to_string().contains("submodule"), "{error:#}");
    harness.ok(&["rm", "demo", "--force"]);
    harness.ok(&["restore", "demo"]);
    let after = harness.git(&path.join("module"), &["rev-parse", "HEAD"]);
    assert_eq!(after, commit, "the submodule's commit is restored");
    assert_eq!(std::fs::read_to_string(path.join("module/new")).expect("there"), "work\n");
    harness.ok(&["rm", "demo", "--force"]);
    harness.check(&[&repo]);
}
