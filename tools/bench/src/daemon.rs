//! A real daemon, and what it costs while nothing happens.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use groundskeeper::core::State;
use groundskeeper::journal::{Journal, Options};
use serde_json::Value;

use crate::logs;
use crate::table::{Table, median, ratio, show};

/// The program beside this one.
pub(crate) fn program() -> PathBuf {
    let me = std::env::current_exe().expect("this program has a path");
    let beside = me.with_file_name("groundskeeper");
    assert!(beside.exists(), "{} is missing: cargo build --release --workspace", beside.display());
    beside
}

/// A daemon in the foreground, killed when it is dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    socket: PathBuf,
}

impl Daemon {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    pub(crate) fn start_with(data: &Path, env: &[(&str, &std::ffi::OsStr)]) -> Self {
        let mut child = Command::new(program())
            .arg("--data-dir")
            .arg(data)
            .arg("daemon")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let socket = line.trim().strip_prefix("GROUNDSKEEPER_READY:").expect("the ready line");
        Self { child, socket: socket.into() }
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::to(&self.socket)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        assert!(self.child.wait().expect("it ends").success(), "an orderly end");
    }

    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One kept-alive HTTP connection: just enough to measure with.
pub(crate) struct Connection(BufReader<UnixStream>);

impl Connection {
    pub(crate) fn to(socket: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(socket).expect("connected")))
    }

    /// Sends a request; returns status and body.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.0.get_mut().write_all(request.as_bytes()).expect("sent");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).expect("answered"), 0, "hung up");
        }
        let head = head.to_lowercase();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
        let mut body = vec![0; length.and_then(|l| l.trim().parse().ok()).unwrap_or(0)];
        self.0.read_exact(&mut body).expect("answered");
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

/// A data directory whose log holds this many ready environments.
fn populated(data: &Path, environments: u64) {
    std::fs::create_dir_all(data).expect("a folder");
    let (mut journal, _) =
        Journal::open(&data.join("log.redb"), Options::default()).expect("a new log");
    let mut state = State::default();
    for n in 0..environments {
        let records = logs::life(&mut state, n, false);
        journal.append(&records, &state).expect("appended");
    }
    journal.checkpoint().expect("checkpointed");
}

pub(crate) fn list(dir: &Path, table: &mut Table) {
    let data = dir.join("ls");
    populated(&data, 1_000);
    let daemon = Daemon::start(&data);
    let mut connection = daemon.connect();
    let before = children(daemon.child.id());
    let mut times = Vec::new();
    for _ in 0..101 {
        let start = Instant::now();
        let (status, list) = connection.call("GET", "/v1/environments", "");
        times.push(start.elapsed());
        assert_eq!((status, list.as_array().map(Vec::len)), (200, Some(1_000)));
    }
    let (time, bare) = (median(&mut times), bare_list(dir, &mut connection));
    let what = "ls of 1,000 environments / look, encode, send";
    table.row(what, &show(time), &show(bare), ratio(time, bare), 8.0, false);
    let spawned = children(daemon.child.id()).saturating_sub(before);
    table.row("ls: processes spawned", &spawned.to_string(), "", spawned as f64, 0.0, false);
}

/// What no list can do without: an answer to a request, a look at each directory, and the encoding
/// of what is listed.
fn bare_list(dir: &Path, connection: &mut Connection) -> Duration {
    let (_, list) = connection.call("GET", "/v1/environments", "");
    let none = Daemon::start(&dir.join("ls-none"));
    let mut empty = none.connect();
    let mut times = Vec::new();
    for _ in 0..101 {
        let start = Instant::now();
        assert_eq!(empty.call("GET", "/v1/environments", "").0, 200);
        for env in list.as_array().into_iter().flatten() {
            drop(std::hint::black_box(std::fs::metadata(env["path"].as_str().unwrap_or_default())));
        }
        std::hint::black_box(serde_json::to_vec(&list).expect("encoded"));
        times.push(start.elapsed());
    }
    median(&mut times)
}

/// Processes that a process has started and that have ended or run: from the kernel's own count of
/// page faults of waited-for children, which is zero exactly when there were none.
fn children(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    rest.split_ascii_whitespace().nth(8).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[expect(clippy::disallowed_methods, reason = "the measured thing is what happens over a time")]
pub(crate) fn idle(dir: &Path, table: &mut Table) {
    let data = dir.join("idle");
    populated(&data, 300);
    let daemon = Daemon::start(&data);
    drop(daemon.connect().call("GET", "/v1/environments", ""));
    // Past the idle commit, which is the last thing that it has to do.
    std::thread::sleep(Duration::from_secs(2));
    let before = switches(daemon.child.id());
    let seconds = 10;
    std::thread::sleep(Duration::from_secs(seconds));
    let woken = switches(daemon.child.id()) - before;
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.child.id()));
    let status = status.expect("a running daemon");
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.split_ascii_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let rss = field("VmRSS:") / 1_024.0;
    table.row("idle, 300 environments: RSS, MB", &format!("{rss:.1} MB"), "", rss, 40.0, false);
    let what = format!("idle: wake-ups in {seconds} s");
    // The looks at the socket, two each.
    table.row(&what, &woken.to_string(), "", woken as f64, 20.0, false);
}

/// Opening the log of a daemon that was killed after a second without work, against the same log
/// after an orderly stop.
#[expect(clippy::disallowed_methods, reason = "the measured thing is what happens over a time")]
pub(crate) fn reopen(dir: &Path, table: &mut Table) {
    let data = dir.join("reopen");
    populated(&data, 5_000);
    let mut daemon = Daemon::start(&data);
    drop(daemon.connect().call("GET", "/v1/environments", ""));
    std::thread::sleep(Duration::from_secs(1));
    daemon.kill();
    let mut killed = opened(&data);
    Daemon::start(&data).stop();
    let mut stopped = opened(&data);
    let (killed, stopped) = (median(&mut killed), median(&mut stopped));
    let share = ratio(killed, stopped);
    let what = "open after SIGKILL when idle / after a stop";
    table.row(what, &show(killed), &show(stopped), share, 2.0, false);
}

/// Opens copies of a log, so that none is opened after a clean close.
pub(crate) fn opened(data: &Path) -> Vec<Duration> {
    let copy = data.with_extension("copy");
    let times = (0..9).map(|_| {
        std::fs::copy(data.join("log.redb"), &copy).expect("copied");
        let began = Instant::now();
        drop(Journal::open(&copy, Options::default()).expect("opened"));
        began.elapsed()
    });
    times.collect()
}

/// Memory that a process has in use, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let number = line.and_then(|l| l.split_ascii_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1_024
}

/// Processor time that a process has used, without its children.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    // In nanoseconds, for each thread.
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let spent = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

/// Context switches of all threads of a process so far.
fn switches(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .map(|task| {
            let text = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let lines = text.lines().filter(|l| l.contains("ctxt_switches"));
            lines
                .filter_map(|l| l.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
                .sum::<u64>()
        })
        .sum()
}
