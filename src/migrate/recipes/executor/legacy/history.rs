//! Reads the history that the old generation kept of its own steps, and decides whether it can be
//! trusted. It never writes.

use rusqlite::Connection;

use super::chain::{ALL, Step};
use super::parts;
use crate::js::from_whole;
use crate::{fail, tables};
use groundskeeper_migrate::Fault;

const TABLE: &str = "__drizzle_migrations";

/// What a step removed, by the number of steps up to and including it. A database that has it still
/// cannot have had the step, whatever its history says.
const REMOVED: [(usize, &[&str]); 2] = [
    (
        8,
        &[
            "graphql_source.headers",
            "graphql_source.query_params",
            "graphql_source.auth",
            "openapi_source.query_params",
            "openapi_source.invocation_config",
            "openapi_source_binding.value",
        ],
    ),
    (
        9,
        &[
            "openapi_source.headers",
            "openapi_source_binding",
            "openapi_source_query_param.secret_id",
            "openapi_source_spec_fetch_header.secret_id",
            "openapi_source_spec_fetch_query_param.secret_id",
            "graphql_source.auth_connection_id",
            "graphql_source_header.secret_id",
            "graphql_source_query_param.secret_id",
            "mcp_source.auth_secret_id",
            "mcp_source_header.secret_id",
            "mcp_source_query_param.secret_id",
        ],
    ),
];
/// Number of steps up to and including the one that makes `plugin_storage`.
const STORED: usize = 12;

/// Returns the steps that a database lacks; none when its history is not a beginning of the chain,
/// is empty, claims that every step was done, or claims a step that the schema disproves.
///
/// It is called only for a database without `plugin_storage`.
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
    if count == 0 || count >= STORED || is_disproved(db, count)? {
        return Ok(None);
    }
    Ok(Some(ALL.iter().filter(|step| from_whole(step.when) > last).copied().collect()))
}

/// Returns whether the schema still has what a recorded step removed.
fn is_disproved(db: &Connection, count: usize) -> Result<bool, Fault> {
    for (_, removed) in REMOVED.iter().filter(|(steps, _)| *steps <= count) {
        for what in *removed {
            if parts::there(db, what)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
