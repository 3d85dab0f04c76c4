//! Opens a log to read it record by record and never to change it: a database or a flat file.
//!
//! A database is read through the overlay, so that redb's repair stays in memory. Records are
//! handed out as bytes; the caller checks and decodes as much as it needs. Any failure of redb on
//! damaged pages, also a panic, is returned as an error. Memory does not grow with the number of
//! records, except for the offsets in a flat file that is read backwards.

use std::fs::File;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::{self, BufReader, SeekFrom};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable};

use crate::codec;
use crate::envelope::{self, Envelope};
use crate::error::{Damage, Error};
use crate::index;
use crate::inspect::{ReadError, builder, facts, missing, unreadable};
use crate::overlay::Overlay;
use crate::stream_format::{self, Next};
use crate::tables::{Head, RECORDS, SNAPSHOTS};
use groundskeeper_core::State;
use groundskeeper_system::own_file::{self, Links};

const REDB_MAGIC: [u8; 4] = *b"redb";
const BUFFER_BYTES: usize = 1 << 18;

/// Callback that takes the key and the bytes of each record of a walk. It can end the walk.
pub type Visitor<'a> = &'a mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>;

/// The records that a walk hands out, and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First key, inclusive.
    pub from: u64,
    /// Last key, inclusive.
    pub to: u64,
    /// Whether the walk goes from the last record to the first.
    pub backwards: bool,
}

impl Range {
    /// All records, in ascending order.
    pub const ALL: Self = Self { from: 0, to: u64::MAX, backwards: false };

    /// Returns the range of all records up to `to`, inclusive.
    #[must_use]
    pub fn up_to(to: u64) -> Self {
        Self { to, ..Self::ALL }
    }
}

/// A log that is open for reading and is never changed.
#[derive(Debug)]
pub struct ReadOnlyLog {
    path: PathBuf,
    body: Body,
    log_id: [u8; 16],
    head: Option<Head>,
    before: Head,
}

#[derive(Debug)]
enum Body {
    /// The database; none only while it is being dropped.
    Database(Option<Database>),
    Flat(File),
}

impl Drop for ReadOnlyLog {
    fn drop(&mut self) {
        if let Body::Database(db) = &mut self.body {
            // redb finishes its work on a file when the database closes; here that goes to memory.
            // On a damaged file it can panic, and a panic in a drop must not escape.
            let db = db.take();
            drop(catch_unwind(AssertUnwindSafe(|| drop(db))));
        }
    }
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
    pub fn flat(path: &Path, mut file: File) -> Result<Self, Error> {
        let io = |source| Error::Io { what: "read the log", path: path.to_owned(), source };
        file.rewind().map_err(io)?;
        let mut bytes = Vec::new();
        (&mut file).take(stream_format::HEAD_BYTES as u64).read_to_end(&mut bytes).map_err(io)?;
        let start = stream_format::parse_head(&bytes).map_err(|what| {
            if what.contains("newer") {
                return ReadError::Newer(what.to_owned()).at(path);
            }
            ReadError::Damage(Damage::Unreadable(what.to_owned())).at(path)
        })?;
        let length = file.seek(SeekFrom::End(0)).map_err(io)?;
        let mut head = None;
        if length >= (stream_format::HEAD_BYTES + stream_format::END_BYTES) as u64 {
            let mut end = [0; stream_format::END_BYTES];
            file.seek(SeekFrom::Start(length - stream_format::END_BYTES as u64)).map_err(io)?;
            file.read_exact(&mut end).map_err(io)?;
            head = stream_format::parse_end(&end);
        }
        Ok(Self {
            path: path.to_owned(),
            body: Body::Flat(file),
            log_id: start.log_id,
            head,
            before: start.after,
        })
    }

    fn database(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { what: "read the log", path: path.to_owned(), source };
        let overlay = Overlay::open(path).map_err(io)?;
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let db = builder().create_with_backend(overlay).map_err(|e| unreadable(&e))?;
            let txn = db.begin_read().map_err(|e| unreadable(&e))?;
            let facts = facts(&txn)?;
            let records = txn.open_table(RECORDS).map_err(|e| missing(&e))?;
            let first = records.first().map_err(|e| unreadable(&e))?;
            let first = first.map_or(1, |(key, _)| key.value());
            drop(records);
            drop(txn);
            Ok((db, facts, first))
        }));
        let opened = opened.unwrap_or_else(|panic| Err(crate::inspect::panicked(&*panic)));
        let (db, facts, first) = opened.map_err(|trouble| trouble.at(path))?;
        Ok(Self {
            path: path.to_owned(),
            body: Body::Database(Some(db)),
            log_id: facts.log_id,
            head: Some(facts.head),
            before: Head { seq: first.saturating_sub(1), crc: 0 },
        })
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
        self.before.seq + 1
    }

    /// Returns the record that the first one continues; its crc is 0 when it is not known.
    #[must_use]
    pub fn before(&self) -> Head {
        self.before
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
        match &self.body {
            Body::Database(Some(db)) => {
                let walked = catch_unwind(AssertUnwindSafe(|| walk_database(db, range, each)));
                let walked = walked.unwrap_or_else(|p| Err(crate::inspect::panicked(&*p)));
                walked.map_err(|trouble| trouble.at(&self.path))
            }
            Body::Database(None) => Ok(()),
            Body::Flat(file) if range.backwards => self.walk_flat_back(file, range, each),
            Body::Flat(file) => self.walk_flat(file, range, each),
        }
    }

    /// Hands out the snapshots that decode, oldest first: the state and the checksum of the record
    /// that it follows. A flat file has none.
    ///
    /// # Errors
    /// [`Error::Damaged`] when redb cannot read the table.
    pub fn snapshots(&self, each: &mut dyn FnMut(State, u32)) -> Result<(), Error> {
        let Body::Database(Some(db)) = &self.body else { return Ok(()) };
        let walked = catch_unwind(AssertUnwindSafe(|| {
            let txn = db.begin_read().map_err(|e| unreadable(&e))?;
            let snapshots = txn.open_table(SNAPSHOTS).map_err(|e| missing(&e))?;
            for entry in snapshots.iter().map_err(|e| unreadable(&e))? {
                let (key, value) = entry.map_err(|e| unreadable(&e))?;
                let found = codec::decode_snapshot(value.value());
                if let Some((state, crc)) = found.filter(|(s, _)| s.seq().0 == key.value()) {
                    each(state, crc);
                }
            }
            Ok(())
        }));
        let walked = walked.unwrap_or_else(|panic| Err(crate::inspect::panicked(&*panic)));
        walked.map_err(|trouble: ReadError| trouble.at(&self.path))
    }

    /// Compares the index of a database with its records, which must be intact.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it does not fit them.
    pub fn check_index(&self) -> Result<(), Error> {
        let Body::Database(Some(db)) = &self.body else { return Ok(()) };
        let checked = catch_unwind(AssertUnwindSafe(|| {
            let txn = db.begin_read().map_err(|e| unreadable(&e))?;
            let records = txn.open_table(RECORDS).map_err(|e| missing(&e))?;
            index::check(&txn, &records).map_err(ReadError::from)
        }));
        let checked = checked.unwrap_or_else(|panic| Err(crate::inspect::panicked(&*panic)));
        checked.map_err(|trouble| trouble.at(&self.path))
    }

    fn io(&self) -> impl Fn(io::Error) -> Error + '_ {
        |source| Error::Io { what: "read the log", path: self.path.clone(), source }
    }

    fn walk_flat(&self, file: &File, range: Range, each: Visitor<'_>) -> Result<(), Error> {
        let damaged = |damage| Error::Damaged { path: self.path.clone(), damage };
        let mut file = file;
        file.seek(SeekFrom::Start(stream_format::HEAD_BYTES as u64)).map_err(self.io())?;
        let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
        let (mut seq, mut buffer) = (self.first(), Vec::new());
        while seq <= range.to {
            match stream_format::next(&mut input, seq, &mut buffer)
                .map_err(self.io())?
                .map_err(damaged)?
            {
                Next::Cut => return Err(damaged(Damage::Cut(seq - 1))),
                Next::End(_) => break,
                Next::Record if seq < range.from => {}
                Next::Record => {
                    if each(seq, &buffer).is_break() {
                        break;
                    }
                }
            }
            seq += 1;
        }
        Ok(())
    }

    /// Notes where each record begins, then reads the records from the last to the first.
    fn walk_flat_back(&self, file: &File, range: Range, each: Visitor<'_>) -> Result<(), Error> {
        // A record has no length at its end, so a flat file cannot be parsed backwards.
        let (mut places, mut at) = (Vec::new(), stream_format::HEAD_BYTES as u64);
        let whole = self.walk_flat(file, Range::up_to(range.to), &mut |seq, bytes| {
            if seq >= range.from {
                places.push((seq, at, bytes.len()));
            }
            at += bytes.len() as u64;
            ControlFlow::Continue(())
        });
        let (mut file, mut buffer) = (file, Vec::new());
        for (seq, at, length) in places.into_iter().rev() {
            buffer.resize(length, 0);
            file.seek(SeekFrom::Start(at)).map_err(self.io())?;
            file.read_exact(&mut buffer).map_err(self.io())?;
            if each(seq, &buffer).is_break() {
                return Ok(());
            }
        }
        // Damage further on is reported only after every record before it is handed out.
        whole
    }
}

fn walk_database(db: &Database, range: Range, each: Visitor<'_>) -> Result<(), ReadError> {
    let txn = db.begin_read().map_err(|e| unreadable(&e))?;
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

/// Checks that records follow each other: envelope, order and chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    last: Head,
    /// Whether the checksum of the record before is unknown; then the chain is not checked.
    open: bool,
}

impl Chain {
    /// Returns a check for a walk that begins with the first record of a log.
    #[must_use]
    pub fn of(log: &ReadOnlyLog) -> Self {
        let last = log.before();
        Self { last, open: last.seq > 0 && last.crc == 0 }
    }

    /// Returns a check for a walk that begins after the record `last`.
    #[must_use]
    pub fn after(last: Head) -> Self {
        Self { last, open: false }
    }

    /// Returns the record that was checked last; its crc is 0 if its envelope was damaged.
    #[must_use]
    pub fn last(&self) -> Head {
        self.last
    }

    /// Checks the next record. After an error the check continues from what was found.
    ///
    /// # Errors
    /// The first [`Damage`] of this record.
    pub fn next<'a>(&mut self, key: u64, bytes: &'a [u8]) -> Result<Envelope<'a>, Damage> {
        let sealed = match envelope::open(key, bytes) {
            Ok(sealed) => sealed,
            Err(damage) => {
                self.last = Head { seq: key, crc: 0 };
                self.open = true;
                return Err(damage);
            }
        };
        let (before, open) = (self.last, std::mem::take(&mut self.open));
        self.last = Head { seq: sealed.seq.max(key), crc: sealed.crc };
        let expected = before.seq + 1;
        if sealed.seq != expected || key != expected {
            let found = if key == sealed.seq { key } else { sealed.seq };
            return Err(Damage::OutOfOrder { expected, found });
        }
        if !open && sealed.previous != before.crc {
            return Err(Damage::Chain(key));
        }
        Ok(sealed)
    }
}
