//! Brings an early schema up in one transaction, and passes on what the replay loses.

use rusqlite::Connection;

use super::super::losses::Losses;
use super::super::{fail, tables};
use super::{chain, history, rowids};
use crate::legacy::parts::LOSSES;
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::Work;

/// Brings the schema up. Returns warnings for the user.
pub(crate) fn bring_up(copy: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault> {
    rowids::give(copy)?;
    // A late step makes this table; a database that has it counts as having the last schema.
    if tables::exists(copy, "plugin_storage")? {
        return Ok(Vec::new());
    }
    let pending = history::pending(copy)?;
    let failed = fail::during("upgrade the old schema");
    let transaction = copy.unchecked_transaction().map_err(&failed)?;
    // Without a history all steps are tried: each part checks whether the schema lacks it.
    let steps = pending.as_deref().unwrap_or(&chain::ALL);
    let counts = chain::replay(copy, steps, work)?;
    transaction.commit().map_err(&failed)?;
    if pending.is_some() {
        return Ok(Vec::new());
    }
    let chain::Counts { applied, skipped } = counts;
    Ok(vec![format!(
        "v1 database had unusable drizzle migration history; recovered the v1-final schema by \
         tolerant replay ({applied} statements applied, {skipped} already done)."
    )])
}

/// Passes on the losses that a replay recorded in the copy. A table holds them, since the database
/// may be built by a later process than the one that replayed the steps.
pub(crate) fn losses(copy: &Connection, losses: &Losses) -> Result<(), Fault> {
    if !tables::exists(copy, LOSSES)? {
        return Ok(());
    }
    let failed = fail::during("read the losses of the schema upgrade");
    let sql = format!("SELECT cause, CAST(name AS TEXT) FROM {LOSSES} ORDER BY rowid");
    let mut query = copy.prepare(&sql).map_err(&failed)?;
    let mut rows = query.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let text = |at| row.get_ref(at).ok().and_then(|v| v.as_bytes_or_null().ok().flatten());
        let [cause, name] = [0, 1].map(|at| String::from_utf8_lossy(text(at).unwrap_or_default()));
        losses.note_by_key(&cause, &name);
    }
    Ok(())
}
