//! What a new database holds, noted when it is installed and compared before an undo: the
//! application may have opened it and put its stamp on it, which is no reason to refuse.
//!
//! Two contents are equal when every row is, in any order, apart from what the recipe names in
//! [`Stamps`]. Both are compared as they are, and after the recipe's own steps of a start, which an
//! application of the new generation performs as well, in full or in part.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::context::Task;
use crate::files::with_suffix;
use crate::recipe::Stamps;
use crate::{plain_file, sqlite};
use groundskeeper_core::{Code, Fault, hex};
use groundskeeper_system::paths;

/// Name of the note in a migration's directory.
pub(super) const CONTENT: &str = "content";
/// Largest note that is read, in bytes.
const NOTE_BYTES_MAX: u64 = 16 << 20;
/// Limit of the rows of one stamped table that are noted. A larger table is no ledger.
const STAMPED_ROWS_MAX: usize = 10_000;
/// A database that grew by more, besides doubling, has more than a stamp. It is not compared.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Content of a database.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    /// Size of its file when it was installed.
    bytes: u64,
    /// Digest of the schema and of all rows, without the stamps.
    as_is: String,
    /// The same after the steps of a start.
    after_start: String,
    /// Digests of the rows of each stamped table.
    stamped: BTreeMap<String, Vec<String>>,
}

/// Notes the content of the new database, which is complete in one file, before it is installed.
/// Nothing is noted for a recipe without stamps, or whose steps cannot be performed on a copy: then
/// every change stands in the way of an undo.
pub(super) fn note(task: &Task<'_>) -> Result<(), Fault> {
    let staging = &task.names.staging;
    let copy = |to: &Path| {
        std::fs::copy(staging, to).map(drop).map_err(paths::failed("copy the new database to", to))
    };
    let bytes = staging.metadata().map_err(paths::failed("inspect", staging))?.len();
    let Some(content) = after_start(task, bytes, copy)? else { return Ok(()) };
    let folder = task.runner.folder_of(task.id());
    let files = task.files();
    files.make_dir(&folder).map_err(paths::failed("create", &folder))?;
    let (note, text) = (folder.join(CONTENT), serde_json::to_vec(&content).unwrap_or_default());
    let written = files.write(&note, &with_suffix(&note, ".tmp"), &text);
    written.map_err(paths::failed("write", &note))
}

/// Returns whether a database has nothing but the content that was installed and the stamps of its
/// application. The caller holds it, so that no program writes to it meanwhile.
pub(super) fn is_only_stamped(task: &Task<'_>, held: &Connection) -> Result<bool, Fault> {
    let note = task.runner.folder_of(task.id()).join(CONTENT);
    let Some(text) = plain_file::read(&note, NOTE_BYTES_MAX, Code::Io)? else { return Ok(false) };
    let Ok(noted) = serde_json::from_slice::<Content>(&text) else { return Ok(false) };
    let size = |path: &Path| path.metadata().map_or(0, |found| found.len());
    let database = &task.names.database;
    let now = size(database).saturating_add(size(&with_suffix(database, "-wal")));
    if now > noted.bytes.saturating_mul(2).saturating_add(GROWTH_BYTES_MAX) {
        return Ok(false);
    }
    let copy = |to: &Path| {
        let text = to.to_str().ok_or_else(|| unnamed(to))?;
        held.execute("VACUUM INTO ?1", [text]).map(drop).map_err(sqlite::failed("copy to", to))
    };
    let Some(found) = after_start(task, noted.bytes, copy)? else { return Ok(false) };
    let is_there = |(table, rows): (&String, &Vec<String>)| {
        let found = found.stamped.get(table);
        rows.iter().all(|row| found.is_some_and(|found| found.contains(row)))
    };
    let is_same = found.as_is == noted.as_is || found.after_start == noted.after_start;
    Ok(is_same && noted.stamped.iter().all(is_there))
}

fn unnamed(path: &Path) -> Fault {
    let message = format!("the path {} is not UTF-8", path.display());
    Fault::new(Code::InvalidRequest, message, "use a data directory with a name in UTF-8")
}

/// Returns the content of a copy after the steps of a start; `None` when the recipe has no stamps,
/// or when a step fails on this content.
fn after_start(
    task: &Task<'_>,
    bytes: u64,
    copy: impl FnOnce(&Path) -> Result<(), Fault>,
) -> Result<Option<Content>, Fault> {
    let Some(stamps) = task.recipe.stamps() else { return Ok(None) };
    let scratch = task.runner.home.join(format!("{}.again", task.id()));
    remove(task, &scratch)?;
    sqlite::create_private(&scratch)?;
    let content = copy(&scratch).and_then(|()| inspect(task, bytes, &stamps, &scratch));
    remove(task, &scratch)?;
    content
}

fn remove(task: &Task<'_>, scratch: &Path) -> Result<(), Fault> {
    task.files().remove_set(scratch).map_err(paths::failed("remove", scratch))
}

fn inspect(
    task: &Task<'_>,
    bytes: u64,
    stamps: &Stamps,
    scratch: &Path,
) -> Result<Option<Content>, Fault> {
    let database = sqlite::open_private(scratch)?;
    let failed = sqlite::failed("read", scratch);
    // Before the steps, which stamp as well.
    let stamped = stamped(&database, stamps).map_err(&failed)?;
    let as_is = digest(&database, stamps).map_err(&failed)?;
    match task.with_work(|work| task.recipe.ready(&database, work)) {
        Ok(_) => {}
        Err(fault) if fault.code == Code::Cancelled => return Err(fault),
        Err(fault) => {
            tracing::info!(%fault, "a step of a start fails; the content is not compared");
            return Ok(None);
        }
    }
    let after_start = digest(&database, stamps).map_err(&failed)?;
    Ok(Some(Content { bytes, as_is, after_start, stamped }))
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
