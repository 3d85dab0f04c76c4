//! Threads and terminals, the users of an environment. An environment with an active one is not
//! destroyed: the transaction that starts a destroy checks it.

use std::collections::BTreeSet;

use rusqlite::OptionalExtension as _;
use rusqlite::{Row, Transaction};
use serde_json::json;

use super::catalog::{fault, now};
use super::operations;
use crate::core::Fault;
use crate::server::operations::host_command;
use crate::session::connector::random_name;
use crate::session::protocol::{Answer, HostCommand};

/// Age in milliseconds at which a lease is renewed: half of its duration.
const RENEW_AFTER_MS: i64 = 12 * 3_600 * 1_000;
/// Milliseconds until a refused lease is requested again.
const AGAIN_MS: i64 = 30_000;

/// One row of the table of threads: a thread or a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) host: String,
    pub(super) id: String,
    pub(super) environment: String,
    pub(super) kind: String,
    pub(super) holder: Option<String>,
    pub(super) lease: String,
    pub(super) active: bool,
    pub(super) error: Option<String>,
}

const COLUMNS: &str =
    "SELECT host, id, environment, kind, holder, lease, active, error FROM threads";

fn of_row(row: &Row<'_>) -> rusqlite::Result<Thread> {
    Ok(Thread {
        host: row.get(0)?,
        id: row.get(1)?,
        environment: row.get(2)?,
        kind: row.get(3)?,
        holder: row.get(4)?,
        lease: row.get(5)?,
        active: row.get(6)?,
        error: row.get(7)?,
    })
}

/// Returns the thread with this id.
pub(super) fn find(tx: &Transaction<'_>, host: &str, id: &str) -> Result<Option<Thread>, Fault> {
    let find = format!("{COLUMNS} WHERE host = ?1 AND id = ?2");
    tx.query_row(&find, [host, id], of_row).optional().map_err(fault)
}

/// Lists the active threads of an environment by id.
pub(super) fn active(
    tx: &Transaction<'_>,
    host: &str,
    environment: &str,
) -> Result<Vec<Thread>, Fault> {
    let find = format!("{COLUMNS} WHERE host = ?1 AND environment = ?2 AND active = 1 ORDER BY id");
    let mut find = tx.prepare_cached(&find).map_err(fault)?;
    let rows = find.query_map([host, environment], of_row).map_err(fault)?;
    rows.collect::<Result<_, _>>().map_err(fault)
}

/// Ends an active thread and returns it. The lease is not released here.
pub(super) fn end(tx: &Transaction<'_>, host: &str, id: &str) -> Result<Option<Thread>, Fault> {
    let Some(thread) = find(tx, host, id)?.filter(|t| t.active) else { return Ok(None) };
    let put = "UPDATE threads SET active = 0, renewed_at = ?3 WHERE host = ?1 AND id = ?2";
    tx.execute(put, (host, id, now())).map_err(fault)?;
    Ok(Some(thread))
}

/// Ends all threads of an incarnation that ended. On the host their leases ended with it; a lease
/// that was granted late, on the next incarnation, is released.
pub(super) fn end_all(tx: &Transaction<'_>, host: &str, environment: &str) -> Result<(), Fault> {
    for thread in active(tx, host, environment)? {
        operations::release_lease(tx, host, environment, &thread.lease)?;
    }
    let put = "UPDATE threads SET active = 0, error = 'environment_destroyed', renewed_at = ?3
               WHERE host = ?1 AND environment = ?2 AND active = 1";
    tx.execute(put, (host, environment, now())).map_err(fault)?;
    Ok(())
}

/// Handles a lease that the host refused. If there is nothing to lease any more (404, 410), the
/// thread ends; otherwise the lease is requested again after `AGAIN_MS`.
pub(super) fn refused(
    tx: &Transaction<'_>,
    host: &str,
    lease: &str,
    answer: &Answer,
) -> Result<(), Fault> {
    if !matches!(answer.status, 404 | 410) {
        let put = "UPDATE threads SET renewed_at = ?3 WHERE host = ?1 AND lease = ?2";
        let at = now() - RENEW_AFTER_MS + AGAIN_MS;
        tx.execute(put, (host, lease, at)).map_err(fault)?;
        return Ok(());
    }
    let code = answer.body["code"].as_str().unwrap_or("refused");
    let put = "UPDATE threads SET active = 0, error = ?3, renewed_at = ?4
               WHERE host = ?1 AND lease = ?2 AND active = 1";
    tx.execute(put, (host, lease, code, now())).map_err(fault)?;
    Ok(())
}

/// Returns whether the lease belongs to an active thread.
pub(super) fn holds(tx: &Transaction<'_>, host: &str, lease: &str) -> Result<bool, Fault> {
    let find = "SELECT EXISTS (SELECT 1 FROM threads WHERE host = ?1 AND lease = ?2
                AND active = 1)";
    tx.query_row(find, [host, lease], |row| row.get(0)).map_err(fault)
}

/// Lists active threads whose lease the host lacks and for which no request is open. Such a lease
/// ended unnoticed, for example while the host was away for longer than its duration.
pub(super) fn unclaimed(
    tx: &Transaction<'_>,
    host: &str,
    there: &BTreeSet<&str>,
) -> Result<Vec<Thread>, Fault> {
    let find = format!("{COLUMNS} WHERE host = ?1 AND active = 1 ORDER BY id");
    let mut find = tx.prepare_cached(&find).map_err(fault)?;
    let rows = find.query_map([host], of_row).map_err(fault)?;
    let mut found = Vec::new();
    for thread in rows {
        let thread = thread.map_err(fault)?;
        let is_there = there.contains(thread.lease.as_str());
        if !is_there && !operations::claims(tx, host, &thread.lease)? {
            found.push(thread);
        }
    }
    Ok(found)
}

/// Lists threads whose lease is due for renewal, and marks them as renewed now.
pub(super) fn to_renew(tx: &Transaction<'_>) -> Result<Vec<Thread>, Fault> {
    let before = now() - RENEW_AFTER_MS;
    let found = {
        let find = format!("{COLUMNS} WHERE active = 1 AND renewed_at < ?1");
        let mut find = tx.prepare_cached(&find).map_err(fault)?;
        let rows = find.query_map([before], of_row).map_err(fault)?;
        rows.collect::<Result<Vec<_>, _>>().map_err(fault)?
    };
    let put = "UPDATE threads SET renewed_at = ?2 WHERE active = 1 AND renewed_at < ?1";
    tx.execute(put, (before, now())).map_err(fault)?;
    Ok(found)
}

/// Duration of a thread's lease in seconds.
pub(super) const LEASE_SECONDS: u64 = 24 * 3_600;

/// Returns the command that requests the lease of a thread.
pub(super) fn claim(thread: &Thread) -> HostCommand {
    let purpose = format!("{} {}", thread.kind, thread.id);
    let body = json!({ "id": thread.lease, "seconds": LEASE_SECONDS, "purpose": purpose });
    host_command(&random_name(), "lease.acquire", &thread.environment, body)
}
