//! What a new database held when it was installed, for the comparison before an undo: the
//! application may have opened it and put its stamp on it, which is no reason to refuse.
//!
//! Two contents are equal when every row is, in any order, apart from what the recipe names in
//! [`Stamps`]. Both are compared as they are, and after the recipe's own steps of a start, which an
//! application of the new generation performs as well, in full or in part.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};

use crate::context::Task;
use crate::files::with_suffix;
use crate::recipe::Stamps;
use crate::sqlite;
use groundskeeper_core::{Code, Fault, hex};
use groundskeeper_system::paths;

/// Name of the copy of the new database in a migration's directory.
pub(super) const CONTENT: &str = "content.db";
/// Largest database of which a copy is kept, in bytes.
const COPIED_BYTES_MAX: u64 = 1 << 30;
/// Limit of the rows of one stamped table that are compared. A larger table is no ledger.
const STAMPED_ROWS_MAX: usize = 10_000;
/// A database that grew by more, besides doubling, has more than a stamp. It is not compared.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Content of a database.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    /// Digest of the schema and of all rows, without the stamps.
    as_is: String,
    /// The same after the steps of a start.
    after_start: String,
    /// Digests of the rows of each stamped table.
    stamped: BTreeMap<String, Vec<String>>,
}

/// Keeps a copy of the new database, which is complete in one file, before it is installed. A
/// digest would take less space, and longer than all other steps but the build together. Without a
/// copy every change stands in the way of an undo, so a full disk is no reason to fail.
pub(super) fn keep(task: &Task<'_>) {
    let staging = &task.names.staging;
    let is_small = staging.metadata().is_ok_and(|found| found.len() <= COPIED_BYTES_MAX);
    if task.recipe.stamps().is_none() || !is_small {
        return;
    }
    let folder = task.runner.folder_of(task.id());
    let copy = folder.join(CONTENT);
    // It is not synced: a power loss leaves one that differs, and an undo is refused then.
    let kept = task.files().make_dir(&folder).map_err(paths::failed("create", &folder));
    let kept = kept.and_then(|()| copy_to(task, staging, &copy));
    if let Err(fault) = kept {
        tracing::info!(%fault, "no copy of the new database is kept");
        drop(task.files().remove(&copy));
    }
}

/// Copies a complete database into a new private file.
fn copy_to(task: &Task<'_>, from: &Path, to: &Path) -> Result<(), Fault> {
    remove(task, to)?;
    sqlite::create_private(to)?;
    std::fs::copy(from, to).map(drop).map_err(paths::failed("copy the new database to", to))
}

/// Returns whether a database has nothing but the content that was installed and the stamps of its
/// application. The caller holds it, so that no program writes to it meanwhile.
pub(super) fn is_only_stamped(task: &Task<'_>, held: &Connection) -> Result<bool, Fault> {
    let Some(stamps) = task.recipe.stamps() else { return Ok(false) };
    let copy = task.runner.folder_of(task.id()).join(CONTENT);
    let size = |path: &Path| path.metadata().map_or(0, |found| found.len());
    let database = &task.names.database;
    let now = size(database).saturating_add(size(&with_suffix(database, "-wal")));
    if !copy.exists() || now > size(&copy).saturating_mul(2).saturating_add(GROWTH_BYTES_MAX) {
        return Ok(false);
    }
    let installed = of_copy(task, &stamps, |scratch| copy_to(task, &copy, scratch))?;
    let found = of_copy(task, &stamps, |scratch| {
        sqlite::create_private(scratch)?;
        let text = scratch.to_str().ok_or_else(|| unnamed(scratch))?;
        let copied = held.execute("VACUUM INTO ?1", [text]);
        copied.map(drop).map_err(sqlite::failed("copy to", scratch))
    })?;
    let (Some(installed), Some(found)) = (installed, found) else { return Ok(false) };
    let is_there = |(table, rows): (&String, &Vec<String>)| {
        let found = found.stamped.get(table);
        rows.iter().all(|row| found.is_some_and(|found| found.contains(row)))
    };
    let is_same = found.as_is == installed.as_is || found.after_start == installed.after_start;
    Ok(is_same && installed.stamped.iter().all(is_there))
}

fn unnamed(path: &Path) -> Fault {
    let message = format!("the path {} is not UTF-8", path.display());
    Fault::new(Code::InvalidRequest, message, "use a data directory with a name in UTF-8")
}

/// Returns the content of a copy; `None` when it cannot be read, as after a power loss, or when a
/// step of a start fails on it.
fn of_copy(
    task: &Task<'_>,
    stamps: &Stamps,
    copy: impl FnOnce(&Path) -> Result<(), Fault>,
) -> Result<Option<Content>, Fault> {
    let scratch = task.runner.home.join(format!("{}.again", task.id()));
    remove(task, &scratch)?;
    let content = copy(&scratch).and_then(|()| inspect(task, stamps, &scratch));
    remove(task, &scratch)?;
    match content {
        Err(fault) if fault.code == Code::Cancelled => Err(fault),
        Err(fault) => {
            tracing::info!(%fault, "the content is not compared");
            Ok(None)
        }
        Ok(content) => Ok(Some(content)),
    }
}

fn remove(task: &Task<'_>, scratch: &Path) -> Result<(), Fault> {
    task.files().remove_set(scratch).map_err(paths::failed("remove", scratch))
}

fn inspect(task: &Task<'_>, stamps: &Stamps, scratch: &Path) -> Result<Content, Fault> {
    let database = sqlite::open_private(scratch)?;
    let failed = sqlite::failed("read", scratch);
    // Before the steps, which stamp as well.
    let stamped = stamped(&database, stamps).map_err(&failed)?;
    let as_is = digest(&database, stamps).map_err(&failed)?;
    task.with_work(|work| task.recipe.ready(&database, work))?;
    let after_start = digest(&database, stamps).map_err(&failed)?;
    Ok(Content { as_is, after_start, stamped })
}

/// Returns the digests of the rows of each stamped table that exists.
fn stamped(
    database: &Connection,
    stamps: &Stamps,
) -> rusqlite::Result<BTreeMap<String, Vec<String>>> {
    let mut all = BTreeMap::new();
    for table in &stamps.tables {
        if database.table_exists(None, table.as_str())? {
            let mut rows = Vec::new();
            each_row(database, table, &[], &mut |row| {
                if rows.len() < STAMPED_ROWS_MAX {
                    rows.push(hex(&row));
                }
            })?;
            all.insert(table.clone(), rows);
        }
    }
    Ok(all)
}

/// Returns a digest of the schema and of all rows without the stamps. The order of rows does not
/// matter: an application may have written one anew.
fn digest(database: &Connection, stamps: &Stamps) -> rusqlite::Result<String> {
    let mut all = Sha256::new();
    for pragma in ["user_version", "application_id"] {
        let value: i64 = database.pragma_query_value(None, pragma, |row| row.get(0))?;
        all.update(value.to_le_bytes());
    }
    // Statistics and sequences are no content; SQLite keeps both under names of its own.
    let parts = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master
                 WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name";
    let mut find = database.prepare(parts)?;
    let read = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
    let found: Vec<[String; 4]> = find.query_map([], read)?.collect::<Result<_, _>>()?;
    let is_stamped = |table: &String| stamps.tables.contains(table);
    for [kind, name, table, sql] in found.iter().filter(|[_, _, table, _]| !is_stamped(table)) {
        for text in [kind, name, table, sql] {
            add(&mut all, text.as_bytes());
        }
        // The rows of a virtual table are those of other tables.
        if kind != "table" || sql.to_ascii_uppercase().starts_with("CREATE VIRTUAL") {
            continue;
        }
        let skipped = stamps.columns.iter().filter(|(of, _)| of == name);
        let skipped: Vec<&str> = skipped.map(|(_, column)| column.as_str()).collect();
        let (mut sum, mut rows) = ([0_u64; 4], 0_u64);
        each_row(database, name, &skipped, &mut |row| {
            rows += 1;
            for (sum, part) in sum.iter_mut().zip(row.chunks_exact(8)) {
                let part = part.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
                *sum = sum.wrapping_add(part);
            }
        })?;
        all.update(rows.to_le_bytes());
        for part in sum {
            all.update(part.to_le_bytes());
        }
    }
    Ok(hex(&all.finalize()))
}

/// Calls a function with the digest of each row of a table, without some columns.
fn each_row(
    database: &Connection,
    table: &str,
    skipped: &[&str],
    call: &mut dyn FnMut([u8; 32]),
) -> rusqlite::Result<()> {
    let mut find =
        database.prepare(&format!("SELECT * FROM \"{}\"", table.replace('"', "\"\"")))?;
    let names = find.column_names().enumerate();
    let columns: Vec<usize> =
        names.filter(|(_, name)| !skipped.contains(name)).map(|(n, _)| n).collect();
    let mut rows = find.query([])?;
    while let Some(row) = rows.next()? {
        let mut one = Sha256::new();
        for column in &columns {
            match row.get_ref(*column)? {
                ValueRef::Null => one.update([0]),
                ValueRef::Integer(number) => tagged(&mut one, 1, &number.to_le_bytes()),
                ValueRef::Real(number) => tagged(&mut one, 2, &number.to_bits().to_le_bytes()),
                ValueRef::Text(text) => tagged(&mut one, 3, text),
                ValueRef::Blob(bytes) => tagged(&mut one, 4, bytes),
            }
        }
        call(one.finalize().into());
    }
    Ok(())
}

fn tagged(hash: &mut Sha256, tag: u8, bytes: &[u8]) {
    hash.update([tag]);
    add(hash, bytes);
}

/// Adds bytes with their length, so that none can move from one value to the next.
fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
