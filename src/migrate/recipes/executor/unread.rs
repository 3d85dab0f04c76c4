//! Reports data that the migration does not read: tables without a counterpart in the new database,
//! and columns that are dropped. It changes nothing.

use rusqlite::Connection;

use super::losses::{Cause, Losses};
use super::{fail, legacy, tables};
use groundskeeper_migrate::Fault;

/// Tables that the migration reads.
const READ: [&str; 9] = [
    "source",
    "secret",
    "credential_binding",
    "connection",
    "tool_policy",
    "plugin_storage",
    "tool",
    "definition",
    "blob",
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

/// Notes every unread table that has rows, and every dropped column of a table that has rows.
pub(super) fn note(db: &Connection, losses: &Losses) -> Result<(), Fault> {
    for table in tables::all(db)? {
        if READ.contains(&table.as_str()) || OWN.contains(&table.as_str()) {
            continue;
        }
        let rows = tables::count(db, &table)?;
        if rows > 0 {
            losses.note(Cause::TableUnread, || format!("`{table}` ({rows} rows)"));
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
    addresses(db, losses)
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
