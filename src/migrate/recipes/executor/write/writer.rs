//! The writer: every table in the original's order, in one transaction.

use rusqlite::Connection;

use super::super::fail;
use super::stream;
use crate::core::Fault;
use crate::migrate::recipe::Work;
use crate::migrate::recipes::executor::ids::RowIds;
use crate::migrate::recipes::executor::losses::Losses;
use crate::migrate::recipes::executor::plan::{Clashes, Plan};
use crate::migrate::recipes::executor::secrets::Collected;
use crate::migrate::recipes::executor::snapshot::Snapshot;
use crate::migrate::recipes::executor::write::stream::{Filled, Rows};

/// The new schema.
pub(crate) const SCHEMA: &str = include_str!("../../../../../schema/executor/v2.sql");

/// Memory for pages that are being filled, in KiB: every row goes to an index at random.
const CACHE_KIB: i64 = 24 * 1_024;

/// Rows after which somebody is told, and may stop it.
const STRIDE: u64 = 1_024;

/// What the new rows come from, and where they go.
pub(crate) struct Writer<'a> {
    pub(crate) copy: &'a Connection,
    pub(crate) work: &'a Work<'a>,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) plan: &'a Plan,
    pub(crate) collected: &'a Collected,
    /// Where the users of each OAuth client are sent to, as its server says.
    pub(crate) urls: &'a [Option<String>],
    pub(crate) losses: &'a Losses,
    pub(crate) clashes: Clashes<'a>,
    pub(crate) ids: RowIds,
    pub(crate) rows: Vec<(String, u64)>,
}

impl Writer<'_> {
    /// Writes everything, or nothing. Returns the rows by table.
    ///
    /// # Errors
    /// `migration_failed` or `migration_conflict`.
    pub(crate) fn write(mut self, staging: &mut Connection) -> Result<Vec<(String, u64)>, Fault> {
        let failed = fail::during("writing the new database");
        staging.pragma_update(None, "cache_size", -CACHE_KIB).map_err(&failed)?;
        // Into an empty file nothing has to be logged: a rollback is one to nothing. So the rows
        // are written once instead of twice; whatever mode the file was in, it is in again
        // afterwards.
        let mode = journal_mode(staging, "memory")?;
        staging.execute_batch("BEGIN").map_err(&failed)?;
        if let Err(fault) = self.tables(staging) {
            // What is left of it goes with the file.
            drop(staging.execute_batch("ROLLBACK"));
            return Err(fault);
        }
        staging.execute_batch("COMMIT").map_err(&failed)?;
        journal_mode(staging, &mode)?;
        for table in ["oauth_session", "private_executor_local_settings"] {
            self.rows.push((table.to_owned(), 0));
        }
        Ok(self.rows)
    }

    pub(super) fn tables(&mut self, staging: &mut Connection) -> Result<(), Fault> {
        staging.execute_batch(SCHEMA).map_err(fail::during("making the new schema"))?;
        self.integrations(staging)?;
        self.clients(staging)?;
        self.connections(staging)?;
        self.tools(staging)?;
        self.definitions(staging)?;
        self.storage(staging)?;
        self.blobs(staging)?;
        self.policies(staging)?;
        self.clashes.settle()
    }

    /// Fills a big table. When rows are gone through once more, their losses are known.
    pub(super) fn fill(
        &mut self,
        staging: &mut Connection,
        table: &Filled,
        mut make: impl FnMut(&mut Self, &mut Rows) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut again = false;
        let losses = self.losses;
        let written = stream::fill(staging, table, |rows| {
            let heard = std::mem::replace(&mut again, true);
            losses.hear(heard, || make(self, rows))
        })?;
        self.done(table.table, written);
        Ok(())
    }

    /// Counts a row of a big table; now and then somebody is told.
    pub(super) fn tick(&self, table: &str, seen: &mut u64) -> Result<(), Fault> {
        *seen += 1;
        if seen.is_multiple_of(STRIDE) {
            if !self.losses.is_heard() {
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

/// Changes how a database guards its transactions, and returns how it did before. While somebody
/// else has it open it stays as it is, which is slower and no less right.
fn journal_mode(db: &Connection, mode: &str) -> Result<String, Fault> {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    let failed = fail::during("setting up the new database");
    let before: String =
        db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(&failed)?;
    match db.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(())) {
        Err(error) if !matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)) => {
            Err(failed(error))
        }
        _ => Ok(before),
    }
}
