//! Write side of the log. One handle per file, used by one thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, StorageBackend, WriteTransaction};

use crate::base::{self, Base};
use crate::codec;
use crate::error::{Damage, Error};
use crate::evidence::builder;
use crate::ground::Ground;
use crate::index::{self, Index};
use crate::inspect::{Depth, Inspection, inspect};
use crate::reader::{Reader, Watch};
use crate::snapshots;
use crate::tables::{FORMAT, Head, META, META_FORMAT, META_HEAD, META_LOG_ID, RECORDS, SNAPSHOTS};
use groundskeeper_core::event::Record;
use groundskeeper_core::{Seq, State};
use groundskeeper_system::own_file::{self, Links};
use groundskeeper_system::portable;

/// Records between two snapshots. Folding a million records takes about 0.25 s, so the rest after a
/// snapshot folds in some 13 ms.
pub const SNAPSHOT_EVERY: u64 = 50_000;
/// Records after a snapshot from which an orderly end makes one.
const SNAPSHOT_AT_END: u64 = 1_000;

/// Settings of a log. Tests change them; the daemon uses [`Options::default`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Records between two snapshots.
    pub snapshot_every: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { snapshot_every: SNAPSHOT_EVERY }
    }
}

/// The log, open for appending.
#[derive(Debug)]
pub struct Journal {
    db: Arc<Database>,
    pub(super) watch: Arc<Watch>,
    head: Head,
    /// Bytes of all records.
    pub(super) bytes: u64,
    /// The last trimmed record; 0 if none is.
    pub(super) base: u64,
    /// Whether trimmed records may still be in the file.
    pub(super) has_trimmed: bool,
    log_id: [u8; 16],
    snapshot_due: u64,
    options: Options,
    /// None for a log that is no file: the simulated disks of tests.
    ground: Option<Ground>,
    poisoned: bool,
    clean: bool,
}

impl Journal {
    /// Opens the log at `path`, or makes one when no file has that name, and returns its content.
    /// An existing file is first verified without a write to it.
    ///
    /// # Errors
    /// Any [`Error`]. After [`Error::Damaged`] and [`Error::Newer`] the file is unchanged.
    pub fn open(path: &Path, options: Options) -> Result<(Self, Inspection), Error> {
        // An error is not absence: a path that cannot be checked must not become a new log.
        let there = own_file::check(path, Links::Refused).map_err(io("open", path))?;
        if there.is_none() {
            create(path)?;
        }
        // Verified through the overlay first: redb's own open repairs the file in place.
        let found = inspect(path, Depth::FromSnapshot, &mut |_, _| {})?;
        let mut ground = Ground::at(path)?;
        let db = builder().open(path).map_err(|e| open_error(path, e))?;
        let mut journal = Self::over(db, options, &found)?;
        // Only now: redb may write to the file when it opens it.
        ground.note()?;
        journal.ground = Some(ground);
        Ok((journal, found))
    }

    /// Opens a log over any storage and initialises an empty one: for tests on simulated disks.
    /// Verifies nothing.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Damaged`].
    pub fn open_backend(backend: impl StorageBackend, options: Options) -> Result<Self, Error> {
        let db = builder().create_with_backend(backend);
        let db = db.map_err(|e| Error::Storage { what: "open it", source: e.into() })?;
        if head_of(&db)?.is_none() {
            initialise(&db)?;
        }
        let head = head_of(&db)?.unwrap_or_default();
        let (state, first, begun) = (State::default(), Seq(1), Seq(snapshots::last(&db)?));
        let found = Inspection { log_id: [0; 16], head, state, first, begun, folded: 0 };
        Self::over(db, options, &found)
    }

    fn over(db: Database, options: Options, found: &Inspection) -> Result<Self, Error> {
        let head = head_of(&db)?.unwrap_or_default();
        // The caller's state is folded up to the inspected head. An append to another head would
        // not fit that state.
        if head != found.head {
            let damage = Damage::Head { expected: found.head.seq, found: head.seq };
            return Err(Error::Damaged { path: PathBuf::new(), damage });
        }
        let (base, has_trimmed) = base_of(&db)?;
        let bytes = index::complete(&db, head.seq, base)?;
        let last_snapshot = found.begun.0.max(base);
        Ok(Self {
            db: Arc::new(db),
            watch: Arc::new(Watch::new(Seq(head.seq), base)),
            head,
            bytes,
            base,
            has_trimmed,
            log_id: found.log_id,
            snapshot_due: last_snapshot + options.snapshot_every,
            options,
            ground: None,
            poisoned: false,
            clean: false,
        })
    }

    /// Returns a reader of committed records; cheap to make and to clone.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.db), Arc::clone(&self.watch), self.log_id)
    }

    /// Returns the seq of the last record; 0 in an empty log.
    #[must_use]
    pub fn head(&self) -> Seq {
        Seq(self.head.seq)
    }

    /// Returns the identity of this log: 16 random bytes, drawn when the log was made.
    #[must_use]
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// Gives this log a new identity because it is a copy: the original keeps its own.
    ///
    /// # Errors
    /// [`Error::Io`] when no random bytes can be drawn, and [`Error::Storage`].
    pub fn take_new_identity(&mut self) -> Result<[u8; 16], Error> {
        let storage = |e: redb::Error| Error::storage("give it a new identity")(e);
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|e| {
            let source = std::io::Error::other(e.to_string());
            Error::Io { what: "read random bytes for the log", path: PathBuf::new(), source }
        })?;
        let txn = self.db.begin_write().map_err(|e| storage(e.into()))?;
        {
            let mut meta = txn.open_table(META).map_err(|e| storage(e.into()))?;
            meta.insert(META_LOG_ID, id.as_slice()).map_err(|e| storage(e.into()))?;
        }
        txn.commit().map_err(|e| storage(e.into()))?;
        self.note_ground()?;
        self.log_id = id;
        Ok(id)
    }

    /// Returns whether the last commit saved redb's allocator state: an open after a kill is then
    /// fast, without a walk over the file.
    #[must_use]
    pub fn is_checkpointed(&self) -> bool {
        self.clean
    }

    /// Appends records in one durable commit: all or none. `state` is the state after them; it is
    /// encoded only when a snapshot is due.
    ///
    /// # Errors
    /// Any error closes this handle for good: memory may be ahead of the disk, and a failed sync
    /// must not be retried. The process is expected to end. [`Error::Lost`] when the records are
    /// not, or would not be, in the file at the log's path.
    pub fn append(&mut self, records: &[Record], state: &State) -> Result<(), Error> {
        self.append_with(records, state, None)
    }

    /// Makes the next commit write a snapshot, unless few records follow the last one: the daemon
    /// ends, and the next one then folds nothing.
    pub fn snapshot_next(&mut self) {
        let last = self.snapshot_due.saturating_sub(self.options.snapshot_every);
        if self.head.seq >= last.saturating_add(SNAPSHOT_AT_END) {
            self.snapshot_due = self.head.seq;
        }
    }

    /// Appends records, and makes `base` the base of the log in the same commit.
    pub(super) fn append_with(
        &mut self,
        records: &[Record],
        state: &State,
        base: Option<&Base>,
    ) -> Result<(), Error> {
        if records.is_empty() {
            return if self.poisoned { Err(Error::Poisoned) } else { Ok(()) };
        }
        let (head, bytes) = self.write(|journal| journal.commit(records, state, base))?;
        (self.head, self.bytes) = (head, bytes);
        // Only now: a reader that wakes must find the records committed.
        self.watch.advance(Seq(head.seq));
        Ok(())
    }

    /// Makes a commit. An error or a panic in it leaves the handle closed.
    pub(super) fn write<T>(
        &mut self,
        commit: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        self.poisoned = true;
        self.check_ground()?;
        let done = commit(self)?;
        // Before it counts as durable: the file may have lost its name meanwhile.
        self.note_ground()?;
        self.poisoned = false;
        // The saved allocator state counts only if no later commit follows it.
        self.clean = false;
        Ok(done)
    }

    pub(super) fn begin(&self) -> Result<WriteTransaction, Error> {
        self.db.begin_write().map_err(|e| Error::storage("begin a commit")(e.into()))
    }

    fn check_ground(&self) -> Result<(), Error> {
        self.ground.as_ref().map_or(Ok(()), Ground::check)
    }

    fn note_ground(&mut self) -> Result<(), Error> {
        self.ground.as_mut().map_or(Ok(()), Ground::note)
    }

    fn commit(
        &mut self,
        records: &[Record],
        state: &State,
        base: Option<&Base>,
    ) -> Result<(Head, u64), Error> {
        let storage = Error::storage;
        let txn = self.begin()?;
        let (mut head, mut size) = (self.head, self.bytes);
        {
            let mut table =
                txn.open_table(RECORDS).map_err(|e| storage("open its records")(e.into()))?;
            let mut index = Index::open(&txn)?;
            for record in records {
                assert_eq!(record.seq.0, head.seq + 1, "records are consecutive");
                let (bytes, crc) = codec::encode(record, head.crc)?;
                table
                    .insert(record.seq.0, bytes.as_slice())
                    .map_err(|e| storage("append a record")(e.into()))?;
                index.add(record.seq.0, &bytes)?;
                size += bytes.len() as u64;
                head = Head { seq: record.seq.0, crc };
            }
        }
        // Records, head, index and snapshot share one transaction, so no crash can separate them.
        put_head(&txn, head)?;
        index::note(&txn, head.seq, size)?;
        if let Some(base) = base {
            base::put(&txn, base)?;
            snapshots::drop_up_to(&txn, base.head().seq)?;
        }
        if head.seq >= self.snapshot_due {
            snapshots::put(&txn, state, head)?;
            self.snapshot_due = head.seq + self.options.snapshot_every;
        }
        txn.commit().map_err(|e| storage("commit records")(e.into()))?;
        Ok((head, size))
    }

    /// Commits an empty transaction that saves redb's allocator state: the next open after a kill
    /// then takes a millisecond instead of a walk over the file. Does nothing if the last commit
    /// was a checkpoint.
    ///
    /// # Errors
    /// As for [`Journal::append`].
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        if self.clean && !self.poisoned {
            return Ok(());
        }
        self.write(|journal| {
            let mut txn = journal.begin()?;
            txn.set_quick_repair(true);
            txn.commit().map_err(|e| Error::storage("commit a checkpoint")(e.into()))
        })?;
        self.clean = true;
        Ok(())
    }
}

/// Makes a new log under another name and renames it into place, so that a crash in between leaves
/// no incomplete file under the real name.
fn create(path: &Path) -> Result<(), Error> {
    let fresh = path.with_extension("new");
    // An earlier creation that crashed may have left a file here.
    own_file::remove_leftover(&fresh).map_err(io("remove", &fresh))?;
    let db = builder().create(&fresh).map_err(|e| open_error(&fresh, e))?;
    initialise(&db)?;
    // Closed before the rename: redb writes to the file once more when it closes.
    drop(db);
    std::fs::rename(&fresh, path).map_err(io("rename the new log to", path))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Without a sync of the directory a power loss can undo the rename.
    portable::sync_dir(parent).map_err(io("sync", parent))
}

fn initialise(db: &Database) -> Result<(), Error> {
    initialise_as(db, None)
}

/// Makes the tables, with a random identity if none is given.
pub(super) fn initialise_as(db: &Database, log_id: Option<[u8; 16]>) -> Result<(), Error> {
    let mut fresh = [0; 16];
    getrandom::fill(&mut fresh).map_err(|e| Error::Io {
        what: "read random bytes for the log",
        path: PathBuf::new(),
        source: std::io::Error::other(e.to_string()),
    })?;
    let log_id = log_id.unwrap_or(fresh);
    let failed = |e: redb::Error| Error::Storage { what: "create a new log", source: e };
    let txn = db.begin_write().map_err(|e| failed(e.into()))?;
    {
        let mut meta = txn.open_table(META).map_err(|e| failed(e.into()))?;
        let format = FORMAT.to_le_bytes();
        meta.insert(META_FORMAT, format.as_slice()).map_err(|e| failed(e.into()))?;
        meta.insert(META_LOG_ID, log_id.as_slice()).map_err(|e| failed(e.into()))?;
        txn.open_table(RECORDS).map_err(|e| failed(e.into()))?;
        txn.open_table(SNAPSHOTS).map_err(|e| failed(e.into()))?;
    }
    put_head(&txn, Head::default())?;
    txn.commit().map_err(|e| failed(e.into()))
}

fn head_of(db: &Database) -> Result<Option<Head>, Error> {
    use redb::ReadableDatabase as _;
    let failed = |e: redb::Error| Error::Storage { what: "read its head", source: e };
    let txn = db.begin_read().map_err(|e| failed(e.into()))?;
    let meta = match txn.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(e) => return Err(failed(e.into())),
    };
    let value = meta.get(META_HEAD).map_err(|e| failed(e.into()))?;
    Ok(value.and_then(|v| Head::from_bytes(v.value())))
}

/// Returns the last trimmed record, 0 if none is, and whether trimmed records are in the file.
fn base_of(db: &Database) -> Result<(u64, bool), Error> {
    use redb::{ReadableDatabase as _, ReadableTable as _};
    let failed = |e: redb::Error| Error::Storage { what: "read its base", source: e };
    let txn = db.begin_read().map_err(|e| failed(e.into()))?;
    let base = base::trimmed(&txn)?;
    let records = txn.open_table(RECORDS).map_err(|e| failed(e.into()))?;
    let first = records.first().map_err(|e| failed(e.into()))?;
    Ok((base, first.is_some_and(|(key, _)| key.value() <= base)))
}

pub(super) fn put_head(txn: &WriteTransaction, head: Head) -> Result<(), Error> {
    let failed = |e: redb::Error| Error::Storage { what: "write its head", source: e };
    let mut meta = txn.open_table(META).map_err(|e| failed(e.into()))?;
    let bytes = head.to_bytes();
    meta.insert(META_HEAD, bytes.as_slice()).map_err(|e| failed(e.into()))?;
    Ok(())
}

fn io(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { what, path: path.to_owned(), source }
}

pub(super) fn open_error(path: &Path, e: DatabaseError) -> Error {
    match e {
        DatabaseError::DatabaseAlreadyOpen => Error::Busy { path: path.to_owned() },
        DatabaseError::Storage(redb::StorageError::Io(source)) => {
            Error::Io { what: "open the log", path: path.to_owned(), source }
        }
        other => Error::Storage { what: "open it", source: other.into() },
    }
}
