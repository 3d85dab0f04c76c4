//! Replaces one complete database by another with one rename, and keeps the old one under a second
//! name. Between the last look at the old database and the rename no write of another program is
//! lost unnoticed.
//!
//! It knows neither recipes nor manifests, and it removes nothing but empty sidecars.

use std::path::Path;

use rusqlite::Connection;

use super::files::{Files, with_suffix};
use super::sqlite;
use groundskeeper_core::{Code, Fault};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::{paths, portable};

/// Files beside a database that SQLite would take for a part of it.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// One replacement.
pub(super) struct Replacement<'a> {
    /// Access to files.
    pub(super) files: &'a Files,
    /// Database that is replaced.
    pub(super) database: &'a Path,
    /// Complete database in one file, which gets the name.
    pub(super) by: &'a Path,
    /// Second name of the replaced database.
    pub(super) keep_as: &'a Path,
    /// Verb of the rename in a fault.
    pub(super) verb: &'static str,
    /// Kill point after the second name is durable.
    pub(super) kept: &'static str,
}

impl Replacement<'_> {
    /// Replaces the database. `check` runs while no other program can write to it.
    ///
    /// # Errors
    /// `database_in_use` when another program has it open or wrote to it; the fault of `check`.
    pub(super) fn run(
        &self,
        check: impl FnOnce(&Connection) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let lock = sqlite::hold_exclusively(self.database, check)?;
        // The log was moved into the file. The file must be on disk before the log is removed.
        self.files
            .sync_open(lock.file(), self.database)
            .map_err(paths::failed("sync", self.database))?;
        self.exchange(lock)
    }

    /// Renames under the lock. Closing it afterwards affects only the old file.
    #[cfg(unix)]
    fn exchange(&self, lock: sqlite::ExclusiveDatabase) -> Result<(), Fault> {
        drop_sidecars(self.files, self.database)?;
        self.keep()?;
        self.put()?;
        drop(lock);
        Ok(())
    }

    /// Renames without the lock, since Windows replaces no file that is open. In its place the
    /// sidecars are held open for this process alone: no other one can begin a transaction without
    /// them. What was written in between, or without a sidecar, changes the fingerprint.
    #[cfg(windows)]
    fn exchange(&self, lock: sqlite::ExclusiveDatabase) -> Result<(), Fault> {
        let before = sqlite::fingerprint(self.database);
        drop(lock);
        let held = SIDECARS.map(|suffix| self.hold_sidecar(suffix));
        let held = held.into_iter().collect::<Result<Vec<_>, Fault>>()?;
        if sqlite::fingerprint(self.database) != before {
            return Err(sqlite::changed(self.database));
        }
        self.keep()?;
        self.put()?;
        if sqlite::fingerprint(self.keep_as) != before {
            let restore = |from: &Path, to: &Path| {
                self.files.rename(from, to).map_err(paths::failed("restore", to))
            };
            restore(self.database, self.by)?;
            restore(self.keep_as, self.database)?;
            return Err(sqlite::changed(self.database));
        }
        drop(held);
        // The new database keeps a log. SQLite removes an empty log, but not an empty journal.
        let journal = with_suffix(self.database, "-journal");
        self.files.remove(&journal).map_err(paths::failed("remove", &journal))
    }

    /// Opens a sidecar for this process alone and empties it.
    ///
    /// # Errors
    /// `database_in_use` when it holds a transaction: another program wrote after the lock was
    /// released, and has ended without removing it.
    #[cfg(windows)]
    fn hold_sidecar(&self, suffix: &str) -> Result<std::fs::File, Fault> {
        let path = with_suffix(self.database, suffix);
        let (held, _) = self.files.open_alone(&path).map_err(paths::failed("lock", &path))?;
        let mut first = [0];
        let bytes =
            portable::read_at(&held, &mut first, 0).map_err(paths::failed("read", &path))?;
        // The shared memory is rebuilt from the log. A journal whose first byte is zero is closed.
        let is_live = match suffix {
            "-wal" => bytes > 0,
            "-journal" => first != [0],
            _ => false,
        };
        if is_live {
            return Err(sqlite::changed(self.database));
        }
        held.set_len(0).map_err(paths::failed("empty", &path))?;
        Ok(held)
    }

    /// Gives the old database its second name. If that fails, as on a file system without hard
    /// links, it is renamed instead: then there is no database between two renames, and the file
    /// that replaces it shows which rename is next.
    fn keep(&self) -> Result<(), Fault> {
        let (files, to) = (self.files, self.keep_as);
        if to.exists() && !portable::is_same_file(self.database, to) {
            let (database, to) = (self.database.display(), to.display());
            let message = format!("cannot replace {database}: {to} is another database");
            let hint = format!("compare both, and move away the one that is not needed: {to}");
            return Err(Fault::new(Code::MigrationConflict, message, hint));
        }
        if !to.exists() {
            if let Err(e) = files.link(self.database, to) {
                tracing::info!(error = %e, "cannot create a hard link; renaming the old database");
                files.rename(self.database, to).map_err(paths::failed("create", to))?;
            } else {
                files.sync_dir_of(to).map_err(paths::failed("sync", to))?;
            }
        }
        point(self.kept);
        Ok(())
    }

    fn put(&self) -> Result<(), Fault> {
        let put = self.files.rename(self.by, self.database);
        put.map_err(paths::failed(self.verb, self.database))
    }
}

/// Removes the sidecars of a database whose log has been moved into its file. One that stayed would
/// be taken for a part of the next database of that name.
pub(super) fn drop_sidecars(files: &Files, database: &Path) -> Result<(), Fault> {
    for suffix in SIDECARS {
        let path = with_suffix(database, suffix);
        files.remove(&path).map_err(paths::failed("remove", &path))?;
    }
    Ok(())
}
