//! Writes a new log from records read elsewhere: a fork, salvaged records, or a copy.
//!
//! Records keep their position, time, kind and payload; a record whose chain changes is sealed
//! anew. The new file has another name until it is complete, and never replaces an existing file.
//! Nothing here decodes a payload.

use std::fs::File;
use std::path::{Path, PathBuf};

use redb::Database;

use crate::base::{self, Base};
use crate::envelope::{self, Envelope};
use crate::error::{Damage, Error};
use crate::evidence::builder;
use crate::index;
use crate::tables::{Head, RECORDS};
use crate::writer::{initialise_as, open_error, put_head};
use groundskeeper_core::event::FormerLife;
use groundskeeper_system::portable;

/// Most records in one commit.
const BATCH: usize = 10_000;
/// Bytes of records after which a batch is committed.
const BATCH_BYTES: usize = 16 << 20;

/// A log under construction. Dropping it removes the unfinished file.
#[derive(Debug)]
pub struct Rewrite {
    db: Option<Database>,
    path: PathBuf,
    fresh: PathBuf,
    head: Head,
    batch: Vec<(u64, Vec<u8>)>,
    batch_bytes: usize,
    resealed: u64,
}

impl Rewrite {
    /// Begins a new log for `path`. Without `log_id` the log gets a random identity.
    ///
    /// # Errors
    /// [`Error::Io`] when a file is at that path already, and any error of redb.
    pub fn create(path: &Path, log_id: Option<[u8; 16]>) -> Result<Self, Error> {
        Self::after(path, log_id, None)
    }

    /// Like [`Self::create`], for a log that begins after `base`.
    ///
    /// # Errors
    /// As for [`Self::create`].
    pub fn after(
        path: &Path,
        log_id: Option<[u8; 16]>,
        base: Option<&Base>,
    ) -> Result<Self, Error> {
        let io = |what| move |source| Error::Io { what, path: path.to_owned(), source };
        if path.try_exists().map_err(io("check"))? {
            let there = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(io("create the new log")(there));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let fresh = path.with_file_name(name);
        let file = File::options().read(true).write(true).create_new(true).open(&fresh);
        let file = file.map_err(io("create the new log"))?;
        let db = builder().create_file(file).map_err(|e| open_error(&fresh, e))?;
        let rewrite = Self {
            db: Some(db),
            path: path.to_owned(),
            fresh,
            head: base.map_or(Head::default(), Base::head),
            batch: Vec::new(),
            batch_bytes: 0,
            resealed: 0,
        };
        if let Some(db) = &rewrite.db {
            initialise_as(db, log_id)?;
            if let Some(base) = base {
                put_base(db, base)?;
            }
        }
        Ok(rewrite)
    }

    /// Adds the next record: unchanged if it continues the one before, else sealed anew.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the record is not the next one, and any error of redb.
    pub fn put(&mut self, record: &Envelope<'_>) -> Result<(), Error> {
        let expected = self.head.seq + 1;
        if record.seq != expected {
            let damage = Damage::OutOfOrder { expected, found: record.seq };
            return Err(Error::Damaged { path: self.path.clone(), damage });
        }
        let (bytes, crc) = envelope::seal(&Envelope { previous: self.head.crc, ..*record });
        self.resealed += u64::from(crc != record.crc);
        self.head = Head { seq: record.seq, crc };
        self.batch_bytes += bytes.len();
        self.batch.push((record.seq, bytes));
        if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
            self.commit(false)?;
        }
        Ok(())
    }

    /// Takes over lives that the copied log has forgotten; it begins with a base.
    ///
    /// # Errors
    /// Errors of redb.
    pub fn carry(&mut self, lives: &[FormerLife]) -> Result<(), Error> {
        let Some(db) = &self.db else { return Err(Error::Poisoned) };
        let failed = |e: redb::Error| Error::Storage { what: "write the new log", source: e };
        let txn = db.begin_write().map_err(|e| failed(e.into()))?;
        index::put_lives(&txn, lives)?;
        txn.commit().map_err(|e| failed(e.into()))
    }

    /// Returns the last record that was added.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// Returns the number of records whose checksum changed.
    #[must_use]
    pub fn resealed(&self) -> u64 {
        self.resealed
    }

    fn commit(&mut self, last: bool) -> Result<(), Error> {
        let Some(db) = &self.db else { return Err(Error::Poisoned) };
        let failed = |e: redb::Error| Error::Storage { what: "write the new log", source: e };
        let mut txn = db.begin_write().map_err(|e| failed(e.into()))?;
        {
            let mut table = txn.open_table(RECORDS).map_err(|e| failed(e.into()))?;
            for (seq, bytes) in self.batch.drain(..) {
                table.insert(seq, bytes.as_slice()).map_err(|e| failed(e.into()))?;
            }
        }
        self.batch_bytes = 0;
        put_head(&txn, self.head)?;
        // The last commit saves the allocator state, so that the next open is fast.
        txn.set_quick_repair(last);
        txn.commit().map_err(|e| failed(e.into()))
    }

    /// Completes the new log and gives it its name.
    ///
    /// # Errors
    /// Errors of redb and of the system. The new log may already have its name if only the sync of
    /// its directory failed.
    pub fn finish(mut self) -> Result<Head, Error> {
        self.commit(true)?;
        // Closed before it gets its name: redb writes to the file once more when it closes.
        drop(self.db.take());
        let path = self.path.as_path();
        let io = |what| move |source| Error::Io { what, path: path.to_owned(), source };
        // A link fails if the name is taken; a rename would replace the file. On a file system
        // without hard links, a check before the rename must do.
        if let Err(e) = std::fs::hard_link(&self.fresh, &self.path) {
            let taken = e.kind() == std::io::ErrorKind::AlreadyExists;
            if taken || path.try_exists().map_err(io("check"))? {
                return Err(io("create the new log")(e));
            }
            std::fs::rename(&self.fresh, &self.path).map_err(io("create the new log"))?;
        }
        // Without a sync of the directory a power loss can undo the new name.
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        portable::sync_dir(parent.unwrap_or(Path::new(".")))
            .map_err(io("sync the directory of"))?;
        Ok(self.head)
    }
}

fn put_base(db: &Database, base: &Base) -> Result<(), Error> {
    let failed = |e: redb::Error| Error::Storage { what: "write the new log", source: e };
    let txn = db.begin_write().map_err(|e| failed(e.into()))?;
    base::put(&txn, base)?;
    txn.commit().map_err(|e| failed(e.into()))
}

impl Drop for Rewrite {
    fn drop(&mut self) {
        drop(self.db.take());
        // Removes the temporary name. A complete log has its own name by now.
        drop(std::fs::remove_file(&self.fresh));
    }
}
