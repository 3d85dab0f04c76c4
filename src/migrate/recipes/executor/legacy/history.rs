//! The history that the old generation kept of its own steps, and whether it can be trusted.

use rusqlite::Connection;

use super::chain::{ALL, Step};
use crate::core::Fault;
use crate::migrate::recipes::executor::js::from_whole;
use crate::migrate::recipes::executor::{fail, tables};

const TABLE: &str = "__drizzle_migrations";

/// The steps that a database has not had; none when its history is no beginning of the chain.
pub(super) fn pending(db: &Connection) -> Result<Option<Vec<Step>>, Fault> {
    let there = tables::columns(db, TABLE)?;
    if !there.contains("hash") || !there.contains("created_at") {
        return Ok(None);
    }
    let failed = fail::during("reading the old schema's history");
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
    if count == 0 || count >= ALL.len() {
        return Ok(None);
    }
    Ok(Some(ALL.iter().filter(|step| from_whole(step.when) > last).copied().collect()))
}
