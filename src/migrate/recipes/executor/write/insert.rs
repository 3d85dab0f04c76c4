//! A prepared statement that fills a table, and tells a duplicate row from other errors.

use rusqlite::{Connection, Statement, ToSql};

use crate::fail;
use groundskeeper_migrate::Fault;

/// SQLite's extended code for a row that violates a unique index.
const TWICE: i32 = rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;

/// Writes rows of one table, and counts them.
pub(super) struct Insert<'s> {
    statement: Statement<'s>,
    table: &'static str,
    pub(super) written: u64,
}

impl<'s> Insert<'s> {
    /// Prepares the statement; values are bound in the order of the columns.
    pub(super) fn new(
        db: &'s Connection,
        table: &'static str,
        columns: &[&str],
    ) -> Result<Self, Fault> {
        let names: Vec<String> = columns.iter().map(|c| format!("\"{c}\"")).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT INTO \"{table}\" ({}) VALUES ({marks})", names.join(", "));
        let statement = db.prepare(&sql).map_err(fail::during("prepare an insertion"))?;
        Ok(Self { statement, table, written: 0 })
    }

    /// Binds one value; positions count from one.
    pub(super) fn bind(&mut self, at: usize, value: impl ToSql) -> Result<(), Fault> {
        self.statement.raw_bind_parameter(at, value).map_err(fail::during("bind a value"))
    }

    /// Binds values, from the first column on.
    pub(super) fn bind_all(&mut self, values: &[&dyn ToSql]) -> Result<(), Fault> {
        values.iter().enumerate().try_for_each(|(at, value)| self.bind(at + 1, value))
    }

    /// Writes the bound row; false when its unique key exists already.
    pub(super) fn try_run(&mut self) -> Result<bool, Fault> {
        match self.statement.raw_execute() {
            Ok(_) => {
                self.written += 1;
                Ok(true)
            }
            Err(rusqlite::Error::SqliteFailure(error, _)) if error.extended_code == TWICE => {
                Ok(false)
            }
            Err(error) => Err(fail::sqlite(&format!("write the table `{}`", self.table), &error)),
        }
    }
}
