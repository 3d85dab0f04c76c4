//! Recognises the generation of a database, and verifies a built one. It reads only.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::{fail, ledger, tables};
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::Recognised;

/// Tables whose columns tell whether a database is newer than this program.
const CURRENT: [&str; 4] = ["integration", "connection", "oauth_client", "tool_policy"];

/// Recognises the generation of a database. Only a database without the migration's stamp is
/// recognised by its tables.
pub(super) fn recognise(db: &Connection) -> Result<Recognised, Fault> {
    if ledger::is_stamped(db, ledger::MIGRATED)? {
        return current(db);
    }
    let source = tables::columns(db, "source")?;
    let integration = tables::exists(db, "integration")?;
    if source.contains("scope_id") {
        let connection = tables::columns(db, "connection")?;
        let carried = connection.contains("tenant") && !connection.contains("scope_id");
        return if integration && carried { current(db) } else { Ok(Recognised::Old) };
    }
    let tenants = tables::columns(db, "integration")?.contains("tenant");
    if integration && tenants {
        return current(db);
    }
    Ok(Recognised::Foreign(foreign(db, !source.is_empty())?))
}

/// Tells the current generation from a later one: a later database has a ledger step with a later
/// date, and a column that this program does not know.
fn current(db: &Connection) -> Result<Recognised, Fault> {
    let Some(step) = ledger::later_step(db)? else { return Ok(Recognised::Current) };
    let known = known_columns()?;
    for (table, columns) in &known {
        let there = tables::columns(db, table)?;
        if let Some(column) = there.difference(columns).next() {
            return Ok(Recognised::Newer(format!(
                "its ledger has the step `{step}` and its table `{table}` the column `{column}`, \
                 which this program does not know"
            )));
        }
    }
    Ok(Recognised::Current)
}

/// Returns the columns of the schema that this program builds, read from the schema itself.
fn known_columns() -> Result<Vec<(&'static str, BTreeSet<String>)>, Fault> {
    let failed = fail::during("read the new schema");
    let db = Connection::open_in_memory().map_err(&failed)?;
    db.execute_batch(crate::write::SCHEMA).map_err(&failed)?;
    CURRENT.iter().map(|table| Ok((*table, tables::columns(&db, table)?))).collect()
}

fn foreign(db: &Connection, has_source: bool) -> Result<String, Fault> {
    let all = tables::all(db)?;
    if all.is_empty() {
        return Ok("it has no tables".to_owned());
    }
    if has_source {
        return Ok("its table `source` has no column `scope_id`".to_owned());
    }
    let shown: Vec<&str> = all.iter().take(5).map(String::as_str).collect();
    Ok(format!("it has no table `source` or `integration`, but {}", shown.join(", ")))
}

/// Verifies that no row of a built database refers to a missing row. The schema has no foreign
/// keys, so `SQLite` does not check this.
pub(super) fn verify(db: &Connection) -> Result<(), Fault> {
    if !ledger::is_stamped(db, ledger::MIGRATED)? {
        return Err(fail::defect("the new database has no stamp"));
    }
    let owned = "SELECT 1 FROM connection c WHERE c.tenant = t.tenant AND c.owner = t.owner \
                 AND c.subject = t.subject AND c.integration = t.integration \
                 AND c.name = t.connection";
    let client = "SELECT 1 FROM oauth_client o WHERE o.tenant = t.tenant \
                  AND o.owner = t.oauth_client_owner AND o.subject = t.subject \
                  AND o.slug = t.oauth_client";
    let laws = [
        ("tool(s) without their connection", "tool", owned, "1"),
        ("definition(s) without their connection", "definition", owned, "1"),
        (
            "connection(s) without their OAuth client",
            "connection",
            client,
            "t.oauth_client IS NOT NULL",
        ),
    ];
    for (what, table, law, concerned) in laws {
        let sql =
            format!("SELECT count(*) FROM {table} t WHERE {concerned} AND NOT EXISTS ({law})");
        let broken: u64 = db
            .query_row(&sql, [], |row| row.get(0))
            .map_err(fail::during("check the new database"))?;
        if broken > 0 {
            return Err(fail::defect(format!("the new database has {broken} {what}")));
        }
    }
    Ok(())
}
