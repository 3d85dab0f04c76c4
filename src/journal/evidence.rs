//! A log's database that is only read: redb's writes stay in memory and its panics become damage.
//!
//! Every read of a file that may be damaged, or that a daemon writes meanwhile, goes through here.
//! Nothing here decodes a record.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::error::{Damage, Error};
use super::overlay::Overlay;

/// A database over an [`Overlay`].
#[derive(Debug)]
pub(super) struct Evidence {
    /// None only while it is being dropped.
    db: Option<Database>,
}

impl Evidence {
    /// Opens the database at `path`; what redb repairs for that stays in memory.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Damaged`].
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { what: "read the log", path: path.to_owned(), source };
        // Before it is opened: to open a FIFO waits for a writer that may never come.
        let found = path.metadata().map_err(io)?;
        if !found.is_file() {
            return Err(io(std::io::Error::other("it is not a file")));
        }
        let overlay = Overlay::open(path).map_err(io)?;
        if found.len() == 0 {
            return Err(Error::Damaged { path: path.to_owned(), damage: Damage::Empty });
        }
        let open = || builder().create_with_backend(overlay).map_err(|e| unreadable(&e));
        let db = Some(catching(open).map_err(|trouble| trouble.at(path))?);
        Ok(Self { db })
    }

    /// Runs a read of the database as it is now.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let Some(db) = &self.db else { return Err(closed()) };
        catching(|| read(&db.begin_read().map_err(|e| unreadable(&e))?))
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        let db = self.db.take();
        // redb closes a database with a commit. Over damaged pages that commit can panic twice,
        // which ends the process, and here it is of no use. redb makes none while a panic unwinds;
        // this one prints nothing.
        drop(catch_unwind(AssertUnwindSafe(|| {
            let _closed = db;
            resume_unwind(Box::new(()))
        })));
    }
}

/// Runs a read. redb panics on some damaged pages; such a panic is reported as damage.
fn catching<T>(read: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
    let done = catch_unwind(AssertUnwindSafe(read));
    done.unwrap_or_else(|panic| Err(panicked(&*panic)))
}

/// Converts the message of a panic into damage.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> ReadError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
    ReadError::Damage(Damage::Unreadable(text.to_owned()))
}

fn closed() -> ReadError {
    ReadError::Damage(Damage::Unreadable("it is closed".to_owned()))
}

/// Settings for every open of a log. The cache is small: a log is read in order, and redb's default
/// of 1 GiB made a scan slower and kept what was scanned in memory.
pub(super) fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(4 << 20);
    builder
}

pub(super) enum ReadError {
    Damage(Damage),
    Newer(String),
}

impl ReadError {
    pub(super) fn at(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Self::Damage(damage) => Error::Damaged { path, damage },
            Self::Newer(what) => Error::Newer { path, what },
        }
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        match error {
            Error::Damaged { damage, .. } => Self::Damage(damage),
            Error::Newer { what, .. } => Self::Newer(what),
            other => unreadable(&other),
        }
    }
}

impl From<Damage> for ReadError {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

pub(super) fn unreadable(e: &dyn std::error::Error) -> ReadError {
    ReadError::Damage(Damage::Unreadable(e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use redb::ReadableTable;

    use groundskeeper_core::event::{EnvironmentReady, Record};
    use groundskeeper_core::{EnvironmentId, Time};

    use super::*;
    use crate::forensic::Range;
    use crate::inspect::{Depth, inspect};
    use crate::tables::{META, META_FORMAT};
    use crate::{Journal, Options, ReadOnlyLog};

    const PAGE: usize = 4096;

    /// A log at two moments, each as a kill leaves it. At the second one a reader has kept redb
    /// from using the pages of twenty commits again: a close of the file takes them off a list.
    fn two_moments() -> [Vec<u8>; 2] {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log.redb");
        let options = Options { snapshot_every: 20 };
        let (mut journal, found) = Journal::open(&path, options).expect("new");
        let mut state = found.state;
        for _ in 0..60 {
            let environment = EnvironmentId::parse("agent").expect("an id");
            let event = EnvironmentReady { environment }.into();
            let record = Record { seq: state.seq().next(), at: Time(1), boot: 1, event };
            state.apply(&record);
            journal.append(&[record], &state).expect("appended");
        }
        drop(journal);
        let db = builder().open(&path).expect("opened");
        let reader = db.begin_read().expect("a reader");
        let moments = [1, 20].map(|commits| {
            for _ in 0..commits {
                let mut txn = db.begin_write().expect("begun");
                txn.set_quick_repair(true);
                let mut meta = txn.open_table(META).expect("opened");
                let format = meta.get(META_FORMAT).expect("read").expect("there").value().to_vec();
                meta.insert(META_FORMAT, format.as_slice()).expect("as it was");
                drop(meta);
                txn.commit().expect("committed");
            }
            std::fs::read(&path).expect("read")
        });
        drop(reader);
        moments
    }

    /// Reads everything; what it finds does not matter, that the process goes on does.
    fn read(path: &Path) -> bool {
        let whole = inspect(path, Depth::Everything, &mut |_, _| {}).is_ok();
        if let Ok(log) = ReadOnlyLog::open(path) {
            drop(log.walk(Range::up_to(u64::MAX), &mut |_, _| ControlFlow::Continue(())));
            drop(log.check_index());
        }
        whole
    }

    #[test]
    fn torn_and_damaged_pages_end_no_process() {
        let [before, after] = two_moments();
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log.redb");
        let mut whole = 0;
        let mut try_one = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            whole += usize::from(read(&path));
        };
        try_one(&before);
        try_one(&after);
        let mut torn = 0;
        for at in (0..after.len()).step_by(PAGE) {
            let page = at..(at + PAGE).min(after.len());
            for fill in [0, 0xff, 0x07] {
                let mut bytes = after.clone();
                bytes[page.clone()].fill(fill);
                try_one(&bytes);
            }
            // A page begins with its kind, the number of its entries, and where each of them ends.
            for word in (4..48).step_by(4) {
                let mut bytes = after.clone();
                bytes[at + word..at + word + 4].copy_from_slice(&417_u32.to_le_bytes());
                try_one(&bytes);
            }
            let Some(earlier) = before.get(page.clone()) else { continue };
            if earlier != &after[page.clone()] {
                torn += 1;
                let mut bytes = after.clone();
                bytes[page.clone()].copy_from_slice(earlier);
                try_one(&bytes);
                // Half of the pages as they were: a reader that the writer has overtaken.
                bytes[..at].copy_from_slice(&before[..at]);
                try_one(&bytes);
            }
        }
        assert!(torn > 10, "{torn} pages differ");
        assert!(whole >= 2, "an intact log is read");
    }
}
