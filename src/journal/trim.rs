//! Trims a log: chooses what goes, proves the base that takes its place, and removes the trimmed
//! records a part at a time.
//!
//! A trim is a record like any other, and its base is stored in the commit of that record. From
//! then on the log begins after the base, whatever is still in the file; the rest of the trimmed
//! records goes in later commits, and after a crash between those too. Nothing here decides whether
//! a log is trimmed, or how often.

use std::path::Path;

use redb::{ReadOnlyTable, ReadableTable as _, WriteTransaction};

use crate::base::{self, Base};
use crate::chain::Chain;
use crate::codec::{self, Decoded};
use crate::envelope;
use crate::error::{Damage, Error};
use crate::index::{self, Index};
use crate::reader::Reader;
use crate::segments::{self, Archived};
use crate::stream_format::Start;
use crate::tables::{Head, RECORDS};
use crate::writer::Journal;
use groundskeeper_core::event::Record;
use groundskeeper_core::{Seq, State, Time};

/// Most bytes of records that one trim takes. A longer log is trimmed several times.
pub const TRIM_BYTES_MAX: u64 = 256 << 20;
/// Most trimmed records, and most bytes of them, that one commit removes.
const REMOVED_MAX: usize = 1_000;
const REMOVED_BYTES_MAX: u64 = 4 << 20;

/// What a log has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surplus {
    /// Records from before this time go.
    pub before: Time,
    /// The oldest records of this many bytes go.
    pub bytes: u64,
}

/// A trim that is proven and not yet decided.
#[derive(Debug)]
pub struct Prepared {
    /// The state that the log begins with after it.
    pub base: Base,
    /// Number of records that go.
    pub records: u64,
    /// The file that they are in; none where they are not kept.
    pub archived: Option<Archived>,
}

fn failed(e: impl Into<redb::Error>) -> Error {
    Error::Storage { what: "trim the log", source: e.into() }
}

fn damaged(damage: Damage) -> Error {
    Error::Damaged { path: "log".into(), damage }
}

impl Reader {
    /// Returns the first record that is not trimmed, and its time; none in a log without records.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Damaged`].
    pub fn first(&self) -> Result<Option<(Seq, Time)>, Error> {
        let txn = self.begin()?;
        let from = base::trimmed(&txn)? + 1;
        let records = txn.open_table(RECORDS).map_err(failed)?;
        let Some(entry) = records.range(from..).map_err(failed)?.next() else { return Ok(None) };
        let (key, value) = entry.map_err(failed)?;
        let sealed = envelope::open(key.value(), value.value()).map_err(damaged)?;
        Ok(Some((Seq(sealed.seq), Time(sealed.at))))
    }

    /// Returns the base of a trimmed log.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Damaged`].
    pub fn base(&self) -> Result<Option<Base>, Error> {
        base::get(&self.begin()?)
    }

    /// Returns the last record that goes with the surplus; none when no record does. At most
    /// [`TRIM_BYTES_MAX`] go at once.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Damaged`].
    pub fn last_of(&self, surplus: Surplus) -> Result<Option<Seq>, Error> {
        let txn = self.begin()?;
        let from = base::trimmed(&txn)? + 1;
        let records = txn.open_table(RECORDS).map_err(failed)?;
        let (mut last, mut bytes) = (None, 0);
        for entry in records.range(from..).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            let sealed = envelope::open(key.value(), value.value()).map_err(damaged)?;
            let goes = Time(sealed.at) < surplus.before || bytes < surplus.bytes;
            if !goes || bytes >= TRIM_BYTES_MAX {
                break;
            }
            bytes += value.value().len() as u64;
            last = Some(Seq(sealed.seq));
        }
        Ok(last)
    }

    /// Prepares a trim up to `last`: folds the records up to there, keeps them in a segment in the
    /// folder `archive` if that is given, and proves that the new base and the records after it
    /// lead to `present`, a state of this log after `last`.
    ///
    /// # Errors
    /// Any [`Error`] of reading; [`Damage::Base`] when the proof fails; [`Error::Io`] when the
    /// segment cannot be written. The log is unchanged.
    pub fn prepare_trim(
        &self,
        last: Seq,
        archive: Option<&Path>,
        present: &State,
    ) -> Result<Prepared, Error> {
        let txn = self.begin()?;
        let before = base::get(&txn)?;
        let records = txn.open_table(RECORDS).map_err(failed)?;
        let mut fold = Fold::from(before.as_ref())?;
        let after = fold.chain.last();
        for entry in records.range(after.seq + 1..=last.0).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            fold.add(key.value(), value.value())?;
        }
        if fold.chain.last().seq != last.0 {
            let (expected, found) = (last.0, fold.chain.last().seq);
            return Err(damaged(Damage::Head { expected, found }));
        }
        let base = Base::of(&fold.state, fold.chain.last().crc)?;
        // From what will be read of it, through independent records, to what the daemon has.
        let mut proof = Fold::from(Some(&base))?;
        for entry in records.range(last.0 + 1..=present.seq().0).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            proof.add(key.value(), value.value())?;
        }
        if proof.state != *present {
            return Err(damaged(Damage::Base));
        }
        let start = Start { log_id: self.log_id(), after, has_base: before.is_some() };
        let keep =
            |folder| archive_to(folder, &records, (start, before.as_ref()), fold.chain.last());
        let archived = archive.map(keep).transpose()?;
        Ok(Prepared { base, records: last.0 - after.seq, archived })
    }
}

/// Keeps records in a segment.
fn archive_to(
    folder: &Path,
    records: &ReadOnlyTable<u64, &'static [u8]>,
    (start, base): (Start, Option<&Base>),
    last: Head,
) -> Result<Archived, Error> {
    let first = start.after.seq + 1;
    segments::remove_undecided(folder, first, &|head| {
        let found = records.get(head.seq).map_err(failed)?;
        found.map_or(Ok(false), |found| Ok(codec::checksum(head.seq, found.value())? == head.crc))
    })?;
    let mut entries = records.range(first..=last.seq).map_err(failed)?;
    let mut next = |bytes: &mut Vec<u8>| -> Result<Option<Head>, Error> {
        let Some(entry) = entries.next() else { return Ok(None) };
        let (key, value) = entry.map_err(failed)?;
        bytes.extend_from_slice(value.value());
        Ok(Some(Head { seq: key.value(), crc: codec::checksum(key.value(), value.value())? }))
    };
    segments::write(folder, (start, base), last, &mut next)
}

/// A fold of records that follow each other.
struct Fold {
    state: State,
    chain: Chain,
}

impl Fold {
    fn from(base: Option<&Base>) -> Result<Self, Error> {
        let Some(base) = base else {
            return Ok(Self { state: State::default(), chain: Chain::after(Head::default()) });
        };
        let state = base.state().ok_or_else(|| damaged(Damage::Base))?;
        Ok(Self { state, chain: Chain::after(base.head()) })
    }

    fn add(&mut self, key: u64, bytes: &[u8]) -> Result<(), Error> {
        let sealed = self.chain.next(key, bytes).map_err(damaged)?;
        match codec::decode(&sealed).map_err(damaged)? {
            Decoded::Record(record) => self.state.apply(&record),
            Decoded::Newer(what) => return Err(Error::Newer { path: "log".into(), what }),
        }
        Ok(())
    }
}

impl Journal {
    /// Returns the bytes of all records, trimmed ones that are still in the file among them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the last trimmed record; 0 if none is.
    #[must_use]
    pub fn trimmed(&self) -> Seq {
        Seq(self.base)
    }

    /// Returns whether trimmed records may still be in the file.
    #[must_use]
    pub fn has_trimmed(&self) -> bool {
        self.has_trimmed
    }

    /// Appends records, one of which is that of a trim, and makes the log begin after `base`: in
    /// one durable commit.
    ///
    /// # Errors
    /// As for [`Journal::append`].
    pub fn trim(&mut self, records: &[Record], state: &State, base: &Base) -> Result<(), Error> {
        self.append_with(records, state, Some(base))?;
        (self.base, self.has_trimmed) = (base.head().seq, true);
        self.watch.trim(self.base);
        Ok(())
    }

    /// Removes some of the trimmed records that are still in the file, in one durable commit.
    ///
    /// # Errors
    /// As for [`Journal::append`].
    pub fn remove_trimmed(&mut self) -> Result<(), Error> {
        if !self.has_trimmed {
            return Ok(());
        }
        (self.bytes, self.has_trimmed) = self.write(|journal| {
            let txn = journal.begin()?;
            let (removed, is_left) = remove_some(&txn, journal.base)?;
            let bytes = journal.bytes.saturating_sub(removed);
            index::note(&txn, journal.head().0, bytes)?;
            txn.commit().map_err(failed)?;
            Ok((bytes, is_left))
        })?;
        Ok(())
    }
}

/// Removes some of the records up to `base`, the oldest first. Returns their bytes, and whether
/// some of them are left.
fn remove_some(txn: &WriteTransaction, base: u64) -> Result<(u64, bool), Error> {
    let mut records = txn.open_table(RECORDS).map_err(failed)?;
    let mut index = Index::open(txn)?;
    let (mut bytes, mut count) = (0, 0);
    loop {
        let first = records.first().map_err(failed)?.map(|(key, _)| key.value());
        let is_left = first.is_some_and(|first| first <= base);
        if !is_left || count == REMOVED_MAX || bytes >= REMOVED_BYTES_MAX {
            return Ok((bytes, is_left));
        }
        if let Some((key, value)) = records.pop_first().map_err(failed)? {
            index.remove(key.value(), value.value())?;
            bytes += value.value().len() as u64;
            count += 1;
        }
    }
}
