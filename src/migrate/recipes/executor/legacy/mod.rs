//! An early schema of the old generation, brought to its last one. It works in place, on the copy.
//!
//! The chain has thirteen steps. A database that has a sound history of them gets the ones it has
//! not had; one whose history cannot be trusted gets whatever its schema lacks. Either way in one
//! transaction.

mod chain;
mod history;
mod parts;

use rusqlite::Connection;

use super::losses::Losses;
use super::{fail, tables};
use crate::core::Fault;
use crate::migrate::recipe::Work;

/// Where the replay leaves word of what it lost, for the warnings of the migration.
pub(super) const LOSSES: &str = "groundskeeper_replay_losses";

/// Brings the schema up. Returns what a person should know.
pub(super) fn bring_up(copy: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault> {
    if tables::exists(copy, "plugin_storage")? {
        return Ok(Vec::new());
    }
    let pending = history::pending(copy)?;
    let failed = fail::during("bringing up the old schema");
    let transaction = copy.unchecked_transaction().map_err(&failed)?;
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

/// Hands on what the replay of a copy lost.
pub(super) fn losses(copy: &Connection, losses: &Losses) -> Result<(), Fault> {
    if !tables::exists(copy, LOSSES)? {
        return Ok(());
    }
    let failed = fail::during("reading what the replay lost");
    let sql = format!("SELECT cause, CAST(name AS TEXT) FROM {LOSSES} ORDER BY rowid");
    let mut query = copy.prepare(&sql).map_err(&failed)?;
    let mut rows = query.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let text = |at| row.get_ref(at).ok().and_then(|v| v.as_bytes_or_null().ok().flatten());
        let [cause, name] = [0, 1].map(|at| String::from_utf8_lossy(text(at).unwrap_or_default()));
        losses.note_again(&cause, &name);
    }
    Ok(())
}
