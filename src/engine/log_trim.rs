//! Trims the log by age and size: finds that a trim is due, and has it prepared on a thread of its
//! own. The loop decides it like any other fact.
//!
//! Nothing here appends or removes a record. A preparation that is cut short leaves the log as it
//! is, and the next one begins anew.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::core::event::{LogSegment, LogTrimmed};
use crate::core::{Seq, State, Time};
use crate::engine::disk_guard::DiskGuard;
use crate::engine::scheduling;
use crate::failpoint::kill::point;
use crate::journal::format::hex;
use crate::journal::trim::{Surplus, TRIM_BYTES_MAX};
use crate::journal::{self, Base, Journal, Reader, codec};

/// Time after a failed trim before the next attempt.
const AGAIN: Duration = Duration::from_secs(3_600);

/// What is trimmed from the log, and the folder that keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogLimits {
    /// Age of the records that go; none: none go for their age.
    pub age: Option<Duration>,
    /// Bytes of all records above which the oldest quarter goes; none: none go for that.
    pub bytes: Option<u64>,
    /// The folder of the trimmed records; none: they are not kept.
    pub archive: Option<PathBuf>,
}

/// The outcome of a preparation.
#[derive(Debug)]
pub(super) struct Prepared(Result<Option<Trim>, journal::Error>);

#[derive(Debug)]
struct Trim {
    event: LogTrimmed,
    base: Base,
}

/// Takes the outcome of a preparation to the loop.
pub(super) type Deliver = Arc<dyn Fn(Prepared) + Send + Sync>;

/// Watches the size and the age of the log.
pub(super) struct LogTrimmer {
    limits: LogLimits,
    reader: Reader,
    deliver: Deliver,
    /// Time of the first record; none while it is not known.
    first: Option<Time>,
    is_busy: bool,
    not_before: Time,
}

impl LogTrimmer {
    pub(super) fn new(reader: Reader, deliver: Deliver) -> Self {
        let (limits, not_before) = (LogLimits::default(), Time(0));
        Self { limits, reader, deliver, first: None, is_busy: false, not_before }
    }

    pub(super) fn set_limits(&mut self, limits: LogLimits) {
        self.limits = limits;
    }

    /// Removes a part of what was trimmed, or begins a trim that is due. Returns whether more is to
    /// be removed at once.
    pub(super) fn step(
        &mut self,
        journal: &mut Journal,
        disk_guard: &mut DiskGuard,
        state: &State,
        now: Time,
    ) -> Result<bool, journal::Error> {
        if !journal.has_trimmed() {
            self.begin_if_due(journal.bytes(), now, state, disk_guard);
            return Ok(false);
        }
        // It is work that can wait, and a log that cannot be written ends the daemon.
        if disk_guard.check_space().is_err() {
            return Ok(false);
        }
        disk_guard.before_commit();
        journal.remove_trimmed()?;
        point("trim.removed_some");
        Ok(journal.has_trimmed())
    }

    /// Begins to prepare a trim if the log is too long or too old, and there is room for its
    /// segment. `bytes` are those of all records.
    fn begin_if_due(&mut self, bytes: u64, now: Time, state: &State, disk_guard: &DiskGuard) {
        if self.is_busy || now < self.not_before {
            return;
        }
        let (surplus, reason) = match self.surplus(bytes, now) {
            Ok(Some(due)) => due,
            Ok(None) => return,
            Err(error) => return self.failed(&error, now),
        };
        self.not_before = now.after(AGAIN);
        if !disk_guard.has_room(bytes.min(TRIM_BYTES_MAX)) {
            return tracing::warn!("the log is not trimmed: the disk has no room for a segment");
        }
        let job = Job {
            reader: self.reader.clone(),
            archive: self.limits.archive.clone(),
            present: Arc::new(state.clone()),
            surplus,
            reason,
        };
        let deliver = Arc::clone(&self.deliver);
        let spawned = std::thread::Builder::new().name("gk-log-trim".to_owned()).spawn(move || {
            scheduling::lower();
            // redb panics on some damaged pages, and no trim may end all later ones.
            let done = catch_unwind(AssertUnwindSafe(|| job.run()));
            let failed = || journal::Error::Io {
                what: "trim the log with",
                path: PathBuf::from("log.redb"),
                source: std::io::Error::other("a panic; the daemon's output has it"),
            };
            deliver(Prepared(done.unwrap_or_else(|_| Err(failed()))));
        });
        match spawned {
            Ok(_) => self.is_busy = true,
            Err(error) => tracing::warn!(%error, "cannot begin to trim the log"),
        }
    }

    /// Returns what the log has too much of, and why it goes.
    fn surplus(
        &mut self,
        bytes: u64,
        now: Time,
    ) -> Result<Option<(Surplus, &'static str)>, journal::Error> {
        if let Some(most) = self.limits.bytes.filter(|most| bytes > *most) {
            // Down to three quarters, so that a trim is worth its work.
            let bytes = bytes - (most - most / 4);
            return Ok(Some((Surplus { before: Time(0), bytes }, "size")));
        }
        let Some(age) = self.limits.age else { return Ok(None) };
        if self.first.is_none() {
            self.first = self.reader.first()?.map(|(_, at)| at);
        }
        // An eighth later than the records may go, so that some days of them go at once.
        let is_due = self.first.is_some_and(|first| first.after(age + age / 8) <= now);
        let before = Time(now.0.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)));
        Ok(is_due.then_some((Surplus { before, bytes: 0 }, "age")))
    }

    /// Takes the outcome of a preparation: the event to decide, and the base that comes with it.
    pub(super) fn prepared(&mut self, prepared: Prepared) -> Option<(LogTrimmed, Base)> {
        self.is_busy = false;
        self.first = None;
        match prepared.0 {
            Ok(Some(trim)) => Some((trim.event, trim.base)),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(error = %error.to_fault(), "the log cannot be trimmed");
                None
            }
        }
    }

    /// Notes that a trim is durable. What is more than one takes goes at once.
    pub(super) fn trimmed(&mut self, last: u64) {
        self.not_before = Time(0);
        tracing::info!(last, "the log is trimmed");
    }

    fn failed(&mut self, error: &journal::Error, now: Time) {
        self.not_before = now.after(AGAIN);
        tracing::warn!(error = %error.to_fault(), "cannot find out whether the log is too old");
    }
}

struct Job {
    reader: Reader,
    archive: Option<PathBuf>,
    present: Arc<State>,
    surplus: Surplus,
    reason: &'static str,
}

impl Job {
    fn run(self) -> Result<Option<Trim>, journal::Error> {
        let Some(last) = self.reader.last_of(self.surplus)? else { return Ok(None) };
        // The proof ends at the present state, so no later record may go.
        let last: Seq = last.min(self.present.seq());
        let prepared = self.reader.prepare_trim(last, self.archive.as_deref(), &self.present)?;
        point("trim.archived");
        let state = match prepared.base.state() {
            Some(state) => hex(&codec::state_digest(&state)?),
            None => String::new(),
        };
        let segment = prepared.archived.map(|archived| LogSegment {
            name: archived.name,
            bytes: archived.bytes,
            sha256: hex(&archived.sha256),
        });
        let event = LogTrimmed { last, reason: self.reason.to_owned(), state, segment };
        Ok(Some(Trim { event, base: prepared.base }))
    }
}
