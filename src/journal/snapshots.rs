//! The snapshots in a log: the state after some records, from which an open begins. The oldest goes
//! when a new one comes. What a trimmed log begins with is not among them, but its base.

use redb::{Database, ReadableDatabase as _, ReadableTableMetadata as _, WriteTransaction};

use crate::codec;
use crate::error::Error;
use crate::tables::{Head, SNAPSHOTS};
use groundskeeper_core::State;

/// Number of snapshots kept; the oldest is dropped when a new one exceeds it.
const KEPT: u64 = 3;

fn failed(e: impl Into<redb::Error>) -> Error {
    Error::Storage { what: "use the snapshots of the log", source: e.into() }
}

/// Returns the record that the newest snapshot follows; 0 without a snapshot.
pub(super) fn last(db: &Database) -> Result<u64, Error> {
    use redb::ReadableTable as _;
    let txn = db.begin_read().map_err(failed)?;
    let table = txn.open_table(SNAPSHOTS).map_err(failed)?;
    let last = table.last().map_err(failed)?;
    Ok(last.map_or(0, |(key, _)| key.value()))
}

/// Stores the state after the record `head`.
pub(super) fn put(txn: &WriteTransaction, state: &State, head: Head) -> Result<(), Error> {
    assert_eq!(state.seq().0, head.seq, "a snapshot is of the state after the last record");
    let bytes = codec::encode_snapshot(state, head.crc)?;
    let mut table = txn.open_table(SNAPSHOTS).map_err(failed)?;
    table.insert(head.seq, bytes.as_slice()).map_err(failed)?;
    // The older ones are a fallback: a snapshot that does not decode is skipped.
    while table.len().map_err(failed)? > KEPT {
        table.pop_first().map_err(failed)?;
    }
    Ok(())
}

/// Drops the snapshots up to the base of a trimmed log, which is newer than they are.
pub(super) fn drop_up_to(txn: &WriteTransaction, base: u64) -> Result<(), Error> {
    let mut table = txn.open_table(SNAPSHOTS).map_err(failed)?;
    table.retain_in(..=base, |_, _| false).map_err(failed)
}
