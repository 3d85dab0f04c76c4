//! Compares a database with recorded rows: every table, every cell with its storage class, in row
//! order. Row ids match any text, and times of the migration itself match any number.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value, json};

/// Returns the directory of the recorded cases and crash states.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/executor")
}

pub(crate) fn recorded(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => json!(n),
        ValueRef::Real(n) => json!({ "$real": format!("{n:?}") }),
        ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => {
            json!({ "$blob": groundskeeper::format::hex(bytes) })
        }
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

/// Returns every difference between a database and recorded rows, as text.
pub(crate) fn differences(database: &Path, wanted: &Value) -> Vec<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let db = match Connection::open_with_flags(database, flags) {
        Ok(db) => db,
        Err(e) => return vec![format!("{}: {e}", database.display())],
    };
    let wanted: &Map<String, Value> = wanted.as_object().expect("tables");
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut find = db.prepare(names).expect("prepared");
    let found: Vec<String> =
        find.query_map([], |row| row.get(0)).expect("asked").flatten().collect();
    let extra = found.iter().filter(|name| !wanted.contains_key(*name));
    let mut wrong: Vec<String> = extra.map(|name| format!("there is a table {name}")).collect();
    for (table, rows) in wanted {
        if found.contains(table) {
            compare(&db, table, rows, &mut wrong);
        } else {
            wrong.push(format!("there is no table {table}"));
        }
    }
    wrong
}

fn compare(db: &Connection, table: &str, wanted: &Value, wrong: &mut Vec<String>) {
    let query = format!("SELECT * FROM \"{table}\" ORDER BY rowid");
    let mut find = db.prepare(&query).expect("prepared");
    let columns: Vec<String> = find.column_names().map(ToString::to_string).collect();
    if json!(columns) != wanted["columns"] {
        wrong.push(format!("{table} has the columns {columns:?}"));
        return;
    }
    let read = |row: &rusqlite::Row<'_>| {
        (0..columns.len()).map(|n| Ok(cell(row.get_ref(n)?))).collect::<rusqlite::Result<Vec<_>>>()
    };
    let found: Vec<Vec<Value>> = find.query_map([], read).expect("asked").flatten().collect();
    let rows = wanted["rows"].as_array().expect("rows");
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
}
