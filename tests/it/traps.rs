//! Traps of git: unreadable refs, settings that hide files, noise on stderr, special files, links
//! that lead out, hooks that change, and owners that change.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::support::{Daemon, Harness, wait_for};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Creates the worktree that git itself makes for the same request.
fn create_with_git(harness: &Harness, repo: &Path) -> PathBuf {
    let path = harness.path("plain");
    harness.git(repo, &["worktree", "add", "-q", "--no-track", "-b", "plain", text(&path)]);
    path
}

#[test]
fn unreadable_ref_stops_nothing() {
    let bad: [(&str, &str); 5] = [
        ("refs/heads/empty", ""),
        ("refs/heads/garbage", "no object id\n"),
        ("refs/heads/main 2", "copied by a synchroniser\n"),
        ("refs/tags/missing", "1234567890123456789012345678901234567890\n"),
        ("refs/remotes/origin/cut", "12345678\n"),
    ];
    for (name, content) in bad {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        let clean = harness.new_env("clean", &repo, &[]);
        let own = harness.new_env("own", &repo, &[]);
        let merged = harness.new_env("merged", &repo, &[]);
        for path in [&own, &merged] {
            harness.write(&path.join("work"), text(path));
            harness.commit(path, "work");
        }
        harness.git(&repo, &["merge", "-q", "gk/merged"]);
        harness.write(&repo.join(".git").join(name), content);
        // The new mtime makes the daemon run git.
        harness.write(&clean.join("README"), "hello\n");
        for id in ["clean", "merged"] {
            let removed = harness.ok(&["rm", id]);
            assert_eq!(removed["branch_deleted"], true, "{name}: {removed:#}");
        }
        let (_, error) = harness.refused(&["rm", "own"]);
        assert!(error.to_string().contains("unpushed: 1 commits"), "{name}: {error:#}");
        let removed = harness.ok(&["rm", "own", "--force"]);
        let rescue = removed["rescue"][0].as_str().expect("a ref");
        assert_eq!(harness.git(&repo, &["show", &format!("{rescue}:work")]), text(&own));
        harness.ok(&["trash", "empty"]);
        harness.ok(&["restore", "own"]);
        assert_eq!(std::fs::read_to_string(own.join("work")).expect("back"), text(&own));
        harness.new_env("more", &repo, &[]);
    }
}

#[test]
fn rebased_or_bisected_branch_is_kept() {
    for how in ["merge", "apply", "bisect"] {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        let path = harness.new_env("a", &repo, &[]);
        for n in 0..3 {
            harness.write(&path.join("same"), &n.to_string());
            harness.commit(&path, "work");
        }
        harness.write(&repo.join("same"), "other");
        harness.commit(&repo, "conflict");
        harness.git(&path, &["switch", "-q", "--detach"]);
        let other = harness.path("other");
        harness.git(&repo, &["worktree", "add", "-q", text(&other), "gk/a"]);
        if how == "bisect" {
            harness.git(&other, &["bisect", "start", "HEAD", "HEAD~3"]);
        } else {
            let rebased = harness.git_raw(&other, &["rebase", &format!("--{how}"), "main"]);
            assert!(!rebased.status.success(), "it stops at a conflict");
        }
        let listed = harness.git(&repo, &["worktree", "list", "--porcelain"]);
        assert!(!listed.contains("branch refs/heads/gk/a"), "{how}: HEAD is detached there");
        let removed = harness.ok(&["rm", "a", "--force", "--branch", "delete"]);
        assert_eq!(removed["branch_deleted"], false, "{how}: {removed:#}");
        assert!(removed["branch_reason"].to_string().contains("being"), "{how}: {removed:#}");
        let (_, error) = harness.refused(&["new", "b", "--repo", text(&repo), "--branch", "gk/a"]);
        assert_eq!(error["code"], "branch_exists", "{how}: {error:#}");
    }
}

/// Messages of git on stderr are no evidence, and one odd file does not fail a status.
#[test]
fn stderr_noise_does_not_fail_status() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitattributes"), "!bad text\n");
    harness.commit(&repo, "attributes");
    harness.git(&repo, &["update-ref", "refs/heads/HEAD", "main"]);
    harness.git(&repo, &["tag", "gk/a"]);
    harness.write(&repo.join(".git/objects/info/alternates"), "/nowhere/objects\n");
    let path = harness.new_env("a", &repo, &[]);
    harness.write(&path.join("README"), "hello\n");
    let printed = harness.git_raw(&path, &["status"]);
    assert!(!printed.stderr.is_empty(), "git has something to say");
    harness.ok(&["rm", "a"]);

    let path = harness.new_env("b", &repo, &[]);
    let fifo = path.join("dir0/file0.txt");
    std::fs::remove_file(&fifo).expect("removed");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("it runs").success());
    harness.write(&path.join("dir0/file1.txt"), "changed\n");
    harness.write(&path.join("dir0/file2.txt"), "changed\n");
    let closed = std::fs::Permissions::from_mode(0o0);
    std::fs::set_permissions(path.join("dir0/file2.txt"), closed).expect("mode");
    let status = harness.ok(&["status", "b"]);
    assert!(status.to_string().contains("file1.txt"), "{status:#}");
    let removed = harness.ok(&["rm", "b", "--force"]);
    let rescue = removed["rescue"][0].as_str().expect("a ref");
    assert_eq!(harness.git(&repo, &["show", &format!("{rescue}:dir0/file1.txt")]), "changed");
}

/// git must work in every worktree that is reported ready.
#[test]
fn worktree_config_does_not_break_siblings() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let bare = harness.path("bare.git");
    harness.git(&repo, &["clone", "-q", "--bare", text(&repo), text(&bare)]);
    harness.git(&bare, &["config", "core.repositoryFormatVersion", "1"]);
    harness.git(&bare, &["config", "extensions.worktreeConfig", "true"]);
    let path = harness.new_env("a", &bare, &[]);
    assert_eq!(harness.git(&path, &["rev-parse", "--show-toplevel"]), text(&path));
    harness.write(&path.join("work"), "work\n");
    harness.commit(&path, "work");
    assert_eq!(harness.git(&bare, &["config", "--get", "core.bare"]), "true", "untouched");
    harness.ok(&["rm", "a", "--force"]);
    harness.ok(&["trash", "empty"]);
    let path = PathBuf::from(harness.ok(&["restore", "a"])["path"].as_str().expect("a path"));
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "");

    harness.git(&repo, &["config", "core.worktree", text(&repo)]);
    harness.git(&repo, &["config", "extensions.worktreeConfig", "true"]);
    let (code, error) = harness.refused(&["new", "b", "--repo", text(&repo)]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsupported_repository")), "{error:#}");
    harness.git(&repo, &["config", "--worktree", "core.worktree", text(&repo)]);
    harness.git(
        &repo,
        &["config", "--file", text(&repo.join(".git/config")), "--unset", "core.worktree"],
    );
    let path = harness.new_env("b", &repo, &[]);
    assert_eq!(
        harness.git(&path, &["rev-parse", "--show-toplevel"]),
        text(&path),
        "the command of the hint works"
    );
}

#[test]
fn sparse_linked_worktree_is_valid_source() {
    let harness = Harness::new();
    let repo = harness.repo("project", 120);
    let source = harness.path("source");
    harness.git(&repo, &["worktree", "add", "-q", "--detach", text(&source)]);
    harness.git(&source, &["sparse-checkout", "set", "dir1"]);
    let plain = harness.path("plain");
    harness.git(&source, &["worktree", "add", "-q", "-b", "plain", text(&plain)]);
    let path = harness.new_env("a", &source, &[]);
    let listed = |at: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(at).expect("read").flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(listed(&path), listed(&plain));
    assert!(path.join("dir1").exists() && !path.join("dir0").exists());
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "");
}

/// The checkout gives the same bytes as git's, also with replace refs and attributes from other
/// sources.
#[test]
fn replace_refs_and_attributes_are_honoured() {
    for case in ["replace", "packed replace", "attr.tree", "home attributes"] {
        let harness = Harness::new();
        let repo = harness.repo("project", 450);
        match case {
            "attr.tree" => {
                harness.git(&repo, &["switch", "-q", "-c", "attributes"]);
                harness.write(&repo.join(".gitattributes"), "*.txt text eol=crlf\n");
                harness.commit(&repo, "attributes");
                harness.git(&repo, &["switch", "-q", "main"]);
                harness.git(&repo, &["config", "attr.tree", "attributes"]);
            }
            "home attributes" => {
                harness
                    .write(&harness.path("home/.config/git/attributes"), "*.txt text eol=crlf\n");
            }
            _ => {
                let object =
                    |path: &str| harness.git(&repo, &["rev-parse", &format!("HEAD:{path}")]);
                let (old, new) = (object("dir0/file1.txt"), object("dir0/file2.txt"));
                harness.git(&repo, &["replace", &old, &new]);
                if case == "packed replace" {
                    harness.git(&repo, &["pack-refs", "--all"]);
                }
            }
        }
        let plain = create_with_git(&harness, &repo);
        // git treats an empty variable as unset.
        let mut command = harness.command(&["new", "a", "--repo", text(&repo)]);
        assert!(command.env("XDG_CONFIG_HOME", "").status().expect("it runs").success());
        let path = PathBuf::from(harness.ok(&["show", "a"])["path"].as_str().expect("a path"));
        for n in 0..450 {
            let file = format!("dir{}/file{n}.txt", n / 50);
            let read = |at: &Path| std::fs::read(at.join(&file)).expect("read");
            assert_eq!(read(&path), read(&plain), "{case}: {file}");
        }
        assert_ne!(harness.ok(&["show", "a"])["checkout"]["by"], "parallel", "{case}");
    }
}

/// A remote name with slashes, and a refspec that renames.
#[test]
fn unusual_remotes_are_fetched() {
    let harness = Harness::new();
    let upstream = harness.repo("upstream", 3);
    let repo = harness.path("project");
    harness.git(&upstream, &["clone", "-q", "-o", "team/up", text(&upstream), text(&repo)]);
    harness.write(&upstream.join("new"), "1\n");
    let first = harness.commit(&upstream, "one");
    let path = harness.new_env("a", &repo, &["--fetch"]);
    assert_eq!(harness.git(&path, &["rev-parse", "HEAD"]), first);
    assert_eq!(harness.git(&repo, &["rev-parse", "refs/remotes/team/up/main"]), first);
    harness.git(&repo, &["config", "remote.team/up.fetch", "+refs/heads/*:refs/remotes/x/mine-*"]);
    harness.git(&repo, &["fetch", "-q"]);
    harness.write(&upstream.join("new"), "2\n");
    let second = harness.commit(&upstream, "two");
    let path = harness.new_env("b", &repo, &["--fetch", "--base", "x/mine-main"]);
    assert_eq!(harness.git(&path, &["rev-parse", "HEAD"]), second);
    let left = harness.git(&repo, &["for-each-ref", "refs/groundskeeper"]);
    assert_eq!(left, "", "the temporary fetch ref is deleted");
    assert_eq!(harness.ok(&["show", "b"])["fetch"], "done");
}

/// A branch may have a link at a path where the source has a directory of ignored files.
#[test]
fn included_files_follow_no_symlink() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let outside = harness.path("outside");
    std::fs::create_dir(&outside).expect("made");
    harness.write(&repo.join(".gitignore"), "secrets\ndeep/\n");
    harness.write(&repo.join(".worktreeinclude"), "secrets/\ndeep/\n");
    harness.commit(&repo, "lists");
    harness.git(&repo, &["switch", "-q", "-c", "evil"]);
    symlink(&outside, repo.join("secrets")).expect("linked");
    std::fs::create_dir(repo.join("deep")).expect("made");
    symlink(&outside, repo.join("deep/in")).expect("linked");
    harness.git(&repo, &["add", "-f", "secrets", "deep/in"]);
    harness.git(&repo, &["commit", "-q", "-m", "links"]);
    harness.git(&repo, &["switch", "-q", "main"]);
    for file in ["secrets/key", "deep/in/key", "deep/in/more/key", "deep/ok"] {
        harness.write(&repo.join(file), "a secret\n");
    }
    let path = harness.new_env("a", &repo, &["--base", "evil"]);
    assert_eq!(std::fs::read_dir(&outside).expect("read").count(), 0);
    assert_eq!(std::fs::read_to_string(path.join("deep/ok")).expect("copied"), "a secret\n");
    let skipped = harness.ok(&["show", "a"])["included"]["skipped"].to_string();
    assert!(skipped.contains("secrets") && skipped.contains("deep/in"), "{skipped}");
}

/// The hook that runs has the bytes that were hashed, even if the file changes meanwhile.
#[test]
fn hook_runs_trusted_bytes() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".groundskeeper/lib"), "echo sourced > sourced\n");
    let script = "#!/bin/sh\necho changed > \"$GROUNDSKEEPER_HOOK_DIR/setup\"\n\
                  . \"$GROUNDSKEEPER_HOOK_DIR/lib\"\npwd > where\necho \"$0\" > me\n";
    harness.hook(&repo, script);
    harness.ok(&["trust", "--repo", text(&repo)]);
    let path = harness.new_env("a", &repo, &[]);
    let read = |name: &str| std::fs::read_to_string(path.join(name)).expect("read");
    assert_eq!((read("sourced").as_str(), read("where").trim()), ("sourced\n", text(&path)));
    let me = PathBuf::from(read("me").trim());
    assert!(
        !me.starts_with(&path) && !me.exists(),
        "the hook runs from a temporary copy that is deleted: {}",
        me.display()
    );
    assert_eq!(read(".groundskeeper/setup"), "changed\n");
}

/// Answer, log and transcript contain none of them.
#[test]
fn hook_output_secrets_are_redacted() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let script = "#!/bin/sh\nprintf 'token abcd'; printf 'efgh1234 end\\n'\n\
                  echo cloning https://me:password@example.org/x?access_token=zyxwvuts\nexit 1\n";
    harness.hook(&repo, script);
    let mut daemon = Daemon::start_with(&harness, &[("DEPLOY_TOKEN", "abcdefgh1234")]);
    harness.ok(&["trust", "--repo", text(&repo)]);
    let (_, error) = harness.refused(&["new", "a", "--repo", text(&repo)]);
    let printed = error.to_string();
    assert!(printed.contains("token [secret] end"), "{printed}");
    let shown = harness.ok(&["show", "a"]).to_string() + &harness.ok(&["events"]).to_string();
    let transcript = error["evidence"].as_array().expect("lines").iter().find_map(|line| {
        Some(std::fs::read_to_string(line.as_str()?.strip_prefix("transcript: ")?).expect("read"))
    });
    let transcript = transcript.expect("a transcript");
    assert!(transcript.contains("token [secret] end") && transcript.contains("example.org"));
    daemon.kill();
    let log = std::fs::read(harness.data().join("log.redb")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    for secret in ["abcdefgh1234", "password", "zyxwvuts"] {
        for place in [&printed, &shown, &transcript, &log] {
            assert!(!place.contains(secret), "{secret} is in {place}");
        }
    }
}

/// The removal has created nothing at that point.
#[test]
fn immutable_worktree_is_refused_first() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("a", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    let chattr = |mark: &str| {
        let done = std::process::Command::new("chattr").arg(mark).arg(&path).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !chattr("+i") {
        eprintln!("chattr is not allowed here: NOT TESTED");
        return;
    }
    let (code, error) = harness.refused(&["rm", "a", "--force"]);
    assert!(chattr("-i"));
    assert_eq!(code, 2, "{error:#}");
    assert!(error.to_string().contains("immutable"), "{error:#}");
    assert_eq!(harness.phase("a"), "ready");
    assert_eq!(harness.git(&repo, &["for-each-ref", "refs/groundskeeper"]), "");
    harness.ok(&["rm", "a", "--force"]);
}

/// A foreign shell in the directory, without a terminal, is reported and spared. A process that was
/// started in an environment is ended, shell or not.
#[test]
fn foreign_shells_are_spared() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("a", &repo, &[]);
    let mut shell = std::process::Command::new("sh");
    let shell = shell.current_dir(&path).stdin(std::process::Stdio::piped());
    let mut shell = shell.spawn().expect("started");
    let mut other = std::process::Command::new("sleep");
    let mut other = other.arg("1009").current_dir(&path).spawn().expect("started");
    wait_for("the shell to start", || {
        std::fs::read_to_string(format!("/proc/{}/comm", shell.id())).is_ok_and(|c| c == "sh\n")
    });
    let removed = harness.ok(&["rm", "a"]);
    let spared = removed["spared"].to_string();
    assert!(spared.contains(&format!("\"pid\":{}", shell.id())), "{removed:#}");
    assert!(shell.try_wait().expect("asked").is_none(), "the foreign shell is running");
    assert!(other.wait().expect("ended").code().is_none(), "by a signal");
    drop(shell.stdin.take());
    drop(shell.wait());
}

/// Like git, the daemon never reads a repository that belongs to another user.
#[test]
fn repository_of_other_user_is_refused() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("a", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    let ran = harness.path("ran");
    harness.git(&repo, &["config", "filter.x.clean", &format!("touch '{}'; cat", ran.display())]);
    harness.write(&repo.join(".git/info/attributes"), "* filter=x\n");
    let give = |owner: &str| {
        let done = std::process::Command::new("chown").args(["-R", owner]).arg(&repo).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !give("65534") {
        eprintln!("files cannot be given away here: NOT TESTED");
        return;
    }
    harness.write(&path.join("README"), "changed\n");
    let (_, error) = harness.refused(&["rm", "a"]);
    assert!(error.to_string().contains("does not trust the owner"), "{error:#}");
    let (_, error) = harness.refused(&["rm", "a", "--force"]);
    assert!(error["hint"].to_string().contains("--no-rescue"), "{error:#}");
    harness.gk(&["status", "a"]);
    harness.gk(&["clean", "a"]);
    harness.refused(&["new", "b", "--repo", text(&repo)]);
    assert!(!ran.exists(), "its filter did not run");
    assert!(give("0"));
    harness.ok(&["rm", "a", "--force"]);
    assert!(ran.exists(), "the filter runs for the trusted owner");
}

/// Another process repeatedly swaps a directory for a link while files are copied into it.
#[test]
fn directory_swap_during_copy_is_safe() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let outside = harness.path("outside");
    std::fs::create_dir(&outside).expect("made");
    harness.write(&repo.join(".gitignore"), "deep/\n");
    harness.write(&repo.join(".worktreeinclude"), "deep/\n");
    harness.commit(&repo, "lists");
    for n in 0..400 {
        harness.write(&repo.join(format!("deep/in/{n}")), "a secret\n");
    }
    harness.ok(&["ls"]);
    for round in 0..5 {
        let id = format!("e{round}");
        let deep = harness.data().join("worktrees").join(&id).join("project/deep");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let moved = deep.with_extension("moved");
                while !done.load(Ordering::Relaxed) {
                    if std::fs::rename(&deep, &moved).is_ok() {
                        drop(symlink(&outside, &deep));
                        drop(std::fs::remove_file(&deep));
                        drop(std::fs::rename(&moved, &deep));
                    }
                }
            });
            harness.gk(&["new", &id, "--repo", text(&repo)]);
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(std::fs::read_dir(&outside).expect("read").count(), 0, "round {round}");
    }
}

/// A branch that is an alias of another, or that has an alias, is not deleted as if it were
/// independent.
#[test]
fn aliased_branch_keeps_commits() {
    for how in ["symref", "link", "alias", "packed symref"] {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        let path = harness.new_env("a", &repo, &[]);
        let heads = repo.join(".git/refs/heads");
        let commit = if how == "alias" {
            harness.write(&path.join("work"), "work\n");
            let commit = harness.commit(&path, "work");
            harness.git(&repo, &["symbolic-ref", "refs/heads/alias", "refs/heads/gk/a"]);
            commit
        } else {
            harness.git(&repo, &["switch", "-q", "-c", "theirs"]);
            harness.write(&repo.join("work"), "work\n");
            let commit = harness.commit(&repo, "work");
            harness.git(&repo, &["switch", "-q", "main"]);
            if how == "packed symref" {
                harness.git(&repo, &["pack-refs", "--all"]);
            }
            harness.git(&path, &["switch", "-q", "--detach"]);
            if how == "link" {
                std::fs::remove_file(heads.join("gk/a")).expect("removed");
                symlink("../theirs", heads.join("gk/a")).expect("linked");
            } else {
                harness.git(&repo, &["symbolic-ref", "refs/heads/gk/a", "refs/heads/theirs"]);
            }
            commit
        };
        harness.gk(&["rm", "a"]);
        harness.gk(&["rm", "a", "--force", "--branch", "delete"]);
        let held = harness.git(&repo, &["for-each-ref", "--contains", &commit, "refs/heads"]);
        assert!(!held.is_empty(), "{how}");
        assert_eq!(harness.ok(&["ls"]), serde_json::json!([]), "{how}");
    }
}

/// Ref names are bytes: one that is not UTF-8 must not hide the others.
#[test]
fn non_utf8_refs_are_read() {
    use std::os::unix::ffi::OsStrExt as _;
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("a", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    harness.commit(&path, "work");
    let tag = std::ffi::OsStr::from_bytes(b"caf\xe9");
    std::fs::copy(repo.join(".git/refs/heads/main"), repo.join(".git/refs/tags").join(tag))
        .expect("copied");
    harness.ok(&["rm", "a", "--force", "--branch", "keep"]);
    harness.git(&repo, &["switch", "-q", "gk/a"]);
    harness.write(&repo.join("more"), "more\n");
    let moved = harness.commit(&repo, "more");
    harness.git(&repo, &["switch", "-q", "main"]);
    harness.git(&repo, &["pack-refs", "--all"]);
    let restored = harness.ok(&["restore", "a"]);
    assert_eq!(restored["branch"], "gk/a-restored-2", "{restored:#}");
    assert_eq!(harness.git(&repo, &["rev-parse", "gk/a"]), moved, "the branch is not moved");
    harness.ok(&["rm", "a", "--force", "--branch", "keep"]);
    harness.ok(&["trash", "empty"]);
    let left = harness.git(&repo, &["for-each-ref", "refs/groundskeeper/trash"]);
    assert_eq!(left, "");
}

/// Some tools write HEAD as a symbolic link to the branch.
#[test]
fn symlink_head_is_recognised() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("a", &repo, &[]);
    let other = harness.path("other");
    harness.git(&path, &["switch", "-q", "-c", "mine"]);
    harness.git(&repo, &["worktree", "add", "-q", text(&other), "gk/a"]);
    for at in [&path, &other] {
        let branch = harness.git(at, &["symbolic-ref", "HEAD"]);
        let head =
            PathBuf::from(harness.git(at, &["rev-parse", "--absolute-git-dir"])).join("HEAD");
        std::fs::remove_file(&head).expect("removed");
        symlink(&branch, &head).expect("linked");
    }
    harness.ok(&["status", "a"]);
    harness.write(&path.join("work"), "work\n");
    let removed = harness.ok(&["rm", "a", "--force"]);
    assert_eq!(removed["branch_deleted"], false, "it is checked out elsewhere: {removed:#}");
    assert_eq!(harness.git(&other, &["status", "--porcelain"]), "");
    let restored = harness.ok(&["restore", "a"]);
    assert_eq!(restored["branch"], "mine", "{restored:#}");
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "?? work");
}

/// A path with the name of a lock or a list file may be a pipe; a read of it would block forever.
#[test]
fn pipes_are_never_read() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let pipe = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().expect("runs").success());
    };
    harness.new_env("a", &repo, &[]);
    pipe(&repo.join(".git/packed-refs.lock"));
    pipe(&repo.join(".worktreeinclude"));
    harness.ok(&["rm", "a"]);
    harness.new_env("b", &repo, &[]);
    harness.ok(&["doctor"]);
    harness.ok(&["sweep"]);
    harness.ok(&["rm", "b"]);
    std::fs::remove_file(repo.join(".worktreeinclude")).expect("removed");
    symlink("nowhere", repo.join(".worktreeinclude")).expect("linked");
    harness.new_env("c", &repo, &[]);
}
