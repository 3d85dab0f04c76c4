//! Taking environments away and bringing them back, against a bare rename in the same minute.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::{Connection, Daemon};
use crate::provision::git;
use crate::table::{Table, median, quantile, ratio, show};

/// Ignored files in the tree that is removed, as a package folder has them.
const IGNORED: usize = 20_000;
const ROUNDS: usize = 9;
const HEALTHY: usize = 300;

fn repository(dir: &Path) -> PathBuf {
    let repo = dir.join("repo");
    std::fs::create_dir_all(&repo).expect("a folder");
    assert!(git(&repo, &["init", "-q", "-b", "main"]));
    std::fs::write(repo.join(".gitignore"), "node_modules/\n").expect("written");
    for n in 0..60 {
        std::fs::write(repo.join(format!("file{n}")), format!("{n}\n").repeat(50))
            .expect("written");
    }
    assert!(git(&repo, &["add", "-A"]) && git(&repo, &["commit", "-q", "-m", "all"]));
    repo
}

fn fill(worktree: &Path, files: usize) {
    for n in 0..files {
        let folder = worktree.join(format!("node_modules/package{}/lib", n / 40));
        if n % 40 == 0 {
            std::fs::create_dir_all(&folder).expect("a folder");
        }
        std::fs::write(folder.join(format!("file{n}.js")), "module.exports = 1;\n")
            .expect("written");
    }
}

fn new(api: &mut Connection, repo: &Path, id: &str) -> PathBuf {
    let body = json!({ "id": id, "repo": repo }).to_string();
    let (status, made) = api.call("POST", "/v1/environments?wait=600", &body);
    assert_eq!((status, made["phase"].as_str()), (200, Some("ready")), "{made:#}");
    PathBuf::from(made["path"].as_str().expect("a path"))
}

/// `rm` and `restore` of a large tree, rounds of ours and theirs interleaved.
pub(crate) fn remove_and_restore(dir: &Path, table: &mut Table) {
    let dir = dir.join("removal");
    let repo = repository(&dir);
    let daemon = Daemon::start(&dir.join("data"));
    let mut api = daemon.connect();
    let (mut ours, mut bare, mut back, mut bare_back) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let id = format!("env{round}");
        fill(&new(&mut api, &repo, &id), IGNORED);
        // The daemon hangs up on those that were silent while the files were written.
        api = daemon.connect();
        let start = Instant::now();
        let path = format!("/v1/environments/{id}?wait=600");
        let (status, removed) = api.call("DELETE", &path, "");
        ours.push(start.elapsed());
        assert_eq!(status, 200, "{removed:#}");
        let start = Instant::now();
        let path = format!("/v1/environments/{id}/restore?wait=600");
        let (status, restored) = api.call("POST", &path, "{}");
        back.push(start.elapsed());
        assert_eq!((status, restored["phase"].as_str()), (200, Some("ready")), "{restored:#}");

        let (there, aside) = (dir.join(format!("bare{round}")), dir.join(format!("aside{round}")));
        let text = there.to_str().expect("text");
        let branch = format!("bare{round}");
        assert!(git(&repo, &["worktree", "add", "-q", "-b", &branch, text]));
        fill(&there, IGNORED);
        let start = Instant::now();
        assert!(!holds_repository(&there, true));
        std::fs::rename(&there, &aside).expect("renamed");
        assert!(git(&repo, &["worktree", "remove", "--force", text]));
        bare.push(start.elapsed());
        let start = Instant::now();
        assert!(git(&repo, &["worktree", "add", "-q", "--no-checkout", text, &branch]));
        std::fs::rename(there.join(".git"), aside.join(".git")).expect("renamed");
        std::fs::remove_dir(&there).expect("removed");
        std::fs::rename(&aside, &there).expect("renamed back");
        bare_back.push(start.elapsed());
    }
    let (ours, bare) = (median(&mut ours), median(&mut bare));
    let what = format!("rm, {IGNORED} ignored files / walk + rename + unregister");
    table.row(&what, &show(ours), &show(bare), ratio(ours, bare), 1.5, false);
    let slow = forced(&dir, &repo);
    let what = "the same / git worktree remove --force";
    // git does not look for repositories inside; that walk is most of what ours costs.
    table.row(what, &show(ours), &show(slow), ratio(slow, ours), 12.0, true);
    let (back, bare) = (median(&mut back), median(&mut bare_back));
    let what = "restore from trash / rename + register";
    table.row(what, &show(back), &show(bare), ratio(back, bare), 2.0, false);
}

/// Whether a `.git` lies anywhere in a tree: the least that has to be known before it goes.
fn holds_repository(folder: &Path, is_top: bool) -> bool {
    std::fs::read_dir(folder).expect("a folder").flatten().any(|entry| {
        let is_git = entry.file_name() == ".git";
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        (is_git && !is_top) || (is_folder && holds_repository(&entry.path(), false))
    })
}

/// How long git itself takes to remove such a tree.
fn forced(dir: &Path, repo: &Path) -> Duration {
    let mut times = Vec::new();
    for round in 0..3 {
        let there = dir.join(format!("forced{round}"));
        let text = there.to_str().expect("text");
        assert!(git(repo, &["worktree", "add", "-q", "--detach", text]));
        fill(&there, IGNORED);
        let start = Instant::now();
        assert!(git(repo, &["worktree", "remove", "--force", text]));
        times.push(start.elapsed());
    }
    median(&mut times)
}

/// A look at a host on which all is well.
pub(crate) fn sweep(dir: &Path, table: &mut Table) {
    let dir = dir.join("sweep");
    let repo = repository(&dir);
    let daemon = Daemon::start(&dir.join("data"));
    let mut api = daemon.connect();
    for n in 0..HEALTHY {
        new(&mut api, &repo, &format!("env{n}"));
    }
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let (status, report) = api.call("POST", "/v1/sweep", "{}");
        times.push(start.elapsed());
        assert_eq!((status, report["found"].as_u64()), (200, Some(0)), "{report:#}");
    }
    let time = median(&mut times);
    let what = format!("sweep of {HEALTHY} healthy environments, s");
    table.row(&what, &show(time), "", time.as_secs_f64(), 1.0, false);
}

/// How much longer commands take while a large tree is unlinked behind them.
pub(crate) fn unlink(dir: &Path, table: &mut Table) {
    let dir = dir.join("unlink");
    let repo = repository(&dir);
    let daemon = Daemon::start(&dir.join("data"));
    let mut api = daemon.connect();
    new(&mut api, &repo, "lease");
    fill(&new(&mut api, &repo, "large"), 3 * IGNORED);
    let (status, _) = api.call("DELETE", "/v1/environments/large?wait=600", "");
    assert_eq!(status, 200);
    settle();
    let mut idle = leases(&mut api, &mut |_| true);
    let (status, _) = api.call("DELETE", "/v1/trash", "");
    assert_eq!(status, 200);
    let mut watch = daemon.connect();
    let mut busy = leases(&mut api, &mut |n| n % 64 != 0 || is_unlinking(&mut watch));
    let samples = busy.len();
    let (idle, busy) = (quantile(&mut idle, 0.99), quantile(&mut busy, 0.99));
    let what = format!("command p99 beside an unlink ({samples}) / idle");
    table.row(&what, &show(busy), &show(idle), ratio(busy, idle), 2.0, false);
}

fn is_unlinking(api: &mut Connection) -> bool {
    let (_, trash) = api.call("GET", "/v1/trash", "");
    trash.as_array().is_some_and(|list| !list.is_empty())
}

/// Measuring what went to the trash is done.
fn settle() {
    drop(Command::new("sync").stdout(Stdio::null()).status());
}

/// The times of up to 2,000 durable commands, as long as `go_on` says so.
fn leases(api: &mut Connection, go_on: &mut dyn FnMut(usize) -> bool) -> Vec<Duration> {
    let body = json!({ "seconds": 600, "id": "bench" }).to_string();
    let mut times = Vec::new();
    for n in 0..2_000 {
        if n > 0 && !go_on(n) {
            break;
        }
        let start = Instant::now();
        let (status, _) = api.call("POST", "/v1/environments/lease/leases", &body);
        times.push(start.elapsed());
        assert_eq!(status, 201);
    }
    times
}
