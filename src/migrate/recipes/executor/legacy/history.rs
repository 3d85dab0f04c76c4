//! Reads the history that the old generation kept of its own steps, and decides whether it can be
//! trusted. It never writes.

use rusqlite::Connection;

use super::chain::{ALL, Step};
use crate::js::from_whole;
use crate::{fail, tables};
use groundskeeper_migrate::Fault;

const TABLE: &str = "__drizzle_migrations";

/// Returns the steps that a database lacks; none when its history is not a beginning of the chain,
/// is empty, or claims that every step was done.
pub(super) fn pending(db: &Connection) -> Result<Option<Vec<Step>>, Fault> {
    let there = tables::columns(db, TABLE)?;
    if !there.contains("hash") || !there.contains("created_at") {
        return Ok(None);
    }
    let failed = fail::during("read the history of the old schema");
    // One row more than the chain has steps, so that a longer history is noticed.
    let sql = format!(
        "SELECT CAST(hash AS TEXT), CAST(created_at AS REAL) FROM {TABLE} ORDER BY rowid LIMIT 14"
    );
    let mut query = db.prepare(&sql).map_err(&failed)?;
    let mut rows = query.query([]).map_err(&failed)?;
    let (mut count, mut last) = (0, 0.0_f64);
    while let Some(row) = rows.next().map_err(&failed)? {
        let hash: Option<String> = row.get(0).ok().flatten();
        let when: Option<f64> = row.get(1).map_err(&failed)?;
        if ALL.get(count).is_none_or(|step| hash.as_deref() != Some(step.hash)) {
            return Ok(None);
        }
        count += 1;
        last = last.max(when.unwrap_or_default());
    }
    // Complete, yet `plugin_storage` is missing: such a history is wrong.
    if count == 0 || count >= ALL.len() {
        return Ok(None);
    }
    Ok(Some(ALL.iter().filter(|step| from_whole(step.when) > last).copied().collect()))
}
