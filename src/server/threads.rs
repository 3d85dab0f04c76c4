//! Threads and terminals: who uses an environment. An environment with an active one is not
//! destroyed, which the same transaction sees to.

use std::collections::BTreeSet;

use rusqlite::OptionalExtension as _;
use rusqlite::{Row, Transaction};
use serde_json::json;

use super::catalog::{fault, now};
use super::operations;
use crate::core::Fault;
use crate::server::operations::order;
use crate::session::connector::random_name;
use crate::session::protocol::{Answer, Order};

/// Age at which a lease is renewed.
const RENEW_AFTER_MS: i64 = 12 * 3_600 * 1_000;
/// When a lease that was refused is asked for again.
const AGAIN_MS: i64 = 30_000;

/// A thread or terminal.
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

/// One thread.
pub(super) fn find(tx: &Transaction<'_>, host: &str, id: &str) -> Result<Option<Thread>, Fault> {
    let find = format!("{COLUMNS} WHERE host = ?1 AND id = ?2");
    tx.query_row(&find, [host, id], of_row).optional().map_err(fault)
}

/// The active threads of an environment.
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

/// Ends a thread; the last one leaves its environment without use.
pub(super) fn end(tx: &Transaction<'_>, host: &str, id: &str) -> Result<Option<Thread>, Fault> {
    let Some(thread) = find(tx, host, id)?.filter(|t| t.active) else { return Ok(None) };
    let put = "UPDATE threads SET active = 0, renewed_at = ?3 WHERE host = ?1 AND id = ?2";
    tx.execute(put, (host, id, now())).map_err(fault)?;
    Ok(Some(thread))
}

/// Ends all threads of a life that is over. Their leases ended with it on the host; one that was
/// granted there on the next life, because it came late, is let go of.
pub(super) fn end_all(tx: &Transaction<'_>, host: &str, environment: &str) -> Result<(), Fault> {
    for thread in active(tx, host, environment)? {
        operations::let_go(tx, host, environment, &thread.lease)?;
    }
    let put = "UPDATE threads SET active = 0, error = 'environment_destroyed', renewed_at = ?3
               WHERE host = ?1 AND environment = ?2 AND active = 1";
    tx.execute(put, (host, environment, now())).map_err(fault)?;
    Ok(())
}

/// The host did not grant a thread's lease. Where there is nothing to lease any more the thread is
/// over; otherwise the lease is asked for again soon.
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

/// Whether a lease is of a thread that is not over.
pub(super) fn holds(tx: &Transaction<'_>, host: &str, lease: &str) -> Result<bool, Fault> {
    let find = "SELECT EXISTS (SELECT 1 FROM threads WHERE host = ?1 AND lease = ?2
                AND active = 1)";
    tx.query_row(find, [host, lease], |row| row.get(0)).map_err(fault)
}

/// Active threads whose leases a host does not have, though nothing is under way about them: they
/// ended there unheard of, as when the host was away for longer than they last.
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

/// Threads whose leases are to be renewed; they count as renewed now.
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

/// How long the lease of a thread holds; it is renewed long before.
pub(super) const LEASE_SECONDS: u64 = 24 * 3_600;

/// The claim of a thread on its environment, as the host is to grant it.
pub(super) fn claim(thread: &Thread) -> Order {
    let purpose = format!("{} {}", thread.kind, thread.id);
    let body = json!({ "id": thread.lease, "seconds": LEASE_SECONDS, "purpose": purpose });
    order(&random_name(), "lease.acquire", &thread.environment, body)
}
