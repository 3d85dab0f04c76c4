//! How a migration says that it cannot go on: always with the table, and with the row if there is
//! one. It never shows a cell, since a cell may be a secret.

use std::fmt;

use crate::core::{Code, Fault};
use crate::migrate::sqlite;

const ROW: &str = "mend or remove that row in the old database, then migrate again; nothing was \
                   changed";
const DATABASE: &str =
    "`sqlite3 data.db 'pragma integrity_check'` may say more; nothing was changed";

/// A row cannot be carried.
pub(crate) fn row(table: &str, row: &str, column: &str, why: impl fmt::Display) -> Fault {
    let message = format!("table `{table}`, {row}, column `{column}`: {why}");
    Fault::new(Code::MigrationFailed, message, ROW)
}

/// The old database is not what it has to be.
pub(crate) fn shape(message: impl Into<String>) -> Fault {
    let hint = "restore the database from a backup, or remove it to start afresh";
    Fault::new(Code::MigrationFailed, message, hint)
}

/// `SQLite` said no while something was done.
pub(crate) fn sqlite(what: &str, error: &rusqlite::Error) -> Fault {
    let (code, hint) = sqlite::reason(error).unwrap_or((Code::MigrationFailed, DATABASE));
    Fault::new(code, format!("{what} failed"), hint).because(error)
}

/// For `map_err`: `SQLite` said no while something was done.
pub(crate) fn during(what: &'static str) -> impl Fn(rusqlite::Error) -> Fault {
    move |error| sqlite(what, &error)
}

/// Somebody asked to stop.
pub(crate) fn cancelled() -> Fault {
    Fault::new(Code::Cancelled, "the migration was cancelled", "nothing was changed")
}
