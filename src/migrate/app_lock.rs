//! The application's own lock: an SQLite file beside its database, in an exclusive transaction.
//!
//! The holder owns the directory, so the application and the migration never run at once. The lock
//! ends with the process that holds it. Taking it never waits.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::recipe::Recipe;
use crate::{access, sqlite};
use groundskeeper_core::{Code, Fault};
use groundskeeper_system::paths;

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
    let lock = open(&path, database)?;
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

/// Opens the lock, not through a link. A new one belongs to the owner of the database, who could
/// not take it otherwise.
fn open(path: &Path, database: &Path) -> Result<Connection, Fault> {
    if path.symlink_metadata().is_err() {
        match sqlite::create_private(path) {
            Ok(()) if database.exists() => access::same_owner_and_mode(database, path)?,
            // Another process may have made it in between.
            Err(fault) if path.symlink_metadata().is_err() => return Err(fault),
            _ => {}
        }
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = paths::real(dir).map_err(paths::failed("find", dir))?;
    let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(dir.join(path.file_name().unwrap_or_default()), flags)
        .map_err(sqlite::failed("open", path))
}

fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
