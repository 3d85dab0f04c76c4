//! SQLite for the engine: open without side effects, lock, count, prove, settle into one file.
//!
//! Nothing here knows a table by name.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::files::with_suffix;
use crate::core::{Code, Fault};
use crate::world::fs::paths;

/// How long a lock of somebody else is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Memory for pages while a database is proven whole, in KiB.
const CHECK_KIB: i64 = 48 * 1_024;

/// What SQLite said about a database, with a code and the next step.
pub fn fault(what: &str, path: &Path, error: &rusqlite::Error) -> Fault {
    let message = format!("cannot {what} {}", path.display());
    let (code, hint) =
        reason(error).unwrap_or((Code::SqliteFailed, "see the cause; nothing was changed"));
    Fault::new(code, message, hint).caused_by(error)
}

/// What in the world around a database is the reason, and what to do about it; none when the
/// database or the statement itself is.
pub fn reason(error: &rusqlite::Error) -> Option<(Code, &'static str)> {
    Some(match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (Code::DatabaseInUse, "end the program that has it open, then try again")
        }
        Some(ErrorCode::NotADatabase) => (Code::NotADatabase, "name a SQLite database"),
        Some(ErrorCode::DatabaseCorrupt) => {
            (Code::NotADatabase, "the file is damaged; `sqlite3 FILE .recover` may save its rows")
        }
        Some(ErrorCode::DiskFull) => (Code::DiskFull, "free some space, then try again"),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            (Code::PermissionDenied, "it must be writable, and so must its directory")
        }
        Some(ErrorCode::SystemIoFailure) => (Code::Io, "see the cause; check the disk"),
        _ => return None,
    })
}

/// Like [`fault`], as an adapter for `map_err`.
pub fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(rusqlite::Error) -> Fault + 'a {
    move |error| fault(what, path, &error)
}

/// Opens a database that must be there. What lies in its log stays there when it is closed again:
/// looking at a database does not change its files.
///
/// # Errors
/// `permission_denied`, `not_a_database`, `database_in_use`.
pub fn open(path: &Path) -> Result<Connection, Fault> {
    let has_log = with_suffix(path, "-wal").metadata().is_ok_and(|m| m.len() > 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags).map_err(failed("open", path))?;
    database.busy_timeout(PATIENCE).map_err(failed("open", path))?;
    if has_log {
        keep_log(&database, path)?;
    }
    // The first read is what tells a database from another file.
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

/// Opens a private file of this migration; it is made if need be.
///
/// # Errors
/// As [`open`].
pub fn open_private(path: &Path) -> Result<Connection, Fault> {
    let database = Connection::open(path).map_err(failed("open", path))?;
    // It is thrown away and made again when the power goes before it is synced as a whole.
    // First of all no syncs: to leave the log mode that a copy comes with would be one.
    let quick = "PRAGMA synchronous = OFF; PRAGMA page_size = 4096; PRAGMA journal_mode = MEMORY;
                 PRAGMA foreign_keys = OFF; PRAGMA temp_store = FILE; PRAGMA cache_size = -16384;";
    database.execute_batch(quick).map_err(failed("open", path))?;
    Ok(database)
}

/// Keeps everybody out of a database whose log is moved into it first: then the one file is all.
///
/// With a fingerprint it is made sure first that nobody wrote to it since that was taken.
///
/// # Errors
/// `database_in_use` when anybody has it open, or wrote to it.
pub fn hold_alone(path: &Path, since: Option<&str>) -> Result<Alone, Fault> {
    let plain = File::options().read(true).write(true).open(path);
    let plain = plain.map_err(paths::failed("open", path))?;
    let database = open(path)?;
    keep_log(&database, path)?;
    let alone = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT;";
    database.execute_batch(alone).map_err(failed("lock", path))?;
    if since.is_some_and(|since| since != fingerprint(path)) {
        return Err(changed(path));
    }
    checkpoint(&database, path)?;
    Ok(Alone { _database: database, plain })
}

/// A database that is all in one file and that nobody else can read or write.
pub struct Alone {
    _database: Connection,
    /// A process loses its locks on a file when it closes any descriptor of it: so this one is
    /// closed after the connection.
    plain: File,
}

impl Alone {
    /// Its file, to be synced without another descriptor.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.plain
    }
}

/// Somebody wrote to a database that was being migrated.
#[must_use]
pub fn changed(database: &Path) -> Fault {
    let message = format!("{} was changed while it was being migrated", database.display());
    let hint = "nothing is lost; end the program that uses it, then migrate again";
    Fault::new(Code::DatabaseInUse, message, hint)
}

/// Makes an empty file that only its owner can read.
///
/// # Errors
/// When there is one already, or what the system says.
pub fn create_private(path: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = File::options().write(true).create_new(true).mode(0o600).open(path);
    made.map(drop).map_err(paths::failed("create", path))
}

/// Moves the log of a database into it.
///
/// # Errors
/// `database_in_use` when that cannot be done to the end.
pub fn checkpoint(database: &Connection, path: &Path) -> Result<(), Fault> {
    let numbers = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    // Only the database itself: a temporary one beside it may have a transaction of its own.
    let (busy, log, done): (i64, i64, i64) = database
        .query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], numbers)
        .map_err(failed("checkpoint", path))?;
    if busy == 0 && log == done {
        return Ok(());
    }
    let message = format!("could not fully checkpoint the log of {}", path.display());
    let hint = "end the program that has it open, then try again";
    Err(Fault::new(Code::DatabaseInUse, message, hint))
}

/// What an effect answers that was asked to stop.
#[must_use]
pub fn stopped() -> Fault {
    Fault::new(Code::Cancelled, "the migration was stopped", "nothing to do").transient()
}

/// Rows of every table, by name.
///
/// # Errors
/// What SQLite says.
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
            .map_err(failed("count the rows of", path))?;
        counts.push((name, u64::try_from(rows).unwrap_or(0)));
    }
    Ok(counts)
}

/// Proves that a database is whole.
///
/// # Errors
/// `migration_failed` with what SQLite found.
pub fn check(database: &Connection, path: &Path) -> Result<(), Fault> {
    // Every row is looked up in every index, in the order of the table.
    database.pragma_update(None, "cache_size", -CHECK_KIB).map_err(failed("check", path))?;
    for question in ["PRAGMA main.integrity_check", "PRAGMA main.foreign_key_check"] {
        let mut ask = database.prepare(question).map_err(failed("check", path))?;
        let answers = ask
            .query_map([], |row| row.get::<_, rusqlite::types::Value>(0))
            .map_err(failed("check", path))?;
        let text = |value| match value {
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        };
        let found: Vec<String> =
            answers.take(20).filter_map(Result::ok).map(text).filter(|t| t != "ok").collect();
        if !found.is_empty() {
            let message = format!("{} is not whole", path.display());
            let hint = "nothing was changed; please report this with the evidence";
            return Err(Fault::new(Code::MigrationFailed, message, hint).with_evidence(found));
        }
    }
    Ok(())
}

/// Gives a private database the log mode that its users expect, and leaves it as one file.
///
/// # Errors
/// What SQLite says.
pub fn settle(database: Connection, path: &Path) -> Result<(), Fault> {
    // To the end of its rows: the change of mode is committed only there.
    let change = || -> rusqlite::Result<Vec<String>> {
        let mut change = database.prepare("PRAGMA journal_mode = WAL")?;
        change.query_map([], |row| row.get(0))?.collect()
    };
    let mode = change().map_err(failed("settle", path))?.pop().unwrap_or_default();
    if mode != "wal" {
        let message = format!("{} has no write-ahead log, but {mode}", path.display());
        return Err(Fault::new(Code::SqliteFailed, message, "keep it on a local file system"));
    }
    checkpoint(&database, path)?;
    database.close().map_err(|(_, e)| fault("close", path, &e))
}

/// Size and time of a database's files: equal for as long as nobody writes to it.
#[must_use]
pub fn fingerprint(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let one = |path: &Path| match path.metadata() {
        Ok(m) => format!("{}@{}.{:09}", m.len(), m.mtime(), m.mtime_nsec()),
        Err(_) => "-".to_owned(),
    };
    let log = with_suffix(path, "-wal");
    // An empty log and none say the same.
    let log = if log.metadata().is_ok_and(|m| m.len() > 0) { one(&log) } else { "-".to_owned() };
    format!("{} {log}", one(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_database_becomes_one_whole_file() {
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
