//! Builds the faults of this recipe. A fault about a row names table, row and column. None shows
//! the value of a cell, since it may be a secret.

use std::fmt;

use groundskeeper_migrate::sqlite;
use groundskeeper_migrate::{Code, Fault};

const ROW: &str = "correct or remove that row in the old database, then migrate again; nothing \
                   was changed";
const DATABASE: &str =
    "check the database with `sqlite3 data.db 'pragma integrity_check'`; nothing was changed";

/// Returns the fault for a row that cannot be migrated.
pub(crate) fn row(table: &str, row: &str, column: &str, why: impl fmt::Display) -> Fault {
    let message = format!("table `{table}`, {row}, column `{column}`: {why}");
    Fault::new(Code::MigrationFailed, message, ROW)
}

/// Returns the fault for a database that does not have the required form.
pub(crate) fn shape(message: impl Into<String>) -> Fault {
    let hint = "restore the database from a backup, or remove it to start with an empty one";
    Fault::new(Code::MigrationFailed, message, hint)
}

/// Returns the fault for an `SQLite` error during `what`. A known cause outside the database, such
/// as a full disk, sets code and hint.
pub(crate) fn sqlite(what: &str, error: &rusqlite::Error) -> Fault {
    let (code, hint) = sqlite::reason(error).unwrap_or((Code::MigrationFailed, DATABASE));
    Fault::new(code, format!("cannot {what}"), hint).because(error)
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
