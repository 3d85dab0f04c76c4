//! The tables of the old generation: the columns that are read, and queries of a database's schema.
//! Nothing here writes.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::fail;
use groundskeeper_migrate::Fault;

/// A table, and the columns that are read, in the order in which they are read.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
    /// Columns that a database may lack; a missing one reads as NULL.
    pub(crate) optional: &'static [&'static str],
    /// Columns that identify a row in warnings and faults.
    pub(crate) naming: &'static [&'static str],
}

pub(crate) const SOURCE: Table = Table {
    name: "source",
    columns: &["scope_id", "id", "plugin_id", "kind", "name"],
    optional: &[],
    naming: &["scope_id", "id"],
};
pub(crate) const SECRET: Table = Table {
    name: "secret",
    columns: &["id", "scope_id", "name", "provider", "owned_by_connection_id"],
    optional: &[],
    naming: &["scope_id", "id"],
};
pub(crate) const BINDING: Table = Table {
    name: "credential_binding",
    columns: &[
        "scope_id",
        "source_scope_id",
        "source_id",
        "slot_key",
        "kind",
        "secret_id",
        "secret_scope_id",
        "connection_id",
        "text_value",
    ],
    optional: &["source_scope_id", "secret_scope_id"],
    naming: &["scope_id", "source_id", "slot_key"],
};
pub(crate) const CONNECTION: Table = Table {
    name: "connection",
    columns: &[
        "id",
        "scope_id",
        "provider",
        "identity_label",
        "access_token_secret_id",
        "refresh_token_secret_id",
        "expires_at",
        "provider_state",
        "scope",
        "identity_override",
    ],
    // The last two are not migrated; they are read only to report their loss.
    optional: &["scope", "identity_override"],
    naming: &["scope_id", "id"],
};
pub(crate) const POLICY: Table = Table {
    name: "tool_policy",
    columns: &["id", "scope_id", "pattern", "action", "position"],
    optional: &[],
    naming: &["scope_id", "id"],
};
pub(crate) const STORAGE: Table = Table {
    name: "plugin_storage",
    columns: &[
        "scope_id",
        "plugin_id",
        "collection",
        "key",
        "data",
        "created_at",
        "updated_at",
        "id",
    ],
    optional: &["id"],
    naming: &["scope_id", "plugin_id", "collection", "key", "id"],
};
pub(crate) const TOOL: Table = Table {
    name: "tool",
    columns: &[
        "scope_id",
        "source_id",
        "plugin_id",
        "name",
        "description",
        "input_schema",
        "output_schema",
        "annotations",
        "created_at",
        "updated_at",
        "id",
    ],
    optional: &["input_schema", "output_schema", "annotations", "id"],
    naming: &["scope_id", "source_id", "name", "id"],
};
pub(crate) const DEFINITION: Table = Table {
    name: "definition",
    columns: &["scope_id", "source_id", "plugin_id", "name", "schema", "created_at", "id"],
    optional: &["schema", "id"],
    naming: &["scope_id", "source_id", "name", "id"],
};
pub(crate) const BLOB: Table = Table {
    name: "blob",
    columns: &["namespace", "key", "value"],
    optional: &[],
    naming: &["namespace", "key"],
};

/// Returns whether a database has a table; as in SQLite, case does not matter.
pub(crate) fn exists(db: &Connection, table: &str) -> Result<bool, Fault> {
    let sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?1)";
    let count: i64 = db
        .prepare_cached(sql)
        .and_then(|mut found| found.query_row([table], |row| row.get(0)))
        .map_err(fail::during("read the schema"))?;
    Ok(count > 0)
}

/// Returns the columns of a table in lower case, since their case does not matter; the set is empty
/// when there is no such table. Generated columns count: `SELECT` reads them like any other.
pub(crate) fn columns(db: &Connection, table: &str) -> Result<BTreeSet<String>, Fault> {
    let mut found = db
        .prepare_cached("SELECT lower(name) FROM pragma_table_xinfo(?1)")
        .map_err(fail::during("read the schema"))?;
    let names =
        found.query_map([table], |row| row.get(0)).map_err(fail::during("read the schema"))?;
    names.collect::<Result<_, _>>().map_err(fail::during("read the schema"))
}

/// Returns all tables except those of SQLite itself, oldest first.
pub(crate) fn all(db: &Connection) -> Result<Vec<String>, Fault> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' \
               AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid";
    let mut found = db.prepare(sql).map_err(fail::during("read the schema"))?;
    let names = found.query_map([], |row| row.get(0)).map_err(fail::during("read the schema"))?;
    names.collect::<Result<_, _>>().map_err(fail::during("read the schema"))
}

/// Returns the number of rows of a table.
pub(crate) fn count(db: &Connection, table: &str) -> Result<u64, Fault> {
    let sql = format!("SELECT count(*) FROM {}", quoted(table));
    db.query_row(&sql, [], |row| row.get(0)).map_err(fail::during("count rows"))
}

/// Quotes a name for SQL, whatever characters it contains.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

impl Table {
    /// Returns the query that reads the table in the order of its rows; none when there is no such
    /// table.
    ///
    /// # Errors
    /// `migration_failed` when a required column is missing.
    pub(crate) fn select(&self, db: &Connection) -> Result<Option<String>, Fault> {
        let there = columns(db, self.name)?;
        if there.is_empty() {
            return Ok(None);
        }
        let mut list = Vec::new();
        for column in self.columns {
            if there.contains(*column) {
                list.push(quoted(column));
            } else if self.optional.contains(column) {
                list.push("NULL".to_owned());
            } else {
                return Err(fail::column(self.name, column));
            }
        }
        Ok(Some(format!("SELECT {} FROM {}", list.join(", "), quoted(self.name))))
    }

    /// Returns the query for a table that must exist.
    ///
    /// # Errors
    /// `migration_failed` when the table or a required column is missing.
    pub(crate) fn require(&self, db: &Connection) -> Result<String, Fault> {
        self.select(db)?.ok_or_else(|| fail::table(self.name, self.columns))
    }

    /// Returns the index of a column in a row of [`Table::select`].
    pub(crate) fn at(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| *c == column)
    }
}
