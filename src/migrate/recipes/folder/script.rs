//! Runs one script: on a connection of its own, in one transaction that it cannot end, within
//! limits of time and pages.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode};

use super::guard::{self, Denial, Denials, Rights};
use super::text::{self, line_of};
use crate::interrupt::{self, Interrupted};
use crate::sqlite;
use groundskeeper_core::{Fault, hex};
use groundskeeper_system::portable;

/// Limits of one script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Time of `recognise.sql` and `ready.sql`, which run while a caller or a start waits.
    pub(super) look: Duration,
    /// Time of every other script. One that copies rows writes about 100 MiB in a second, so an
    /// hour is enough for some 300 GiB.
    pub(super) script: Duration,
    /// Bytes that a script may write to any database. It leaves room for rows that a script
    /// brings itself: 64 times the largest script.
    pub(super) bytes: u64,
    /// Factor for the size of the old database that is added to [`Self::bytes`]. Indexes and a
    /// full-text index make a database two to five times as large, so more than this is a query
    /// without an end. The limit keeps such a query from filling the disk.
    pub(super) growth: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(5),
            script: Duration::from_secs(3_600),
            bytes: 256 << 20,
            growth: 16,
        }
    }
}

/// One script with what it may do.
#[derive(Clone, Copy)]
pub(super) struct Script<'a> {
    pub(super) text: &'a str,
    pub(super) rights: Rights,
    /// File of the database that is the script's main one.
    pub(super) database: &'a Path,
    /// File of the database that is attached as `old`.
    pub(super) old: Option<&'a Path>,
    /// Time limit.
    pub(super) time: Duration,
    pub(super) limits: Limits,
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

/// Reason why a script did not succeed. The database is as it was before.
#[derive(Debug)]
pub(super) struct Failure {
    /// Line of the script; `None` when the failure belongs to no line.
    pub(super) line: Option<usize>,
    pub(super) cause: Cause,
}

#[derive(Debug)]
pub(super) enum Cause {
    Flaw(String),
    Denied(Denial),
    Parameter,
    SecondStatement,
    /// The transaction ended before the script did.
    NoTransaction,
    Cancelled,
    /// The time limit passed.
    Time(Duration),
    /// The limit of pages was reached, in bytes.
    Pages(u64),
    Sqlite(rusqlite::Error),
    /// The database could not be opened.
    Fault(Fault),
}

impl Failure {
    fn is_busy(&self) -> bool {
        let Cause::Sqlite(error) = &self.cause else { return false };
        let code = error.sqlite_error_code();
        matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self { line: None, cause }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Cause::Sqlite(error).into()
    }
}

impl Script<'_> {
    /// Runs the statements in one transaction.
    pub(super) fn run(&self) -> Result<(), Failure> {
        if scanned(self.text)?.first.is_none() {
            return Ok(());
        }
        self.attended(|connection, stop| execute(connection, self.text, stop))
    }

    /// Runs the query. Returns the columns of at most `max` rows as texts, of the first columns at
    /// most `columns`.
    pub(super) fn rows(
        &self,
        max: usize,
        columns: usize,
    ) -> Result<Vec<Vec<Option<String>>>, Failure> {
        if scanned(self.text)?.first.is_none() {
            return Ok(Vec::new());
        }
        self.attended(|connection, _| query(connection, self.text, max, columns))
    }

    /// Opens the connection, calls `work` within the limits, and commits what it did.
    fn attended<T: Send>(
        &self,
        work: impl FnOnce(&Connection, &AtomicBool) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let (mut connection, pages) = self.connection()?;
        connection.execute_batch("BEGIN")?;
        let denials = guard::install(&mut connection, self.rights)?;
        let handle = connection.get_interrupt_handle();
        let whole = |stop: &AtomicBool| {
            let result = work(&connection, stop);
            finish(connection, result, &denials, pages)
        };
        let (result, (), why) = interrupt::run(&handle, self.time, self.cancelled, whole, || ());
        result.map_err(|failure| match why {
            Some(Interrupted::Cancelled) => Cause::Cancelled.into(),
            // Waiting for the lock of another program took the time, and ending that one helps.
            Some(Interrupted::Expired) if failure.is_busy() => failure,
            Some(Interrupted::Expired) => Cause::Time(self.time).into(),
            None => failure,
        })
    }

    /// Opens a connection to the database. Returns the limit of its pages too.
    fn connection(&self) -> Result<(Connection, i64), Failure> {
        // Only the staging database is opened without syncs: the engine syncs it as a whole later,
        // and builds it anew after a power loss.
        let open = if self.old.is_some() { sqlite::open_private } else { sqlite::open };
        let connection = open(self.database).map_err(Cause::Fault)?;
        // Keeps a script from writing to the tables behind a virtual table.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        if let Some(old) = self.old {
            let path = old.to_str().map(str::to_owned).unwrap_or_default();
            same_encoding(&connection, old)?;
            connection.execute("ATTACH DATABASE ?1 AS old", [path])?;
        }
        if self.rights == Rights::Query {
            connection.pragma_update(None, "query_only", true)?;
            return Ok((connection, i64::MAX));
        }
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let base = if self.old.is_some() { "old" } else { "main" };
        let size = number(&format!("PRAGMA {base}.page_count"))?
            .saturating_mul(number(&format!("PRAGMA {base}.page_size"))?);
        let size = u64::try_from(size).unwrap_or(0);
        let bytes = self.limits.bytes.saturating_add(size.saturating_mul(self.limits.growth));
        let page = u64::try_from(number("PRAGMA main.page_size")?).unwrap_or(1).max(1);
        let pages = i64::try_from(bytes / page).unwrap_or(i64::MAX);
        // SQLite lowers it to what it supports, and raises it to the pages that are there.
        let pages = number(&format!("PRAGMA main.max_page_count = {pages}"))?;
        number(&format!("PRAGMA temp.max_page_count = {pages}"))?;
        Ok((connection, pages))
    }
}

/// Gives an empty database the text encoding of another one. Both must have the same one to be used
/// over one connection.
pub(super) fn same_encoding(empty: &Connection, old: &Path) -> Result<(), Failure> {
    let other = sqlite::open(old).map_err(Cause::Fault)?;
    let encoding: String = other.query_row("PRAGMA encoding", [], |row| row.get(0))?;
    empty.pragma_update(None, "encoding", encoding)?;
    Ok(())
}

fn scanned(text: &str) -> Result<text::Scan, Failure> {
    let at_line =
        |flaw: text::Flaw| Failure { line: Some(flaw.line), cause: Cause::Flaw(flaw.what) };
    text::scan(text).map_err(at_line)
}

/// Commits, or finds the cause of a failure. Closing the connection rolls back.
fn finish<T>(
    mut connection: Connection,
    result: Result<T, Failure>,
    denials: &Denials,
    pages: i64,
) -> Result<T, Failure> {
    let value = result.map_err(|failure| explain(failure, &connection, denials, pages))?;
    if connection.is_autocommit() {
        return Err(Cause::NoTransaction.into());
    }
    guard::remove(&mut connection)?;
    connection.execute_batch("COMMIT")?;
    Ok(value)
}

/// Replaces an error of SQLite by what led to it.
fn explain(failure: Failure, connection: &Connection, denials: &Denials, pages: i64) -> Failure {
    let Cause::Sqlite(error) = &failure.cause else { return failure };
    let cause = match error.sqlite_error_code() {
        Some(ErrorCode::AuthorizationForStatementDenied) => denials.take().map(Cause::Denied),
        Some(ErrorCode::DiskFull) => reached(connection, pages).map(Cause::Pages),
        _ => None,
    };
    match cause {
        Some(cause) => Failure { cause, ..failure },
        None => failure,
    }
}

/// Returns the limit of pages in bytes, if it is what a script reached rather than the end of the
/// disk. SQLite reports both in the same way, and has rolled back by now, so the disk is as free as
/// before.
fn reached(connection: &Connection, pages: i64) -> Option<u64> {
    let page: i64 = connection.query_row("PRAGMA main.page_size", [], |row| row.get(0)).ok()?;
    let bytes = u64::try_from(pages.saturating_mul(page)).ok()?;
    let dir = Path::new(connection.path()?).parent()?;
    (portable::free_bytes(dir).ok()? > bytes).then_some(bytes)
}

/// Runs all statements, each to its last row.
fn execute(connection: &Connection, text: &str, stop: &AtomicBool) -> Result<(), Failure> {
    // Statements end in the order of the text, so each is found behind the one before.
    let (mut batch, mut behind) = (Batch::new(connection, text), 0);
    loop {
        let mut statement = match batch.next() {
            Ok(Some(statement)) => statement,
            Ok(None) => return Ok(()),
            Err(error) => return Err(unprepared(text, behind, error)),
        };
        let own = statement.expanded_sql().unwrap_or_default();
        let at = text[behind..].find(&own).map_or(behind, |at| behind + at);
        behind = at + own.len().min(text.len() - at);
        let first = text::scan(&own).ok().and_then(|scan| scan.first).unwrap_or(0);
        let failed = |cause| Failure { line: Some(line_of(text, at + first)), cause };
        if statement.parameter_count() > 0 {
            return Err(failed(Cause::Parameter));
        }
        let mut rows = statement.query([]).map_err(|e| failed(Cause::Sqlite(e)))?;
        while rows.next().map_err(|e| failed(Cause::Sqlite(e)))?.is_some() {}
        if connection.is_autocommit() {
            return Err(failed(Cause::NoTransaction));
        }
        if stop.load(Ordering::Relaxed) {
            return Err(failed(Cause::Cancelled));
        }
    }
}

/// Adds the line to an error of SQLite about the statement behind an offset, which SQLite could not
/// prepare. SQLite tells the place of some errors only.
fn unprepared(text: &str, behind: usize, error: rusqlite::Error) -> Failure {
    let first = |text: &str| text::scan(text).ok().and_then(|scan| scan.first).unwrap_or(0);
    let at = match &error {
        rusqlite::Error::SqlInputError { sql, offset, .. } => {
            // The text of the error is the rest of the script.
            let place = usize::try_from(*offset).unwrap_or_else(|_| first(sql));
            text.len().saturating_sub(sql.len()) + place
        }
        _ => behind + first(&text[behind..]),
    };
    Failure { line: Some(line_of(text, at)), cause: Cause::Sqlite(error) }
}

fn query(
    connection: &Connection,
    text: &str,
    max: usize,
    columns: usize,
) -> Result<Vec<Vec<Option<String>>>, Failure> {
    let mut statement = connection.prepare(text).map_err(|error| match error {
        rusqlite::Error::MultipleStatement => Cause::SecondStatement.into(),
        error => unprepared(text, 0, error),
    })?;
    if statement.parameter_count() > 0 {
        return Err(Cause::Parameter.into());
    }
    let count = statement.column_count().min(columns);
    let (mut rows, mut found) = (statement.query([])?, Vec::new());
    while found.len() < max
        && let Some(row) = rows.next()?
    {
        let columns = (0..count).map(|at| row.get_ref(at).map(shown));
        found.push(columns.collect::<rusqlite::Result<_>>()?);
    }
    Ok(found)
}

/// Returns a value as text; `None` for `NULL`.
fn shown(value: ValueRef<'_>) -> Option<String> {
    Some(match value {
        ValueRef::Null => return None,
        ValueRef::Integer(number) => number.to_string(),
        // As SQLite writes it: 1.0, and not 1.
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => hex(bytes),
    })
}
