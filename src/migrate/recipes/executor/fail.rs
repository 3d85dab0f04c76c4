//! Builds the faults of this recipe. A fault about a row names table, row and column. None shows
//! the value of a cell, since it may be a secret.

use std::fmt;

use groundskeeper_migrate::sqlite;
use groundskeeper_migrate::{Code, Fault};

const ROW: &str = "correct or remove that row in the old database, then migrate again; nothing \
                   was changed";
const DATABASE: &str =
    "check the database with `sqlite3 data.db 'pragma integrity_check'`; nothing was changed";
const SCHEMA: &str = "restore the table or column that the cause names, from a backup or by hand \
                      with `sqlite3 data.db`; nothing was changed";

/// Returns the fault for a row that cannot be migrated.
pub(crate) fn row(table: &str, row: &str, column: &str, why: impl fmt::Display) -> Fault {
    let message = format!("table `{table}`, {row}, column `{column}`: {why}");
    Fault::new(Code::MigrationFailed, message, ROW)
}

/// Returns the fault for a database that lacks a table. An empty table loses nothing more, so the
/// hint has the statement that makes one.
pub(crate) fn table(table: &str, columns: &[&str]) -> Fault {
    let message = format!("the old database lacks the table `{table}`");
    // The upgrade of an early schema reads more columns than the migration itself.
    let more = ["id", "plugin_id", "created_at", "updated_at"];
    let more = more.iter().filter(|column| !columns.contains(column));
    let columns = columns.iter().chain(more).copied().collect::<Vec<_>>().join(", ");
    let hint = format!(
        "restore the database from a backup, or go on without the rows of that table: sqlite3 \
         data.db 'CREATE TABLE \"{table}\" ({columns})'"
    );
    Fault::new(Code::MigrationFailed, message, &hint)
}

/// Returns the fault for a table that lacks a column. Only the user knows the values, so the hint
/// says where they go.
pub(crate) fn column(table: &str, column: &str) -> Fault {
    let message = format!("table `{table}` lacks the column `{column}`");
    let hint = format!(
        "restore the database from a backup, or add the column and fill it in: sqlite3 data.db \
         'ALTER TABLE \"{table}\" ADD COLUMN \"{column}\" text'"
    );
    Fault::new(Code::MigrationFailed, message, &hint)
}

/// Returns the fault for a result that this program must never produce.
pub(crate) fn defect(message: impl Into<String>) -> Fault {
    let hint = "report this as a defect, with this message; the old database was not changed";
    Fault::new(Code::MigrationFailed, message, hint)
}

/// Returns the fault for an `SQLite` error during `what`. A known cause outside the database, such
/// as a full disk, sets code and hint.
pub(crate) fn sqlite(what: &str, error: &rusqlite::Error) -> Fault {
    let hint = if is_schema(error) { SCHEMA } else { DATABASE };
    let (code, hint) = sqlite::reason(error).unwrap_or((Code::MigrationFailed, hint));
    Fault::new(code, format!("cannot {what}"), hint).because(error)
}

/// Returns whether a statement does not fit the schema, such as one that names a missing column.
fn is_schema(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { .. })
        || error.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_ERROR)
}

/// Returns a closure for `map_err` that calls [`sqlite()`].
pub(crate) fn during(what: &'static str) -> impl Fn(rusqlite::Error) -> Fault {
    move |error| sqlite(what, &error)
}

/// Returns the fault for a migration that was cancelled.
pub(crate) fn cancelled() -> Fault {
    let hint = "start the daemon to continue the migration; nothing was changed";
    Fault::new(Code::Cancelled, "the migration was cancelled", hint)
}
