//! SQLite for the engine: open without side effects, lock, count, verify, settle into one file.
//!
//! Nothing here knows a table by name.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::access;
use super::files::with_suffix;
use groundskeeper_core::{Code, Fault};
use groundskeeper_system::paths;
use groundskeeper_system::portable::{self, Existing};

/// How long to wait for a lock of another connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Page cache while a database is verified, in KiB.
const CHECK_KIB: i64 = 48 * 1_024;
/// Bytes of a database that are mapped into memory while it is verified.
const CHECK_MAPPED: i64 = 256 << 20;
/// Limit of the findings of a check, since a user reads them.
const FINDINGS_MAX: usize = 20;

/// Returns the fault for an SQLite error, with its code and what the user can do.
pub fn fault(what: &str, path: &Path, error: &rusqlite::Error) -> Fault {
    let message = format!("cannot {what} {}", path.display());
    let (code, hint) = match (reason(error), missing(error)) {
        (Some((Code::PermissionDenied, hint)), _) => {
            (Code::PermissionDenied, access::hint(path).unwrap_or_else(|| hint.to_owned()))
        }
        (Some((code, hint)), _) => (code, hint.to_owned()),
        (None, Some(missing)) => {
            let hint = format!("restore {missing} from a backup of {}", path.display());
            (Code::SqliteFailed, format!("{hint}; nothing was changed"))
        }
        (None, None) => {
            let check = format!("sqlite3 {} 'pragma integrity_check'", path.display());
            (Code::SqliteFailed, format!("run `{check}`; nothing was changed"))
        }
    };
    Fault::new(code, message, hint).caused_by(error)
}

/// Returns what a statement needs and the database does not have, such as `the table item`; `None`
/// for every other error.
pub fn missing(error: &rusqlite::Error) -> Option<String> {
    use rusqlite::Error as E;
    let (E::SqlInputError { msg: text, .. } | E::SqliteFailure(_, Some(text))) = error else {
        return None;
    };
    let (kind, name) = text.strip_prefix("no such ")?.split_once(": ")?;
    let is_part = ["table", "column", "view", "index"].contains(&kind);
    is_part.then(|| format!("the {kind} {name}"))
}

/// Returns the cause outside the database and what to do about it; `None` when the database or the
/// statement itself is the cause.
pub fn reason(error: &rusqlite::Error) -> Option<(Code, &'static str)> {
    Some(match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (Code::DatabaseInUse, "end the program that has the database open, then retry")
        }
        Some(ErrorCode::NotADatabase) => (Code::NotADatabase, "pass the path of a SQLite database"),
        Some(ErrorCode::DatabaseCorrupt) => {
            let hint =
                "the file is damaged; save its rows with `sqlite3 FILE .recover | sqlite3 NEW`";
            (Code::NotADatabase, hint)
        }
        Some(ErrorCode::DiskFull) => (Code::DiskFull, "free disk space, then retry"),
        // A database with a log is read through a file in shared memory that finds no space.
        Some(ErrorCode::SystemIoFailure) if is_shm_without_space(error) => {
            (Code::DiskFull, "free disk space, then retry")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            (Code::PermissionDenied, "make the database and its directory writable")
        }
        Some(ErrorCode::SystemIoFailure) => (Code::Io, "check the disk for errors, then retry"),
        _ => return None,
    })
}

fn is_shm_without_space(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|e| e.extended_code);
    code == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// Returns [`fault`] as an adapter for `map_err`.
pub fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(rusqlite::Error) -> Fault + 'a {
    move |error| fault(what, path, &error)
}

/// Opens a database that must exist. The content of its log stays in the log when the connection is
/// closed, so inspecting a database does not change its files.
///
/// # Errors
/// `permission_denied`, `not_a_database`, `database_in_use`.
pub fn open(path: &Path) -> Result<Connection, Fault> {
    let has_log = with_suffix(path, "-wal").metadata().is_ok_and(|m| m.len() > 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags).map_err(failed("open", path))?;
    database.busy_timeout(BUSY_TIMEOUT).map_err(failed("open", path))?;
    if has_log {
        keep_log(&database, path)?;
    }
    // SQLite reads nothing on opening. Only the first read tells a database from another file.
    database
        .query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
        .map_err(failed("read", path))?;
    Ok(database)
}

fn keep_log(database: &Connection, path: &Path) -> Result<(), Fault> {
    let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    database.set_db_config(keep, true).map_err(failed("open", path))?;
    Ok(())
}

/// Opens a private file of this migration and creates it if it is missing.
///
/// # Errors
/// `database_in_use` when the name leads elsewhere: to a link, or to a file with a second name. As
/// [`open`].
pub fn open_private(path: &Path) -> Result<Connection, Fault> {
    access::identity(path)?;
    // SQLite refuses a link in any component; those of the directory are the user's own.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = paths::real(dir).map_err(paths::failed("find", dir))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let name = dir.join(path.file_name().unwrap_or_default());
    let database = Connection::open_with_flags(name, flags).map_err(failed("open", path))?;
    // Without syncs: after a power loss before the one sync at the end, the file is dropped and
    // made again. `synchronous` comes first because leaving the log mode of a copy would sync.
    let quick = "PRAGMA synchronous = OFF; PRAGMA page_size = 4096; PRAGMA journal_mode = MEMORY;
                 PRAGMA foreign_keys = OFF; PRAGMA temp_store = FILE; PRAGMA cache_size = -16384;";
    database.execute_batch(quick).map_err(failed("open", path))?;
    Ok(database)
}

/// Locks all other connections out of a database and moves its log into the file.
///
/// `check` runs under the lock, before the log is moved: what it finds stays true while the lock is
/// held. It reads the database through the connection that holds the lock, since no other can.
///
/// # Errors
/// `database_in_use` when another connection has the database open; the fault of `check`.
pub fn hold_exclusively(
    path: &Path,
    check: impl FnOnce(&Connection) -> Result<(), Fault>,
) -> Result<ExclusiveDatabase, Fault> {
    let plain = File::options().read(true).write(true).open(path);
    let plain = plain.map_err(paths::failed("open", path))?;
    let database = open(path)?;
    keep_log(&database, path)?;
    // In exclusive mode the lock outlives the transaction; a checkpoint cannot run inside one.
    let alone = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT;";
    database.execute_batch(alone).map_err(failed("lock", path))?;
    check(&database)?;
    checkpoint(&database, path)?;
    Ok(ExclusiveDatabase { _database: database, plain })
}

/// A database that is complete in one file and that no other connection can read or write.
pub struct ExclusiveDatabase {
    _database: Connection,
    /// Closed after the connection, which is declared before it: a process loses its locks on a
    /// file when it closes any descriptor of that file.
    plain: File,
}

impl ExclusiveDatabase {
    /// Returns the file of the database, so that a caller can sync it without another descriptor.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.plain
    }
}

/// Returns the fault for a database that another program changed during its migration.
#[must_use]
pub fn changed(database: &Path) -> Fault {
    let message = format!("{} was changed while it was being migrated", database.display());
    let hint = "end the program that writes to it, then migrate again; nothing was lost";
    Fault::new(Code::DatabaseInUse, message, hint)
}

/// Creates an empty file that only its owner can read.
///
/// # Errors
/// When the file exists already, or the error of the file system.
pub fn create_private(path: &Path) -> Result<(), Fault> {
    let made = portable::open_private(path, Existing::Refused);
    made.map(drop).map_err(paths::failed("create", path))
}

/// Moves the log of a database into it and empties the log.
///
/// # Errors
/// `database_in_use` when the checkpoint is incomplete.
pub fn checkpoint(database: &Connection, path: &Path) -> Result<(), Fault> {
    let numbers = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    // Only the main database: an attached temporary one may have a transaction of its own.
    let (busy, log, done): (i64, i64, i64) = database
        .query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], numbers)
        .map_err(failed("checkpoint", path))?;
    if busy == 0 && log == done {
        return Ok(());
    }
    let message = format!("cannot checkpoint the whole log of {}", path.display());
    let hint = "end the program that has the database open, then retry";
    Err(Fault::new(Code::DatabaseInUse, message, hint))
}

/// Returns the fault of an effect that was asked to stop. It is transient.
#[must_use]
pub fn stopped() -> Fault {
    let hint = "start the daemon to continue the migration";
    Fault::new(Code::Cancelled, "the migration was stopped", hint).transient()
}

/// Returns the number of rows of every table, sorted by table name.
///
/// # Errors
/// The error of SQLite, naming the table.
pub fn count_all(database: &Connection, path: &Path) -> Result<Vec<(String, u64)>, Fault> {
    let names = "SELECT name FROM sqlite_master
                 WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut find = database.prepare(names).map_err(failed("read", path))?;
    let rows = find.query_map([], |row| row.get::<_, String>(0)).map_err(failed("read", path))?;
    let mut counts = Vec::new();
    for name in rows {
        let name = name.map_err(failed("read", path))?;
        let count = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows: i64 = database
            .query_row(&count, [], |row| row.get(0))
            .map_err(|error| uncounted(path, &name, &error))?;
        counts.push((name, u64::try_from(rows).unwrap_or(0)));
    }
    Ok(counts)
}

fn uncounted(path: &Path, table: &str, error: &rusqlite::Error) -> Fault {
    let what = format!("count the rows of table {table} of");
    let fault = fault(&what, path, error);
    if !error.to_string().contains("no such module") {
        return fault;
    }
    // A virtual table. The tables behind it may hold rows, so it is not left out silently.
    let hint = format!(
        "drop the virtual table {table} with a program that has its module; nothing was changed"
    );
    Fault { hint, ..fault }
}

/// Checks the integrity and the foreign keys of a database.
///
/// # Errors
/// `migration_failed` with at most 20 findings of SQLite.
pub fn check(database: &Connection, path: &Path) -> Result<(), Fault> {
    // The check looks up every row in every index in the order of the table, so it reads index
    // pages at random.
    database.pragma_update(None, "cache_size", -CHECK_KIB).map_err(failed("check", path))?;
    // Mapped pages are neither copied nor allocated, which takes a third of the time off. A disk
    // that fails to read such a page ends the process; the step then counts as interrupted.
    database.pragma_update(None, "mmap_size", CHECK_MAPPED).map_err(failed("check", path))?;
    let found = findings(database, path, "PRAGMA main.integrity_check", |row| {
        Ok(text(row.get(0)?)).map(|text| (text != "ok").then_some(text))
    })?;
    if !found.is_empty() {
        let message = format!("{} fails its integrity check", path.display());
        let hint = "please report this with the evidence; the old database is unchanged";
        return Err(Fault::new(Code::MigrationFailed, message, hint).with_evidence(found));
    }
    let found = findings(database, path, "PRAGMA main.foreign_key_check", |row| {
        let (table, parent) = (text(row.get(0)?), text(row.get(2)?));
        // A table without rowids has none to name.
        let row = row.get::<_, Option<i64>>(1)?.map(|id| format!(", rowid {id}"));
        let row = row.unwrap_or_default();
        Ok(Some(format!("table {table}{row}: there is no such row in table {parent}")))
    })?;
    if found.is_empty() {
        return Ok(());
    }
    let message = format!("rows of {} refer to rows that do not exist", path.display());
    let hint = "add the missing rows to the old database or remove the rows that refer to them, or \
                make the recipe leave them out; the old database is unchanged";
    Err(Fault::new(Code::MigrationFailed, message, hint).with_evidence(found))
}

/// Returns at most [`FINDINGS_MAX`] findings of a check.
fn findings(
    database: &Connection,
    path: &Path,
    question: &str,
    finding: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<Option<String>>,
) -> Result<Vec<String>, Fault> {
    let ask = || -> rusqlite::Result<Vec<String>> {
        let mut ask = database.prepare(question)?;
        let answers = ask.query_map([], finding)?;
        answers.filter_map(Result::transpose).take(FINDINGS_MAX).collect()
    };
    ask().map_err(failed("check", path))
}

fn text(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        other => format!("{other:?}"),
    }
}

/// Gives a private database the log mode that its users expect, and leaves it as one file.
///
/// # Errors
/// The error of SQLite, or `sqlite_failed` when the file system does not support the log mode.
pub fn settle(database: Connection, path: &Path) -> Result<(), Fault> {
    // All rows are read: SQLite commits the change of mode only when the statement is finished.
    let change = || -> rusqlite::Result<Vec<String>> {
        let mut change = database.prepare("PRAGMA journal_mode = WAL")?;
        change.query_map([], |row| row.get(0))?.collect()
    };
    let mode = change().map_err(failed("set the journal mode of", path))?.pop().unwrap_or_default();
    if mode != "wal" {
        let message = format!("{} has journal mode {mode}, not wal", path.display());
        let hint = "move the database to a local file system";
        return Err(Fault::new(Code::SqliteFailed, message, hint));
    }
    checkpoint(&database, path)?;
    database.close().map_err(|(_, e)| fault("close", path, &e))
}

/// Returns size and modification time of a database and its log, which stay equal while no program
/// writes to them.
#[must_use]
pub fn fingerprint(path: &Path) -> String {
    let one = |path: &Path| match portable::size_and_time(path) {
        Some((bytes, seconds, nanos)) => format!("{bytes}@{seconds}.{nanos:09}"),
        None => "-".to_owned(),
    };
    let log = with_suffix(path, "-wal");
    // An empty log and a missing log are equivalent.
    let log = if log.metadata().is_ok_and(|m| m.len() > 0) { one(&log) } else { "-".to_owned() };
    format!("{} {log}", one(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_database_settles_into_one_file() {
        let dir = tempfile::tempdir().expect("a folder");
        for n in 0..5 {
            let path = dir.path().join(format!("{n}.db"));
            let database = open_private(&path).expect("made");
            database.execute_batch("BEGIN; CREATE TABLE t (a); COMMIT;").expect("written");
            if n > 2 {
                drop(database);
                let database = open_private(&path).expect("opened");
                if n == 3 {
                    count_all(&database, &path).expect("counted");
                    check(&database, &path).expect("checked");
                }
                settle(database, &path).expect("settled later");
                continue;
            }
            if n == 1 {
                count_all(&database, &path).expect("counted");
            }
            if n == 2 {
                check(&database, &path).expect("checked");
            }
            let settled = settle(database, &path);
            assert!(settled.is_ok(), "{n}: {settled:?}");
        }
    }
}
