//! Tests of trimmed logs: in one piece, with their segments, copied, cut short, and damaged.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::forensic::Range;
use crate::inspect::Depth;
use crate::rebuild::Rewrite;
use crate::salvage::Salvage;
use crate::trim::Surplus;
use crate::{Base, Damage, Error, Journal, Options, ReadOnlyLog, inspect, segments};
use groundskeeper_core::event::{EnvironmentReady, Record};
use groundskeeper_core::{EnvironmentId, Seq, State, Time};

struct Log {
    dir: tempfile::TempDir,
    journal: Journal,
    state: State,
}

fn record(seq: Seq) -> Record {
    let environment = EnvironmentId::parse(&format!("e{}", seq.0 % 7)).expect("an id");
    Record { seq, at: Time(seq.0), boot: 1, event: EnvironmentReady { environment }.into() }
}

impl Log {
    fn new(records: u64, options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (journal, found) = Journal::open(&dir.path().join("log.redb"), options).expect("new");
        let mut log = Self { dir, journal, state: found.state };
        log.append(records);
        log
    }

    fn append(&mut self, records: u64) {
        for _ in 0..records {
            let record = record(self.state.seq().next());
            self.state.apply(&record);
            self.journal.append(&[record], &self.state).expect("appended");
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("log.redb")
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join(segments::FOLDER)
    }

    /// Trims the records up to `last`, with one record more that stands for the decision.
    fn trim(&mut self, last: u64) {
        let folder = self.folder();
        let reader = self.journal.reader();
        let found = reader.prepare_trim(Seq(last), Some(&folder), &self.state).expect("prepared");
        assert_eq!(found.base.head().seq, last);
        let record = record(self.state.seq().next());
        self.state.apply(&record);
        self.journal.trim(&[record], &self.state, &found.base).expect("trimmed");
        assert_eq!(reader.trimmed(), Seq(last));
        let first = reader.read(Seq(0), 1).expect("read");
        assert_eq!(first[0].seq, Seq(last + 1), "trimmed records are not read");
    }

    fn remove(&mut self) {
        while self.journal.has_trimmed() {
            self.journal.remove_trimmed().expect("removed");
        }
    }

    /// Checks every view of the log, which must have `first` and all records up to the state.
    fn check(&self, first: u64) {
        for depth in [Depth::FromSnapshot, Depth::EveryRecord, Depth::Everything] {
            let found = inspect(&self.path(), depth, &mut |_, _| {}).expect("intact");
            assert_eq!((&found.state, found.first), (&self.state, Seq(first)), "{depth:?}");
        }
        let log = ReadOnlyLog::open(&self.path()).expect("opened");
        assert_eq!(seqs(&log, Range::ALL), (first..=self.state.seq().0).collect::<Vec<_>>());
        log.check_index().expect("an index of what is left");
    }

    /// Ends the handle as a crash would, and opens the log again.
    fn reopened(self) -> Self {
        let (dir, options) = (self.dir, Options { snapshot_every: 20 });
        drop(self.journal);
        let (journal, found) = Journal::open(&dir.path().join("log.redb"), options).expect("open");
        assert_eq!(found.state, self.state);
        Self { dir, journal, state: found.state }
    }
}

/// Returns the seqs of a range, whose records are intact and chained.
fn seqs(log: &ReadOnlyLog, range: Range) -> Vec<u64> {
    let (mut found, mut chain) = (Vec::new(), log.chain());
    log.walk(range, &mut |key, bytes| {
        if range == Range::ALL {
            chain.next(key, bytes).expect("chained");
        }
        found.push(key);
        ControlFlow::Continue(())
    })
    .expect("walked");
    found
}

const EVERY_20: Options = Options { snapshot_every: 20 };
const NO_SNAPSHOT: Options = Options { snapshot_every: 1_000_000 };

#[test]
fn trimmed_log_reads_as_before() {
    for options in [EVERY_20, NO_SNAPSHOT] {
        let mut log = Log::new(2_500, options);
        let bytes = log.journal.bytes();
        log.trim(2_200);
        log.check(2_201);
        assert!(log.journal.has_trimmed() && log.journal.bytes() > bytes, "not removed yet");
        let mut log = log.reopened();
        assert!(log.journal.has_trimmed(), "what is left is found again");
        log.journal.remove_trimmed().expect("removed");
        assert!(log.journal.has_trimmed(), "one commit removes a part");
        log.check(2_201);
        let mut log = log.reopened();
        log.remove();
        assert!(log.journal.bytes() < bytes / 5);
        log.append(90);
        log.check(2_201);
        log.reopened().check(2_201);
    }
}

/// The segments and the log are one log, whichever segments are left.
#[test]
fn segments_continue_a_log_backwards() {
    let mut log = Log::new(300, EVERY_20);
    log.trim(100);
    log.remove();
    log.trim(250);
    let last = log.state.seq().0;
    let open = || ReadOnlyLog::open(&log.path()).expect("open").with_segments(&log.folder());
    let whole = open().expect("joined");
    assert_eq!((whole.first(), whole.base()), (1, None));
    let all: Vec<u64> = (1..=last).collect();
    assert_eq!(seqs(&whole, Range::ALL), all);
    let back = Range { from: 90, to: 260, backwards: true };
    assert_eq!(seqs(&whole, back), (90..=260).rev().collect::<Vec<_>>());
    let mut some = Vec::new();
    whole
        .walk(Range { from: 99, ..Range::ALL }, &mut |key, _| {
            some.push(key);
            if key == 101 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("walked");
    assert_eq!(some, [99, 100, 101], "a walk ends where it is ended");
    let mut snapshots = Vec::new();
    whole.snapshots(&mut |state, _| snapshots.push(state.seq().0)).expect("read");
    assert_eq!(snapshots[0], 250, "the base is one");
    std::fs::remove_file(log.folder().join("1-100.flat.zst")).expect("removed");
    let rest = open().expect("joined");
    assert_eq!((rest.first(), rest.base().map(|base| base.head().seq)), (101, Some(100)));
    assert_eq!(seqs(&rest, Range::ALL), all[100..]);
    std::fs::remove_file(log.folder().join("101-250.flat.zst")).expect("removed");
    let rest = open().expect("joined");
    assert_eq!((rest.first(), rest.base().map(|base| base.head().seq)), (251, Some(250)));
}

/// A segment of another log, or a damaged one, is an error and never taken for records.
#[test]
fn wrong_segment_is_damage() {
    let mut log = Log::new(300, EVERY_20);
    log.trim(100);
    let segment = log.folder().join("1-100.flat.zst");
    let whole = std::fs::read(&segment).expect("read");
    for at in (0..whole.len()).step_by(7) {
        let mut broken = whole.clone();
        broken[at] ^= 0x10;
        std::fs::write(&segment, &broken).expect("written");
        let log = ReadOnlyLog::open(&log.path()).expect("open").with_segments(&log.folder());
        let log = log.expect("joined");
        let (mut chain, mut damage, mut seen) = (log.chain(), 0, 0);
        let walked = log.walk(Range::ALL, &mut |key, bytes| {
            seen += u64::from(chain.next(key, bytes).map_err(|_| damage += 1).is_ok());
            ControlFlow::Continue(())
        });
        // A bit that means nothing to the decoder changes nothing.
        assert!(walked.is_err() || damage > 0 || seen == 301, "byte {at}: {seen} records");
        assert!(seen + damage >= 201, "byte {at}: the records of the log itself are still read");
    }
}

#[test]
fn copies_of_trimmed_log_have_its_base() {
    let mut log = Log::new(300, EVERY_20);
    log.trim(250);
    let (new, last) = (log.dir.path().join("new.redb"), log.state.seq().0);
    let old = ReadOnlyLog::open(&log.path()).expect("opened");
    let mut rewrite = Rewrite::after(&new, Some(old.log_id()), old.base()).expect("begun");
    let mut chain = old.chain();
    old.walk(Range::ALL, &mut |key, bytes| {
        rewrite.put(&chain.next(key, bytes).expect("intact")).expect("put");
        ControlFlow::Continue(())
    })
    .expect("walked");
    assert_eq!((rewrite.resealed(), rewrite.finish().expect("finished").seq), (0, last));
    let (journal, found) = Journal::open(&new, EVERY_20).expect("opened");
    assert_eq!((&found.state, found.first, journal.trimmed()), (&log.state, Seq(251), Seq(250)));
    drop(journal);
    inspect(&new, Depth::Everything, &mut |_, _| {}).expect("intact");
    let scan = Salvage::scan(&new).expect("scanned");
    assert_eq!(scan.base.as_ref(), old.base());
    assert_eq!((scan.lost.len(), scan.unchained.len()), (0, 0));
    assert_eq!(scan.records.len() as u64, last - 250);
}

/// Without a later snapshot the base is the only way to the state.
#[test]
fn damaged_base_is_refused_unless_a_snapshot_is_there() {
    for (options, opens) in [(EVERY_20, true), (NO_SNAPSHOT, false)] {
        let mut log = Log::new(300, options);
        log.trim(250);
        log.append(40);
        let (path, frame) = (log.path(), ReadOnlyLog::open(&log.path()).expect("opened"));
        let frame = frame.base().expect("a base").frame();
        drop(log.journal);
        let mut bytes = std::fs::read(&path).expect("read");
        let at = bytes.windows(24).position(|window| *window == frame[..24]).expect("the base");
        bytes[at + 30] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        match Journal::open(&path, options) {
            Ok((_, found)) => assert!(opens && found.state == log.state),
            Err(Error::Damaged { damage: Damage::Base, .. }) => assert!(!opens),
            Err(other) => panic!("{other}"),
        }
        let all = inspect(&path, Depth::Everything, &mut |_, _| {});
        assert!(matches!(all, Err(Error::Damaged { damage: Damage::Base, .. })), "{all:?}");
        let log = ReadOnlyLog::open(&path).expect("opened");
        log.check_index().expect_err("named");
    }
}

/// What was trimmed is worth nothing: damage in it is removed with it.
#[test]
fn damaged_trimmed_record_is_removed() {
    let mut log = Log::new(300, NO_SNAPSHOT);
    log.trim(250);
    let (path, mut wanted) = (log.path(), Vec::new());
    drop(log.journal);
    {
        let db = crate::evidence::builder().open(&path).expect("opened");
        let txn = redb::ReadableDatabase::begin_read(&db).expect("begun");
        let records = txn.open_table(crate::tables::RECORDS).expect("a table");
        wanted.extend_from_slice(records.get(7).expect("read").expect("there").value());
    }
    let mut bytes = std::fs::read(&path).expect("read");
    let places: Vec<usize> =
        (0..bytes.len() - wanted.len()).filter(|at| bytes[*at..].starts_with(&wanted)).collect();
    assert!(!places.is_empty(), "the record is in the file");
    for at in places {
        bytes[at + wanted.len() - 1] ^= 1;
    }
    std::fs::write(&path, &bytes).expect("written");
    let (journal, found) = Journal::open(&path, NO_SNAPSHOT).expect("it is not needed");
    let mut log = Log { dir: log.dir, journal, state: found.state };
    log.remove();
    log.check(251);
}

/// A segment that a killed daemon left without a decision goes; one of another future stays.
#[test]
fn undecided_segment_is_replaced_and_foreign_one_kept() {
    let mut log = Log::new(300, EVERY_20);
    let (folder, reader) = (log.folder(), log.journal.reader());
    drop(reader.prepare_trim(Seq(80), Some(&folder), &log.state).expect("prepared"));
    let mut other = Log::new(80, EVERY_20);
    let another = Record { boot: 2, ..record(Seq(81)) };
    other.state.apply(&another);
    other.journal.append(&[another], &other.state).expect("appended");
    let foreign = folder.join("1-100.flat.zst");
    let found = other.journal.reader().prepare_trim(Seq(81), Some(&other.folder()), &other.state);
    drop(found.expect("prepared"));
    std::fs::rename(other.folder().join("1-81.flat.zst"), &foreign).expect("renamed");
    let whole = std::fs::read(&foreign).expect("read");
    log.trim(100);
    assert!(std::fs::read(&foreign).expect("read") == whole, "nothing is replaced");
    assert!(!folder.join("1-80.flat.zst").exists(), "its records are in the log");
    let joined = ReadOnlyLog::open(&log.path()).expect("open").with_segments(&folder);
    assert_eq!(seqs(&joined.expect("joined"), Range::ALL), (1..=301).collect::<Vec<_>>());
}

#[test]
fn unproven_trim_is_refused() {
    let log = Log::new(300, EVERY_20);
    let reader = log.journal.reader();
    let mut other = log.state.clone();
    other.apply(&Record { at: Time(1), ..record(log.state.seq()) });
    let refused = reader.prepare_trim(Seq(100), None, &other);
    assert!(matches!(refused, Err(Error::Damaged { damage: Damage::Base, .. })), "{refused:?}");
    reader.prepare_trim(Seq(400), None, &log.state).expect_err("beyond the end");
    let file = log.dir.path().join("file");
    std::fs::write(&file, "").expect("written");
    reader.prepare_trim(Seq(100), Some(&file), &log.state).expect_err("no folder");
    let found = reader.prepare_trim(Seq(100), None, &log.state).expect("prepared");
    assert_eq!((found.records, found.archived), (100, None));
    assert_eq!(found.base.state().map(|state| state.seq()), Some(Seq(100)));
}

#[test]
fn surplus_is_by_age_or_size() {
    let log = Log::new(300, EVERY_20);
    let reader = log.journal.reader();
    let last = |before, bytes| reader.last_of(Surplus { before: Time(before), bytes }).expect("ok");
    assert_eq!(last(0, 0), None);
    assert_eq!(last(51, 0), Some(Seq(50)), "older than that");
    let per_record = log.journal.bytes() / 300;
    assert_eq!(last(0, 10 * per_record), Some(Seq(10)));
    assert_eq!(last(51, 10 * per_record), Some(Seq(50)));
    assert_eq!(reader.first().expect("read"), Some((Seq(1), Time(1))));
}

/// A base of a folded log is the same bytes wherever it is made.
#[test]
fn base_is_that_of_the_fold() {
    let log = Log::new(50, EVERY_20);
    let path: &Path = &log.path();
    let reader = log.journal.reader();
    let found = reader.prepare_trim(Seq(50), None, &log.state).expect("prepared");
    let head = inspect(path, Depth::Everything, &mut |_, _| {}).expect("intact").head;
    assert_eq!(found.base, Base::of(&log.state, head.crc).expect("a base"));
}
