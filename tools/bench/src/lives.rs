//! Lives that are over: what a million of them cost a daemon in memory and at its start.

use std::path::Path;
use std::time::Instant;

use groundskeeper::core::event::{FormerLife, LivesForgotten, Record};
use groundskeeper::core::{EnvironmentId, State, Time};
use groundskeeper::journal::{Journal, Options};

use crate::daemon::{Daemon, resident};
use crate::logs;
use crate::table::{Table, median, show};

/// Lives in the long log.
const LIVES: u64 = 1_000_000;
/// Lives in one commit of it.
const GROUP: u64 = 1_000;
/// Starts of each daemon.
const STARTS: usize = 5;

/// A log of a million finished lives beside one of none.
pub(crate) fn finished(dir: &Path, table: &mut Table) {
    let (none, many) = (dir.join("lives-none"), dir.join("lives-many"));
    write(&none, 0);
    write(&many, LIVES);
    let (idle, _) = started(&none);
    let (full, start) = started(&many);
    let more = full.saturating_sub(idle) as f64 / f64::from(1 << 20);
    let what = "memory of 1,000,000 finished lives, MB";
    let beside = format!("{} MB without", idle >> 20);
    table.row(what, &format!("{more:.1} MB"), &beside, more, 64.0, false);
    let millis = start.as_secs_f64() * 1e3;
    table.row("start to ready after a stop, ms", &show(start), "", millis, 100.0, false);
    std::fs::remove_dir_all(&many).expect("removed");
}

/// Starts and stops a daemon: the most memory that it had, and the median time until it was ready.
fn started(data: &Path) -> (u64, std::time::Duration) {
    let (mut most, mut times) = (0, Vec::new());
    for _ in 0..STARTS {
        let start = Instant::now();
        let daemon = Daemon::start(data);
        times.push(start.elapsed());
        drop(daemon.connect().call("GET", "/v1/environments", ""));
        most = most.max(resident(daemon.child.id()));
        daemon.stop();
    }
    (most, median(&mut times))
}

/// Writes a log of finished lives, forgotten as a daemon does.
fn write(data: &Path, lives: u64) {
    std::fs::create_dir_all(data).expect("a folder");
    let (mut journal, _) =
        Journal::open(&data.join("log.redb"), Options::default()).expect("a new log");
    let mut state = State::default();
    let mut n = 0;
    while n < lives {
        let mut records = Vec::new();
        let mut forgotten = Vec::new();
        for _ in 0..GROUP {
            let life = life(&mut state, n);
            forgotten.extend(former(n, &life));
            records.extend(life);
            n += 1;
        }
        let event = LivesForgotten { lives: forgotten }.into();
        let record = Record { seq: state.seq().next(), at: Time(1), boot: 1, event };
        state.apply(&record);
        records.push(record);
        journal.append(&records, &state).expect("appended");
    }
    journal.checkpoint().expect("checkpointed");
}

/// A life of which nothing is left.
fn life(state: &mut State, n: u64) -> Vec<Record> {
    let mut records = logs::life(state, n, false);
    let id = EnvironmentId::parse(&format!("env-{n}")).expect("an id");
    for event in logs::ends(&id, None) {
        let record = Record { seq: state.seq().next(), at: Time(1), boot: 1, event };
        state.apply(&record);
        records.push(record);
    }
    records
}

fn former(n: u64, life: &[Record]) -> Option<FormerLife> {
    Some(FormerLife {
        environment: EnvironmentId::parse(&format!("env-{n}")).expect("an id"),
        incarnation: 1,
        nonce: None,
        begun: life.first()?.seq,
        last: life.last()?.seq,
        ended_at: Time(1),
        failed: false,
    })
}
