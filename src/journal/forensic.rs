//! Opens a log to read it record by record and never to change it: a database or a flat file.
//!
//! A database is read through the overlay, so that redb's repair stays in memory. Records are
//! handed out as bytes; the caller checks and decodes as much as it needs. Any failure of redb on
//! damaged pages, also a panic, is returned as an error. Memory does not grow with the number of
//! records, except for the offsets in a flat file that is read backwards.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use redb::{ReadTransaction, ReadableTable};

use crate::base::{self, Base};
use crate::codec;
use crate::error::{Damage, Error};
use crate::evidence::Evidence;
use crate::evidence::{ReadError, unreadable};
use crate::flat_file::FlatFile;
use crate::index;
use crate::inspect::{facts, missing};
use crate::segments::{self, Segment};
use crate::stream_format;
use crate::tables::{Head, RECORDS, SNAPSHOTS};
use groundskeeper_core::State;
use groundskeeper_core::event::FormerLife;
use groundskeeper_system::own_file::{self, Links};

pub use crate::chain::Chain;
pub use crate::range::{Range, Visitor};

const REDB_MAGIC: [u8; 4] = *b"redb";

/// A log that is open for reading and is never changed.
#[derive(Debug)]
pub struct ReadOnlyLog {
    path: PathBuf,
    body: Body,
    log_id: [u8; 16],
    head: Option<Head>,
    before: Head,
    base: Option<Base>,
    /// Trimmed records before it, the oldest first, each with the record that it ends with.
    earlier: Vec<(Segment, Head)>,
    /// What the oldest of them begins with.
    joined: Option<(Head, Option<Base>)>,
}

#[derive(Debug)]
enum Body {
    Database(Evidence),
    Flat(FlatFile),
}

impl ReadOnlyLog {
    /// Opens a database or a flat file. The first bytes decide which.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotALog`], [`Error::Damaged`], [`Error::Newer`]; the file is
    /// unchanged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { what: "read the log", path: path.to_owned(), source };
        // Checked before the open: an open of a pipe would block until a process writes to it.
        if !path.metadata().map_err(io)?.is_file() {
            return Err(io(io::Error::other("it is not a file")));
        }
        let file = own_file::open(path, File::options().read(true), Links::Followed);
        let mut file = file.map_err(io)?;
        let mut magic = Vec::new();
        (&mut file).take(4).read_to_end(&mut magic).map_err(io)?;
        file.rewind().map_err(io)?;
        if magic.is_empty() {
            return Err(ReadError::Damage(Damage::Empty).at(path));
        }
        if magic == REDB_MAGIC {
            return Self::database(path);
        }
        if magic == stream_format::HEAD_MAGIC {
            return Self::flat(path, file);
        }
        let what = "it starts like neither a database nor a flat log".to_owned();
        Err(Error::NotALog { path: path.to_owned(), what })
    }

    /// Opens a flat log in a file that may have no name; `path` serves only for errors.
    ///
    /// # Errors
    /// As for [`ReadOnlyLog::open`].
    pub fn flat(path: &Path, file: File) -> Result<Self, Error> {
        let (flat, start) = FlatFile::open(path, file)?;
        Ok(Self {
            path: path.to_owned(),
            log_id: start.log_id,
            head: flat.end(),
            before: start.after,
            base: flat.base().cloned(),
            body: Body::Flat(flat),
            earlier: Vec::new(),
            joined: None,
        })
    }

    fn database(path: &Path) -> Result<Self, Error> {
        let log = Evidence::open(path)?;
        let opened = log.read(|txn| {
            let facts = facts(txn)?;
            let records = txn.open_table(RECORDS).map_err(|e| missing(&e))?;
            let first = records.first().map_err(|e| unreadable(&e))?;
            let first = first.map_or(1, |(key, _)| key.value());
            // A damaged one is reported by `check_index`; the records can be read without it.
            let base = base::get(txn).ok().flatten();
            Ok((facts, first.max(base::trimmed(txn).unwrap_or(0) + 1), base))
        });
        let (facts, first, base) = opened.map_err(|trouble| trouble.at(path))?;
        // Trimmed records may still be there: they are removed a part at a time.
        let unknown = Head { seq: first.saturating_sub(1), crc: 0 };
        Ok(Self {
            path: path.to_owned(),
            body: Body::Database(log),
            log_id: facts.log_id,
            head: Some(facts.head),
            before: base.as_ref().map_or(unknown, Base::head),
            base,
            earlier: Vec::new(),
            joined: None,
        })
    }

    /// Adds the trimmed records that are in segments in `folder`, so that the log is read as if it
    /// had never been trimmed. A segment is unpacked when it is read.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be listed, and errors of the first segment.
    pub fn with_segments(mut self, folder: &Path) -> Result<Self, Error> {
        self.earlier = segments::before(folder, self.before)?;
        let unknown = |segment: &Segment| (Head { seq: segment.first - 1, crc: 0 }, None);
        let oldest = self.earlier.first().map(|(segment, _)| segment);
        self.joined = oldest.map(|segment| segment.start().unwrap_or_else(|_| unknown(segment)));
        Ok(self)
    }

    /// Returns the path that the log was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the identity of the log.
    #[must_use]
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// Returns the last record as the file names it; none for a flat file without its end.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Returns the seq of the first record; 1 unless the log was trimmed or is a later part of one.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.before().seq + 1
    }

    /// Returns the record that the first one continues; its crc is 0 when it is not known.
    #[must_use]
    pub fn before(&self) -> Head {
        self.joined.as_ref().map_or(self.before, |(before, _)| *before)
    }

    /// Returns a check for a walk that begins with the first record.
    #[must_use]
    pub fn chain(&self) -> Chain {
        Chain::begin(self.before())
    }

    /// Returns the state that the records are folded onto; none when the first one is record 1, and
    /// when it is not known.
    #[must_use]
    pub fn base(&self) -> Option<&Base> {
        self.joined.as_ref().map_or(self.base.as_ref(), |(_, base)| base.as_ref())
    }

    /// Returns whether this is a database, which can have snapshots.
    #[must_use]
    pub fn is_database(&self) -> bool {
        matches!(self.body, Body::Database(_))
    }

    /// Hands out the records of a range.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the file cannot be read on; records handed out before remain valid.
    pub fn walk(&self, range: Range, each: Visitor<'_>) -> Result<(), Error> {
        let is_over = Cell::new(false);
        let mut each = |key: u64, bytes: &[u8]| {
            let next = each(key, bytes);
            is_over.set(next.is_break());
            next
        };
        let earlier = self.earlier.iter().filter(|(part, _)| part.meets(range)).map(Some);
        let mut parts: Vec<Option<&(Segment, Head)>> = earlier.chain([None]).collect();
        if range.backwards {
            parts.reverse();
        }
        // A segment that cannot be read does not take the other parts away.
        let mut missing = None;
        for part in parts {
            match part {
                Some((segment, next)) => {
                    let unpacked = segment.unpack(*next);
                    let walked = unpacked.and_then(|file| file.walk(range, &mut each));
                    missing = missing.or(walked.err());
                }
                None => self.walk_own(range, &mut each)?,
            }
            if is_over.get() {
                return Ok(());
            }
        }
        missing.map_or(Ok(()), |error| Err(error.into_damage()))
    }

    /// Hands out the lives that the state has forgotten, some at a time; not those of segments.
    ///
    /// # Errors
    /// Errors of `each`, and [`Error::Damaged`].
    pub fn lives(
        &self,
        each: &mut dyn FnMut(&[FormerLife]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let log = match &self.body {
            Body::Database(log) => log,
            Body::Flat(flat) => return flat.lives(each),
        };
        let walked = log.read(|txn| {
            let mut after = String::new();
            loop {
                let lives = index::lives(txn, &after, stream_format::LIVES_MAX)?;
                let Some(last) = lives.last() else { return Ok(()) };
                after = last.environment.to_string();
                each(&lives)?;
            }
        });
        walked.map_err(|trouble| trouble.at(&self.path))
    }

    fn walk_own(&self, range: Range, each: Visitor<'_>) -> Result<(), Error> {
        let range = Range { from: range.from.max(self.before.seq + 1), ..range };
        match &self.body {
            Body::Database(log) => {
                let walked = log.read(|txn| walk_database(txn, range, each));
                walked.map_err(|trouble| trouble.at(&self.path))
            }
            Body::Flat(flat) => flat.walk(range, each),
        }
    }

    /// Hands out the snapshots that decode, oldest first: the state and the checksum of the record
    /// that it follows. The base counts as one. A flat file has no others.
    ///
    /// # Errors
    /// [`Error::Damaged`] when redb cannot read the table.
    pub fn snapshots(&self, each: &mut dyn FnMut(State, u32)) -> Result<(), Error> {
        let own = self.base.as_ref().filter(|_| !self.earlier.is_empty());
        for base in self.base().into_iter().chain(own) {
            if let Some(state) = base.state() {
                each(state, base.head().crc);
            }
        }
        let Body::Database(log) = &self.body else { return Ok(()) };
        let walked = log.read(|txn| {
            let snapshots = txn.open_table(SNAPSHOTS).map_err(|e| missing(&e))?;
            for entry in snapshots.iter().map_err(|e| unreadable(&e))? {
                let (key, value) = entry.map_err(|e| unreadable(&e))?;
                let found = codec::decode_snapshot(value.value());
                if let Some((state, crc)) = found.filter(|(s, _)| s.seq().0 == key.value()) {
                    each(state, crc);
                }
            }
            Ok(())
        });
        walked.map_err(|trouble| trouble.at(&self.path))
    }

    /// Compares the index of a database with its records, which must be intact, and checks that its
    /// base can be read.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the index does not fit them, and [`Damage::Base`].
    pub fn check_index(&self) -> Result<(), Error> {
        let Body::Database(log) = &self.body else { return Ok(()) };
        let checked = log.read(|txn| {
            let base = base::get(txn)?;
            if base.is_some_and(|base| base.state().is_none()) {
                return Err(Damage::Base.into());
            }
            let records = txn.open_table(RECORDS).map_err(|e| missing(&e))?;
            index::check(txn, &records).map_err(ReadError::from)
        });
        checked.map_err(|trouble| trouble.at(&self.path))
    }
}

fn walk_database(txn: &ReadTransaction, range: Range, each: Visitor<'_>) -> Result<(), ReadError> {
    let records = txn.open_table(RECORDS).map_err(|e| missing(&e))?;
    if range.from > range.to {
        return Ok(());
    }
    let mut entries = records.range(range.from..=range.to).map_err(|e| unreadable(&e))?;
    let mut before = None;
    loop {
        let entry = if range.backwards { entries.next_back() } else { entries.next() };
        let Some(entry) = entry else { return Ok(()) };
        let (key, value) = entry.map_err(|e| unreadable(&e))?;
        // Damaged pages can form a cycle, so a walk that makes no progress ends with an error.
        let found = key.value();
        let got_on = |b: u64| if range.backwards { found < b } else { found > b };
        if let Some(expected) = before.replace(found).filter(|b| !got_on(*b)) {
            return Err(Damage::OutOfOrder { expected, found }.into());
        }
        if each(found, value.value()).is_break() {
            return Ok(());
        }
    }
}
