//! Holds a database against recorded rows: every table, every cell with its storage class, in row
//! order. Row ids are any text, times of the migration itself any number.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::trouble::{Trouble, failed};

/// Rows as they were recorded.
pub(crate) fn recorded(path: &Path) -> Result<Value, Trouble> {
    let bytes = std::fs::read(path).map_err(failed("read", path))?;
    serde_json::from_slice(&bytes).map_err(failed("understand", path))
}

/// Every difference, in words.
pub(crate) fn differences(database: &Path, wanted: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let opened = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let compared = opened.and_then(|db| {
        let whole: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if whole != "ok" {
            wrong.push(whole);
        }
        for (table, rows) in wanted.as_object().into_iter().flatten() {
            compare(&db, table, rows, &mut wrong)?;
        }
        Ok(())
    });
    if let Err(e) = compared {
        wrong.push(e.to_string());
    }
    wrong
}

fn compare(
    db: &Connection,
    table: &str,
    wanted: &Value,
    wrong: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let mut find = db.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY rowid"))?;
    let columns: Vec<String> = find.column_names().map(ToString::to_string).collect();
    if json!(columns) != wanted["columns"] {
        wrong.push(format!("{table} has the columns {columns:?}"));
        return Ok(());
    }
    let read = |row: &rusqlite::Row<'_>| {
        (0..columns.len()).map(|n| Ok(cell(row.get_ref(n)?))).collect::<rusqlite::Result<Vec<_>>>()
    };
    let found = find.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let rows: Vec<&Value> = wanted["rows"].as_array().into_iter().flatten().collect();
    if rows.len() != found.len() {
        wrong.push(format!("{table} has {} rows, not {}", found.len(), rows.len()));
    }
    for (n, (row, cells)) in rows.iter().zip(&found).enumerate() {
        for (column, cell) in columns.iter().zip(cells) {
            if !agrees(&row[column], cell) {
                wrong.push(format!("{table}[{n}].{column}: {cell}, not {}", row[column]));
            }
        }
    }
    Ok(())
}

fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => json!(n),
        ValueRef::Real(n) => json!({ "$real": format!("{n:?}") }),
        ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => json!({ "$blob": groundskeeper::format::hex(bytes) }),
    }
}

fn agrees(wanted: &Value, found: &Value) -> bool {
    match wanted.as_str() {
        Some("<NOW>") => found.is_i64(),
        Some("<NOW+3600000>") => {
            found.as_str().is_some_and(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))
        }
        Some("<ROWID>") => found.as_str().is_some_and(|t| !t.is_empty()),
        _ => wanted == found,
    }
}
