//! Lists the steps, tells which were done, and runs the others: one transaction and one stamp per
//! step, so that a crash never leaves a step done but unstamped.

use rusqlite::{Connection, OptionalExtension as _};

use super::{envelope, ownership, placements, specs};
use crate::{fail, tables};
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::{Stamps, Work};

/// Name of the step that stands for the migration itself.
pub(crate) const MIGRATED: &str = "2026-06-11-local-v1-to-v2";

/// The work of one step, inside its transaction.
type Body = fn(&Connection, &Work<'_>) -> Result<(), Fault>;

/// The steps, in the order in which they run. The dates in the names do not decide it.
const STEPS: [(&str, Body); 6] = [
    (MIGRATED, |_, _| Ok(())),
    ("2026-06-05-auth-config-placements", placements::rewrite),
    ("2026-06-11-openapi-output-envelope-unwrap", envelope::unwrap_all),
    ("2026-06-12-openapi-spec-to-blob", specs::openapi),
    ("2026-06-12-graphql-introspection-to-blob", specs::graphql),
    ("2026-06-20-google-openapi-ownership", ownership::give),
];

/// Returns what the application's own steps write at its first start, and these ones do not: its
/// stamps with their times, and row ids and times that differ from one run to the next.
pub(crate) fn stamps() -> Stamps {
    let changing = [
        ("blob", "row_id"),
        ("plugin_storage", "row_id"),
        ("plugin_storage", "updated_at"),
        ("integration", "updated_at"),
        ("tool", "updated_at"),
    ];
    Stamps {
        tables: vec!["data_migration".to_owned()],
        columns: changing.map(|(table, column)| (table.to_owned(), column.to_owned())).to_vec(),
    }
}

/// Runs the steps that were not done yet, and returns their names.
///
/// # Errors
/// `migration_failed`, naming the step; it runs again at the next start.
pub(crate) fn run(db: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault> {
    let mut done = Vec::new();
    for (name, body) in STEPS {
        if is_stamped(db, name)? {
            continue;
        }
        if (work.cancelled)() {
            return Err(fail::cancelled());
        }
        (work.progress)(name, 0);
        let named = |fault: Fault| {
            let message = format!("cannot perform the step `{name}`: {}", fault.message);
            Fault { message, ..fault }
        };
        let failed = fail::during("write the ledger");
        let transaction = db.unchecked_transaction().map_err(&failed)?;
        body(db, work).map_err(named)?;
        stamp(db, name, work.now_ms)?;
        transaction.commit().map_err(&failed)?;
        done.push(name.to_owned());
    }
    Ok(done)
}

/// Records a step as done; a second call changes nothing.
pub(crate) fn stamp(db: &Connection, name: &str, now_ms: i64) -> Result<(), Fault> {
    let failed = fail::during("write the ledger");
    let table = "CREATE TABLE IF NOT EXISTS data_migration \
                 (name TEXT PRIMARY KEY, time_completed INTEGER NOT NULL)";
    db.execute(table, []).map_err(&failed)?;
    let row = "INSERT OR IGNORE INTO data_migration (name, time_completed) VALUES (?1, ?2)";
    db.execute(row, (name, now_ms)).map_err(&failed)?;
    Ok(())
}

/// Returns whether a step was recorded as done.
pub(crate) fn is_stamped(db: &Connection, name: &str) -> Result<bool, Fault> {
    if !tables::columns(db, "data_migration")?.contains("name") {
        return Ok(false);
    }
    let found = db
        .query_row("SELECT 1 FROM data_migration WHERE name = ?1", [name], |_| Ok(()))
        .optional()
        .map_err(fail::during("read the ledger"))?;
    Ok(found.is_some())
}

/// Returns the latest recorded step whose name sorts after all known ones, by the date at its
/// start.
pub(crate) fn later_step(db: &Connection) -> Result<Option<String>, Fault> {
    if !tables::columns(db, "data_migration")?.contains("name") {
        return Ok(None);
    }
    let last = STEPS.iter().map(|(name, _)| *name).max().unwrap_or_default();
    let sql = "SELECT CAST(name AS TEXT) FROM data_migration \
               WHERE name GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]-*' AND name > ?1 \
               ORDER BY name DESC LIMIT 1";
    let found = db.query_row(sql, [last], |row| row.get(0)).optional();
    found.map_err(fail::during("read the ledger"))
}
