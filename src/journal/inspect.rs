//! Verifies a whole log through the overlay (every record, the chain, the head) and folds it.
//!
//! A daemon inspects its log before it opens it for writing, so that a damaged or newer file is
//! refused without a changed byte. An inspection ends at the first damage; `replay verify` walks on
//! after it, over [`forensic`](super::forensic).

use std::path::Path;

use redb::{ReadTransaction, ReadableTable, TableError};

use super::base;
use super::codec::{self, Decoded};
use super::envelope;
use super::error::{Damage, Error};
use super::evidence::{Evidence, ReadError, unreadable};
use super::index;
use super::tables::{
    FORMAT, FORMAT_BASED, Head, META, META_FORMAT, META_HEAD, META_LOG_ID, RECORDS, SNAPSHOTS,
};
use groundskeeper_core::event::Record;
use groundskeeper_core::{Seq, State};

/// Content of an intact log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// Position and checksum of the last record.
    pub head: Head,
    /// State after the last record.
    pub state: State,
    /// Seq of the first record that is still there; 1 unless the log was trimmed.
    pub first: Seq,
    /// The record after whose state the fold began: that of a snapshot or of the base, or 0.
    pub begun: Seq,
    /// Number of records that were read and applied; fewer than all when a snapshot was used.
    pub folded: u64,
}

/// How much of the log an inspection reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Reads from the newest snapshot that decodes; enough for a start.
    FromSnapshot,
    /// Reads every record and ignores snapshots. A trimmed log is read from its base.
    EveryRecord,
    /// Like `EveryRecord`, and compares every snapshot on the way with the fold.
    Everything,
}

/// Verifies the log at `path` without changing it, and passes every record read to `each`.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Newer`] or [`Error::Io`]; the file is unchanged.
pub fn inspect(
    path: &Path,
    depth: Depth,
    each: &mut dyn FnMut(&Record, &State),
) -> Result<Inspection, Error> {
    let log = Evidence::open(path)?;
    log.read(|txn| Walk { txn, depth }.run(each)).map_err(|trouble| trouble.at(path))
}

/// Entries of the `meta` table: the log's identity and its head.
pub(super) struct Facts {
    pub(super) log_id: [u8; 16],
    pub(super) head: Head,
}

pub(super) fn facts(txn: &ReadTransaction) -> Result<Facts, ReadError> {
    let meta = txn.open_table(META).map_err(|e| missing(&e))?;
    let word = |name: &str| -> Result<Vec<u8>, ReadError> {
        let value = meta.get(name).map_err(|e| unreadable(&e))?;
        let value = value.ok_or_else(|| Damage::Unreadable(format!("it has no entry {name}")))?;
        Ok(value.value().to_vec())
    };
    let format = word(META_FORMAT)?;
    match format.as_slice().try_into().map(u32::from_le_bytes) {
        Ok(FORMAT | FORMAT_BASED) => {}
        Ok(newer) => return Err(ReadError::Newer(format!("its format is {newer}"))),
        Err(_) => return Err(Damage::Unreadable("its format is not a number".into()).into()),
    }
    let log_id = word(META_LOG_ID)?.try_into();
    let log_id = log_id.map_err(|_| Damage::Unreadable("its id is not 16 bytes".into()))?;
    let head = Head::from_bytes(&word(META_HEAD)?)
        .ok_or_else(|| Damage::Unreadable("its head is malformed".into()))?;
    Ok(Facts { log_id, head })
}

struct Walk<'a> {
    txn: &'a ReadTransaction,
    depth: Depth,
}

impl Walk<'_> {
    fn run(&self, each: &mut dyn FnMut(&Record, &State)) -> Result<Inspection, ReadError> {
        let txn = self.txn;
        let Facts { log_id, head } = facts(txn)?;
        let records = txn.open_table(RECORDS).map_err(|e| missing(&e))?;
        // Trimmed records may still be there: they are removed a part at a time.
        let first = base::trimmed(txn)? + 1;
        let snapshots = txn.open_table(SNAPSHOTS).map_err(|e| missing(&e))?;
        let (mut state, mut last) = self.start(&snapshots, txn)?;
        let begun = Seq(last.seq);
        let from = last.seq + 1;
        let mut folded = 0;
        for entry in records.range(from..).map_err(|e| unreadable(&e))? {
            let (key, value) = entry.map_err(|e| unreadable(&e))?;
            last = step(&mut state, last, key.value(), value.value(), each)?;
            folded += 1;
            if self.depth == Depth::Everything {
                compare_snapshot(&snapshots, &state, last)?;
            }
        }
        if self.depth == Depth::Everything {
            index::check(txn, &records).map_err(ReadError::from)?;
        }
        if last != head {
            return Err(Damage::Head { expected: head.seq, found: last.seq }.into());
        }
        Ok(Inspection { log_id, head, state, first: Seq(first), begun, folded })
    }

    /// Returns the state to fold from: the newest usable snapshot, the base, or the empty state.
    fn start(
        &self,
        snapshots: &impl ReadableTable<u64, &'static [u8]>,
        txn: &ReadTransaction,
    ) -> Result<(State, Head), ReadError> {
        if self.depth == Depth::FromSnapshot {
            for entry in snapshots.iter().map_err(|e| unreadable(&e))?.rev() {
                let (key, value) = entry.map_err(|e| unreadable(&e))?;
                if let Some((state, crc)) = codec::decode_snapshot(value.value())
                    && state.seq().0 == key.value()
                {
                    let head = Head { seq: key.value(), crc };
                    return Ok((state, head));
                }
            }
        }
        // Not read before it is needed: it is as large as the state.
        let Some(base) = base::get(txn)? else { return Ok((State::default(), Head::default())) };
        let state = base.state().ok_or(Damage::Base)?;
        Ok((state, base.head()))
    }
}

fn step(
    state: &mut State,
    last: Head,
    key: u64,
    bytes: &[u8],
    each: &mut dyn FnMut(&Record, &State),
) -> Result<Head, ReadError> {
    let sealed = envelope::open(key, bytes)?;
    // The envelope holds the seq too, so a record under a wrong key is found.
    let expected = last.seq + 1;
    if sealed.seq != expected || key != expected {
        let found = if key == sealed.seq { key } else { sealed.seq };
        return Err(Damage::OutOfOrder { expected, found }.into());
    }
    if sealed.previous != last.crc {
        return Err(Damage::Chain(key).into());
    }
    match codec::decode(&sealed)? {
        Decoded::Newer(what) => Err(ReadError::Newer(what)),
        Decoded::Record(record) => {
            state.apply(&record);
            each(&record, state);
            Ok(Head { seq: key, crc: sealed.crc })
        }
    }
}

fn compare_snapshot(
    snapshots: &impl ReadableTable<u64, &'static [u8]>,
    state: &State,
    at: Head,
) -> Result<(), ReadError> {
    let Some(stored) = snapshots.get(at.seq).map_err(|e| unreadable(&e))? else { return Ok(()) };
    // A snapshot that does not decode is ignored everywhere; one that decodes must equal the fold.
    match codec::decode_snapshot(stored.value()) {
        Some((snapshot, crc)) if snapshot != *state || crc != at.crc => {
            let text = format!("the snapshot at record {} is not the fold of the records", at.seq);
            Err(Damage::Unreadable(text).into())
        }
        _ => Ok(()),
    }
}

pub(super) fn missing(e: &TableError) -> ReadError {
    match e {
        TableError::TableDoesNotExist(name) => ReadError::Damage(Damage::Unreadable(format!(
            "it is not a groundskeeper log: no {name}"
        ))),
        TableError::TableTypeMismatch { .. } | TableError::TypeDefinitionChanged { .. } => {
            ReadError::Newer(e.to_string())
        }
        other => unreadable(other),
    }
}
