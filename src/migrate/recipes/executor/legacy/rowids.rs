//! Gives every table that the migration reads a row id, in the migration's copy.
//!
//! A table may lack row ids (`WITHOUT ROWID`), or hide them behind a column of that name. The
//! migration reads rows in the order of their ids and finds some again by them, so such a table is
//! rebuilt with its rows in the same order.

use rusqlite::Connection;

use crate::tables::quoted;
use crate::{fail, unread};
use groundskeeper_migrate::Fault;

/// Tables of the plugins, which early schemas have.
const PLUGINS: [&str; 3] = ["openapi_", "graphql_", "mcp_"];
/// The names of a row's id in SQL; a column may take each of them.
const ALIASES: [&str; 3] = ["rowid", "_rowid_", "oid"];

const FAILED: &str = "rebuild a table without row ids";

/// Rebuilds the tables that need it.
pub(super) fn give(copy: &Connection) -> Result<(), Fault> {
    let failed = fail::during(FAILED);
    // With foreign keys the removal of a table would remove the rows that refer to it. The original
    // switches them off too, and they cannot be switched off within a transaction.
    copy.pragma_update(None, "foreign_keys", false).map_err(&failed)?;
    let transaction = copy.unchecked_transaction().map_err(&failed)?;
    for table in lacking(copy)? {
        rebuild(copy, &table)?;
    }
    transaction.commit().map_err(failed)
}

/// Returns the tables that the migration reads and that have no row id of that name.
fn lacking(copy: &Connection) -> Result<Vec<String>, Fault> {
    let failed = fail::during(FAILED);
    let sql = "SELECT l.name FROM pragma_table_list l WHERE l.schema = 'main' AND l.type = 'table' \
               AND (l.wr OR EXISTS (SELECT 1 FROM pragma_table_xinfo(l.name) c \
               WHERE lower(c.name) = 'rowid'))";
    let mut query = copy.prepare(sql).map_err(&failed)?;
    let names = query.query_map([], |row| row.get::<_, String>(0)).map_err(&failed)?;
    let names: Vec<String> = names.collect::<Result<_, _>>().map_err(&failed)?;
    let read = |name: &String| {
        let name = name.to_lowercase();
        unread::is_read(&name) || PLUGINS.iter().any(|plugin| name.starts_with(plugin))
    };
    Ok(names.into_iter().filter(read).collect())
}

/// Rebuilds one table: its columns and rows, and a unique index in place of its primary key. Other
/// indexes and its triggers have no use in a copy.
fn rebuild(copy: &Connection, table: &str) -> Result<(), Fault> {
    let failed = fail::during(FAILED);
    let sql = "SELECT name, pk FROM pragma_table_xinfo(?1) ORDER BY pk";
    let mut query = copy.prepare(sql).map_err(&failed)?;
    let columns =
        query.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).map_err(&failed)?;
    let columns: Vec<(String, i64)> = columns.collect::<Result<_, _>>().map_err(&failed)?;
    let hides = |name: &str| ALIASES.iter().any(|alias| name.eq_ignore_ascii_case(alias));
    let renamed = |name: &str| {
        if hides(name) { quoted(&format!("{name} column")) } else { quoted(name) }
    };
    let list: Vec<String> =
        columns.iter().map(|(name, _)| format!("{} AS {}", quoted(name), renamed(name))).collect();
    let key: Vec<String> =
        columns.iter().filter(|(_, pk)| *pk > 0).map(|(name, _)| renamed(name)).collect();
    let (name, list) = (quoted(table), list.join(", "));
    let mut sql = format!(
        "CREATE TEMP TABLE groundskeeper_rows AS SELECT {list} FROM main.{name};
         DROP TABLE main.{name};
         CREATE TABLE main.{name} AS SELECT * FROM temp.groundskeeper_rows;
         DROP TABLE temp.groundskeeper_rows;"
    );
    if !key.is_empty() {
        let index = quoted(&format!("groundskeeper key of {table}"));
        sql.push_str(&format!("CREATE UNIQUE INDEX main.{index} ON {name} ({});", key.join(", ")));
    }
    copy.execute_batch(&sql).map_err(failed)
}
