//! The catalogue's database: opens it, migrates it, and runs one transaction at a time.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::OptionalExtension as _;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use sha2::Digest as _;

use crate::core::{Code, Fault};
use crate::migrate::recipes::Recipes;
use crate::migrate::request::{MigrationRequest, is_interrupted};
use crate::migrate::standalone::{self, Control, Place};
use crate::migrate::{MigrationRunner, http, keychain};
use crate::recipes::catalog;
use crate::session::connector::random_name;
use crate::sync::lock_unpoisoned;

/// The newest schema generation; an older database is migrated to it in stages.
const GENERATION: i64 = 2;
const SCHEMA: &str = include_str!("../../schema/catalog/002.sql");
/// Days before the row of a destroyed environment is pruned; its id is kept forever.
const DESTROYED_KEPT_DAYS: i64 = 7;
/// Days before an operation that has ended is pruned.
const OPERATIONS_KEPT_DAYS: i64 = 7;
const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// Bound on the number of hosts.
const HOSTS_MAX: i64 = 10_000;

/// The open catalogue; clones share one connection.
#[derive(Debug, Clone)]
pub(super) struct Catalog {
    connection: Arc<Mutex<Connection>>,
    /// Random name of this server, under which hosts record its live sets.
    pub(super) server: Arc<str>,
}

/// One row of the table of hosts; `seen_at` is in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) id: String,
    pub(super) epoch: u64,
    pub(super) log: Option<String>,
    pub(super) acked: u64,
    pub(super) seen_at: Option<i64>,
    /// Why not everything that it told is recorded; none when all of it is.
    pub(super) incomplete: Option<String>,
}

/// Returns the wall clock in milliseconds since 1970.
pub(super) fn now() -> i64 {
    i64::try_from(crate::clock::since_epoch().as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn fault(error: rusqlite::Error) -> Fault {
    let hint = "check the server's log, or run `sqlite3 catalog.db 'pragma integrity_check'`";
    let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
    let code = if full { Code::DiskFull } else { Code::Io };
    Fault::new(code, "cannot use the catalogue", hint).because(error)
}

fn hash(key: &str) -> Vec<u8> {
    sha2::Sha256::digest(key.as_bytes()).to_vec()
}

impl Catalog {
    /// Opens the database; creates it, or migrates it, if necessary.
    ///
    /// # Errors
    /// Fails if the database cannot be used, or is of a newer generation or another program.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        carry(path)?;
        let mut connection = Connection::open(path).map_err(fault)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(fault)?;
        // An acknowledged event is not sent again, so it must survive a power loss.
        connection.pragma_update(None, "synchronous", "full").map_err(fault)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(fault)?;
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(fault)?;
        fill(&mut connection)?;
        let name = "SELECT value FROM meta WHERE name = 'server'";
        let known: Option<String> =
            connection.query_row(name, [], |row| row.get(0)).optional().map_err(fault)?;
        let server = known.unwrap_or_else(random_name);
        let put = "INSERT OR IGNORE INTO meta (name, value) VALUES ('server', ?1)";
        connection.execute(put, [&server]).map_err(fault)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), server: server.into() })
    }

    /// Runs `work` in one transaction, on a thread that may block.
    ///
    /// # Errors
    /// Returns the error of `work` or of the database; nothing was changed then.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let connection = Arc::clone(&self.connection);
        crate::service::blocking::blocking(move || {
            let mut connection = lock_unpoisoned(&connection);
            // A deferred transaction that turns from reader to writer can fail with `SQLITE_BUSY`
            // at once, whatever the busy timeout.
            let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
            let transaction = begun.map_err(fault)?;
            let done = work(&transaction)?;
            transaction.commit().map_err(fault)?;
            Ok(done)
        })
        .await
    }
}

/// Returns an empty catalogue in memory.
#[cfg(test)]
pub(super) fn in_memory() -> Connection {
    let mut connection = Connection::open_in_memory().expect("memory");
    connection.pragma_update(None, "foreign_keys", true).expect("set");
    fill(&mut connection).expect("made");
    connection
}

/// Migrates an older catalogue to the newest generation before any connection is open. First
/// settles a migration that a crash has interrupted.
fn carry(path: &Path) -> Result<(), Fault> {
    let database = path.to_owned();
    let wanted =
        MigrationRequest { database, recipe: "catalog".to_owned(), ..MigrationRequest::default() };
    let recipes = Recipes::new(vec![Arc::new(catalog())]);
    let plan = wanted.plan(&recipes)?;
    let has_content = path.metadata().is_ok_and(|found| found.len() > 0);
    if !has_content && !is_interrupted(&plan, &recipes) {
        return Ok(());
    }
    let home = path.with_file_name("migrations");
    let runner = MigrationRunner::new(
        &home,
        recipes,
        Box::new(http::NoNetwork),
        Box::new(keychain::NoKeychain),
    );
    let place = Place::within(&home);
    let report = standalone::run(&place, &runner, &wanted, &Control::default())?;
    let Some(done) = report.into_result()?.migration else { return Ok(()) };
    for warning in done.warnings() {
        tracing::warn!("{warning}");
    }
    let backup = done.backup.map(|path| path.to_string()).unwrap_or_default();
    tracing::info!(backup, "the catalogue was migrated to generation {GENERATION}");
    Ok(())
}

/// Creates the schema in an empty database.
fn fill(connection: &mut Connection) -> Result<(), Fault> {
    let is = "SELECT user_version FROM pragma_user_version";
    let generation: i64 = connection.query_row(is, [], |row| row.get(0)).map_err(fault)?;
    if generation == GENERATION {
        return Ok(());
    }
    let step = connection.transaction().map_err(fault)?;
    step.execute_batch(SCHEMA).map_err(fault)?;
    step.pragma_update(None, "user_version", GENERATION).map_err(fault)?;
    step.commit().map_err(fault)
}

/// Adds a host, or replaces its key. Returns the key, of which only the hash is stored.
pub(super) fn add_host(tx: &Transaction<'_>, id: &str, replace: bool) -> Result<String, Fault> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|e| {
        let hint = "check the system's random number generator";
        Fault::new(Code::Io, "cannot get random bytes", hint).because(e)
    })?;
    let key = format!("gkh_{}", crate::format::hex(&random));
    let known: bool = tx
        .query_row("SELECT EXISTS (SELECT 1 FROM hosts WHERE id = ?1)", [id], |row| row.get(0))
        .map_err(fault)?;
    let count: i64 =
        tx.query_row("SELECT count(*) FROM hosts", [], |row| row.get(0)).map_err(fault)?;
    if known && !replace {
        let message = format!("host {id} already exists");
        let hint = format!(
            "choose another id, or replace its key with `groundskeeper host add {id} --replace`"
        );
        return Err(Fault::new(Code::EnvironmentExists, message, hint));
    }
    if !known && count >= HOSTS_MAX {
        let message = format!("the limit of {HOSTS_MAX} hosts is reached");
        return Err(Fault::new(Code::LimitReached, message, "remove a host first"));
    }
    // The epoch starts at the clock for the reason given in `next_epoch`.
    let put = "INSERT INTO hosts (id, key_hash, created_at, epoch) VALUES (?1, ?2, ?3, ?3)
               ON CONFLICT (id) DO UPDATE SET key_hash = excluded.key_hash";
    tx.execute(put, (id, hash(&key), now())).map_err(fault)?;
    Ok(key)
}

/// Removes a host and its rows; sends nothing to the host. Returns whether it existed.
pub(super) fn remove_host(tx: &Transaction<'_>, id: &str) -> Result<bool, Fault> {
    tx.execute("DELETE FROM meta WHERE name = 'incomplete:' || ?1", [id]).map_err(fault)?;
    let gone = tx.execute("DELETE FROM hosts WHERE id = ?1", [id]).map_err(fault)?;
    Ok(gone > 0)
}

const HOST: &str = "SELECT id, epoch, log, acked, seen_at,
    (SELECT value FROM meta WHERE name = 'incomplete:' || hosts.id) FROM hosts";

fn host_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Host> {
    Ok(Host {
        id: row.get(0)?,
        epoch: row.get(1)?,
        log: row.get(2)?,
        acked: row.get(3)?,
        seen_at: row.get(4)?,
        incomplete: row.get(5)?,
    })
}

/// Returns the host whose key this is.
pub(super) fn host_of_key(tx: &Transaction<'_>, key: &str) -> Result<Option<Host>, Fault> {
    let find = format!("{HOST} WHERE key_hash = ?1");
    tx.query_row(&find, [hash(key)], host_of).optional().map_err(fault)
}

/// Returns a host, or `HostNotFound`.
pub(super) fn host(tx: &Transaction<'_>, id: &str) -> Result<Host, Fault> {
    let find = format!("{HOST} WHERE id = ?1");
    tx.query_row(&find, [id], host_of).optional().map_err(fault)?.ok_or_else(|| {
        let hint = "run `groundskeeper host ls` to list hosts";
        Fault::new(Code::HostNotFound, format!("there is no host {id}"), hint)
    })
}

/// Lists all hosts by name.
pub(super) fn hosts(tx: &Transaction<'_>) -> Result<Vec<Host>, Fault> {
    let mut find = tx.prepare_cached(&format!("{HOST} ORDER BY id")).map_err(fault)?;
    let rows = find.query_map([], host_of).map_err(fault)?;
    rows.collect::<Result<_, _>>().map_err(fault)
}

/// Records that a host opened a session with this log. Of a new log, everything up to its present
/// end counts as taken in.
pub(super) fn host_seen(
    tx: &Transaction<'_>,
    id: &str,
    log: &str,
    head: u64,
) -> Result<Host, Fault> {
    let known = host(tx, id)?;
    // A log that ends before its acknowledged part is another log.
    let same = known.log.as_deref() == Some(log) && known.acked <= head;
    let acked = if same { known.acked } else { head };
    if !same {
        // Record and incarnation numbers of another log mean nothing in this one.
        for forget in [
            "UPDATE environments SET host_seq = 0, incarnation = 0 WHERE host = ?1",
            "UPDATE spent SET incarnation = 0 WHERE host = ?1",
        ] {
            tx.execute(forget, [id]).map_err(fault)?;
        }
    }
    let put = "UPDATE hosts SET log = ?2, acked = ?3, seen_at = ?4 WHERE id = ?1";
    tx.execute(put, (id, log, acked, now())).map_err(fault)?;
    host(tx, id)
}

/// Records how much of a host's log has been taken in.
pub(super) fn host_acked(tx: &Transaction<'_>, id: &str, seq: u64) -> Result<(), Fault> {
    let put = "UPDATE hosts SET acked = max(acked, ?2), seen_at = ?3 WHERE id = ?1";
    tx.execute(put, (id, seq, now())).map_err(fault)?;
    Ok(())
}

/// Advances the epoch of a host's live set.
pub(super) fn next_epoch(tx: &Transaction<'_>, id: &str) -> Result<(), Fault> {
    // At least the clock: hosts ignore older epochs, and an older copy of this database must not
    // fall behind them.
    let put = "UPDATE hosts SET epoch = max(epoch + 1, ?2) WHERE id = ?1";
    tx.execute(put, (id, now())).map_err(fault)?;
    Ok(())
}

/// Deletes rows that ended long ago; ids of environments move to the table `spent`.
pub(super) fn prune(tx: &Transaction<'_>) -> Result<(), Fault> {
    let before = now() - DESTROYED_KEPT_DAYS * DAY_MS;
    let keep = "INSERT INTO spent (host, id, incarnation, destroyed_at)
                SELECT host, id, incarnation, changed_at FROM environments
                WHERE status = 'destroyed' AND changed_at < ?1
                ON CONFLICT (host, id) DO UPDATE SET
                    incarnation = excluded.incarnation, destroyed_at = excluded.destroyed_at";
    tx.execute(keep, [before]).map_err(fault)?;
    let drop_rows = "DELETE FROM environments WHERE status = 'destroyed' AND changed_at < ?1";
    tx.execute(drop_rows, [before]).map_err(fault)?;
    let drop_threads = "DELETE FROM threads WHERE active = 0 AND renewed_at < ?1";
    tx.execute(drop_threads, [before]).map_err(fault)?;
    let before = now() - OPERATIONS_KEPT_DAYS * DAY_MS;
    let drop_operations = "DELETE FROM operations WHERE status IS NOT NULL AND ended_at < ?1";
    tx.execute(drop_operations, [before]).map_err(fault)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(path: &Path) {
        let db = Connection::open(path).expect("made");
        db.execute_batch(include_str!("../../schema/catalog/001.sql")).expect("filled");
        db.execute_batch(
            "PRAGMA user_version = 1;
             INSERT INTO meta VALUES ('server', 's1');
             INSERT INTO hosts (id, key_hash, created_at) VALUES ('box', x'00', 1);
             INSERT INTO environments (host, id, status, created_at, changed_at)
                VALUES ('box', 'a', 'ready', 1, 2), ('box', 'b', 'destroyed', 1, 3);
             INSERT INTO spent VALUES ('box', 'c', 1, 4), ('gone', 'd', 1, 4);
             INSERT INTO threads VALUES ('box', 't', 'a', 'agent', NULL, 'l', 1, NULL, 1, 1);
             INSERT INTO operations VALUES ('o', 'box', 'a', 'c', '{}', NULL, NULL, 1, NULL, 1);",
        )
        .expect("filled");
    }

    fn count(db: &Connection, table: &str) -> i64 {
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("read")
    }

    /// The server keeps its id, and rows still cascade with their host.
    #[test]
    fn older_catalogue_migrates_with_backup() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().canonicalize().expect("real").join("catalog.db");
        old(&path);
        let catalog = Catalog::open(&path).expect("opened");
        assert_eq!(&*catalog.server, "s1", "it is the same server");
        let db = catalog.connection.lock().expect("alone");
        let rows = ["hosts", "environments", "spent", "threads", "operations"];
        assert_eq!(rows.map(|table| count(&db, table)), [1, 2, 1, 1, 1]);
        db.execute("DELETE FROM hosts", []).expect("deleted");
        assert_eq!(
            rows.map(|table| count(&db, table)),
            [0; 5],
            "all rows are deleted with their host"
        );
        drop(db);
        drop(catalog);
        let names: Vec<String> = std::fs::read_dir(dir.path())
            .expect("read")
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| !n.ends_with("-wal") && !n.ends_with("-shm") && n != "migrations")
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.iter().any(|name| name.starts_with("catalog.db.old-")), "{names:?}");
        drop(Catalog::open(&path).expect("opened again"));
    }

    #[test]
    fn migrated_schema_equals_fresh_schema() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().canonicalize().expect("real");
        old(&dir.join("carried.db"));
        let schema = |name: &str| {
            let catalog = Catalog::open(&dir.join(name)).expect("opened");
            let db = catalog.connection.lock().expect("alone");
            let mut find = db
                .prepare("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name")
                .expect("prepared");
            let rows = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("asked");
            rows.flatten().collect::<Vec<(String, String)>>()
        };
        let fresh = schema("fresh.db");
        assert!(fresh.len() > 6);
        assert_eq!(schema("carried.db"), fresh);
    }

    #[test]
    fn newer_or_foreign_catalogue_is_untouched() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().canonicalize().expect("real");
        for (sql, code) in [
            ("PRAGMA user_version = 9", Code::DatabaseNewer),
            ("DROP TABLE operations", Code::DatabaseForeign),
        ] {
            let path = dir.join(code.as_str());
            old(&path);
            Connection::open(&path).expect("opened").execute_batch(sql).expect("changed");
            let before = std::fs::read(&path).expect("read");
            assert_eq!(Catalog::open(&path).err().map(|fault| fault.code), Some(code));
            assert_eq!(std::fs::read(&path).expect("read"), before);
        }
    }
}
