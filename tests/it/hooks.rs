//! Included files and the setup hook: trust, limits, and rollback on failure.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::support::{Bench, Daemon, wait_for};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Copies only files that git ignores and the list names, and no symlink that leads out.
#[test]
fn listed_ignored_files_are_copied() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.write(&repo.join(".gitignore"), "*.env\nnode_modules/\nsecret\nout\nescape\n");
    bench.write(&repo.join(".worktreeinclude"), "*.env\nnode_modules/\nout\nescape\nuntracked\n");
    bench.commit(&repo, "lists");
    bench.write(&repo.join("a.env"), "A=1\n");
    bench.write(&repo.join("deep/b.env"), "B=2\n");
    bench.write(&repo.join("secret"), "not named\n");
    bench.write(&repo.join("untracked"), "named, but not ignored\n");
    bench.write(&repo.join("node_modules/x/index.js"), "js\n");
    bench.write(&repo.join("node_modules/.bin/tool"), "#!/bin/sh\n");
    let tool = repo.join("node_modules/.bin/tool");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("mode");
    std::os::unix::fs::symlink("x", repo.join("node_modules/y")).expect("linked");
    std::os::unix::fs::symlink("/etc/passwd", repo.join("node_modules/evil")).expect("linked");
    std::os::unix::fs::symlink("/etc", repo.join("escape")).expect("linked");

    let path = bench.new_env("demo", &repo, &[]);
    let read = |name: &str| std::fs::read_to_string(path.join(name)).ok();
    assert_eq!(read("a.env").as_deref(), Some("A=1\n"));
    assert_eq!(read("deep/b.env").as_deref(), Some("B=2\n"));
    assert_eq!(read("node_modules/x/index.js").as_deref(), Some("js\n"));
    let copied = path.join("node_modules/.bin/tool").metadata().expect("copied");
    assert_eq!(copied.mode() & 0o777, 0o755);
    assert_eq!(copied.mtime(), tool.metadata().expect("there").mtime());
    assert_eq!(std::fs::read_link(path.join("node_modules/y")).expect("a link"), Path::new("x"));
    for absent in ["secret", "untracked", "node_modules/evil", "escape"] {
        assert!(path.join(absent).symlink_metadata().is_err(), "{absent}");
    }
    let included = bench.ok(&["show", "demo"])["included"].clone();
    assert_eq!(included["files"], 5, "{included:#}");
    let skipped = included["skipped"].to_string();
    assert!(skipped.contains("evil") && skipped.contains("escape"), "{skipped}");
    bench.ok(&["rm", "demo"]);
    bench.check(&[&repo]);
}

/// Trust is bound to the content: a changed hook is refused.
#[test]
fn hook_runs_only_if_trusted() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.hook(&repo, "#!/bin/sh\necho ran > ran\necho hello from setup\n");
    let (code, error) = bench.refused(&["new", "a", "--repo", text(&repo)]);
    assert_eq!((code, error["code"].as_str()), (1, Some("not_trusted")), "{error:#}");
    bench.check(&[&repo]);
    let path = bench.new_env("without", &repo, &["--no-setup"]);
    assert!(!path.join("ran").exists());

    bench.ok(&["trust", "--repo", text(&repo)]);
    let path = bench.new_env("a", &repo, &[]);
    assert!(path.join("ran").exists());
    let transcript = bench.ok(&["show", "a"])["transcript"].as_str().expect("one").to_owned();
    assert_eq!(std::fs::read_to_string(&transcript).expect("read"), "hello from setup\n");
    assert_eq!(Path::new(&transcript).metadata().expect("there").mode() & 0o777, 0o600);

    bench.hook(&repo, "#!/bin/sh\necho changed > ran\n");
    let (_, error) = bench.refused(&["new", "b", "--repo", text(&repo)]);
    assert_eq!(error["code"], "not_trusted", "a changed hook is another hook");
    bench.ok(&["trust", "--repo", text(&repo)]);
    bench.new_env("b", &repo, &[]);
    bench.ok(&["trust", "--revoke", "--repo", text(&repo)]);
    bench.refused(&["new", "c", "--repo", text(&repo)]);
    bench.ok(&["rm", "a", "--force"]);
    bench.check(&[&repo]);
}

#[test]
fn hook_process_is_logged_before_running() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let log = bench.path("seen");
    let script = format!(
        "#!/bin/sh\n{} --data-dir {} --json events > {}\necho $$ >> {}\nread line && echo got input\ntrue\n",
        crate::support::PROGRAM,
        bench.data().display(),
        log.display(),
        log.display()
    );
    bench.hook(&repo, &script);
    bench.ok(&["trust", "--repo", text(&repo)]);
    bench.new_env("demo", &repo, &[]);
    let seen = std::fs::read_to_string(log).expect("read");
    let pid = seen.lines().last().expect("a pid");
    let started = seen.lines().find(|l| l.contains("SetupStarted")).expect("recorded before");
    let started: serde_json::Value = serde_json::from_str(started).expect("json");
    assert_eq!(started["pid"].to_string(), pid);
    assert!(started["started"].as_u64().is_some_and(|s| s > 0));
}

/// `--keep-failed` keeps the worktree.
#[test]
fn failed_hook_rolls_back_or_keeps() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.hook(&repo, "#!/bin/sh\necho working\necho broken >&2\nexit 3\n");
    bench.ok(&["trust", "--repo", text(&repo)]);
    let (code, error) = bench.refused(&["new", "a", "--repo", text(&repo)]);
    assert_eq!((code, error["code"].as_str()), (2, Some("hook_failed")));
    let evidence = error["evidence"].to_string();
    assert!(evidence.contains("working") && evidence.contains("broken"), "{evidence}");
    assert_eq!(bench.phase("a"), "failed");
    assert!(!bench.data().join("worktrees/a").exists());
    assert_eq!(bench.git(&repo, &["branch", "--list", "gk/*"]), "");
    bench.check(&[&repo]);

    let (_, error) = bench.refused(&["new", "a", "--repo", text(&repo), "--keep-failed"]);
    assert_eq!(error["code"], "hook_failed");
    assert!(bench.data().join("worktrees/a/project/README").exists());
    let (_, error) = bench.refused(&["new", "a", "--repo", text(&repo)]);
    assert_eq!(error["code"], "environment_exists");
    bench.ok(&["rm", "a"]);
    bench.check(&[&repo]);
}

#[test]
fn failed_setup_commits_are_rescued() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.hook(
        &repo,
        "#!/bin/sh\ngit switch -q --detach\ngit commit -q --allow-empty -m work\nexit 1\n",
    );
    bench.ok(&["trust", "--repo", text(&repo)]);
    bench.refused(&["new", "demo", "--repo", text(&repo)]);
    let kept = bench.ok(&["rescue", "show", "demo"]);
    let rescued = format!("{}^1", kept["rescue"].as_str().expect("a ref"));
    assert_eq!(bench.git(&repo, &["log", "-1", "--format=%s", &rescued]), "work");
    let trash = PathBuf::from(kept["trash"].as_str().expect("a path"));
    assert!(trash.join("README").exists(), "the files are in the trash");
    bench.check(&[&repo]);
}

#[test]
fn hanging_hook_ends_with_children() {
    let bench = Bench::new();
    bench.write(&bench.path("home/.config/groundskeeper/config.toml"), "setup_limit_seconds = 1\n");
    let repo = bench.repo("project", 3);
    bench.hook(&repo, "#!/bin/sh\ntrap '' TERM\nsleep 1000 &\nsleep 1000\n");
    bench.ok(&["trust", "--repo", text(&repo)]);
    let (code, error) = bench.refused(&["new", "a", "--repo", text(&repo)]);
    assert_eq!((code, error["code"].as_str()), (2, Some("timeout")), "{error:#}");
    bench.check(&[&repo]);
}

/// Both `cancel` and `rm` end it.
#[test]
fn provision_cancels_while_hook_runs() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.hook(
        &repo,
        "#!/bin/sh\necho started > \"$GROUNDSKEEPER_SOURCE/../started\"\nsleep 1000\n",
    );
    bench.ok(&["trust", "--repo", text(&repo)]);
    let marker = bench.path("started");
    for verb in ["cancel", "rm"] {
        std::fs::write(&marker, "").expect("written");
        std::thread::scope(|scope| {
            let maker = scope.spawn(|| bench.gk(&["new", "demo", "--repo", text(&repo)]));
            wait_for("the hook to run", || {
                std::fs::read_to_string(&marker).is_ok_and(|t| !t.is_empty())
            });
            bench.ok(&[verb, "demo"]);
            assert_ne!(maker.join().expect("ended").0, 0);
        });
        bench.drain();
        let expected = if verb == "rm" { "tombstoned" } else { "failed" };
        assert_eq!(bench.phase("demo"), expected);
        bench.check(&[&repo]);
    }
}

#[test]
fn daemon_secrets_are_redacted_in_log() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.hook(&repo, "#!/bin/sh\necho token $MY_TOKEN\nexit 1\n");
    let _daemon = Daemon::start_with(&bench, &[("MY_TOKEN", "tops3cretvalue")]);
    bench.ok(&["trust", "--repo", text(&repo)]);
    let (_, error) = bench.refused(&["new", "a", "--repo", text(&repo)]);
    let said = error.to_string();
    assert!(said.contains("[secret]") && !said.contains("tops3cret"), "{said}");
    let log = std::fs::read(bench.data().join("log.redb")).expect("read");
    assert!(!log.windows(14).any(|w| w == b"tops3cretvalue"));
}

#[test]
fn background_process_does_not_block_hook() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.hook(&repo, "#!/bin/sh\nsleep 30 &\necho done\n");
    bench.ok(&["trust", "--repo", text(&repo)]);
    let before = std::time::Instant::now();
    bench.new_env("demo", &repo, &[]);
    assert!(before.elapsed().as_secs() < 20);
}
