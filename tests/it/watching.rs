//! Status and change events: sent at once for existing environments, and at no cost for removed
//! ones.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::api::{call, connect};
use crate::clean_check::started;
use crate::support::{Daemon, Harness, WAIT_LIMIT, wait_for};

/// Returns the daemon's counters of watching.
pub(crate) fn counts(harness: &Harness) -> Value {
    let (status, info) = call(harness, "GET", "/v1/daemon", "", "");
    assert_eq!(status, 200, "{info}");
    info["watching"].clone()
}

fn count(harness: &Harness, name: &str) -> u64 {
    counts(harness)[name].as_u64().unwrap_or_else(|| panic!("{name}: {}", counts(harness)))
}

/// An open stream of change events.
pub(crate) struct Stream(BufReader<UnixStream>);

impl Stream {
    pub(crate) fn open(harness: &Harness, query: &str, headers: &str) -> Self {
        let mut stream = connect(harness);
        let request = format!(
            "GET /v1/events?watch=true{query} HTTP/1.1\r\nhost: x\r\n\
             accept: text/event-stream\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        Self(BufReader::new(stream))
    }

    /// Returns the next change of an environment; panics after [`WAIT_LIMIT`].
    fn change(&mut self) -> Value {
        let mut line = String::new();
        let until = Instant::now() + WAIT_LIMIT;
        loop {
            line.clear();
            assert!(Instant::now() < until, "no change was reported");
            assert_ne!(
                self.0.read_line(&mut line).expect("a line in time"),
                0,
                "the connection was closed"
            );
            let data = line.strip_prefix("data: ").and_then(|d| serde_json::from_str(d).ok());
            if let Some(data) = data.filter(|d: &Value| d["kind"] == "environment.changed") {
                return data;
            }
        }
    }

    pub(crate) fn await_change(&mut self, id: &str, kind: &str) -> Value {
        loop {
            let change = self.change();
            let kinds = change["changes"].as_array().expect("kinds");
            if change["environment"] == id && kinds.iter().any(|k| k == kind) {
                return change;
            }
        }
    }
}

fn status(harness: &Harness, id: &str) -> Value {
    harness.ok(&["status", id])
}

pub(crate) fn await_watched(harness: &Harness, worktrees: u64) {
    wait_for("watching", || counts(harness)["stages"]["on"].as_u64() == Some(worktrees));
}

#[test]
fn status_matches_git() {
    let harness = Harness::new();
    let repo = harness.repo("project", 5);
    let _daemon = Daemon::start(&harness);
    let at = harness.new_env("demo", &repo, &[]);
    let clean = status(&harness, "demo");
    assert_eq!((clean["clean"].as_bool(), clean["branch"].as_str()), (Some(true), Some("gk/demo")));
    assert_eq!(
        (clean["ahead_of_base"].as_u64(), clean["behind_base"].as_u64()),
        (Some(0), Some(0))
    );
    harness.write(&at.join("new"), "work\n");
    harness.git(&at, &["add", "new"]);
    harness.git(&at, &["commit", "-q", "-m", "work"]);
    harness.git(&repo, &["commit", "-q", "--allow-empty", "-m", "elsewhere"]);
    harness.write(&at.join("new"), "work\nand more\n");
    harness.write(&at.join("untracked/file"), "x");
    harness.git(&at, &["checkout", "-q", "--detach"]);
    crate::support::sleep(std::time::Duration::from_millis(2_100));
    let found = status(&harness, "demo");
    assert_eq!(found["detached"], true, "{found:#}");
    assert_eq!(
        (found["ahead_of_base"].as_u64(), found["behind_base"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!((found["modified"].as_u64(), found["untracked"].as_u64()), (Some(1), Some(1)));
    assert_eq!(
        (found["insertions"].as_u64(), found["lines_complete"].as_bool()),
        (Some(1), Some(false))
    );
    assert_eq!(found["changes"], "~1 ?1");
    let diff = harness.ok(&["diff", "demo"]);
    assert!(diff["patch"].as_str().is_some_and(|p| p.contains("+and more")), "{diff:#}");
    assert_eq!(diff["untracked"][0], "untracked/");
    let cut = harness.ok(&["diff", "demo", "--bytes", "100"]);
    assert_eq!(
        (cut["truncated"].as_bool(), diff["truncated"].as_bool()),
        (Some(true), Some(false))
    );
    let listed = harness.ok(&["ls"]);
    assert_eq!(listed[0]["known"]["changes"], "~1 ?1");
}

#[test]
fn status_errors_are_distinct() {
    let harness = Harness::new();
    let repo = harness.repo("project", 2);
    let _daemon = Daemon::start(&harness);
    assert_eq!(harness.refused(&["status", "nobody"]).1["code"], "environment_not_found");
    let at = harness.new_env("demo", &repo, &[]);
    let aside = harness.path("aside");
    std::fs::rename(&at, &aside).expect("moved");
    assert_eq!(harness.refused(&["status", "demo"]).1["code"], "path_not_found");
    let all = harness.ok(&["status"]);
    assert_eq!(all[0]["error"]["code"], "path_not_found", "{all:#}");
    std::fs::rename(&aside, &at).expect("moved back");
    std::fs::rename(at.join(".git"), harness.path("pointer")).expect("moved");
    crate::support::sleep(std::time::Duration::from_millis(2_100));
    assert_eq!(harness.refused(&["status", "demo"]).1["code"], "not_git_repo");
    std::fs::rename(harness.path("pointer"), at.join(".git")).expect("moved back");
    harness.ok(&["rm", "demo"]);
    assert_eq!(harness.refused(&["status", "demo"]).1["code"], "environment_destroyed");
    assert_eq!(harness.refused(&["diff", "demo"]).1["code"], "environment_destroyed");
}

/// An environment without changes costs no process and no status computation.
#[test]
fn changes_are_sent_idle_costs_nothing() {
    let harness = Harness::new();
    let repo = harness.repo("project", 5);
    harness.write(&repo.join(".gitignore"), "node_modules/\n*.log\n");
    harness.write(&repo.join("file1"), "first\n");
    harness.commit(&repo, "ignores");
    let _daemon = Daemon::start(&harness);
    let at = harness.new_env("demo", &repo, &[]);
    harness.new_env("other", &repo, &[]);
    harness.ok(&["status"]);
    assert_eq!(count(&harness, "begun"), 0, "reading starts no watch");
    let mut stream = Stream::open(&harness, "", "");
    await_watched(&harness, 2);
    harness.ok(&["status"]);
    let (processes, computed) = (started(&harness), count(&harness, "statuses_computed"));
    for _ in 0..5 {
        assert_eq!(harness.ok(&["status"])[0]["status"]["clean"], true);
    }
    assert_eq!((started(&harness), count(&harness, "statuses_computed")), (processes, computed));

    // A change of an ignored file is not reported, and a pruned directory is not watched.
    let watches = count(&harness, "watches");
    harness.write(&at.join("node_modules/package/file.js"), "x");
    harness.write(&at.join("debug.log"), "x");
    harness.write(&at.join("file1"), "changed\n");
    stream.await_change("demo", "files");
    assert_eq!(count(&harness, "watches"), watches);
    assert_eq!(status(&harness, "demo")["changes"], "~1", "the status is correct at once");
    let looks = count(&harness, "statuses_computed") - computed;
    assert_eq!(looks, 1, "one change causes one computation");

    // A directory that appears with content: later changes inside it are seen as well.
    harness.write(&at.join("a/b/c/d"), "x");
    stream.await_change("demo", "files");
    harness.write(&at.join("a/b/c/e"), "x");
    stream.await_change("demo", "files");
    harness.git(&at, &["add", "-A"]);
    stream.await_change("demo", "index");
    assert_eq!(status(&harness, "demo")["changes"], "+2 ~1");
    harness.git(&at, &["commit", "-q", "-m", "work"]);
    stream.await_change("demo", "head");
    assert_eq!(status(&harness, "demo")["ahead_of_base"], 1);
    harness.git(&at, &["switch", "-q", "-c", "elsewhere"]);
    stream.await_change("demo", "head");
    assert_eq!(status(&harness, "demo")["branch"], "elsewhere");
    // A new commit on the base is reported to both, as they share the refs.
    harness.git(&repo, &["commit", "-q", "--allow-empty", "-m", "more"]);
    stream.await_change("other", "refs");
    assert_eq!(status(&harness, "other")["behind_base"], 1);
}

/// After a restore it is watched again while a stream is open.
#[test]
fn removed_environment_is_unwatched() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let at = harness.new_env("demo", &repo, &[]);
    let mut stream = Stream::open(&harness, "", "");
    await_watched(&harness, 1);
    harness.ok(&["rm", "demo"]);
    await_watched_none(&harness);
    harness.ok(&["restore", "demo"]);
    await_watched(&harness, 1);
    harness.write(&at.join("new"), "x");
    let change = stream.await_change("demo", "files");
    assert_eq!(change["incarnation"], 2, "the new incarnation at the same path");
    drop(stream);
    await_watched_none(&harness);
}

fn await_watched_none(harness: &Harness) {
    wait_for("nothing watched", || {
        let counts = counts(harness);
        (counts["worktrees"].as_u64(), counts["watches"].as_u64()) == (Some(0), Some(0))
    });
}

/// The portable backend passes the same scenario.
#[test]
fn portable_backend_reports_same_changes() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let config = harness.path("config.toml");
    harness.write(&config, "watch_backend = \"portable\"\nwatch = \"always\"\n");
    let config = config.to_string_lossy().into_owned();
    let _daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_CONFIG", &config)]);
    let at = harness.new_env("demo", &repo, &[]);
    await_watched(&harness, 1);
    assert_eq!(counts(&harness)["backend"], "notify");
    let mut stream = Stream::open(&harness, "", "");
    for name in ["a/b/c/d", "a/b/c/e"] {
        harness.write(&at.join(name), "x");
        stream.await_change("demo", "files");
        assert_eq!(status(&harness, "demo")["changes"], "?1");
    }
    wait_for("an unchanged status starts no process", || {
        let before = started(&harness);
        status(&harness, "demo");
        started(&harness) == before
    });
    harness.git(&at, &["add", "-A"]);
    stream.await_change("demo", "index");
    harness.git(&at, &["commit", "-q", "-m", "work"]);
    stream.await_change("demo", "head");
    harness.ok(&["rm", "demo", "--force"]);
    await_watched_none(&harness);
    harness.ok(&["restore", "demo"]);
    await_watched(&harness, 1);
    harness.write(&at.join("again"), "x");
    let change = stream.await_change("demo", "files");
    assert_eq!(change["incarnation"], 2);
}

/// After every change, the next status is correct: the cache keeps no entry whose change no watch
/// would report.
#[test]
fn watched_status_is_never_stale() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitignore"), "*.log\nignored/\nnode_modules/\n");
    for name in ["build/Makefile", "t.log", "ignored/tracked", "file1", "folder/sub/file"] {
        harness.write(&repo.join(name), "first\n");
    }
    harness.git(&repo, &["add", "-A", "-f"]);
    harness.git(&repo, &["commit", "-q", "-m", "all"]);
    let origin = harness.path("origin");
    harness.git(&harness.path(""), &["clone", "-q", "--bare", "project", "origin"]);
    let origin = origin.to_string_lossy().into_owned();
    let _daemon = Daemon::start(&harness);
    let at = harness.new_env("demo", &repo, &[]);
    let _stream = Stream::open(&harness, "", "");
    await_watched(&harness, 1);
    let changes = || status(&harness, "demo")["changes"].as_str().unwrap_or_default().to_owned();
    assert_eq!(changes(), "");
    harness.write(&at.join("build/Makefile"), "tracked, and named like output\n");
    assert_eq!(changes(), "~1");
    harness.write(&at.join("t.log"), "tracked, and ignored\n");
    assert_eq!(changes(), "~2");
    harness.write(&at.join("ignored/tracked"), "tracked, in an ignored folder\n");
    assert_eq!(changes(), "~3");
    for n in 0..20 {
        // For git an empty directory is no change, but a file created in it right away is one.
        std::fs::create_dir(at.join(format!("new{n}"))).expect("made");
        assert_eq!(changes(), format!("~3 ?{n}").trim_end_matches(" ?0"));
        std::fs::write(at.join(format!("new{n}/file")), "x").expect("written");
        assert_eq!(changes(), format!("~3 ?{}", n + 1));
    }
    harness.write(&at.join(".gitignore"), "*.log\nignored/\nnode_modules/\nnew*/\n");
    assert_eq!(changes(), "~4");
    harness.write(&at.join("folder/sub/file"), "changed\n");
    assert_eq!(changes(), "~5");
    std::fs::rename(at.join("folder"), at.join("node_modules")).expect("moved away");
    assert_eq!(changes(), "~4 -1");
    std::fs::rename(at.join("node_modules"), at.join("folder")).expect("moved back");
    harness.write(&at.join("folder/sub/other"), "x\n");
    assert_eq!(changes(), "~5 ?1");
    harness.write(&at.join("more.log"), "x\n");
    harness.git(&at, &["add", "-f", "more.log"]);
    assert_eq!(changes(), "+1 ~5 ?1");
    let stashes = || status(&harness, "demo")["stashes"].as_u64();
    harness.git(&at, &["stash", "-q", "--include-untracked"]);
    assert_eq!((stashes(), changes().as_str()), (Some(1), "?20"), "no longer ignored");
    harness.git(&repo, &["stash", "drop", "-q"]);
    assert_eq!(stashes(), Some(0), "the stash was dropped elsewhere");
    check_commits_are_counted(&harness, &repo, &at, &origin);
    check_reads_keep_index(&harness, &at);
    assert_eq!(changes(), "?20");
}

/// Commits here, at the upstream and at the base count at once.
fn check_commits_are_counted(harness: &Harness, repo: &Path, at: &Path, origin: &str) {
    harness.git(repo, &["remote", "add", "origin", origin]);
    harness.git(repo, &["fetch", "-q", "origin"]);
    harness.git(at, &["branch", "-q", "-u", "origin/main"]);
    assert_eq!(status(harness, "demo")["upstream"], "origin/main");
    harness.git(at, &["commit", "-q", "--allow-empty", "-m", "work"]);
    assert_eq!(status(harness, "demo")["ahead"], 1);
    harness.git(at, &["push", "-q", "origin", "HEAD:main"]);
    assert_eq!(status(harness, "demo")["ahead"], 0);
    harness.git(repo, &["commit", "-q", "--allow-empty", "-m", "base"]);
    assert_eq!(status(harness, "demo")["behind_base"], 1);
    harness.git(at, &["reset", "-q", "--soft", "HEAD~1"]);
    assert_eq!(status(harness, "demo")["ahead_of_base"], 0);
}

/// Touches a file without a change: neither a status nor a diff may write the index.
fn check_reads_keep_index(harness: &Harness, at: &Path) {
    // The daemon refreshes a new index once, so the drain comes first.
    harness.drain();
    let touched = std::fs::File::options().write(true).open(at.join("file1")).expect("open");
    touched.set_modified(std::time::SystemTime::now()).expect("touched");
    let index = harness.git(at, &["rev-parse", "--path-format=absolute", "--git-path", "index"]);
    let written = || Path::new(&index).metadata().and_then(|m| m.modified()).expect("there");
    let before = written();
    status(harness, "demo");
    harness.ok(&["diff", "demo", "--head"]);
    assert_eq!(written(), before, "a read wrote the index");
}

/// An adopted clone is watched as well.
#[test]
fn refused_removal_keeps_watch() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join("file1"), "first\n");
    harness.commit(&repo, "one");
    let _daemon = Daemon::start(&harness);
    let at = harness.new_env("demo", &repo, &[]);
    let repo_text = repo.to_string_lossy().into_owned();
    harness.ok(&["adopt", &repo_text, "--id", "clone"]);
    let mut stream = Stream::open(&harness, "", "");
    await_watched(&harness, 2);
    harness.write(&at.join("new"), "x");
    stream.await_change("demo", "files");
    for n in 0..10 {
        assert_eq!(harness.refused(&["rm", "demo"]).1["code"], "unsafe_to_remove");
        await_watched(&harness, 2);
        harness.write(&at.join(format!("new{n}")), "x");
        stream.await_change("demo", "files");
    }
    assert_eq!(status(&harness, "clone")["changes"], "");
    harness.write(&repo.join("file1"), "changed\n");
    stream.await_change("clone", "files");
    assert_eq!(status(&harness, "clone")["changes"], "~1");
    harness.git(&repo, &["commit", "-q", "-a", "-m", "two"]);
    // The events of the two environments come in any order, so each has its own stream.
    let mut others = Stream::open(&harness, "&environment=demo", "");
    stream.await_change("clone", "head");
    harness.git(&repo, &["commit", "-q", "--allow-empty", "-m", "three"]);
    others.await_change("demo", "refs");
    assert_eq!(status(&harness, "clone")["changes"], "");
}

/// Starts a daemon in its own user namespace with a lower limit of the system.
fn start_limited(harness: &Harness, which: &str, most: u32) -> Daemon {
    let lower = format!("echo {most} > /proc/sys/user/{which} && exec \"$@\"");
    let data = harness.data();
    let prefix = ["--user", "--map-root-user", "sh", "-c", &lower, "sh"];
    let mut command = std::process::Command::new("unshare");
    command.args(prefix).arg(crate::support::PROGRAM).arg("--data-dir").arg(data).arg("daemon");
    Daemon::of(harness, command)
}

/// The watch falls back to polling, and no retry storm follows.
#[test]
fn system_limit_is_reported_once() {
    for (which, most) in [("max_inotify_watches", 30), ("max_inotify_instances", 0)] {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        for n in 0..50 {
            harness.write(&repo.join(format!("folder{n}/file")), "x");
        }
        harness.commit(&repo, "folders");
        let _daemon = start_limited(&harness, which, most);
        let at = harness.new_env("demo", &repo, &[]);
        let _stream = Stream::open(&harness, "", "");
        wait_for(which, || counts(&harness)["stages"]["polling"].as_u64() == Some(1));
        let begun = count(&harness, "begun");
        assert_eq!((count(&harness, "worktrees"), count(&harness, "watches")), (0, 0), "freed");
        for n in 0..20 {
            harness.write(&at.join(format!("new{n}")), "x");
            harness.ok(&["ls"]);
        }
        assert_eq!((count(&harness, "begun"), count(&harness, "degraded")), (begun, 1), "{which}");
        assert_eq!(status(&harness, "demo")["untracked"], 20, "the status on request is correct");
        let doctor = harness.gk(&["doctor"]).1;
        let check = doctor.as_array().and_then(|all| all.iter().find(|c| c["name"] == "watching"));
        let check = check.expect("a check");
        assert_eq!(
            (check["status"].as_str(), &check["metrics"]["degraded"]),
            (Some("warn"), &1.into())
        );
        let printed = std::fs::read_to_string(harness.path("daemon.err")).expect("a log");
        assert_eq!(printed.matches("polled instead of watched").count(), 1, "{printed}");
    }
}

/// Reproduces the crash that led to this program: an application polled the status of about 300
/// destroyed worktrees, and every poll created a watcher for each.
#[test]
fn polling_destroyed_environments_is_free() {
    const DESTROYED: usize = 300;
    let harness = Harness::new();
    let repo = harness.repo("project", 1);
    let _daemon = Daemon::start(&harness);
    let _stream = Stream::open(&harness, "", "");
    for n in 0..DESTROYED {
        let body = serde_json::json!({ "id": format!("env{n}"), "repo": repo }).to_string();
        let (status, made) = call(&harness, "POST", "/v1/environments?wait=60", "", &body);
        assert_eq!((status, &made["phase"]), (200, &Value::from("ready")), "{made:#}");
        let path = format!("/v1/environments/env{n}?wait=60");
        assert_eq!(call(&harness, "DELETE", &path, "", "").0, 200);
    }
    harness.drain();
    await_watched_none(&harness);
    let before =
        (started(&harness), count(&harness, "begun"), names(&harness.data().join("worktrees")));
    for _ in 0..5 {
        for n in 0..DESTROYED {
            let path = format!("/v1/environments/env{n}/status");
            let (status, error) = call(&harness, "GET", &path, "", "");
            assert_eq!((status, &error["code"]), (410, &Value::from("environment_destroyed")));
        }
        assert_eq!(call(&harness, "GET", "/v1/status", "", ""), (200, serde_json::json!([])));
    }
    let after =
        (started(&harness), count(&harness, "begun"), names(&harness.data().join("worktrees")));
    assert_eq!(before, after, "processes, watchers, directories");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A returning subscriber receives what it missed.
#[test]
fn lease_watches_and_missed_changes_replay() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let at = harness.new_env("demo", &repo, &[]);
    let lease = harness.ok(&["lease", "demo", "--for", "1h"]);
    await_watched(&harness, 1);
    let seq = harness.ok(&["ls"])[0]["seq"].as_u64().expect("a seq");
    let mut stream = Stream::open(&harness, "", "");
    harness.write(&at.join("new"), "x");
    stream.await_change("demo", "files");
    drop(stream);
    let mut again =
        Stream::open(&harness, "&environment=demo", &format!("last-event-id: {seq}\r\n"));
    again.await_change("demo", "files");
    drop(again);
    harness.ok(&["release", lease["id"].as_str().expect("an id")]);
    await_watched_none(&harness);
}

/// The watch of a missing root is not retried until a subscriber asks.
#[test]
fn moved_root_is_reported_and_rewatched() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let at = harness.new_env("demo", &repo, &[]);
    let mut stream = Stream::open(&harness, "", "");
    await_watched(&harness, 1);
    std::fs::rename(&at, harness.path("aside")).expect("moved");
    stream.await_change("demo", "anything");
    wait_for("absence", || counts(&harness)["stages"]["absent"].as_u64() == Some(1));
    assert_eq!(harness.refused(&["status", "demo"]).1["code"], "path_not_found");
    std::fs::rename(harness.path("aside"), &at).expect("moved back");
    // A new subscriber makes the daemon retry the watch.
    let _another = Stream::open(&harness, "&environment=demo", "");
    await_watched(&harness, 1);
    harness.write(&at.join("new"), "x");
    stream.await_change("demo", "files");
}

#[test]
fn replaced_repository_is_noticed() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let linked = harness.new_env("demo", &repo, &[]);
    let clone = harness.repo("clone", 3);
    harness.ok(&["adopt", clone.to_str().expect("text"), "--id", "clone"]);
    let mut stream = Stream::open(&harness, "", "");
    await_watched(&harness, 2);
    let (link, aside) = (linked.join(".git"), linked.join("aside"));
    std::fs::rename(&link, &aside).expect("moved");
    stream.await_change("demo", "anything");
    assert_eq!(harness.refused(&["status", "demo"]).1["code"], "not_git_repo");
    // A separate repository in what is a plain directory now.
    harness.git(&linked, &["init", "-q"]);
    stream.await_change("demo", "anything");
    assert_eq!(
        harness.refused(&["status", "demo"]).1["code"],
        "not_git_repo",
        "another repository"
    );
    std::fs::remove_dir_all(&link).expect("removed");
    std::fs::rename(&aside, &link).expect("moved back");
    wait_for("the worktree to be recognised again", || call_ok(&harness, "demo"));
    harness.write(&linked.join("deep/new"), "x");
    stream.await_change("demo", "files");
    assert_eq!(status(&harness, "demo")["changes"], "?1");

    // The repository of a clone is recreated at the same path.
    std::fs::remove_dir_all(clone.join(".git")).expect("removed");
    harness.git(&clone, &["init", "-q", "-b", "anew"]);
    wait_for("the new one", || {
        call_ok(&harness, "clone") && status(&harness, "clone")["branch"] == "anew"
    });
    wait_for("both watched", || counts(&harness)["stages"]["on"].as_u64() == Some(2));
    harness.git(&clone, &["switch", "-q", "-c", "another"]);
    stream.await_change("clone", "head");
    assert_eq!(status(&harness, "clone")["branch"], "another");
}

/// Returns whether the status of an environment can be read.
fn call_ok(harness: &Harness, id: &str) -> bool {
    call(harness, "GET", &format!("/v1/environments/{id}/status"), "", "").0 == 200
}
