//! The application's own lock: an SQLite file beside its database, in an exclusive transaction.
//!
//! The holder owns the directory, so the application and the migration never run at once. The lock
//! ends with the process that holds it. Taking it never waits.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::recipe::Recipe;
use crate::sqlite;
use groundskeeper_core::{Code, Fault};

/// The lock, held until this value is dropped.
pub struct Owner {
    _database: Connection,
}

/// Takes the lock of a recipe's application; `None` when the application has none. A rehearsal
/// leaves no file behind, so it takes only a lock whose file exists already.
///
/// # Errors
/// `database_in_use` when another process holds it.
pub fn acquire(
    recipe: &dyn Recipe,
    database: &Path,
    rehearsal: bool,
) -> Result<Option<Owner>, Fault> {
    let Some(name) = recipe.owner_lock() else { return Ok(None) };
    let path = database.with_file_name(name);
    if rehearsal && !path.exists() {
        return Ok(None);
    }
    let lock = Connection::open(&path).map_err(sqlite::failed("open", &path))?;
    // In WAL mode an exclusive transaction would not keep readers out.
    let held = lock
        .busy_timeout(Duration::ZERO)
        .and_then(|()| lock.execute_batch("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE;"));
    match held {
        Ok(()) => Ok(Some(Owner { _database: lock })),
        Err(e) if is_busy(&e) => {
            let message =
                format!("the data directory is owned by another process: {}", path.display());
            let hint = "end the application that holds this lock, or retry when it has started";
            Err(Fault::new(Code::DatabaseInUse, message, hint).caused_by(&e))
        }
        Err(e) => Err(sqlite::fault("lock", &path, &e)),
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
