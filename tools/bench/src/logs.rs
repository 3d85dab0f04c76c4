//! The log: commits against the bare disk, many clients against one, and the fold of a long life.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use groundskeeper::core::event::{
    Actor, Base, BaseResolved, BranchSettled, DestroyRequested, DirectoryTrashed, EnvironmentReady,
    Plan, ProvisionRequested, Record, RegistrationRemoved, Repository, RepositoryTrusted,
    Retention, SetupFinished, SetupReport, TeardownInspected, TeardownOptions, Tombstoned,
    Worktree, WorktreeAdded,
};
use groundskeeper::core::{Command, EnvironmentId, Event, HostPath, Seq, State, Time};
use groundskeeper::engine::{Engine, Handle, scheduling};
use groundskeeper::journal::inspect::Depth;
use groundskeeper::journal::{Journal, Options, codec, envelope, inspect};
use groundskeeper::world::World;
use groundskeeper::world::fs::data_dir::Layout;

use crate::daemon::{Daemon, opened};
use crate::table::{Table, median, quantile, ratio, show};

/// The events of one environment's life, applied to `state`; with `whole` up to its tombstone.
pub(crate) fn life(state: &mut State, n: u64, whole: bool) -> Vec<Record> {
    let environment = EnvironmentId::parse(&format!("env-{n}")).expect("an id");
    let mut events = begins(&environment, n);
    if whole {
        events.extend(ends(&environment, Some(place(n))));
    }
    // A log of the past would be trimmed meanwhile.
    let at = groundskeeper::clock::now();
    let record = |event| {
        let record = Record { seq: state.seq().next(), at, boot: 1, event };
        state.apply(&record);
        record
    };
    events.into_iter().map(record).collect()
}

fn place(n: u64) -> HostPath {
    HostPath::from(format!("/home/u/.local/share/groundskeeper/{n}/project").as_str())
}

/// The records of a provision.
pub(crate) fn begins(environment: &EnvironmentId, n: u64) -> Vec<Event> {
    let plan = Plan {
        repository: Repository {
            common_dir: "/home/u/src/project/.git".into(),
            source: Some("/home/u/src/project".into()),
            name: "project".into(),
            object_format: "sha1".into(),
        },
        path: place(n),
        branch: format!("gk/env-{n}"),
        ..Plan::default()
    };
    let id = || environment.clone();
    let base = Base {
        commit: "0".repeat(40),
        reference: Some("refs/heads/main".into()),
        ..Base::default()
    };
    vec![
        ProvisionRequested {
            environment: id(),
            incarnation: 1,
            plan,
            actor: Actor::default(),
            request: None,
            nonce: None,
            attributes: None,
        }
        .into(),
        BaseResolved { environment: id(), base }.into(),
        WorktreeAdded { environment: id(), worktree: Worktree::default() }.into(),
        SetupFinished { environment: id(), report: SetupReport::default(), tail: Vec::new() }
            .into(),
        EnvironmentReady { environment: id() }.into(),
    ]
}

/// The records of a removal, which leaves a directory in the trash, or nothing.
pub(crate) fn ends(environment: &EnvironmentId, trash: Option<HostPath>) -> [Event; 6] {
    let id = || environment.clone();
    [
        DestroyRequested {
            environment: id(),
            force: false,
            actor: Actor::default(),
            request: None,
            options: TeardownOptions::default(),
        }
        .into(),
        TeardownInspected {
            environment: id(),
            unsaved: Vec::new(),
            fingerprint: Some("ab".repeat(32)),
            head: Some("0".repeat(40)),
            quiet: true,
            rescue: false,
            has_hook: false,
            noted: Vec::new(),
            unseen: false,
            branch: None,
        }
        .into(),
        DirectoryTrashed { environment: id(), trash }.into(),
        RegistrationRemoved { environment: id() }.into(),
        BranchSettled {
            environment: id(),
            deleted: true,
            reason: String::new(),
            rescue: Vec::new(),
        }
        .into(),
        Tombstoned { environment: id(), leftovers: Vec::new() }.into(),
    ]
}

/// One event and a group of 64, against the same bytes appended to a file and synced.
pub(crate) fn commits(dir: &Path, table: &mut Table) {
    for (group, promised) in [(1_usize, 2.0), (64, 2.5)] {
        let name = format!("commit-{group}");
        let (mut journal, _) =
            Journal::open(&dir.join(&name), Options::default()).expect("a new log");
        // Two ways to write the bare bytes: a file that grows, as a log does, and one whose blocks
        // were all written before, which is the least that any disk can do.
        let grown = File::create(dir.join(format!("{name}.grown"))).expect("a file");
        let mut raw = File::create(dir.join(format!("{name}.raw"))).expect("a file");
        raw.write_all(&vec![0; 64 << 20]).and_then(|()| raw.sync_all()).expect("written");
        let mut state = State::default();
        let (mut ours, mut theirs, mut least) = (Vec::new(), Vec::new(), Vec::new());
        let mut offset = 0;
        for round in 0..300_u64 {
            let records: Vec<Record> = (0..group as u64)
                .map(|n| {
                    let environment = EnvironmentId::parse(&format!("e{}", n % 9)).expect("an id");
                    let transcript = HostPath(vec![b'x'; 150]);
                    let report = SetupReport { transcript, ..SetupReport::default() };
                    let event = SetupFinished { environment, report, tail: Vec::new() }.into();
                    let record =
                        Record { seq: state.seq().next(), at: Time(round), boot: 1, event };
                    state.apply(&record);
                    record
                })
                .collect();
            let start = Instant::now();
            journal.append(&records, &state).expect("appended");
            ours.push(start.elapsed());
            let bytes: Vec<u8> =
                records.iter().flat_map(|r| codec::encode(r, 0).expect("encoded").0).collect();
            for (file, times) in [(&grown, &mut theirs), (&raw, &mut least)] {
                let start = Instant::now();
                write_at(file, &bytes, offset);
                times.push(start.elapsed());
            }
            offset += bytes.len() as u64;
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        let what = format!("journal: {group} event(s) / append + fdatasync");
        table.row(&what, &show(ours), &show(theirs), ratio(ours, theirs), promised, false);
        let least = ratio(ours, median(&mut least));
        table.note("  against blocks written before", &format!("{least:.2}"));
    }
}

fn write_at(file: &File, bytes: &[u8], offset: u64) {
    use std::os::unix::fs::FileExt as _;
    file.write_all_at(bytes, offset).and_then(|()| file.sync_data()).expect("synced");
}

fn engine(dir: &Path) -> (Handle, std::thread::JoinHandle<()>) {
    let layout = Layout::new(dir.to_owned());
    World::prepare(&layout).expect("folders");
    let (journal, found) = Journal::open(&layout.log(), Options::default()).expect("a new log");
    let world = Arc::new(World::new(layout, journal.log_id()));
    let (engine, handle) = Engine::new(journal, found.state, world);
    let thread = std::thread::spawn(move || {
        let _got = scheduling::raise();
        let retention = Retention {
            trash_seconds: 1 << 30,
            trash_bytes: 1 << 50,
            clean_seconds: 1 << 30,
            rescue_seconds: None,
        };
        let ground = groundskeeper::core::Ground::default();
        drop(engine.run(Command::Start { pid: 1, version: "bench".into(), retention, ground }));
    });
    (handle, thread)
}

/// A command that leads to one small event.
fn small(n: u64) -> Command {
    Command::Trust(RepositoryTrusted {
        repository: "/home/u/src/project/.git".into(),
        hash: format!("{n:064x}"),
        actor: Actor::default(),
    })
}

/// Events a second with one client and with 256, and the slowest answers beside two busy loops.
pub(crate) fn clients(dir: &Path, table: &mut Table) {
    let data = dir.join("clients");
    std::fs::create_dir_all(&data).expect("a folder");
    let (handle, thread) = engine(&data);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
    let runtime = runtime.expect("a runtime");
    let rate = |clients: u64, each: u64, from: u64| {
        let start = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|client| {
                let handle = handle.clone();
                runtime.spawn(async move {
                    for n in 0..each {
                        let number = from + client * each + n;
                        handle.submit(small(number)).await.expect("decided");
                    }
                })
            })
            .collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.expect("done");
            }
        });
        (clients * each) as f64 / start.elapsed().as_secs_f64()
    };
    let mut ratios = Vec::new();
    for round in 0..5 {
        let from = round * 1_000_000;
        let one = rate(1, 1_000, from);
        let many = rate(256, 200, from + 100_000);
        ratios.push((many / one, one, many));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, one, many) = ratios[ratios.len() / 2];
    let against = format!("{one:.0}/s");
    table.row(
        "256 clients / one, events a second",
        &format!("{many:.0}/s"),
        &against,
        ratio,
        40.0,
        true,
    );
    beside_hogs(&handle, table);
    handle.shutdown("bench");
    thread.join().expect("ended");
}

#[expect(clippy::disallowed_methods, reason = "one request every few milliseconds is the load")]
fn beside_hogs(handle: &Handle, table: &mut Table) {
    let over = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..2)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut n = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    n = std::hint::black_box(n.wrapping_mul(31).wrapping_add(7));
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for n in 0..1_000 {
        std::thread::sleep(Duration::from_millis(3));
        let start = Instant::now();
        handle.submit_blocking(small(900_000_000 + n)).expect("decided");
        times.push(start.elapsed());
    }
    over.store(true, Ordering::Relaxed);
    for hog in hogs {
        hog.join().expect("ended");
    }
    let p50 = median(&mut times);
    let p99 = quantile(&mut times, 0.99);
    let millis = p99.as_secs_f64() * 1e3;
    table.row("ack p99 beside two CPU hogs, ms", &show(p99), &show(p50), millis, 10.0, false);
}

/// A million events: the fold, the open after a kill, and the start of a daemon.
pub(crate) fn fold(dir: &Path, table: &mut Table) {
    let data = dir.join("fold");
    std::fs::create_dir_all(&data).expect("a folder");
    let path = data.join("log.redb");
    let (mut journal, _) = Journal::open(&path, Options::default()).expect("a new log");
    let mut state = State::default();
    let mut n = 0;
    while state.seq() < Seq(1_000_000) {
        let mut group = Vec::new();
        while group.len() < 1_000 {
            // Ten thousand names, used over and over: what a busy host looks like.
            group.extend(life(&mut state, n % 10_000, true));
            n += 1;
        }
        journal.append(&group, &state).expect("appended");
    }
    journal.checkpoint().expect("checkpointed");
    drop(journal);
    let (mut times, mut bare) = (Vec::new(), Vec::new());
    let stored = stored(&path, &data.join("stored"));
    for _ in 0..5 {
        let start = Instant::now();
        let found = inspect(&path, Depth::EveryRecord, &mut |_, _| {}).expect("intact");
        times.push(start.elapsed());
        assert!(found.folded >= 1_000_000 && found.state == state);
        let start = Instant::now();
        assert_eq!(decoded(&data.join("stored"), &stored), found.folded);
        bare.push(start.elapsed());
    }
    let (time, bare) = (median(&mut times), median(&mut bare));
    let what = "fold of 1,000,000 events / read, crc, decode";
    table.row(what, &show(time), &show(bare), ratio(time, bare), 3.0, false);
    open_after_kill(&data, time, table);
}

/// Writes the records of a log as they are stored, one after another. Returns their lengths.
fn stored(log: &Path, file: &Path) -> Vec<usize> {
    let mut out = std::io::BufWriter::new(File::create(file).expect("a file"));
    let (mut lengths, mut previous) = (Vec::new(), 0);
    let read = inspect(log, Depth::EveryRecord, &mut |record, _| {
        let (bytes, crc) = codec::encode(record, previous).expect("encoded");
        out.write_all(&bytes).expect("written");
        lengths.push(bytes.len());
        previous = crc;
    });
    read.expect("intact");
    out.flush().expect("written");
    lengths
}

/// Reads, checks and decodes stored records, which no fold can do without. Returns how many.
fn decoded(file: &Path, lengths: &[usize]) -> u64 {
    let bytes = std::fs::read(file).expect("read");
    let (mut rest, mut count) = (bytes.as_slice(), 0);
    for length in lengths {
        let (record, after) = rest.split_at(*length);
        let sealed = envelope::open(count + 1, record).expect("whole");
        std::hint::black_box(codec::decode(&sealed).expect("decoded"));
        (rest, count) = (after, count + 1);
    }
    count
}

#[expect(clippy::disallowed_methods, reason = "idle means that time passes")]
fn open_after_kill(data: &Path, fold: Duration, table: &mut Table) {
    let (mut killed, mut stopped, mut starts) = (vec![], vec![], vec![]);
    for _ in 0..5 {
        let start = Instant::now();
        Daemon::start(data).stop();
        starts.push(start.elapsed());
        stopped.extend(opened(data));
        let mut daemon = Daemon::start(data);
        std::thread::sleep(Duration::from_secs(1));
        daemon.kill();
        killed.extend(opened(data));
    }
    let (killed, stopped) = (median(&mut killed), median(&mut stopped));
    let what = "1,000,000 events: open after SIGKILL / a stop";
    table.row(what, &show(killed), &show(stopped), ratio(killed, stopped), 2.0, false);
    let start = median(&mut starts);
    let what = "start and stop, 1,000,000 events / their fold";
    table.row(what, &show(start), &show(fold), ratio(start, fold), 1.0, false);
}
