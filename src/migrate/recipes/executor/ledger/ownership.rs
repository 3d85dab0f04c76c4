//! Moves integrations of Google's interfaces from the plugin `openapi` to their own plugin
//! `google`, with their tools, definitions, operations and specification.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::configs::{self, Configured};
use super::specs;
use crate::fail;
use crate::ids::RowIds;
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::Work;

const FAILED: &str = "move Google's integrations to their plugin";

/// Moves all integrations that were made from Google's discovery documents.
pub(super) fn give(db: &Connection, _work: &Work<'_>) -> Result<(), Fault> {
    let mut ids = RowIds::new();
    configs::each(db, "openapi", |Configured { row, tenant, slug, config }| {
        if config.get("googleDiscoveryUrls").and_then(|urls| urls.as_array()).is_none() {
            return Ok(());
        }
        if let Some(hash) = config.text("specHash") {
            spec(db, &mut ids, &tenant, &hash.lossy())?;
        }
        operations(db, &mut ids, &tenant, &slug)?;
        let failed = fail::during(FAILED);
        for table in ["tool", "definition"] {
            let sql = format!(
                "UPDATE {table} SET plugin_id = 'google' WHERE tenant = ?1 AND integration = ?2"
            );
            db.execute(&sql, params![tenant, slug]).map_err(&failed)?;
        }
        let sql = "UPDATE integration SET plugin_id = 'google' WHERE rowid = ?1";
        db.execute(sql, [row]).map_err(&failed)?;
        Ok(())
    })
}

/// Copies the specification. The old blob stays, since another integration with the same text
/// shares it.
fn spec(db: &Connection, ids: &mut RowIds, tenant: &str, hash: &str) -> Result<(), Fault> {
    let key = format!("spec/{hash}");
    let sql = "SELECT value FROM blob WHERE namespace = ?1 AND key = ?2";
    let text: Option<String> = db
        .query_row(sql, [format!("o:{tenant}/openapi"), key.clone()], |row| row.get(0))
        .optional()
        .map_err(fail::during(FAILED))?;
    match text {
        Some(text) => specs::put(db, ids, &format!("o:{tenant}/google"), &key, &text),
        None => Ok(()),
    }
}

/// Moves the operations: copies all, then deletes the old rows.
fn operations(db: &Connection, ids: &mut RowIds, tenant: &str, slug: &str) -> Result<(), Fault> {
    let failed = fail::during(FAILED);
    // As in the original, `%` and `_` in a slug are not escaped and match other keys too.
    let sql = "SELECT rowid FROM plugin_storage WHERE tenant = ?1 AND plugin_id = 'openapi' \
               AND collection = 'operation' AND (key LIKE ?2 || '.%' OR CASE WHEN json_valid(data) \
               THEN json_extract(data, '$.integration') = ?2 END) ORDER BY rowid";
    let mut query = db.prepare(sql).map_err(&failed)?;
    let rows = query.query_map([tenant, slug], |row| row.get(0)).map_err(&failed)?;
    let rows: Vec<i64> = rows.collect::<Result<_, _>>().map_err(&failed)?;
    let copy = "INSERT INTO plugin_storage (plugin_id, collection, key, data, created_at, \
                updated_at, row_id, tenant, owner, subject) \
                SELECT 'google', collection, key, data, created_at, updated_at, ?2, tenant, owner, \
                subject FROM plugin_storage WHERE rowid = ?1 \
                ON CONFLICT (tenant, owner, subject, plugin_id, collection, key) \
                DO UPDATE SET data = excluded.data, updated_at = excluded.updated_at";
    let mut copy = db.prepare(copy).map_err(&failed)?;
    for row in &rows {
        copy.execute(params![row, ids.next()?]).map_err(&failed)?;
    }
    let mut gone = db.prepare("DELETE FROM plugin_storage WHERE rowid = ?1").map_err(&failed)?;
    for row in &rows {
        gone.execute([row]).map_err(&failed)?;
    }
    Ok(())
}
