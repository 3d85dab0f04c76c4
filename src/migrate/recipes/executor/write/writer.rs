//! Writes all tables in the original's order, in one transaction, and counts rows.

use rusqlite::Connection;

use super::super::fail;
use super::stream;
use crate::discovery::Discovery;
use crate::ids::RowIds;
use crate::losses::Losses;
use crate::plan::{Clashes, Plan};
use crate::secrets::Collected;
use crate::snapshot::Snapshot;
use crate::write::stream::{Filled, Rows};
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::Work;

/// The new schema: the statements of the original, to the byte.
pub(crate) const SCHEMA: &str = include_str!("../../../../../schema/executor/v2.sql");

/// Page cache of the staging database in KiB: each row goes to a random page of an index over
/// names.
const CACHE_KIB: i64 = 24 * 1_024;

/// Number of rows between two reports of progress, each with a check for cancellation.
const STRIDE: u64 = 1_024;

/// Everything that the new rows come from.
pub(crate) struct Writer<'a> {
    pub(crate) copy: &'a Connection,
    pub(crate) work: &'a Work<'a>,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) plan: &'a Plan,
    pub(crate) collected: &'a Collected,
    /// The answers of servers about the OAuth clients, until they are written.
    pub(crate) discovery: Option<Discovery<'a>>,
    pub(crate) losses: &'a Losses,
    pub(crate) clashes: Clashes<'a>,
    pub(crate) ids: RowIds,
    pub(crate) rows: Vec<(String, u64)>,
}

impl Writer<'_> {
    /// Writes all tables in one transaction. Returns the number of rows by table.
    ///
    /// # Errors
    /// `migration_failed` or `migration_conflict`.
    pub(crate) fn write(mut self, staging: &mut Connection) -> Result<Vec<(String, u64)>, Fault> {
        let failed = fail::during("write the new database");
        staging.pragma_update(None, "cache_size", -CACHE_KIB).map_err(&failed)?;
        // The file is empty, so a rollback needs no journal on disk, and without one each row is
        // written once instead of twice. The engine's mode is restored afterwards.
        let mode = journal_mode(staging, "memory")?;
        staging.execute_batch("BEGIN").map_err(&failed)?;
        if let Err(fault) = self.tables(staging) {
            // The engine deletes the file, so a failed rollback does not matter.
            drop(staging.execute_batch("ROLLBACK"));
            return Err(fault);
        }
        staging.execute_batch("COMMIT").map_err(&failed)?;
        journal_mode(staging, &mode)?;
        // The counts must name all tables, also those that nothing is migrated to.
        for table in ["oauth_session", "private_executor_local_settings"] {
            self.rows.push((table.to_owned(), 0));
        }
        Ok(self.rows)
    }

    pub(super) fn tables(&mut self, staging: &mut Connection) -> Result<(), Fault> {
        staging.execute_batch(SCHEMA).map_err(fail::during("create the new schema"))?;
        self.integrations(staging)?;
        self.clients(staging)?;
        self.connections(staging)?;
        self.tools(staging)?;
        self.definitions(staging)?;
        self.storage(staging)?;
        self.blobs(staging)?;
        self.policies(staging)?;
        self.clashes.settle()?;
        // Last, so that the servers have had the time of the whole build to answer.
        self.described(staging)
    }

    /// Fills a big table. `make` reads the rows; in a second reading their losses are known.
    pub(super) fn fill(
        &mut self,
        staging: &mut Connection,
        table: &Filled,
        mut make: impl FnMut(&mut Self, &mut Rows) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut again = false;
        let losses = self.losses;
        let written = stream::fill(staging, table, |rows| {
            let muted = std::mem::replace(&mut again, true);
            losses.with_muted(muted, || make(self, rows))
        })?;
        self.done(table.table, written);
        Ok(())
    }

    /// Counts a row of a big table. Every [`STRIDE`] rows it reports progress, except in a second
    /// reading, and checks for cancellation.
    pub(super) fn tick(&self, table: &str, seen: &mut u64) -> Result<(), Fault> {
        *seen += 1;
        if seen.is_multiple_of(STRIDE) {
            if !self.losses.is_muted() {
                (self.work.progress)(table, *seen);
            }
            if (self.work.cancelled)() {
                return Err(fail::cancelled());
            }
        }
        Ok(())
    }

    pub(super) fn done(&mut self, table: &str, rows: u64) {
        (self.work.progress)(table, rows);
        self.rows.push((table.to_owned(), rows));
    }
}

/// Sets the journal mode of a database, and returns the previous one. While another connection has
/// the database open the mode stays as it is, which is slower but just as correct.
fn journal_mode(db: &Connection, mode: &str) -> Result<String, Fault> {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    let failed = fail::during("set up the new database");
    let before: String =
        db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(&failed)?;
    match db.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(())) {
        Err(error) if !matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)) => {
            Err(failed(error))
        }
        _ => Ok(before),
    }
}
