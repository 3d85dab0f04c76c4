//! Read side of the log: ranges of committed records, and following.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase};

use super::codec::{self, Decoded};
use super::envelope;
use super::error::{Damage, Error};
use super::index;
use super::tables::RECORDS;
use groundskeeper_core::event::{FormerLife, Record};
use groundskeeper_core::{EnvironmentId, Seq, Time};

/// Bytes of records after which [`Reader::raw`] returns.
pub const RAW_BYTES: usize = 4 << 20;

/// Records per read of a walk.
const BATCH: usize = 512;

/// Publishes the seq of the last committed record to waiting readers.
#[derive(Debug)]
pub(super) struct Watch {
    head: Mutex<Seq>,
    moved: Condvar,
    /// The last trimmed record; 0 if none is.
    trimmed: AtomicU64,
}

impl Watch {
    pub(super) fn new(head: Seq, trimmed: u64) -> Self {
        let trimmed = AtomicU64::new(trimmed);
        Self { head: Mutex::new(head), moved: Condvar::new(), trimmed }
    }

    pub(super) fn trim(&self, last: u64) {
        self.trimmed.store(last, Ordering::Release);
    }

    pub(super) fn advance(&self, head: Seq) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
        self.moved.notify_all();
    }
}

/// Reads committed records beside the writer, without ever blocking it.
#[derive(Debug, Clone)]
pub struct Reader {
    db: Arc<Database>,
    watch: Arc<Watch>,
    log_id: [u8; 16],
}

impl Reader {
    pub(super) fn new(db: Arc<Database>, watch: Arc<Watch>, log_id: [u8; 16]) -> Self {
        Self { db, watch, log_id }
    }

    /// Returns the identity of the log, as it was when this reader was made.
    #[must_use]
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// Returns the seq of the last committed record; 0 in an empty log.
    #[must_use]
    pub fn head(&self) -> Seq {
        *self.watch.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the last record that was trimmed from the log; 0 if none was.
    #[must_use]
    pub fn trimmed(&self) -> Seq {
        Seq(self.watch.trimmed.load(Ordering::Acquire))
    }

    /// Returns the first record that may be read after `after`: trimmed ones may still be in the
    /// file.
    fn after(&self, after: Seq) -> u64 {
        after.max(self.trimmed()).0.saturating_add(1)
    }

    /// Returns up to `max` records after `after`, in order; fewer at the end of the log. Every
    /// envelope is checked. Trimmed records are left out; see [`Reader::trimmed`].
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Damaged`] when a record is not as it was written, or
    /// [`Error::Newer`].
    pub fn read(&self, after: Seq, max: usize) -> Result<Vec<Record>, Error> {
        let failed = |e: redb::Error| Error::Storage { what: "read records", source: e };
        let txn = self.db.begin_read().map_err(|e| failed(e.into()))?;
        let table = txn.open_table(RECORDS).map_err(|e| failed(e.into()))?;
        let mut out = Vec::new();
        for entry in table.range(self.after(after)..).map_err(|e| failed(e.into()))? {
            if out.len() >= max {
                break;
            }
            let (key, value) = entry.map_err(|e| failed(e.into()))?;
            out.push(decode(key.value(), value.value())?);
        }
        Ok(out)
    }

    /// Returns the record before the first one after `after` that is of this time or later. Times
    /// grow with the records, except where a clock was set back.
    ///
    /// # Errors
    /// As for [`Reader::read`].
    pub fn before_time(&self, after: Seq, time: Time) -> Result<Seq, Error> {
        let (mut low, mut high) = (after.max(self.trimmed()).0, self.head().0);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.read(Seq(middle), 1)?.first() {
                Some(record) if record.at < time => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(after.max(Seq(low)))
    }

    /// Returns the record before the last so many after `after`, of all or of one environment.
    ///
    /// # Errors
    /// As for [`Reader::read`].
    pub fn before_last(
        &self,
        after: Seq,
        last: usize,
        only: Option<&EnvironmentId>,
    ) -> Result<Seq, Error> {
        let Some(only) = only else {
            return Ok(after.max(Seq(self.head().0.saturating_sub(last as u64))));
        };
        // One more than wanted: the rest begins after the oldest of them.
        let (mut found, mut at) = (VecDeque::new(), after);
        loop {
            let records = self.of_environment(only, at, BATCH)?;
            let Some(end) = records.last() else { break };
            at = end.seq;
            found.extend(records.iter().map(|record| record.seq));
            found.drain(..found.len().saturating_sub(last.saturating_add(1)));
        }
        Ok(if found.len() > last { found.front().copied().unwrap_or(after) } else { after })
    }

    /// Returns up to `max` records about an environment after `after`, in order.
    ///
    /// # Errors
    /// As for [`Reader::read`].
    pub fn of_environment(
        &self,
        id: &EnvironmentId,
        after: Seq,
        max: usize,
    ) -> Result<Vec<Record>, Error> {
        let failed = |e: redb::Error| Error::Storage { what: "read records", source: e };
        let txn = self.db.begin_read().map_err(|e| failed(e.into()))?;
        let table = txn.open_table(RECORDS).map_err(|e| failed(e.into()))?;
        let mut out = Vec::new();
        for seq in index::records_of(&txn, id, after.max(self.trimmed()), max)? {
            let value = table.get(seq).map_err(|e| failed(e.into()))?;
            let lacks = || Damage::Index(format!("the log has no record {seq}"));
            let value =
                value.ok_or_else(|| Error::Damaged { path: "log".into(), damage: lacks() })?;
            out.push(decode(seq, value.value())?);
        }
        Ok(out)
    }

    /// Returns the last life of an environment that the state has forgotten.
    ///
    /// # Errors
    /// [`Error::Storage`], and [`Error::Damaged`] when the index is not as it was written.
    pub fn life(&self, id: &EnvironmentId) -> Result<Option<FormerLife>, Error> {
        index::life(&self.begin()?, id)
    }

    /// Returns up to `max` forgotten lives of the environments after `after`, by id; from the first
    /// one when that is empty.
    ///
    /// # Errors
    /// As for [`Reader::life`].
    pub fn lives(&self, after: &str, max: usize) -> Result<Vec<FormerLife>, Error> {
        index::lives(&self.begin()?, after, max)
    }

    pub(super) fn begin(&self) -> Result<redb::ReadTransaction, Error> {
        let failed = |e: redb::Error| Error::Storage { what: "read the log", source: e };
        self.db.begin_read().map_err(|e| failed(e.into()))
    }

    /// Like [`Reader::read`], but returns seqs and bytes; nothing is checked or decoded. Returns
    /// early once the records reach [`RAW_BYTES`].
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn raw(&self, after: Seq, max: usize) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let failed = |e: redb::Error| Error::Storage { what: "read records", source: e };
        let txn = self.db.begin_read().map_err(|e| failed(e.into()))?;
        let table = txn.open_table(RECORDS).map_err(|e| failed(e.into()))?;
        let entries = table.range(self.after(after)..).map_err(|e| failed(e.into()))?;
        let (mut out, mut bytes) = (Vec::new(), 0);
        for entry in entries.take(max) {
            let (key, value) = entry.map_err(|e| failed(e.into()))?;
            bytes += value.value().len();
            out.push((key.value(), value.value().to_vec()));
            if bytes >= RAW_BYTES {
                break;
            }
        }
        Ok(out)
    }

    /// Waits at most `limit` until a record after `after` is committed. Returns whether one is.
    #[must_use]
    pub fn wait_past(&self, after: Seq, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut head = self.watch.head.lock().unwrap_or_else(PoisonError::into_inner);
        // Compared under the lock, so that no commit between the check and the wait is missed.
        while *head <= after {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.watch.moved.wait_timeout(head, left);
            head = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Follows the log from the record after `after`; ends when no record is committed for `limit`.
    pub fn follow(&self, after: Seq, limit: Duration) -> Follow {
        Follow { reader: self.clone(), after, limit, ready: Vec::new().into_iter() }
    }
}

/// Iterator over records as they are committed, each exactly once and in order.
#[derive(Debug)]
pub struct Follow {
    reader: Reader,
    after: Seq,
    limit: Duration,
    ready: std::vec::IntoIter<Record>,
}

impl Iterator for Follow {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        const BATCH: usize = 256;
        if let Some(record) = self.ready.next() {
            return Some(Ok(record));
        }
        if !self.reader.wait_past(self.after, self.limit) {
            return None;
        }
        match self.reader.read(self.after, BATCH) {
            Ok(records) => {
                self.after = records.last().map_or(self.after, |r| r.seq);
                self.ready = records.into_iter();
                self.ready.next().map(Ok)
            }
            Err(e) => Some(Err(e)),
        }
    }
}

fn decode(key: u64, bytes: &[u8]) -> Result<Record, Error> {
    let damaged = |damage| Error::Damaged { path: "log".into(), damage };
    let sealed = envelope::open(key, bytes).map_err(damaged)?;
    match codec::decode(&sealed).map_err(damaged)? {
        Decoded::Record(record) => Ok(record),
        Decoded::Newer(what) => Err(Error::Newer { path: "log".into(), what }),
    }
}
