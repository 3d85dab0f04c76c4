//! Reports data that the migration does not read: tables without a counterpart in the new database,
//! and columns that are dropped. It changes nothing.

use rusqlite::Connection;

use super::losses::{Cause, Losses};
use super::{fail, legacy, tables};
use groundskeeper_migrate::Fault;

/// Tables that the migration reads.
const READ: [&tables::Table; 9] = [
    &tables::SOURCE,
    &tables::SECRET,
    &tables::BINDING,
    &tables::CONNECTION,
    &tables::POLICY,
    &tables::STORAGE,
    &tables::TOOL,
    &tables::DEFINITION,
    &tables::BLOB,
];
/// Tables about the schema and the migration itself; they hold no data of the user.
const OWN: [&str; 2] = ["__drizzle_migrations", legacy::LOSSES];

/// Columns, by table, whose values the new generation sets itself.
const ENDING: [(&str, &[&str]); 5] = [
    ("source", &["can_remove", "can_refresh", "can_edit", "created_at", "updated_at"]),
    ("secret", &["created_at"]),
    ("connection", &["created_at", "updated_at"]),
    ("credential_binding", &["created_at", "updated_at"]),
    ("tool_policy", &["created_at", "updated_at"]),
];
/// Columns that are read elsewhere or say nothing that other columns do not say.
const SPOKEN: [&str; 4] = ["id", "plugin_id", "url", "kind"];

/// Returns whether the migration reads a table, given its name in lower case.
pub(super) fn is_read(table: &str) -> bool {
    READ.iter().any(|read| read.name == table) || OWN.contains(&table)
}

/// Notes every unread table that has rows, and every dropped column of a table that has rows.
pub(super) fn note(db: &Connection, losses: &Losses) -> Result<(), Fault> {
    for table in tables::all(db)? {
        if is_read(&table.to_lowercase()) {
            continue;
        }
        // A virtual table whose module this program lacks cannot be counted.
        match tables::count(db, &table) {
            Ok(0) => {}
            Ok(rows) => losses.note(Cause::TableUnread, || format!("`{table}` ({rows} rows)")),
            Err(_) => losses.note(Cause::TableUnread, || format!("`{table}` (not readable)")),
        }
    }
    for (table, columns) in ENDING {
        let there = tables::columns(db, table)?;
        if there.is_empty() || tables::count(db, table)? == 0 {
            continue;
        }
        for column in columns.iter().filter(|column| there.contains(**column)) {
            losses.note(Cause::Columns, || format!("{table}.{column}"));
        }
    }
    for table in READ {
        for column in tables::columns(db, table.name)? {
            if has_unknown(db, table, &column)? {
                losses.note(Cause::Columns, || format!("{}.{column}", table.name));
            }
        }
    }
    addresses(db, losses)
}

/// Returns whether a column is none of the application's, and has a value in some row.
fn has_unknown(db: &Connection, table: &tables::Table, column: &str) -> Result<bool, Fault> {
    let ending = ENDING.iter().any(|(name, all)| *name == table.name && all.contains(&column));
    if ending || table.columns.contains(&column) || SPOKEN.contains(&column) {
        return Ok(false);
    }
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM {} WHERE {} IS NOT NULL)",
        tables::quoted(table.name),
        tables::quoted(column)
    );
    db.query_row(&sql, [], |row| row.get(0)).map_err(fail::during("read the columns of a table"))
}

/// Notes every source whose column `url` has a value.
fn addresses(db: &Connection, losses: &Losses) -> Result<(), Fault> {
    if !tables::columns(db, "source")?.contains("url") {
        return Ok(());
    }
    let failed = fail::during("read the table `source`");
    let sql = "SELECT CAST(id AS TEXT) FROM source WHERE url IS NOT NULL AND url <> ''";
    let mut query = db.prepare(sql).map_err(&failed)?;
    let mut rows = query.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let id = row.get_ref(0).ok().and_then(|value| value.as_bytes_or_null().ok().flatten());
        losses.note(Cause::SourceUrl, || {
            String::from_utf8_lossy(id.unwrap_or_default()).into_owned()
        });
    }
    Ok(())
}
