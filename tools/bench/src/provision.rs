//! Making worktrees, against `git worktree add` in the same repository in the same minute.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::{Daemon, program};
use crate::table::{Table, median, ratio, show};

pub(crate) fn git(at: &Path, args: &[&str]) -> bool {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=b", "-c", "user.email=b@example.org", "-C"]).arg(at);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("git runs").success()
}

/// A repository with this many files of a few kilobytes, packed as a clone would be.
fn repository(dir: &Path, files: usize) -> PathBuf {
    let repo = dir.join(format!("repo-{files}"));
    std::fs::create_dir_all(&repo).expect("a folder");
    assert!(git(&repo, &["init", "-q", "-b", "main"]));
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for n in 0..files {
        let folder = repo.join(format!("src/part{}/unit{}", n / 400, n / 20 % 20));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut text = String::new();
        let lines = 20 + n * 7919 % 160;
        for line in 0..lines {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            text.push_str(&format!("    let value_{line} = compute({:x}); // {n}\n", random >> 34));
        }
        std::fs::write(folder.join(format!("file{n}.rs")), text).expect("written");
    }
    assert!(git(&repo, &["add", "-A"]) && git(&repo, &["commit", "-q", "-m", "all"]));
    assert!(git(&repo, &["repack", "-q", "-a", "-d"]));
    repo
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// One at a time, median of 9 after a first one that counts for nothing.
pub(crate) fn cold(dir: &Path, table: &mut Table) {
    let data = dir.join("cold");
    let daemon = Daemon::start(&data);
    for (files, promised) in [(60, 1.1), (5_000, 0.7)] {
        let repo = repository(dir, files);
        let mut connection = daemon.connect();
        let (mut ours, mut theirs, mut typed) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..10 {
            let (id, cli) = (format!("p{files}-{round}"), format!("c{files}-{round}"));
            let place = dir.join(format!("git-{files}-{round}"));
            let text = place.to_str().expect("text");
            let branch = format!("theirs-{round}");
            let git_time = timed(|| {
                assert!(git(&repo, &["worktree", "add", "-q", "-b", &branch, text, "main"]));
            });
            let our_time = timed(|| {
                let body = json!({ "id": id, "repo": repo }).to_string();
                let (status, made) = connection.call("POST", "/v1/environments?wait=60", &body);
                assert_eq!((status, made["phase"].as_str()), (200, Some("ready")), "{made}");
            });
            let cli_time = timed(|| new(&data, &cli, &repo));
            if round > 0 {
                ours.push(our_time);
                theirs.push(git_time);
                typed.push(cli_time);
            }
            // Registrations go, files stay: file systems without a journal create files ten times
            // slower for a while after many were deleted, and that would be measured instead.
            std::fs::rename(&place, dir.join(format!("kept-{files}-{round}"))).expect("moved");
            assert!(git(&repo, &["worktree", "prune"]));
            assert!(git(&repo, &["branch", "-q", "-D", &branch]));
            for id in [id, cli] {
                let path = format!("/v1/environments/{id}?wait=60");
                assert_eq!(connection.call("DELETE", &path, "").0, 200);
            }
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        let what = format!("provision {files} files / git worktree add -b");
        table.row(&what, &show(ours), &show(theirs), ratio(ours, theirs), promised, false);
        table.note("  the same by the command line", &show(median(&mut typed)));
    }
}

fn new(data: &Path, id: &str, repo: &Path) {
    let mut command = Command::new(program());
    command.arg("--data-dir").arg(data).args(["--json", "new", id, "--repo"]).arg(repo);
    assert!(command.stdout(Stdio::null()).status().expect("it runs").success());
}

const AT_ONCE: u32 = 32;

/// Thirty-two at once in one repository: beside somebody who lists its worktrees all the time, to
/// count failures; and, every tenth round, alone, against git one by one.
pub(crate) fn parallel(dir: &Path, rounds: u32, table: &mut Table) {
    let data = dir.join("parallel");
    let daemon = Daemon::start(&data);
    let repo = repository(dir, 61);
    let (watch, failed) = (Bystander::default(), AtomicU32::new(0));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut made, mut gone) = ((0, 0), (0, 0));
    std::thread::scope(|scope| {
        scope.spawn(|| watch.run(&repo));
        for round in 0..rounds {
            watch.on.store(true, Ordering::Relaxed);
            at_once(&daemon, &repo, round, &failed);
            let (listed, broken) = watch.pause();
            made = (made.0 + listed, made.1 + broken);
            watch.on.store(true, Ordering::Relaxed);
            remove_all(&daemon, round);
            let (listed, broken) = watch.pause();
            gone = (gone.0 + listed, gone.1 + broken);
            if round % 10 == 0 {
                let alone = rounds + round;
                ours.push(timed(|| at_once(&daemon, &repo, alone, &failed)));
                remove_all(&daemon, alone);
                theirs.push(timed(|| one_by_one(dir, &repo)));
                forget_theirs(dir, &repo, round);
            }
        }
        watch.over.store(true, Ordering::Relaxed);
    });
    let failed = failed.into_inner();
    let what = format!("{AT_ONCE} at once, {rounds} rounds: failures");
    table.row(&what, &failed.to_string(), "", f64::from(failed), 0.0, false);
    let what = format!("  failures of {} git worktree list", made.0);
    table.row(&what, &made.1.to_string(), "", f64::from(made.1), 0.0, false);
    let text = format!("{} of {}", gone.1, gone.0);
    table.note("  of git worktree list during removals", &text);
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let what = format!("{AT_ONCE} at once / one by one, throughput");
    table.row(&what, &show(ours), &show(theirs), ratio(theirs, ours), 2.0, true);
}

/// Somebody else who uses the repository.
#[derive(Default)]
struct Bystander {
    on: AtomicBool,
    busy: AtomicBool,
    over: AtomicBool,
    listed: AtomicU32,
    broken: AtomicU32,
}

impl Bystander {
    #[expect(clippy::disallowed_methods, reason = "waits without taking a core from what is timed")]
    fn run(&self, repo: &Path) {
        while !self.over.load(Ordering::Relaxed) {
            if !self.on.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            self.busy.store(true, Ordering::SeqCst);
            let fine = git(repo, &["worktree", "list", "--porcelain"]);
            self.broken.fetch_add(u32::from(!fine), Ordering::Relaxed);
            self.listed.fetch_add(1, Ordering::Relaxed);
            self.busy.store(false, Ordering::SeqCst);
        }
    }

    /// Stops listing; returns how often it listed and how often that failed since the last pause.
    #[expect(clippy::disallowed_methods, reason = "waits without taking a core from what is timed")]
    fn pause(&self) -> (u32, u32) {
        self.on.store(false, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        while self.busy.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        (self.listed.swap(0, Ordering::SeqCst), self.broken.swap(0, Ordering::SeqCst))
    }
}

fn at_once(daemon: &Daemon, repo: &Path, round: u32, failed: &AtomicU32) {
    std::thread::scope(|scope| {
        for n in 0..AT_ONCE {
            scope.spawn(move || {
                let body = json!({ "id": format!("r{round}-{n}"), "repo": repo }).to_string();
                let made = daemon.connect().call("POST", "/v1/environments?wait=120", &body);
                let ready = made.1["phase"] == "ready";
                failed.fetch_add(u32::from(!ready), Ordering::Relaxed);
            });
        }
    });
}

fn remove_all(daemon: &Daemon, round: u32) {
    let mut connection = daemon.connect();
    for n in 0..AT_ONCE {
        let path = format!("/v1/environments/r{round}-{n}?force=true&wait=60");
        connection.call("DELETE", &path, "");
    }
}

fn one_by_one(dir: &Path, repo: &Path) {
    for n in 0..AT_ONCE {
        let place = dir.join(format!("theirs-{n}"));
        let text = place.to_str().expect("text");
        assert!(git(repo, &["worktree", "add", "-q", "-b", &format!("t{n}"), text, "main"]));
    }
}

fn forget_theirs(dir: &Path, repo: &Path, round: u32) {
    for n in 0..AT_ONCE {
        let kept = dir.join(format!("kept-at-once-{round}-{n}"));
        std::fs::rename(dir.join(format!("theirs-{n}")), kept).expect("moved");
    }
    assert!(git(repo, &["worktree", "prune"]));
    for n in 0..AT_ONCE {
        assert!(git(repo, &["branch", "-q", "-D", &format!("t{n}")]));
    }
}
