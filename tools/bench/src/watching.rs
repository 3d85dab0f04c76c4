//! What it costs to know what hundreds of worktrees look like, while nothing happens and while
//! much does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use notify::Watcher as _;
use serde_json::{Value, json};

use crate::daemon::{Connection, Daemon, cpu_time, resident};
use crate::provision::git;
use crate::table::{Table, median, quantile, ratio, show};

const ENVIRONMENTS: usize = 300;
const FILES: usize = 1_500;
const FILES_PER_FOLDER: usize = 25;
const IDLE: Duration = Duration::from_secs(60);
const STORM: usize = 100_000;

pub(crate) fn repository(dir: &Path, files: usize) -> PathBuf {
    let repo = dir.join("repo");
    std::fs::create_dir_all(&repo).expect("a folder");
    assert!(git(&repo, &["init", "-q", "-b", "main"]));
    std::fs::write(repo.join(".gitignore"), "node_modules/\n").expect("written");
    for n in 0..files {
        let folder = repo.join(format!("folder{}", n / FILES_PER_FOLDER));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("file{n}")), format!("{n}\n")).expect("written");
    }
    assert!(git(&repo, &["add", "-A"]) && git(&repo, &["commit", "-q", "-m", "all"]));
    repo
}

pub(crate) fn new(api: &mut Connection, repo: &Path, id: &str) -> PathBuf {
    let body = json!({ "id": id, "repo": repo }).to_string();
    let (status, made) = api.call("POST", "/v1/environments?wait=600", &body);
    assert_eq!((status, made["phase"].as_str()), (200, Some("ready")), "{made:#}");
    PathBuf::from(made["path"].as_str().expect("a path"))
}

/// Changes as they are told, with the time of their arrival.
fn stream(socket: &Path) -> Receiver<(Instant, String)> {
    let mut stream = UnixStream::connect(socket).expect("connected");
    let head = "GET /v1/events?watch=true HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let (sender, receiver) = sync_channel(1 << 16);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let data = line.strip_prefix("data: ").and_then(|d| serde_json::from_str(d).ok());
            let data: Value = data.unwrap_or_default();
            if data["kind"] == "environment.changed" {
                let id = data["environment"].as_str().unwrap_or_default().to_owned();
                drop(sender.send((Instant::now(), id)));
            }
        }
    });
    receiver
}

fn counts(api: &mut Connection) -> (u64, u64, u64) {
    let (_, info) = api.call("GET", "/v1/daemon", "");
    let on = info["watching"]["stages"]["on"].as_u64().unwrap_or(0);
    let computed = info["watching"]["statuses_computed"].as_u64().unwrap_or(0);
    (on, computed, info["processes_started"].as_u64().unwrap_or(0))
}

#[expect(clippy::disallowed_methods, reason = "the measured thing is what happens over a time")]
fn pass(time: Duration) {
    std::thread::sleep(time);
}

fn await_on(daemon: &Daemon, wanted: usize) {
    let until = Instant::now() + Duration::from_secs(120);
    while counts(&mut daemon.connect()).0 != wanted as u64 {
        assert!(Instant::now() < until, "watching did not settle");
        pass(Duration::from_millis(20));
    }
}

/// How long until the change of this environment was told.
fn time_to_change(changes: &Receiver<(Instant, String)>, id: &str, since: Instant) -> Duration {
    loop {
        let (at, of) = changes.recv_timeout(Duration::from_secs(30)).expect("a change is told");
        if of == id && at >= since {
            return at - since;
        }
    }
}

/// Hundreds of watched worktrees.
pub(crate) fn watched(dir: &Path, table: &mut Table) {
    let dir = dir.join("watching");
    let repo = repository(&dir, FILES);
    let daemon = Daemon::start(&dir.join("data"));
    let mut api = daemon.connect();
    let places: Vec<PathBuf> =
        (0..ENVIRONMENTS).map(|n| new(&mut api, &repo, &format!("env{n}"))).collect();
    let before = resident(daemon.child.id());
    let changes = stream(daemon.socket());
    await_on(&daemon, ENVIRONMENTS);
    let memory = resident(daemon.child.id()).saturating_sub(before);
    table.note(&format!("memory to watch {ENVIRONMENTS}"), &format!("{} KiB", memory / 1_024));
    let mut api = daemon.connect();
    api.call("GET", "/v1/status", "");
    unchanged(&daemon, table);
    latency(&places, &changes, table);
    few_changes(&daemon, &places, &changes, table);
    storm(&places, &changes, table);
    removal(&daemon, &places, &changes, table);
}

fn unchanged(daemon: &Daemon, table: &mut Table) {
    let mut api = daemon.connect();
    let before = counts(&mut api);
    let mut times = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        let (status, all) = api.call("GET", "/v1/status", "");
        times.push(start.elapsed());
        assert_eq!((status, all.as_array().map(Vec::len)), (200, Some(ENVIRONMENTS)));
    }
    let after = counts(&mut api);
    let time = median(&mut times);
    let what = format!("status of {ENVIRONMENTS}, nothing changed, ms");
    table.row(&what, &show(time), "", time.as_secs_f64() * 1e3, 10.0, false);
    let processes = (after.2 - before.2) as f64;
    table.row("  processes for it", &format!("{processes}"), "", processes, 0.0, false);
    let start = cpu_time(daemon.child.id());
    pass(IDLE);
    let used = cpu_time(daemon.child.id()).saturating_sub(start);
    let share = used.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    table.row("idle, % of one core over 60 s", &show(used), "", share, 1.0, false);
}

fn latency(places: &[PathBuf], changes: &Receiver<(Instant, String)>, table: &mut Table) {
    let mut times = Vec::new();
    for n in 0..200 {
        let at = n * 7 % places.len();
        let start = Instant::now();
        std::fs::write(places[at].join("folder0/new"), format!("{n}")).expect("written");
        times.push(time_to_change(changes, &format!("env{at}"), start));
    }
    let (middle, late) = (median(&mut times), quantile(&mut times, 0.99));
    let millis = late.as_secs_f64() * 1e3;
    table.row("a write is told, p50 / p99 ms", &show(middle), &show(late), millis, 150.0, false);
}

fn few_changes(
    daemon: &Daemon,
    places: &[PathBuf],
    changes: &Receiver<(Instant, String)>,
    table: &mut Table,
) {
    let mut api = daemon.connect();
    api.call("GET", "/v1/status", "");
    let before = counts(&mut api).1;
    for (n, place) in places.iter().enumerate().take(5) {
        let start = Instant::now();
        std::fs::write(place.join("folder1/new"), "x").expect("written");
        time_to_change(changes, &format!("env{n}"), start);
    }
    for _ in 0..10 {
        api.call("GET", "/v1/status", "");
    }
    let computed = counts(&mut api).1 - before;
    table.row("looks for 5 changes", &computed.to_string(), "", computed as f64, 5.0, false);
}

fn storm(places: &[PathBuf], changes: &Receiver<(Instant, String)>, table: &mut Table) {
    let measure = |rounds: usize| {
        let mut times = Vec::new();
        for n in 0..rounds {
            let at = 20 + n % 100;
            let start = Instant::now();
            std::fs::write(places[at].join("folder2/new"), format!("{n}")).expect("written");
            times.push(time_to_change(changes, &format!("env{at}"), start));
        }
        quantile(&mut times, 0.9)
    };
    let quiet = measure(20);
    let place = places[1].join("folder3");
    let writer = std::thread::spawn(move || {
        for n in 0..STORM {
            std::fs::write(place.join(format!("storm{}", n % 1_000)), "x").expect("written");
        }
    });
    let busy = measure(20);
    writer.join().expect("written");
    let what = format!("a change beside {STORM} writes / alone");
    table.row(&what, &show(busy), &show(quiet), ratio(busy, quiet), 2.0, false);
}

fn removal(
    daemon: &Daemon,
    places: &[PathBuf],
    changes: &Receiver<(Instant, String)>,
    table: &mut Table,
) {
    let mut api = daemon.connect();
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for n in 0..10 {
        let at = 200 + n;
        let start = Instant::now();
        std::fs::write(places[at].join("folder0/a"), "x").expect("written");
        alone.push(time_to_change(changes, &format!("env{at}"), start));
        let path = format!("/v1/environments/env{}?wait=600&force=true", 100 + n);
        let start = Instant::now();
        std::fs::write(places[at].join("folder0/b"), "x").expect("written");
        api.call("DELETE", &path, "");
        beside.push(time_to_change(changes, &format!("env{at}"), start));
    }
    let late = median(&mut beside).saturating_sub(median(&mut alone));
    let millis = late.as_secs_f64() * 1e3;
    table.row("a removal delays others' news, ms", &show(late), "", millis, 20.0, false);
}

/// Memory for watching worktrees with many ignored directories, against one recursive `notify`
/// watcher for each.
pub(crate) fn memory(dir: &Path, table: &mut Table) {
    const WORKTREES: usize = 30;
    const IGNORED: usize = 2_000;
    let dir = dir.join("memory");
    let repo = repository(&dir, FILES);
    let daemon = Daemon::start(&dir.join("data"));
    let places: Vec<PathBuf> =
        (0..WORKTREES).map(|n| new(&mut daemon.connect(), &repo, &format!("env{n}"))).collect();
    for place in &places {
        for n in 0..IGNORED {
            let folder = place.join(format!("node_modules/package{}/lib{n}", n / 40));
            std::fs::create_dir_all(folder).expect("a folder");
        }
    }
    let before = resident(daemon.child.id());
    let _news = stream(daemon.socket());
    await_on(&daemon, WORKTREES);
    let ours = resident(daemon.child.id()).saturating_sub(before);
    let before = resident(std::process::id());
    let watchers: Vec<_> = places
        .iter()
        .map(|place| {
            let config = notify::Config::default().with_event_kinds(notify::EventKindMask::CORE);
            let mut watcher = notify::RecommendedWatcher::new(|_| {}, config).expect("a watcher");
            let mode = notify::RecursiveMode::Recursive;
            watcher.watch(place, mode).expect("watched");
            watcher
        })
        .collect();
    let theirs = resident(std::process::id()).saturating_sub(before);
    drop(watchers);
    let what = format!("memory, {WORKTREES} x {IGNORED} ignored / notify");
    let kib = |bytes: u64| format!("{} KiB", bytes / 1_024);
    let share = ours as f64 / theirs as f64;
    table.row(&what, &kib(ours), &kib(theirs), share, 0.2, false);
}

/// One look at a large clean repository, against git with the same settings.
pub(crate) fn large(dir: &Path, table: &mut Table) {
    let dir = dir.join("large");
    let repo = repository(&dir, 50_000);
    let daemon = Daemon::start(&dir.join("data"));
    let mut api = daemon.connect();
    let place = new(&mut api, &repo, "large");
    let mut looked = Vec::new();
    let mut asked = Vec::new();
    for _ in 0..9 {
        let mut command = Command::new("git");
        let config = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"];
        command.arg("-C").arg(&place).args(config).env("GIT_OPTIONAL_LOCKS", "0");
        command.args(["status", "--porcelain=v2", "--branch"]);
        let start = Instant::now();
        assert!(command.output().expect("git runs").status.success());
        asked.push(start.elapsed());
        let mut api = daemon.connect();
        let start = Instant::now();
        let (status, found) = api.call("GET", "/v1/environments/large/status", "");
        looked.push(start.elapsed());
        assert_eq!((status, found["clean"].as_bool()), (200, Some(true)), "{found:#}");
    }
    let (ours, theirs) = (median(&mut looked), median(&mut asked));
    let what = "status of 50,000 clean files / git status";
    table.row(what, &show(ours), &show(theirs), ratio(ours, theirs), 1.1, false);
    let _news = stream(daemon.socket());
    await_on(&daemon, 1);
    let mut changed = Vec::new();
    for n in 0..10 {
        std::fs::write(place.join("folder0/file0"), format!("change {n}\n")).expect("written");
        let mut api = daemon.connect();
        let start = Instant::now();
        let (status, found) = api.call("GET", "/v1/environments/large/status", "");
        // The first answer is a whole one.
        changed.extend((n > 0).then(|| start.elapsed()));
        assert_eq!((status, found["modified"].as_u64()), (200, Some(1)), "{found:#}");
    }
    let what = "  watched, after one change / git status";
    table.row(
        what,
        &show(median(&mut changed)),
        &show(theirs),
        ratio(median(&mut changed), theirs),
        0.7,
        false,
    );
}
