//! Included files and the setup hook: trust, limits, and rollback on failure.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::support::{Daemon, Harness, wait_for};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Copies only files that git ignores and the list names, and no symlink that leads out.
#[test]
fn listed_ignored_files_are_copied() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitignore"), "*.env\nnode_modules/\nsecret\nout\nescape\n");
    harness.write(&repo.join(".worktreeinclude"), "*.env\nnode_modules/\nout\nescape\nuntracked\n");
    harness.commit(&repo, "lists");
    harness.write(&repo.join("a.env"), "A=1\n");
    harness.write(&repo.join("deep/b.env"), "B=2\n");
    harness.write(&repo.join("secret"), "not named\n");
    harness.write(&repo.join("untracked"), "named, but not ignored\n");
    harness.write(&repo.join("node_modules/x/index.js"), "js\n");
    harness.write(&repo.join("node_modules/.bin/tool"), "#!/bin/sh\n");
    let tool = repo.join("node_modules/.bin/tool");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("mode");
    std::os::unix::fs::symlink("x", repo.join("node_modules/y")).expect("linked");
    std::os::unix::fs::symlink("/etc/passwd", repo.join("node_modules/evil")).expect("linked");
    std::os::unix::fs::symlink("/etc", repo.join("escape")).expect("linked");

    let path = harness.new_env("demo", &repo, &[]);
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
    let included = harness.ok(&["show", "demo"])["included"].clone();
    assert_eq!(included["files"], 5, "{included:#}");
    let skipped = included["skipped"].to_string();
    assert!(skipped.contains("evil") && skipped.contains("escape"), "{skipped}");
    harness.ok(&["rm", "demo"]);
    harness.check(&[&repo]);
}

/// Trust is bound to the content: a changed hook is refused.
#[test]
fn hook_runs_only_if_trusted() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.hook(&repo, "#!/bin/sh\necho ran > ran\necho hello from setup\n");
    let (code, error) = harness.refused(&["new", "a", "--repo", text(&repo)]);
    assert_eq!((code, error["code"].as_str()), (1, Some("not_trusted")), "{error:#}");
    harness.check(&[&repo]);
    let path = harness.new_env("without", &repo, &["--no-setup"]);
    assert!(!path.join("ran").exists());

    harness.ok(&["trust", "--repo", text(&repo)]);
    let path = harness.new_env("a", &repo, &[]);
    assert!(path.join("ran").exists());
    let transcript = harness.ok(&["show", "a"])["transcript"].as_str().expect("one").to_owned();
    assert_eq!(std::fs::read_to_string(&transcript).expect("read"), "hello from setup\n");
    assert_eq!(Path::new(&transcript).metadata().expect("there").mode() & 0o777, 0o600);

    harness.hook(&repo, "#!/bin/sh\necho changed > ran\n");
    let (_, error) = harness.refused(&["new", "b", "--repo", text(&repo)]);
    assert_eq!(error["code"], "not_trusted", "a changed hook is another hook");
    harness.ok(&["trust", "--repo", text(&repo)]);
    harness.new_env("b", &repo, &[]);
    harness.ok(&["trust", "--revoke", "--repo", text(&repo)]);
    harness.refused(&["new", "c", "--repo", text(&repo)]);
    harness.ok(&["rm", "a", "--force"]);
    harness.check(&[&repo]);
}

#[test]
fn hook_process_is_logged_before_running() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let log = harness.path("seen");
    let script = format!(
        "#!/bin/sh\n{} --data-dir {} --json events > {}\necho $$ >> {}\nread line && echo got input\ntrue\n",
        crate::support::PROGRAM,
        harness.data().display(),
        log.display(),
        log.display()
    );
    harness.hook(&repo, &script);
    harness.ok(&["trust", "--repo", text(&repo)]);
    harness.new_env("demo", &repo, &[]);
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
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.hook(&repo, "#!/bin/sh\necho working\necho broken >&2\nexit 3\n");
    harness.ok(&["trust", "--repo", text(&repo)]);
    let (code, error) = harness.refused(&["new", "a", "--repo", text(&repo)]);
    assert_eq!((code, error["code"].as_str()), (2, Some("hook_failed")));
    let evidence = error["evidence"].to_string();
    assert!(evidence.contains("working") && evidence.contains("broken"), "{evidence}");
    assert_eq!(harness.phase("a"), "failed");
    assert!(!harness.data().join("worktrees/a").exists());
    assert_eq!(harness.git(&repo, &["branch", "--list", "gk/*"]), "");
    harness.check(&[&repo]);

    let (_, error) = harness.refused(&["new", "a", "--repo", text(&repo), "--keep-failed"]);
    assert_eq!(error["code"], "hook_failed");
    assert!(harness.data().join("worktrees/a/project/README").exists());
    let (_, error) = harness.refused(&["new", "a", "--repo", text(&repo)]);
    assert_eq!(error["code"], "environment_exists");
    harness.ok(&["rm", "a"]);
    harness.check(&[&repo]);
}

#[test]
fn failed_setup_commits_are_rescued() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.hook(
        &repo,
        "#!/bin/sh\ngit switch -q --detach\ngit commit -q --allow-empty -m work\nexit 1\n",
    );
    harness.ok(&["trust", "--repo", text(&repo)]);
    harness.refused(&["new", "demo", "--repo", text(&repo)]);
    let kept = harness.ok(&["rescue", "show", "demo"]);
    let rescued = format!("{}^1", kept["rescue"].as_str().expect("a ref"));
    assert_eq!(harness.git(&repo, &["log", "-1", "--format=%s", &rescued]), "work");
    let trash = PathBuf::from(kept["trash"].as_str().expect("a path"));
    assert!(trash.join("README").exists(), "the files are in the trash");
    harness.check(&[&repo]);
}

#[test]
fn hanging_hook_ends_with_children() {
    let harness = Harness::new();
    harness.write(
        &harness.path("home/.config/groundskeeper/config.toml"),
        "setup_limit_seconds = 1\n",
    );
    let repo = harness.repo("project", 3);
    harness.hook(&repo, "#!/bin/sh\ntrap '' TERM\nsleep 1000 &\nsleep 1000\n");
    harness.ok(&["trust", "--repo", text(&repo)]);
    let (code, error) = harness.refused(&["new", "a", "--repo", text(&repo)]);
    assert_eq!((code, error["code"].as_str()), (2, Some("timeout")), "{error:#}");
    harness.check(&[&repo]);
}

/// Both `cancel` and `rm` end it.
#[test]
fn provision_cancels_while_hook_runs() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.hook(
        &repo,
        "#!/bin/sh\necho started > \"$GROUNDSKEEPER_SOURCE/../started\"\nsleep 1000\n",
    );
    harness.ok(&["trust", "--repo", text(&repo)]);
    let marker = harness.path("started");
    for verb in ["cancel", "rm"] {
        std::fs::write(&marker, "").expect("written");
        std::thread::scope(|scope| {
            let maker = scope.spawn(|| harness.gk(&["new", "demo", "--repo", text(&repo)]));
            wait_for("the hook to run", || {
                std::fs::read_to_string(&marker).is_ok_and(|t| !t.is_empty())
            });
            harness.ok(&[verb, "demo"]);
            assert_ne!(maker.join().expect("ended").0, 0);
        });
        harness.drain();
        let expected = if verb == "rm" { "tombstoned" } else { "failed" };
        assert_eq!(harness.phase("demo"), expected);
        harness.check(&[&repo]);
    }
}

#[test]
fn daemon_secrets_are_redacted_in_log() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.hook(&repo, "#!/bin/sh\necho token $MY_TOKEN\nexit 1\n");
    let _daemon = Daemon::start_with(&harness, &[("MY_TOKEN", "tops3cretvalue")]);
    harness.ok(&["trust", "--repo", text(&repo)]);
    let (_, error) = harness.refused(&["new", "a", "--repo", text(&repo)]);
    let printed = error.to_string();
    assert!(printed.contains("[secret]") && !printed.contains("tops3cret"), "{printed}");
    let log = std::fs::read(harness.data().join("log.redb")).expect("read");
    assert!(!log.windows(14).any(|w| w == b"tops3cretvalue"));
}

#[test]
fn background_process_does_not_block_hook() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.hook(&repo, "#!/bin/sh\nsleep 30 &\necho done\n");
    harness.ok(&["trust", "--repo", text(&repo)]);
    let before = std::time::Instant::now();
    harness.new_env("demo", &repo, &[]);
    assert!(before.elapsed().as_secs() < 20);
}

/// From the transcripts, and once they are gone as far as the log has it; also of a life that is
/// over, and of one that never became ready.
#[test]
fn logs_show_output_of_hooks() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.hook(&repo, "#!/bin/sh\nfor n in $(seq 30); do echo line $n; done\n[ ! -e fail ]\n");
    harness.teardown_hook(&repo, "#!/bin/sh\necho taken down\n");
    harness.ok(&["trust", "--repo", text(&repo)]);
    harness.ok(&["trust", "--repo", text(&repo), "--hash", &harness.teardown_hash(&repo)]);
    harness.new_env("demo", &repo, &[]);
    let logs = harness.ok(&["logs", "demo"]);
    assert_eq!((&logs["incarnation"], &logs["teardown"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(logs["setup"]["from"], "transcript");
    assert!(logs["setup"]["text"].as_str().is_some_and(|t| t.starts_with("line 1\n")), "{logs:#}");
    harness.ok(&["rm", "demo"]);
    std::fs::remove_dir_all(harness.data().join("transcripts")).expect("removed");
    let logs = harness.ok(&["logs", "demo"]);
    let wanted: Vec<String> = (11..=30).map(|n| format!("line {n}\n")).collect();
    let wanted = wanted.concat();
    assert_eq!(logs["setup"], serde_json::json!({ "text": wanted, "from": "log" }));
    assert_eq!(logs["teardown"]["text"], "taken down\n");
    // A second life, whose hook fails.
    harness.write(&repo.join("fail"), "");
    harness.commit(&repo, "the hook fails");
    harness.refused(&["new", "demo", "--repo", text(&repo)]);
    std::fs::remove_dir_all(harness.data().join("transcripts")).expect("removed");
    let logs = harness.ok(&["logs", "demo"]);
    assert_eq!((&logs["incarnation"], &logs["setup"]["from"]), (&2.into(), &"log".into()));
    assert!(logs["setup"]["text"].as_str().is_some_and(|t| t.ends_with("line 30\n")), "{logs:#}");
    assert_eq!(harness.ok(&["logs", "demo", "--incarnation", "1"])["setup"]["text"], wanted);
    let (code, error) = harness.refused(&["logs", "demo", "--incarnation", "3"]);
    assert_eq!((code, &error["code"]), (3, &"not_found".into()));
    let (code, error) = harness.refused(&["logs", "demonstration"]);
    assert_eq!((code, &error["code"]), (3, &"environment_not_found".into()));
}
