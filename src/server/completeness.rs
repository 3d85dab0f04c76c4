//! Whether everything that a host tells is recorded. A fact that was passed over is not a fact that
//! does not exist: while one is missing here, the host is judged by no live set, until it has told
//! everything again. Records only that; `sync` decides what is sent.

use rusqlite::Transaction;

use crate::core::Fault;
use crate::server::catalog::fault;

/// Longest reason that is kept, in characters: it may quote what a host sent.
const REASON_MAX: usize = 300;

/// Records that something a host told is not in the catalogue, and why. The first reason stays.
pub(super) fn passed_over(tx: &Transaction<'_>, host: &str, why: &str) -> Result<(), Fault> {
    tracing::warn!(%host, why, "a host told more than is recorded; no live set retires anything there");
    let why: String = why.chars().take(REASON_MAX).collect();
    let put = "INSERT INTO meta (name, value) VALUES ('incomplete:' || ?1, ?2)
               ON CONFLICT (name) DO NOTHING";
    tx.execute(put, [host, &why]).map_err(fault)?;
    Ok(())
}

/// Records that a host begins to tell everything again.
pub(super) fn told_again(tx: &Transaction<'_>, host: &str) -> Result<(), Fault> {
    let drop_it = "DELETE FROM meta WHERE name = 'incomplete:' || ?1";
    tx.execute(drop_it, [host]).map_err(fault)?;
    Ok(())
}
