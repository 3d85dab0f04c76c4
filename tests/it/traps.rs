//! Traps of git: unreadable refs, settings that hide files, noise on stderr, special files, links
//! that lead out, hooks that change, and owners that change.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::support::{Bench, Daemon, wait_for};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Creates the worktree that git itself makes for the same request.
fn create_with_git(bench: &Bench, repo: &Path) -> PathBuf {
    let path = bench.path("plain");
    bench.git(repo, &["worktree", "add", "-q", "--no-track", "-b", "plain", text(&path)]);
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
        let bench = Bench::new();
        let repo = bench.repo("project", 3);
        let clean = bench.new_env("clean", &repo, &[]);
        let own = bench.new_env("own", &repo, &[]);
        let merged = bench.new_env("merged", &repo, &[]);
        for path in [&own, &merged] {
            bench.write(&path.join("work"), text(path));
            bench.commit(path, "work");
        }
        bench.git(&repo, &["merge", "-q", "gk/merged"]);
        bench.write(&repo.join(".git").join(name), content);
        // The new mtime makes the daemon run git.
        bench.write(&clean.join("README"), "hello\n");
        for id in ["clean", "merged"] {
            let removed = bench.ok(&["rm", id]);
            assert_eq!(removed["branch_deleted"], true, "{name}: {removed:#}");
        }
        let (_, error) = bench.refused(&["rm", "own"]);
        assert!(error.to_string().contains("unpushed: 1 commits"), "{name}: {error:#}");
        let removed = bench.ok(&["rm", "own", "--force"]);
        let rescue = removed["rescue"][0].as_str().expect("a ref");
        assert_eq!(bench.git(&repo, &["show", &format!("{rescue}:work")]), text(&own));
        bench.ok(&["trash", "empty"]);
        bench.ok(&["restore", "own"]);
        assert_eq!(std::fs::read_to_string(own.join("work")).expect("back"), text(&own));
        bench.new_env("more", &repo, &[]);
    }
}

#[test]
fn rebased_or_bisected_branch_is_kept() {
    for how in ["merge", "apply", "bisect"] {
        let bench = Bench::new();
        let repo = bench.repo("project", 3);
        let path = bench.new_env("a", &repo, &[]);
        for n in 0..3 {
            bench.write(&path.join("same"), &n.to_string());
            bench.commit(&path, "work");
        }
        bench.write(&repo.join("same"), "other");
        bench.commit(&repo, "conflict");
        bench.git(&path, &["switch", "-q", "--detach"]);
        let other = bench.path("other");
        bench.git(&repo, &["worktree", "add", "-q", text(&other), "gk/a"]);
        if how == "bisect" {
            bench.git(&other, &["bisect", "start", "HEAD", "HEAD~3"]);
        } else {
            let rebased = bench.git_raw(&other, &["rebase", &format!("--{how}"), "main"]);
            assert!(!rebased.status.success(), "it stops at a conflict");
        }
        let listed = bench.git(&repo, &["worktree", "list", "--porcelain"]);
        assert!(!listed.contains("branch refs/heads/gk/a"), "{how}: HEAD is detached there");
        let removed = bench.ok(&["rm", "a", "--force", "--branch", "delete"]);
        assert_eq!(removed["branch_deleted"], false, "{how}: {removed:#}");
        assert!(removed["branch_reason"].to_string().contains("being"), "{how}: {removed:#}");
        let (_, error) = bench.refused(&["new", "b", "--repo", text(&repo), "--branch", "gk/a"]);
        assert_eq!(error["code"], "branch_exists", "{how}: {error:#}");
    }
}

/// Messages of git on stderr are no evidence, and one odd file does not fail a status.
#[test]
fn stderr_noise_does_not_fail_status() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.write(&repo.join(".gitattributes"), "!bad text\n");
    bench.commit(&repo, "attributes");
    bench.git(&repo, &["update-ref", "refs/heads/HEAD", "main"]);
    bench.git(&repo, &["tag", "gk/a"]);
    bench.write(&repo.join(".git/objects/info/alternates"), "/nowhere/objects\n");
    let path = bench.new_env("a", &repo, &[]);
    bench.write(&path.join("README"), "hello\n");
    let said = bench.git_raw(&path, &["status"]);
    assert!(!said.stderr.is_empty(), "git has something to say");
    bench.ok(&["rm", "a"]);

    let path = bench.new_env("b", &repo, &[]);
    let fifo = path.join("dir0/file0.txt");
    std::fs::remove_file(&fifo).expect("removed");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("it runs").success());
    bench.write(&path.join("dir0/file1.txt"), "changed\n");
    bench.write(&path.join("dir0/file2.txt"), "changed\n");
    let closed = std::fs::Permissions::from_mode(0o0);
    std::fs::set_permissions(path.join("dir0/file2.txt"), closed).expect("mode");
    let status = bench.ok(&["status", "b"]);
    assert!(status.to_string().contains("file1.txt"), "{status:#}");
    let removed = bench.ok(&["rm", "b", "--force"]);
    let rescue = removed["rescue"][0].as_str().expect("a ref");
    assert_eq!(bench.git(&repo, &["show", &format!("{rescue}:dir0/file1.txt")]), "changed");
}

/// git must work in every worktree that is reported ready.
#[test]
fn worktree_config_does_not_break_siblings() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let bare = bench.path("bare.git");
    bench.git(&repo, &["clone", "-q", "--bare", text(&repo), text(&bare)]);
    bench.git(&bare, &["config", "core.repositoryFormatVersion", "1"]);
    bench.git(&bare, &["config", "extensions.worktreeConfig", "true"]);
    let path = bench.new_env("a", &bare, &[]);
    assert_eq!(bench.git(&path, &["rev-parse", "--show-toplevel"]), text(&path));
    bench.write(&path.join("work"), "work\n");
    bench.commit(&path, "work");
    assert_eq!(bench.git(&bare, &["config", "--get", "core.bare"]), "true", "untouched");
    bench.ok(&["rm", "a", "--force"]);
    bench.ok(&["trash", "empty"]);
    let path = PathBuf::from(bench.ok(&["restore", "a"])["path"].as_str().expect("a path"));
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), "");

    bench.git(&repo, &["config", "core.worktree", text(&repo)]);
    bench.git(&repo, &["config", "extensions.worktreeConfig", "true"]);
    let (code, error) = bench.refused(&["new", "b", "--repo", text(&repo)]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsupported_repository")), "{error:#}");
    bench.git(&repo, &["config", "--worktree", "core.worktree", text(&repo)]);
    bench.git(
        &repo,
        &["config", "--file", text(&repo.join(".git/config")), "--unset", "core.worktree"],
    );
    let path = bench.new_env("b", &repo, &[]);
    assert_eq!(
        bench.git(&path, &["rev-parse", "--show-toplevel"]),
        text(&path),
        "the command of the hint works"
    );
}

#[test]
fn sparse_linked_worktree_is_valid_source() {
    let bench = Bench::new();
    let repo = bench.repo("project", 120);
    let source = bench.path("source");
    bench.git(&repo, &["worktree", "add", "-q", "--detach", text(&source)]);
    bench.git(&source, &["sparse-checkout", "set", "dir1"]);
    let plain = bench.path("plain");
    bench.git(&source, &["worktree", "add", "-q", "-b", "plain", text(&plain)]);
    let path = bench.new_env("a", &source, &[]);
    let listed = |at: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(at).expect("read").flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(listed(&path), listed(&plain));
    assert!(path.join("dir1").exists() && !path.join("dir0").exists());
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), "");
}

/// The checkout gives the same bytes as git's, also with replace refs and attributes from other
/// sources.
#[test]
fn replace_refs_and_attributes_are_honoured() {
    for case in ["replace", "packed replace", "attr.tree", "home attributes"] {
        let bench = Bench::new();
        let repo = bench.repo("project", 450);
        match case {
            "attr.tree" => {
                bench.git(&repo, &["switch", "-q", "-c", "attributes"]);
                bench.write(&repo.join(".gitattributes"), "*.txt text eol=crlf\n");
                bench.commit(&repo, "attributes");
                bench.git(&repo, &["switch", "-q", "main"]);
                bench.git(&repo, &["config", "attr.tree", "attributes"]);
            }
            "home attributes" => {
                bench.write(&bench.path("home/.config/git/attributes"), "*.txt text eol=crlf\n");
            }
            _ => {
                let object = |path: &str| bench.git(&repo, &["rev-parse", &format!("HEAD:{path}")]);
                let (old, new) = (object("dir0/file1.txt"), object("dir0/file2.txt"));
                bench.git(&repo, &["replace", &old, &new]);
                if case == "packed replace" {
                    bench.git(&repo, &["pack-refs", "--all"]);
                }
            }
        }
        let plain = create_with_git(&bench, &repo);
        // git treats an empty variable as unset.
        let mut command = bench.command(&["new", "a", "--repo", text(&repo)]);
        assert!(command.env("XDG_CONFIG_HOME", "").status().expect("it runs").success());
        let path = PathBuf::from(bench.ok(&["show", "a"])["path"].as_str().expect("a path"));
        for n in 0..450 {
            let file = format!("dir{}/file{n}.txt", n / 50);
            let read = |at: &Path| std::fs::read(at.join(&file)).expect("read");
            assert_eq!(read(&path), read(&plain), "{case}: {file}");
        }
        assert_ne!(bench.ok(&["show", "a"])["checkout"]["by"], "parallel", "{case}");
    }
}

/// A remote name with slashes, and a refspec that renames.
#[test]
fn unusual_remotes_are_fetched() {
    let bench = Bench::new();
    let upstream = bench.repo("upstream", 3);
    let repo = bench.path("project");
    bench.git(&upstream, &["clone", "-q", "-o", "team/up", text(&upstream), text(&repo)]);
    bench.write(&upstream.join("new"), "1\n");
    let first = bench.commit(&upstream, "one");
    let path = bench.new_env("a", &repo, &["--fetch"]);
    assert_eq!(bench.git(&path, &["rev-parse", "HEAD"]), first);
    assert_eq!(bench.git(&repo, &["rev-parse", "refs/remotes/team/up/main"]), first);
    bench.git(&repo, &["config", "remote.team/up.fetch", "+refs/heads/*:refs/remotes/x/mine-*"]);
    bench.git(&repo, &["fetch", "-q"]);
    bench.write(&upstream.join("new"), "2\n");
    let second = bench.commit(&upstream, "two");
    let path = bench.new_env("b", &repo, &["--fetch", "--base", "x/mine-main"]);
    assert_eq!(bench.git(&path, &["rev-parse", "HEAD"]), second);
    let left = bench.git(&repo, &["for-each-ref", "refs/groundskeeper"]);
    assert_eq!(left, "", "the temporary fetch ref is deleted");
    assert_eq!(bench.ok(&["show", "b"])["fetch"], "done");
}

/// A branch may have a link at a path where the source has a directory of ignored files.
#[test]
fn included_files_follow_no_symlink() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let outside = bench.path("outside");
    std::fs::create_dir(&outside).expect("made");
    bench.write(&repo.join(".gitignore"), "secrets\ndeep/\n");
    bench.write(&repo.join(".worktreeinclude"), "secrets/\ndeep/\n");
    bench.commit(&repo, "lists");
    bench.git(&repo, &["switch", "-q", "-c", "evil"]);
    symlink(&outside, repo.join("secrets")).expect("linked");
    std::fs::create_dir(repo.join("deep")).expect("made");
    symlink(&outside, repo.join("deep/in")).expect("linked");
    bench.git(&repo, &["add", "-f", "secrets", "deep/in"]);
    bench.git(&repo, &["commit", "-q", "-m", "links"]);
    bench.git(&repo, &["switch", "-q", "main"]);
    for file in ["secrets/key", "deep/in/key", "deep/in/more/key", "deep/ok"] {
        bench.write(&repo.join(file), "a secret\n");
    }
    let path = bench.new_env("a", &repo, &["--base", "evil"]);
    assert_eq!(std::fs::read_dir(&outside).expect("read").count(), 0);
    assert_eq!(std::fs::read_to_string(path.join("deep/ok")).expect("copied"), "a secret\n");
    let skipped = bench.ok(&["show", "a"])["included"]["skipped"].to_string();
    assert!(skipped.contains("secrets") && skipped.contains("deep/in"), "{skipped}");
}

/// The hook that runs has the bytes that were hashed, even if the file changes meanwhile.
#[test]
fn hook_runs_trusted_bytes() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.write(&repo.join(".groundskeeper/lib"), "echo sourced > sourced\n");
    let script = "#!/bin/sh\necho changed > \"$GROUNDSKEEPER_HOOK_DIR/setup\"\n\
                  . \"$GROUNDSKEEPER_HOOK_DIR/lib\"\npwd > where\necho \"$0\" > me\n";
    bench.hook(&repo, script);
    bench.ok(&["trust", "--repo", text(&repo)]);
    let path = bench.new_env("a", &repo, &[]);
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
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let script = "#!/bin/sh\nprintf 'token abcd'; printf 'efgh1234 end\\n'\n\
                  echo cloning https://me:password@example.org/x?access_token=zyxwvuts\nexit 1\n";
    bench.hook(&repo, script);
    let mut daemon = Daemon::start_with(&bench, &[("DEPLOY_TOKEN", "abcdefgh1234")]);
    bench.ok(&["trust", "--repo", text(&repo)]);
    let (_, error) = bench.refused(&["new", "a", "--repo", text(&repo)]);
    let said = error.to_string();
    assert!(said.contains("token [secret] end"), "{said}");
    let shown = bench.ok(&["show", "a"]).to_string() + &bench.ok(&["events"]).to_string();
    let transcript = error["evidence"].as_array().expect("lines").iter().find_map(|line| {
        Some(std::fs::read_to_string(line.as_str()?.strip_prefix("transcript: ")?).expect("read"))
    });
    let transcript = transcript.expect("a transcript");
    assert!(transcript.contains("token [secret] end") && transcript.contains("example.org"));
    daemon.kill();
    let log = std::fs::read(bench.data().join("log.redb")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    for secret in ["abcdefgh1234", "password", "zyxwvuts"] {
        for place in [&said, &shown, &transcript, &log] {
            assert!(!place.contains(secret), "{secret} is in {place}");
        }
    }
}

/// The removal has created nothing at that point.
#[test]
fn immutable_worktree_is_refused_first() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("a", &repo, &[]);
    bench.write(&path.join("work"), "work\n");
    let chattr = |mark: &str| {
        let done = std::process::Command::new("chattr").arg(mark).arg(&path).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !chattr("+i") {
        eprintln!("chattr is not allowed here: NOT TESTED");
        return;
    }
    let (code, error) = bench.refused(&["rm", "a", "--force"]);
    assert!(chattr("-i"));
    assert_eq!(code, 2, "{error:#}");
    assert!(error.to_string().contains("immutable"), "{error:#}");
    assert_eq!(bench.phase("a"), "ready");
    assert_eq!(bench.git(&repo, &["for-each-ref", "refs/groundskeeper"]), "");
    bench.ok(&["rm", "a", "--force"]);
}

/// A foreign shell in the directory, without a terminal, is reported and spared. A process that was
/// started in an environment is ended, shell or not.
#[test]
fn foreign_shells_are_spared() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("a", &repo, &[]);
    let mut shell = std::process::Command::new("sh");
    let shell = shell.current_dir(&path).stdin(std::process::Stdio::piped());
    let mut shell = shell.spawn().expect("started");
    let mut other = std::process::Command::new("sleep");
    let mut other = other.arg("1009").current_dir(&path).spawn().expect("started");
    wait_for("the shell to start", || {
        std::fs::read_to_string(format!("/proc/{}/comm", shell.id())).is_ok_and(|c| c == "sh\n")
    });
    let removed = bench.ok(&["rm", "a"]);
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
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("a", &repo, &[]);
    bench.write(&path.join("work"), "work\n");
    let ran = bench.path("ran");
    bench.git(&repo, &["config", "filter.x.clean", &format!("touch '{}'; cat", ran.display())]);
    bench.write(&repo.join(".git/info/attributes"), "* filter=x\n");
    let give = |owner: &str| {
        let done = std::process::Command::new("chown").args(["-R", owner]).arg(&repo).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !give("65534") {
        eprintln!("files cannot be given away here: NOT TESTED");
        return;
    }
    bench.write(&path.join("README"), "changed\n");
    let (_, error) = bench.refused(&["rm", "a"]);
    assert!(error.to_string().contains("does not trust the owner"), "{error:#}");
    let (_, error) = bench.refused(&["rm", "a", "--force"]);
    assert!(error["hint"].to_string().contains("--no-rescue"), "{error:#}");
    bench.gk(&["status", "a"]);
    bench.gk(&["clean", "a"]);
    bench.refused(&["new", "b", "--repo", text(&repo)]);
    assert!(!ran.exists(), "its filter did not run");
    assert!(give("0"));
    bench.ok(&["rm", "a", "--force"]);
    assert!(ran.exists(), "the filter runs for the trusted owner");
}

/// Another process repeatedly swaps a directory for a link while files are copied into it.
#[test]
fn directory_swap_during_copy_is_safe() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let outside = bench.path("outside");
    std::fs::create_dir(&outside).expect("made");
    bench.write(&repo.join(".gitignore"), "deep/\n");
    bench.write(&repo.join(".worktreeinclude"), "deep/\n");
    bench.commit(&repo, "lists");
    for n in 0..400 {
        bench.write(&repo.join(format!("deep/in/{n}")), "a secret\n");
    }
    bench.ok(&["ls"]);
    for round in 0..5 {
        let id = format!("e{round}");
        let deep = bench.data().join("worktrees").join(&id).join("project/deep");
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
            bench.gk(&["new", &id, "--repo", text(&repo)]);
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
        let bench = Bench::new();
        let repo = bench.repo("project", 3);
        let path = bench.new_env("a", &repo, &[]);
        let heads = repo.join(".git/refs/heads");
        let commit = if how == "alias" {
            bench.write(&path.join("work"), "work\n");
            let commit = bench.commit(&path, "work");
            bench.git(&repo, &["symbolic-ref", "refs/heads/alias", "refs/heads/gk/a"]);
            commit
        } else {
            bench.git(&repo, &["switch", "-q", "-c", "theirs"]);
            bench.write(&repo.join("work"), "work\n");
            let commit = bench.commit(&repo, "work");
            bench.git(&repo, &["switch", "-q", "main"]);
            if how == "packed symref" {
                bench.git(&repo, &["pack-refs", "--all"]);
            }
            bench.git(&path, &["switch", "-q", "--detach"]);
            if how == "link" {
                std::fs::remove_file(heads.join("gk/a")).expect("removed");
                symlink("../theirs", heads.join("gk/a")).expect("linked");
            } else {
                bench.git(&repo, &["symbolic-ref", "refs/heads/gk/a", "refs/heads/theirs"]);
            }
            commit
        };
        bench.gk(&["rm", "a"]);
        bench.gk(&["rm", "a", "--force", "--branch", "delete"]);
        let held = bench.git(&repo, &["for-each-ref", "--contains", &commit, "refs/heads"]);
        assert!(!held.is_empty(), "{how}");
        assert_eq!(bench.ok(&["ls"]), serde_json::json!([]), "{how}");
    }
}

/// Ref names are bytes: one that is not UTF-8 must not hide the others.
#[test]
fn non_utf8_refs_are_read() {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("a", &repo, &[]);
    bench.write(&path.join("work"), "work\n");
    bench.commit(&path, "work");
    let tag = std::ffi::OsStr::from_bytes(b"caf\xe9");
    std::fs::copy(repo.join(".git/refs/heads/main"), repo.join(".git/refs/tags").join(tag))
        .expect("copied");
    bench.ok(&["rm", "a", "--force", "--branch", "keep"]);
    bench.git(&repo, &["switch", "-q", "gk/a"]);
    bench.write(&repo.join("more"), "more\n");
    let moved = bench.commit(&repo, "more");
    bench.git(&repo, &["switch", "-q", "main"]);
    bench.git(&repo, &["pack-refs", "--all"]);
    let restored = bench.ok(&["restore", "a"]);
    assert_eq!(restored["branch"], "gk/a-restored-2", "{restored:#}");
    assert_eq!(bench.git(&repo, &["rev-parse", "gk/a"]), moved, "the branch is not moved");
    bench.ok(&["rm", "a", "--force", "--branch", "keep"]);
    bench.ok(&["trash", "empty"]);
    let left = bench.git(&repo, &["for-each-ref", "refs/groundskeeper/trash"]);
    assert_eq!(left, "");
}

/// Some tools write HEAD as a symbolic link to the branch.
#[test]
fn symlink_head_is_recognised() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let path = bench.new_env("a", &repo, &[]);
    let other = bench.path("other");
    bench.git(&path, &["switch", "-q", "-c", "mine"]);
    bench.git(&repo, &["worktree", "add", "-q", text(&other), "gk/a"]);
    for at in [&path, &other] {
        let branch = bench.git(at, &["symbolic-ref", "HEAD"]);
        let head = PathBuf::from(bench.git(at, &["rev-parse", "--absolute-git-dir"])).join("HEAD");
        std::fs::remove_file(&head).expect("removed");
        symlink(&branch, &head).expect("linked");
    }
    bench.ok(&["status", "a"]);
    bench.write(&path.join("work"), "work\n");
    let removed = bench.ok(&["rm", "a", "--force"]);
    assert_eq!(removed["branch_deleted"], false, "it is checked out elsewhere: {removed:#}");
    assert_eq!(bench.git(&other, &["status", "--porcelain"]), "");
    let restored = bench.ok(&["restore", "a"]);
    assert_eq!(restored["branch"], "mine", "{restored:#}");
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), "?? work");
}

/// A path with the name of a lock or a list file may be a pipe; a read of it would block forever.
#[test]
fn pipes_are_never_read() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let pipe = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().expect("runs").success());
    };
    bench.new_env("a", &repo, &[]);
    pipe(&repo.join(".git/packed-refs.lock"));
    pipe(&repo.join(".worktreeinclude"));
    bench.ok(&["rm", "a"]);
    bench.new_env("b", &repo, &[]);
    bench.ok(&["doctor"]);
    bench.ok(&["sweep"]);
    bench.ok(&["rm", "b"]);
    std::fs::remove_file(repo.join(".worktreeinclude")).expect("removed");
    symlink("nowhere", repo.join(".worktreeinclude")).expect("linked");
    bench.new_env("c", &repo, &[]);
}
