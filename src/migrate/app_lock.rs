//! The application's own lock: a small SQLite file beside its database, held in an open exclusive
//! transaction. Whoever holds it owns the directory, so that application and migration never run
//! at once. It goes with the process that holds it; nobody waits for it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::core::{Code, Fault};
use crate::migrate::recipe::Recipe;
use crate::migrate::sqlite;

/// A lock that is held for as long as this lives.
pub struct Owner {
    _database: Connection,
}

/// Takes the lock that a recipe's application has; none when it has none. A rehearsal leaves
/// nothing behind, so it only takes a lock that is there already.
///
/// # Errors
/// `database_in_use` when somebody else has it.
pub fn take(recipe: &dyn Recipe, database: &Path, rehearsal: bool) -> Result<Option<Owner>, Fault> {
    let Some(name) = recipe.owner_lock() else { return Ok(None) };
    let path = database.with_file_name(name);
    if rehearsal && !path.exists() {
        return Ok(None);
    }
    let lock = Connection::open(&path).map_err(sqlite::failed("open", &path))?;
    let held = lock
        .busy_timeout(Duration::ZERO)
        .and_then(|()| lock.execute_batch("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE;"));
    match held {
        Ok(()) => Ok(Some(Owner { _database: lock })),
        Err(e) if is_busy(&e) => {
            let message =
                format!("the data directory is owned by another process: {}", path.display());
            let hint = "end the application, or wait until it has started, and try again";
            Err(Fault::new(Code::DatabaseInUse, message, hint).caused_by(&e))
        }
        Err(e) => Err(sqlite::fault("lock", &path, &e)),
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
