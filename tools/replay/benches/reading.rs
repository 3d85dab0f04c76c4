//! What reading a million events costs: `stats` against a bare scan of the same table, and the
//! verbs that people wait for. `cargo bench -p replay` prints the figures and fails when a promise
//! is not kept. Rounds are interleaved, medians are compared: both are measured in one run.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made has no other end")]

#[path = "../tests/story/mod.rs"]
mod story;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use groundskeeper_core::event::Record;
use groundskeeper_core::{Event, Seq, State, Time};
use groundskeeper_journal::forensic::Range;
use groundskeeper_journal::{Journal, Options, ReadOnlyLog};

const EVENTS: u64 = 1_000_000;
const NAMES: u64 = 10_000;
const ROUNDS: usize = 7;
/// Address space that is enough for any verb but those that hold a state, in KiB.
const MEMORY_KIB: u32 = 160 * 1024;

fn main() -> ExitCode {
    // `cargo test --benches` asks whether it runs at all.
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log.redb");
    let events = make(&path);
    let size = path.metadata().expect("a file").len() >> 20;
    println!("{events} events, {size} MiB, {ROUNDS} rounds, medians");
    let file = path.to_str().expect("text");
    let (mut raw, mut checked, mut unchecked) = (Vec::new(), Vec::new(), Vec::new());
    let (mut explained, mut last) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raw.push(scan(&path, events));
        checked.push(run(&["stats", file, "--json"]));
        unchecked.push(run(&["stats", file, "--json", "--no-checksums"]));
        explained.push(run(&["explain", file, "e77", "--json"]));
        last.push(run(&["list", file, "--last", "20"]));
    }
    let (raw, checked, unchecked) = (median(raw), median(checked), median(unchecked));
    let mut kept = true;
    println!("{:<44} {:>9.3} s", "bare scan of the table", raw.as_secs_f64());
    let mut row = |what: &str, time: Duration, limit: Duration| {
        let fine = time <= limit;
        kept &= fine;
        let (time, limit) = (time.as_secs_f64(), limit.as_secs_f64());
        let factor = time / raw.as_secs_f64();
        let mark = if fine { "" } else { "  MISSED" };
        println!("{what:<44} {time:>9.3} s  {factor:>5.2} x raw  (<= {limit:.3} s){mark}");
    };
    row("stats, checksums checked (whole process)", checked, raw * 2);
    row("stats, checksums not checked", unchecked, raw * 2);
    let second = Duration::from_secs(1);
    row("explain ENV", median(explained), second);
    row("list --last 20", median(last), second);
    for args in [["list", file, "--env", "e77"], ["at", file, "--env", "e77"]] {
        println!("{:<44} {:>9.3} s", args[0], run(&args).as_secs_f64());
    }
    println!("{:<44} {:>9.3} s", "verify", run(&["verify", file]).as_secs_f64());
    for verb in ["stats", "list", "export"] {
        let bounded = format!("ulimit -v {MEMORY_KIB}; exec \"$0\" {verb} \"$1\" > /dev/null");
        let ran = Command::new("sh").args(["-c", &bounded]).arg(program()).arg(file).status();
        let fine = ran.is_ok_and(|status| status.success());
        kept &= fine;
        let mark = if fine { "enough" } else { "NOT ENOUGH" };
        println!("{verb}: {} MiB of address space are {mark}", MEMORY_KIB / 1024);
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_replay")
}

/// Ten thousand names, made and removed over and over.
fn make(path: &Path) -> u64 {
    let (mut journal, _) = Journal::open(path, Options::default()).expect("a new log");
    let (mut state, mut n) = (State::default(), 0);
    while state.seq() < Seq(EVENTS) {
        let mut group = Vec::new();
        while group.len() < 1_000 {
            let name = format!("e{}", n % NAMES);
            let life = u32::try_from(n / NAMES + 1).expect("a small number");
            let mut events: Vec<Event> = Vec::new();
            if n == 0 {
                events.push(story::started());
            }
            events.extend(story::made(&name, life));
            events.extend(story::removed(&name));
            for event in events {
                let seq = state.seq().next();
                let at = Time(story::START + seq.0 * story::SECOND);
                let record = Record { seq, at, boot: 1, event };
                state.apply(&record);
                group.push(record);
            }
            n += 1;
        }
        journal.append(&group, &state).expect("appended");
    }
    journal.checkpoint().expect("checkpointed");
    state.seq().0
}

/// What redb alone takes: open, and hand out every record as bytes.
fn scan(path: &Path, expected: u64) -> Duration {
    let start = Instant::now();
    let log = ReadOnlyLog::open(path).expect("opened");
    let (mut records, mut bytes) = (0_u64, 0_usize);
    log.walk(Range::ALL, &mut |_, record| {
        records += 1;
        bytes += std::hint::black_box(record).len();
        ControlFlow::Continue(())
    })
    .expect("read");
    drop(log);
    assert!(records == expected && bytes > 0);
    start.elapsed()
}

fn run(args: &[&str]) -> Duration {
    let start = Instant::now();
    let status = Command::new(program()).args(args).stdout(Stdio::null()).status();
    let time = start.elapsed();
    assert!(status.expect("it runs").success(), "{args:?}");
    time
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
