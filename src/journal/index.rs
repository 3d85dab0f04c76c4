//! The index of a log: the records about each environment, and its last life that the state has
//! forgotten. It is made of the stored records, in the transaction that writes them, and made again
//! where an earlier version or a rewrite left it behind. Only the lives outlast their records: once
//! those are trimmed, every copy of the log must take the lives along.
//!
//! Nothing here decides what is forgotten. A damaged entry is an error, never an absence.

use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _,
    Table, TableDefinition, TableError, WriteTransaction,
};

use crate::codec::{self, Decoded};
use crate::envelope::{self, Envelope};
use crate::error::{Damage, Error};
use crate::payload;
use crate::peek;
use crate::tables::RECORDS;
use groundskeeper_core::event::FormerLife;
use groundskeeper_core::{EnvironmentId, Event, Seq};

/// The records about an environment: its id, and the seq of one of them.
const RECORDS_OF: TableDefinition<'static, (&str, u64), ()> = TableDefinition::new("records_of");
/// Maps the id of an environment to its last forgotten life: a checksum, then the encoded life.
const LIVES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("lives");
/// Has the seq of the last record that the index has, the bytes of all records, and the last record
/// up to which they were counted. They are not in `meta`, since a salvage finds the identity of a
/// log by the order of the entries there.
const INDEXED: TableDefinition<'static, u8, u64> = TableDefinition::new("indexed");
const INDEXED_KEY: u8 = 0;
const BYTES_KEY: u8 = 1;
const COUNTED_KEY: u8 = 2;
/// Most records that one transaction adds while the index is made again.
const BATCH: usize = 20_000;

fn failed(e: impl Into<redb::Error>) -> Error {
    Error::Storage { what: "use the index of the log", source: e.into() }
}

fn damaged(what: impl Into<String>) -> Error {
    Error::Damaged { path: "log".into(), damage: Damage::Index(what.into()) }
}

/// The tables of the index, in the transaction that changes them.
pub(super) struct Index<'txn> {
    records_of: Table<'txn, (&'static str, u64), ()>,
    lives: Table<'txn, &'static str, &'static [u8]>,
}

impl<'txn> Index<'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, Error> {
        let records_of = txn.open_table(RECORDS_OF).map_err(failed)?;
        let lives = txn.open_table(LIVES).map_err(failed)?;
        Ok(Self { records_of, lives })
    }

    /// Adds a record, by its stored bytes.
    pub(super) fn add(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Error> {
        let sealed = open(seq, bytes)?;
        if let Some(id) = peek::environment(&sealed) {
            self.records_of.insert((id, seq), ()).map_err(failed)?;
        }
        for life in forgotten(&sealed)? {
            let entry = encode(&life)?;
            let id = life.environment.as_str();
            self.lives.insert(id, entry.as_slice()).map_err(failed)?;
        }
        Ok(())
    }

    /// Takes a trimmed record out, by its stored bytes. What it says of former lives stays.
    pub(super) fn remove(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Error> {
        let Ok(sealed) = open(seq, bytes) else {
            // A damaged one that does not say what it was about. It goes all the same.
            return self.records_of.retain(|(_, of), ()| of != seq).map_err(failed);
        };
        if let Some(id) = peek::environment(&sealed) {
            self.records_of.remove((id, seq)).map_err(failed)?;
        }
        Ok(())
    }
}

/// Notes how far the index goes, and the bytes of all records. The tables must be closed.
pub(super) fn note(txn: &WriteTransaction, last: u64, bytes: u64) -> Result<(), Error> {
    let mut indexed = txn.open_table(INDEXED).map_err(failed)?;
    indexed.insert(INDEXED_KEY, last).map_err(failed)?;
    indexed.insert(BYTES_KEY, bytes).map_err(failed)?;
    indexed.insert(COUNTED_KEY, last).map_err(failed)?;
    Ok(())
}

/// Takes over the lives of the log that this one is a copy of.
pub(super) fn put_lives(txn: &WriteTransaction, lives: &[FormerLife]) -> Result<(), Error> {
    let mut table = txn.open_table(LIVES).map_err(failed)?;
    for life in lives {
        let entry = encode(life)?;
        table.insert(life.environment.as_str(), entry.as_slice()).map_err(failed)?;
    }
    Ok(())
}

/// Makes the index complete up to the last record, in bounded transactions. `base` is the last
/// trimmed record. Returns the bytes of all records.
pub(super) fn complete(db: &Database, head: u64, base: u64) -> Result<u64, Error> {
    let read = db.begin_read().map_err(failed)?;
    let indexed = noted(&read, INDEXED_KEY)?;
    let mut from = indexed.unwrap_or(0).max(base);
    let counted =
        noted(&read, BYTES_KEY)?.filter(|_| noted(&read, COUNTED_KEY).ok() == Some(indexed));
    let mut bytes = match counted {
        Some(bytes) => bytes,
        // An earlier version did not count them.
        None => bytes_up_to(&read, from)?,
    };
    drop(read);
    while from < head {
        let read = db.begin_read().map_err(failed)?;
        let records = read.open_table(RECORDS).map_err(failed)?;
        let txn = db.begin_write().map_err(failed)?;
        let mut index = Index::open(&txn)?;
        let before = from;
        for entry in records.range(from + 1..).map_err(failed)?.take(BATCH) {
            let (seq, record) = entry.map_err(failed)?;
            index.add(seq.value(), record.value())?;
            bytes += record.value().len() as u64;
            from = seq.value();
        }
        drop(index);
        // Otherwise this would never end.
        if from == before {
            return Err(damaged(format!("the log has no record after {from}, and ends at {head}")));
        }
        note(&txn, from, bytes)?;
        txn.commit().map_err(failed)?;
    }
    Ok(bytes)
}

/// Returns one of the two numbers that [`note`] keeps.
fn noted(txn: &ReadTransaction, key: u8) -> Result<Option<u64>, Error> {
    let Some(indexed) = opened(txn.open_table(INDEXED))? else { return Ok(None) };
    let value = indexed.get(key).map_err(failed)?;
    Ok(value.map(|value| value.value()))
}

fn bytes_up_to(txn: &ReadTransaction, last: u64) -> Result<u64, Error> {
    let records = txn.open_table(RECORDS).map_err(failed)?;
    let entries = records.range(..=last).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.1.value().len() as u64)).sum()
}

/// Returns the last forgotten life of an environment.
pub(super) fn life(txn: &ReadTransaction, id: &EnvironmentId) -> Result<Option<FormerLife>, Error> {
    let Some(lives) = opened(txn.open_table(LIVES))? else { return Ok(None) };
    let entry = lives.get(id.as_str()).map_err(failed)?;
    entry.map(|entry| decode(id.as_str(), entry.value())).transpose()
}

/// Returns up to `max` forgotten lives of the environments after `after`, by id.
pub(super) fn lives(
    txn: &ReadTransaction,
    after: &str,
    max: usize,
) -> Result<Vec<FormerLife>, Error> {
    use std::ops::Bound::{Excluded, Unbounded};
    let Some(lives) = opened(txn.open_table(LIVES))? else { return Ok(Vec::new()) };
    let range = lives.range::<&str>((Excluded(after), Unbounded)).map_err(failed)?;
    let decoded = range.take(max).map(|entry| {
        let (id, entry) = entry.map_err(failed)?;
        decode(id.value(), entry.value())
    });
    decoded.collect()
}

/// Returns the seqs of up to `max` records about an environment after `after`, in order.
pub(super) fn records_of(
    txn: &ReadTransaction,
    id: &EnvironmentId,
    after: Seq,
    max: usize,
) -> Result<Vec<u64>, Error> {
    let Some(table) = opened(txn.open_table(RECORDS_OF))? else { return Ok(Vec::new()) };
    let id = id.as_str();
    let range = (id, after.0.saturating_add(1))..=(id, u64::MAX);
    let seqs = table.range(range).map_err(failed)?.take(max);
    seqs.map(|entry| entry.map(|(key, _)| key.value().1).map_err(failed)).collect()
}

/// Compares the index with the records of the log, which are intact.
pub(super) fn check(
    txn: &ReadTransaction,
    records: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<(), Error> {
    let Some(table) = opened(txn.open_table(RECORDS_OF))? else { return Ok(()) };
    let upto = noted(txn, INDEXED_KEY)?.unwrap_or(0);
    let (mut entries, mut size) = (0, 0);
    for entry in records.range(..=upto).map_err(failed)? {
        let (seq, bytes) = entry.map_err(failed)?;
        let sealed = open(seq.value(), bytes.value())?;
        size += bytes.value().len() as u64;
        if let Some(id) = peek::environment(&sealed) {
            entries += 1;
            if table.get((id, sealed.seq)).map_err(failed)?.is_none() {
                return Err(damaged(format!("it lacks record {} about {id}", sealed.seq)));
            }
        }
        for life in forgotten(&sealed)? {
            let found = self::life(txn, &life.environment)?;
            if found.is_none_or(|found| found.incarnation < life.incarnation) {
                return Err(damaged(format!("it lacks the last life of {}", life.environment)));
            }
        }
    }
    if table.len().map_err(failed)? != entries {
        return Err(damaged("it names records that the log does not have"));
    }
    let is_counted = noted(txn, COUNTED_KEY)? == Some(upto);
    if is_counted && noted(txn, BYTES_KEY)?.is_some_and(|noted| noted != size) {
        return Err(damaged("it counts other bytes than those of the records"));
    }
    Ok(())
}

/// A log of an earlier version has no index.
fn opened<T>(table: Result<T, TableError>) -> Result<Option<T>, Error> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

fn open(seq: u64, bytes: &[u8]) -> Result<Envelope<'_>, Error> {
    let opened = envelope::open(seq, bytes);
    opened.map_err(|damage| Error::Damaged { path: "log".into(), damage })
}

/// Returns the lives that a record forgets.
fn forgotten(sealed: &Envelope<'_>) -> Result<Vec<FormerLife>, Error> {
    if peek::kind_name(sealed.kind) != Some("LivesForgotten") {
        return Ok(Vec::new());
    }
    match codec::decode(sealed) {
        Ok(Decoded::Record(record)) => match record.event {
            Event::LivesForgotten(e) => Ok(e.lives),
            _ => Ok(Vec::new()),
        },
        Ok(Decoded::Newer(what)) => Err(Error::Newer { path: "log".into(), what }),
        Err(damage) => Err(Error::Damaged { path: "log".into(), damage }),
    }
}

fn encode(life: &FormerLife) -> Result<Vec<u8>, Error> {
    let body = payload::encoded(life).map_err(|why| damaged(why.to_string()))?;
    let mut entry = crc32c::crc32c(&body).to_le_bytes().to_vec();
    entry.extend(body);
    Ok(entry)
}

/// Decodes an entry. redb verifies no checksum when it reads.
fn decode(id: &str, entry: &[u8]) -> Result<FormerLife, Error> {
    let wrong = || damaged(format!("the entry of {id} is not as it was written"));
    let (crc, body) = entry.split_first_chunk().ok_or_else(wrong)?;
    if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
        return Err(wrong());
    }
    let life: FormerLife = payload::decoded(body).map_err(|_| wrong())?;
    if life.environment.as_str() == id { Ok(life) } else { Err(wrong()) }
}
