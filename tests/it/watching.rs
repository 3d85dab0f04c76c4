//! Status and change events: sent at once for existing environments, and at no cost for removed
//! ones.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::api::{call, connect};
use crate::clean_check::started;
use crate::support::{Bench, Daemon, PATIENCE, wait_for};

/// Returns the daemon's counters of watching.
fn counts(bench: &Bench) -> Value {
    let (status, info) = call(bench, "GET", "/v1/daemon", "", "");
    assert_eq!(status, 200, "{info}");
    info["watching"].clone()
}

fn count(bench: &Bench, name: &str) -> u64 {
    counts(bench)[name].as_u64().unwrap_or_else(|| panic!("{name}: {}", counts(bench)))
}

/// An open stream of change events.
struct Stream(BufReader<UnixStream>);

impl Stream {
    fn open(bench: &Bench, query: &str, headers: &str) -> Self {
        let mut stream = connect(bench);
        let request = format!(
            "GET /v1/events?watch=true{query} HTTP/1.1\r\nhost: x\r\n\
             accept: text/event-stream\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        Self(BufReader::new(stream))
    }

    /// Returns the next change of an environment; panics after [`PATIENCE`].
    fn change(&mut self) -> Value {
        let mut line = String::new();
        let until = Instant::now() + PATIENCE;
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

    fn await_change(&mut self, id: &str, kind: &str) -> Value {
        loop {
            let change = self.change();
            let kinds = change["changes"].as_array().expect("kinds");
            if change["environment"] == id && kinds.iter().any(|k| k == kind) {
                return change;
            }
        }
    }
}

fn status(bench: &Bench, id: &str) -> Value {
    bench.ok(&["status", id])
}

fn await_watched(bench: &Bench, worktrees: u64) {
    wait_for("watching", || counts(bench)["stages"]["on"].as_u64() == Some(worktrees));
}

#[test]
fn status_matches_git() {
    let bench = Bench::new();
    let repo = bench.repo("project", 5);
    let _daemon = Daemon::start(&bench);
    let at = bench.new_env("demo", &repo, &[]);
    let clean = status(&bench, "demo");
    assert_eq!((clean["clean"].as_bool(), clean["branch"].as_str()), (Some(true), Some("gk/demo")));
    assert_eq!(
        (clean["ahead_of_base"].as_u64(), clean["behind_base"].as_u64()),
        (Some(0), Some(0))
    );
    bench.write(&at.join("new"), "work\n");
    bench.git(&at, &["add", "new"]);
    bench.git(&at, &["commit", "-q", "-m", "work"]);
    bench.git(&repo, &["commit", "-q", "--allow-empty", "-m", "elsewhere"]);
    bench.write(&at.join("new"), "work\nand more\n");
    bench.write(&at.join("untracked/file"), "x");
    bench.git(&at, &["checkout", "-q", "--detach"]);
    crate::support::sleep(std::time::Duration::from_millis(2_100));
    let found = status(&bench, "demo");
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
    let diff = bench.ok(&["diff", "demo"]);
    assert!(diff["patch"].as_str().is_some_and(|p| p.contains("+and more")), "{diff:#}");
    assert_eq!(diff["untracked"][0], "untracked/");
    let cut = bench.ok(&["diff", "demo", "--bytes", "100"]);
    assert_eq!(
        (cut["truncated"].as_bool(), diff["truncated"].as_bool()),
        (Some(true), Some(false))
    );
    let listed = bench.ok(&["ls"]);
    assert_eq!(listed[0]["known"]["changes"], "~1 ?1");
}

#[test]
fn status_errors_are_distinct() {
    let bench = Bench::new();
    let repo = bench.repo("project", 2);
    let _daemon = Daemon::start(&bench);
    assert_eq!(bench.refused(&["status", "nobody"]).1["code"], "environment_not_found");
    let at = bench.new_env("demo", &repo, &[]);
    let aside = bench.path("aside");
    std::fs::rename(&at, &aside).expect("moved");
    assert_eq!(bench.refused(&["status", "demo"]).1["code"], "path_not_found");
    let all = bench.ok(&["status"]);
    assert_eq!(all[0]["error"]["code"], "path_not_found", "{all:#}");
    std::fs::rename(&aside, &at).expect("moved back");
    std::fs::rename(at.join(".git"), bench.path("pointer")).expect("moved");
    crate::support::sleep(std::time::Duration::from_millis(2_100));
    assert_eq!(bench.refused(&["status", "demo"]).1["code"], "not_git_repo");
    std::fs::rename(bench.path("pointer"), at.join(".git")).expect("moved back");
    bench.ok(&["rm", "demo"]);
    assert_eq!(bench.refused(&["status", "demo"]).1["code"], "environment_destroyed");
    assert_eq!(bench.refused(&["diff", "demo"]).1["code"], "environment_destroyed");
}

/// An environment without changes costs no process and no status computation.
#[test]
fn changes_are_sent_idle_costs_nothing() {
    let bench = Bench::new();
    let repo = bench.repo("project", 5);
    bench.write(&repo.join(".gitignore"), "node_modules/\n*.log\n");
    bench.write(&repo.join("file1"), "first\n");
    bench.commit(&repo, "ignores");
    let _daemon = Daemon::start(&bench);
    let at = bench.new_env("demo", &repo, &[]);
    bench.new_env("other", &repo, &[]);
    bench.ok(&["status"]);
    assert_eq!(count(&bench, "begun"), 0, "reading starts no watch");
    let mut stream = Stream::open(&bench, "", "");
    await_watched(&bench, 2);
    bench.ok(&["status"]);
    let (processes, computed) = (started(&bench), count(&bench, "statuses_computed"));
    for _ in 0..5 {
        assert_eq!(bench.ok(&["status"])[0]["status"]["clean"], true);
    }
    assert_eq!((started(&bench), count(&bench, "statuses_computed")), (processes, computed));

    // A change of an ignored file is not reported, and a pruned directory is not watched.
    let watches = count(&bench, "watches");
    bench.write(&at.join("node_modules/package/file.js"), "x");
    bench.write(&at.join("debug.log"), "x");
    bench.write(&at.join("file1"), "changed\n");
    stream.await_change("demo", "files");
    assert_eq!(count(&bench, "watches"), watches);
    assert_eq!(status(&bench, "demo")["changes"], "~1", "the status is correct at once");
    let looks = count(&bench, "statuses_computed") - computed;
    assert_eq!(looks, 1, "one change causes one computation");

    // A directory that appears with content: later changes inside it are seen as well.
    bench.write(&at.join("a/b/c/d"), "x");
    stream.await_change("demo", "files");
    bench.write(&at.join("a/b/c/e"), "x");
    stream.await_change("demo", "files");
    bench.git(&at, &["add", "-A"]);
    stream.await_change("demo", "index");
    assert_eq!(status(&bench, "demo")["changes"], "+2 ~1");
    bench.git(&at, &["commit", "-q", "-m", "work"]);
    stream.await_change("demo", "head");
    assert_eq!(status(&bench, "demo")["ahead_of_base"], 1);
    bench.git(&at, &["switch", "-q", "-c", "elsewhere"]);
    stream.await_change("demo", "head");
    assert_eq!(status(&bench, "demo")["branch"], "elsewhere");
    // A new commit on the base is reported to both, as they share the refs.
    bench.git(&repo, &["commit", "-q", "--allow-empty", "-m", "more"]);
    stream.await_change("other", "refs");
    assert_eq!(status(&bench, "other")["behind_base"], 1);
}

/// After a restore it is watched again while a stream is open.
#[test]
fn removed_environment_is_unwatched() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let _daemon = Daemon::start(&bench);
    let at = bench.new_env("demo", &repo, &[]);
    let mut stream = Stream::open(&bench, "", "");
    await_watched(&bench, 1);
    bench.ok(&["rm", "demo"]);
    await_watched_none(&bench);
    bench.ok(&["restore", "demo"]);
    await_watched(&bench, 1);
    bench.write(&at.join("new"), "x");
    let change = stream.await_change("demo", "files");
    assert_eq!(change["incarnation"], 2, "the new incarnation at the same path");
    drop(stream);
    await_watched_none(&bench);
}

fn await_watched_none(bench: &Bench) {
    wait_for("nothing watched", || {
        let counts = counts(bench);
        (counts["worktrees"].as_u64(), counts["watches"].as_u64()) == (Some(0), Some(0))
    });
}

/// The portable backend passes the same scenario.
#[test]
fn portable_backend_reports_same_changes() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let config = bench.path("config.toml");
    bench.write(&config, "watch_backend = \"portable\"\nwatch = \"always\"\n");
    let config = config.to_string_lossy().into_owned();
    let _daemon = Daemon::start_with(&bench, &[("GROUNDSKEEPER_CONFIG", &config)]);
    let at = bench.new_env("demo", &repo, &[]);
    await_watched(&bench, 1);
    assert_eq!(counts(&bench)["backend"], "notify");
    let mut stream = Stream::open(&bench, "", "");
    for name in ["a/b/c/d", "a/b/c/e"] {
        bench.write(&at.join(name), "x");
        stream.await_change("demo", "files");
        assert_eq!(status(&bench, "demo")["changes"], "?1");
    }
    wait_for("an unchanged status starts no process", || {
        let before = started(&bench);
        status(&bench, "demo");
        started(&bench) == before
    });
    bench.git(&at, &["add", "-A"]);
    stream.await_change("demo", "index");
    bench.git(&at, &["commit", "-q", "-m", "work"]);
    stream.await_change("demo", "head");
    bench.ok(&["rm", "demo", "--force"]);
    await_watched_none(&bench);
    bench.ok(&["restore", "demo"]);
    await_watched(&bench, 1);
    bench.write(&at.join("again"), "x");
    let change = stream.await_change("demo", "files");
    assert_eq!(change["incarnation"], 2);
}

/// After every change, the next status is correct: the cache keeps no entry whose change no watch
/// would report.
#[test]
fn watched_status_is_never_stale() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.write(&repo.join(".gitignore"), "*.log\nignored/\nnode_modules/\n");
    for name in ["build/Makefile", "t.log", "ignored/tracked", "file1", "folder/sub/file"] {
        bench.write(&repo.join(name), "first\n");
    }
    bench.git(&repo, &["add", "-A", "-f"]);
    bench.git(&repo, &["commit", "-q", "-m", "all"]);
    let origin = bench.path("origin");
    bench.git(&bench.path(""), &["clone", "-q", "--bare", "project", "origin"]);
    let origin = origin.to_string_lossy().into_owned();
    let _daemon = Daemon::start(&bench);
    let at = bench.new_env("demo", &repo, &[]);
    let _stream = Stream::open(&bench, "", "");
    await_watched(&bench, 1);
    let changes = || status(&bench, "demo")["changes"].as_str().unwrap_or_default().to_owned();
    assert_eq!(changes(), "");
    bench.write(&at.join("build/Makefile"), "tracked, and named like output\n");
    assert_eq!(changes(), "~1");
    bench.write(&at.join("t.log"), "tracked, and ignored\n");
    assert_eq!(changes(), "~2");
    bench.write(&at.join("ignored/tracked"), "tracked, in an ignored folder\n");
    assert_eq!(changes(), "~3");
    for n in 0..20 {
        // For git an empty directory is no change, but a file created in it right away is one.
        std::fs::create_dir(at.join(format!("new{n}"))).expect("made");
        assert_eq!(changes(), format!("~3 ?{n}").trim_end_matches(" ?0"));
        std::fs::write(at.join(format!("new{n}/file")), "x").expect("written");
        assert_eq!(changes(), format!("~3 ?{}", n + 1));
    }
    bench.write(&at.join(".gitignore"), "*.log\nignored/\nnode_modules/\nnew*/\n");
    assert_eq!(changes(), "~4");
    bench.write(&at.join("folder/sub/file"), "changed\n");
    assert_eq!(changes(), "~5");
    std::fs::rename(at.join("folder"), at.join("node_modules")).expect("moved away");
    assert_eq!(changes(), "~4 -1");
    std::fs::rename(at.join("node_modules"), at.join("folder")).expect("moved back");
    bench.write(&at.join("folder/sub/other"), "x\n");
    assert_eq!(changes(), "~5 ?1");
    bench.write(&at.join("more.log"), "x\n");
    bench.git(&at, &["add", "-f", "more.log"]);
    assert_eq!(changes(), "+1 ~5 ?1");
    let stashes = || status(&bench, "demo")["stashes"].as_u64();
    bench.git(&at, &["stash", "-q", "--include-untracked"]);
    assert_eq!((stashes(), changes().as_str()), (Some(1), "?20"), "no longer ignored");
    bench.git(&repo, &["stash", "drop", "-q"]);
    assert_eq!(stashes(), Some(0), "the stash was dropped elsewhere");
    bench.git(&repo, &["remote", "add", "origin", &origin]);
    bench.git(&repo, &["fetch", "-q", "origin"]);
    bench.git(&at, &["branch", "-q", "-u", "origin/main"]);
    assert_eq!(status(&bench, "demo")["upstream"], "origin/main");
    bench.git(&at, &["commit", "-q", "--allow-empty", "-m", "work"]);
    assert_eq!(status(&bench, "demo")["ahead"], 1);
    bench.git(&at, &["push", "-q", "origin", "HEAD:main"]);
    assert_eq!(status(&bench, "demo")["ahead"], 0);
    bench.git(&repo, &["commit", "-q", "--allow-empty", "-m", "base"]);
    assert_eq!(status(&bench, "demo")["behind_base"], 1);
    bench.git(&at, &["reset", "-q", "--soft", "HEAD~1"]);
    assert_eq!(status(&bench, "demo")["ahead_of_base"], 0);
    check_reads_keep_index(&bench, &at);
    assert_eq!(changes(), "?20");
}

/// Touches a file without a change: neither a status nor a diff may write the index.
fn check_reads_keep_index(bench: &Bench, at: &Path) {
    // The daemon refreshes a new index once, so the drain comes first.
    bench.drain();
    let touched = std::fs::File::options().write(true).open(at.join("file1")).expect("open");
    touched.set_modified(std::time::SystemTime::now()).expect("touched");
    let index = bench.git(at, &["rev-parse", "--path-format=absolute", "--git-path", "index"]);
    let written = || Path::new(&index).metadata().and_then(|m| m.modified()).expect("there");
    let before = written();
    status(bench, "demo");
    bench.ok(&["diff", "demo", "--head"]);
    assert_eq!(written(), before, "a read wrote the index");
}

/// An adopted clone is watched as well.
#[test]
fn refused_removal_keeps_watch() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.write(&repo.join("file1"), "first\n");
    bench.commit(&repo, "one");
    let _daemon = Daemon::start(&bench);
    let at = bench.new_env("demo", &repo, &[]);
    let repo_text = repo.to_string_lossy().into_owned();
    bench.ok(&["adopt", &repo_text, "--id", "clone"]);
    let mut stream = Stream::open(&bench, "", "");
    await_watched(&bench, 2);
    bench.write(&at.join("new"), "x");
    stream.await_change("demo", "files");
    for n in 0..10 {
        assert_eq!(bench.refused(&["rm", "demo"]).1["code"], "unsafe_to_remove");
        await_watched(&bench, 2);
        bench.write(&at.join(format!("new{n}")), "x");
        stream.await_change("demo", "files");
    }
    assert_eq!(status(&bench, "clone")["changes"], "");
    bench.write(&repo.join("file1"), "changed\n");
    stream.await_change("clone", "files");
    assert_eq!(status(&bench, "clone")["changes"], "~1");
    bench.git(&repo, &["commit", "-q", "-a", "-m", "two"]);
    // The events of the two environments come in any order, so each has its own stream.
    let mut others = Stream::open(&bench, "&environment=demo", "");
    stream.await_change("clone", "head");
    bench.git(&repo, &["commit", "-q", "--allow-empty", "-m", "three"]);
    others.await_change("demo", "refs");
    assert_eq!(status(&bench, "clone")["changes"], "");
}

/// Starts a daemon in its own user namespace with a lower limit of the system.
fn start_limited(bench: &Bench, which: &str, most: u32) -> Daemon {
    let lower = format!("echo {most} > /proc/sys/user/{which} && exec \"$@\"");
    let data = bench.data();
    let prefix = ["--user", "--map-root-user", "sh", "-c", &lower, "sh"];
    let mut command = std::process::Command::new("unshare");
    command.args(prefix).arg(crate::support::PROGRAM).arg("--data-dir").arg(data).arg("daemon");
    Daemon::of(bench, command)
}

/// The watch falls back to polling, and no retry storm follows.
#[test]
fn system_limit_is_reported_once() {
    for (which, most) in [("max_inotify_watches", 30), ("max_inotify_instances", 0)] {
        let bench = Bench::new();
        let repo = bench.repo("project", 3);
        for n in 0..50 {
            bench.write(&repo.join(format!("folder{n}/file")), "x");
        }
        bench.commit(&repo, "folders");
        let _daemon = start_limited(&bench, which, most);
        let at = bench.new_env("demo", &repo, &[]);
        let _stream = Stream::open(&bench, "", "");
        wait_for(which, || counts(&bench)["stages"]["polling"].as_u64() == Some(1));
        let begun = count(&bench, "begun");
        assert_eq!((count(&bench, "worktrees"), count(&bench, "watches")), (0, 0), "freed");
        for n in 0..20 {
            bench.write(&at.join(format!("new{n}")), "x");
            bench.ok(&["ls"]);
        }
        assert_eq!((count(&bench, "begun"), count(&bench, "degraded")), (begun, 1), "{which}");
        assert_eq!(status(&bench, "demo")["untracked"], 20, "the status on request is correct");
        let doctor = bench.gk(&["doctor"]).1;
        let check = doctor.as_array().and_then(|all| all.iter().find(|c| c["name"] == "watching"));
        let check = check.expect("a check");
        assert_eq!(
            (check["status"].as_str(), &check["metrics"]["degraded"]),
            (Some("warn"), &1.into())
        );
        let said = std::fs::read_to_string(bench.path("daemon.err")).expect("a log");
        assert_eq!(said.matches("polled instead of watched").count(), 1, "{said}");
    }
}

/// Reproduces the crash that led to this program: an application polled the status of about 300
/// destroyed worktrees, and every poll created a watcher for each.
#[test]
fn polling_destroyed_environments_is_free() {
    const DESTROYED: usize = 300;
    let bench = Bench::new();
    let repo = bench.repo("project", 1);
    let _daemon = Daemon::start(&bench);
    let _stream = Stream::open(&bench, "", "");
    for n in 0..DESTROYED {
        let body = serde_json::json!({ "id": format!("env{n}"), "repo": repo }).to_string();
        let (status, made) = call(&bench, "POST", "/v1/environments?wait=60", "", &body);
        assert_eq!((status, &made["phase"]), (200, &Value::from("ready")), "{made:#}");
        let path = format!("/v1/environments/env{n}?wait=60");
        assert_eq!(call(&bench, "DELETE", &path, "", "").0, 200);
    }
    bench.drain();
    await_watched_none(&bench);
    let before = (started(&bench), count(&bench, "begun"), names(&bench.data().join("worktrees")));
    for _ in 0..5 {
        for n in 0..DESTROYED {
            let path = format!("/v1/environments/env{n}/status");
            let (status, error) = call(&bench, "GET", &path, "", "");
            assert_eq!((status, &error["code"]), (410, &Value::from("environment_destroyed")));
        }
        assert_eq!(call(&bench, "GET", "/v1/status", "", ""), (200, serde_json::json!([])));
    }
    let after = (started(&bench), count(&bench, "begun"), names(&bench.data().join("worktrees")));
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
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let _daemon = Daemon::start(&bench);
    let at = bench.new_env("demo", &repo, &[]);
    let lease = bench.ok(&["lease", "demo", "--for", "1h"]);
    await_watched(&bench, 1);
    let seq = bench.ok(&["ls"])[0]["seq"].as_u64().expect("a seq");
    let mut stream = Stream::open(&bench, "", "");
    bench.write(&at.join("new"), "x");
    stream.await_change("demo", "files");
    drop(stream);
    let mut again = Stream::open(&bench, "&environment=demo", &format!("last-event-id: {seq}\r\n"));
    again.await_change("demo", "files");
    drop(again);
    bench.ok(&["release", lease["id"].as_str().expect("an id")]);
    await_watched_none(&bench);
}

/// The watch of a missing root is not retried until a subscriber asks.
#[test]
fn moved_root_is_reported_and_rewatched() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let _daemon = Daemon::start(&bench);
    let at = bench.new_env("demo", &repo, &[]);
    let mut stream = Stream::open(&bench, "", "");
    await_watched(&bench, 1);
    std::fs::rename(&at, bench.path("aside")).expect("moved");
    stream.await_change("demo", "anything");
    wait_for("absence", || counts(&bench)["stages"]["absent"].as_u64() == Some(1));
    assert_eq!(bench.refused(&["status", "demo"]).1["code"], "path_not_found");
    std::fs::rename(bench.path("aside"), &at).expect("moved back");
    // A new subscriber makes the daemon retry the watch.
    let _another = Stream::open(&bench, "&environment=demo", "");
    await_watched(&bench, 1);
    bench.write(&at.join("new"), "x");
    stream.await_change("demo", "files");
}

#[test]
fn replaced_repository_is_noticed() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let _daemon = Daemon::start(&bench);
    let linked = bench.new_env("demo", &repo, &[]);
    let clone = bench.repo("clone", 3);
    bench.ok(&["adopt", clone.to_str().expect("text"), "--id", "clone"]);
    let mut stream = Stream::open(&bench, "", "");
    await_watched(&bench, 2);
    let (link, aside) = (linked.join(".git"), linked.join("aside"));
    std::fs::rename(&link, &aside).expect("moved");
    stream.await_change("demo", "anything");
    assert_eq!(bench.refused(&["status", "demo"]).1["code"], "not_git_repo");
    // A separate repository in what is a plain directory now.
    bench.git(&linked, &["init", "-q"]);
    stream.await_change("demo", "anything");
    assert_eq!(bench.refused(&["status", "demo"]).1["code"], "not_git_repo", "another repository");
    std::fs::remove_dir_all(&link).expect("removed");
    std::fs::rename(&aside, &link).expect("moved back");
    wait_for("the worktree to be recognised again", || call_ok(&bench, "demo"));
    bench.write(&linked.join("deep/new"), "x");
    stream.await_change("demo", "files");
    assert_eq!(status(&bench, "demo")["changes"], "?1");

    // The repository of a clone is recreated at the same path.
    std::fs::remove_dir_all(clone.join(".git")).expect("removed");
    bench.git(&clone, &["init", "-q", "-b", "anew"]);
    wait_for("the new one", || {
        call_ok(&bench, "clone") && status(&bench, "clone")["branch"] == "anew"
    });
    wait_for("both watched", || counts(&bench)["stages"]["on"].as_u64() == Some(2));
    bench.git(&clone, &["switch", "-q", "-c", "another"]);
    stream.await_change("clone", "head");
    assert_eq!(status(&bench, "clone")["branch"], "another");
}

/// Returns whether the status of an environment can be read.
fn call_ok(bench: &Bench, id: &str) -> bool {
    call(bench, "GET", &format!("/v1/environments/{id}/status"), "", "").0 == 200
}
