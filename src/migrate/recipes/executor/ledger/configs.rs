//! Reads and replaces configurations of integrations, one at a time, since one may be large.

use rusqlite::OptionalExtension as _;
use rusqlite::{Connection, params};

use crate::fail;
use crate::js::{self, Text, Value};
use groundskeeper_migrate::Fault;

/// An integration with its parsed configuration.
pub(super) struct Configured {
    pub(super) row: i64,
    pub(super) tenant: String,
    pub(super) slug: String,
    pub(super) config: Value,
}

const FAILED: &str = "rewriting configurations";

/// Calls `with` for each integration of a plugin. A configuration that is not JSON text is left as
/// it is.
pub(super) fn each(
    db: &Connection,
    plugin: &str,
    mut with: impl FnMut(Configured) -> Result<(), Fault>,
) -> Result<(), Fault> {
    // Row ids first: `with` may change the table, which would disturb an open query.
    for row in rows(db, plugin)? {
        let sql = "SELECT tenant, slug, config FROM integration \
                   WHERE rowid = ?1 AND typeof(config) = 'text'";
        let found = db
            .query_row(sql, [row], |r| Ok((text(r, 0)?, text(r, 1)?, text(r, 2)?)))
            .optional()
            .map_err(fail::during(FAILED))?;
        let Some((tenant, slug, config)) = found else { continue };
        let Ok(parsed) = crate::js::parse(&config) else { continue };
        with(Configured { row, tenant, slug, config: parsed.value })?;
    }
    Ok(())
}

/// Replaces the configuration in a row.
pub(super) fn replace(db: &Connection, row: i64, config: &Value) -> Result<(), Fault> {
    let sql = "UPDATE integration SET config = ?2 WHERE rowid = ?1";
    db.execute(sql, params![row, js::compact(config)]).map_err(fail::during(FAILED))?;
    Ok(())
}

/// Returns the members of an object except those named; none of anything else.
pub(super) fn without(config: &Value, names: &[&str]) -> Vec<(Text, Value)> {
    let members = config.as_object().map_or(&[][..], |object| object.members());
    members.iter().filter(|(name, _)| !names.iter().any(|n| name == *n)).cloned().collect()
}

fn rows(db: &Connection, plugin: &str) -> Result<Vec<i64>, Fault> {
    let failed = fail::during(FAILED);
    let sql = "SELECT rowid FROM integration WHERE plugin_id = ?1 ORDER BY rowid";
    let mut query = db.prepare(sql).map_err(&failed)?;
    let rows = query.query_map([plugin], |row| row.get(0)).map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

fn text(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<String> {
    let bytes = row.get_ref(at)?.as_bytes_or_null().ok().flatten().unwrap_or_default();
    Ok(String::from_utf8_lossy(bytes).into_owned())
}
