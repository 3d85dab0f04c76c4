//! Threads and terminals: who uses an environment. An environment with an active one is not
//! destroyed, which the same transaction sees to.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::catalog::{fault, now};
use super::operations;
use crate::core::{Code, Fault};
use crate::server::store;
use crate::server::transitions::{Change, Status};
use crate::session::protocol::Answer;

/// Active threads of one environment.
const ACTIVE_MAX: usize = 48;
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

/// Starts a thread in an environment that may be used; one that is about to go for want of use
/// stays.
pub(super) fn start(tx: &Transaction<'_>, thread: &Thread) -> Result<Thread, Fault> {
    let (host, environment) = (&thread.host, &thread.environment);
    let known = store::get(tx, host, environment)?;
    match known.status {
        Status::Ready => {}
        Status::Retiring => {
            store::change(tx, host, environment, Change::Revive, None, None)?;
        }
        Status::Destroying | Status::Destroyed => {
            let message = format!("environment {environment} is {}", known.status.as_str());
            let hint = "restore it, or make another one";
            return Err(Fault::new(Code::EnvironmentDestroyed, message, hint));
        }
        Status::Provisioning | Status::Error => {
            let message = format!("environment {environment} is {}", known.status.as_str());
            return Err(Fault::new(Code::EnvironmentBusy, message, "wait until it is ready"));
        }
    }
    if let Some(known) = find(tx, host, &thread.id)? {
        if known.active && known.environment == *environment {
            return Ok(known);
        }
        let message = format!("there was a thread {} before", thread.id);
        return Err(Fault::new(Code::IdempotencyConflict, message, "choose another id"));
    }
    if active(tx, host, environment)?.len() >= ACTIVE_MAX {
        let message = format!("{ACTIVE_MAX} threads are allowed in one environment");
        return Err(Fault::new(Code::LimitReached, message, "end some first"));
    }
    let put = "INSERT INTO threads (host, id, environment, kind, holder, lease, active,
               created_at, renewed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?7)";
    let t = thread;
    tx.execute(put, (host, &t.id, environment, &t.kind, &t.holder, &t.lease, now()))
        .map_err(fault)?;
    Ok(thread.clone())
}

/// One thread.
pub(super) fn find(tx: &Transaction<'_>, host: &str, id: &str) -> Result<Option<Thread>, Fault> {
    let find = format!("{COLUMNS} WHERE host = ?1 AND id = ?2");
    tx.query_row(&find, [host, id], of_row).optional().map_err(fault)
}

/// A thread that somebody answers for and that is not over.
pub(super) fn in_use(tx: &Transaction<'_>, host: &str, id: &str) -> Result<Thread, Fault> {
    let Some(thread) = find(tx, host, id)? else {
        let message = format!("there is no thread {id} on {host}");
        return Err(Fault::new(Code::ThreadNotFound, message, "start it first"));
    };
    let environment = &thread.environment;
    let known = store::get(tx, host, environment)?;
    if !known.status.is_live() {
        let message = format!("thread {id} is in {environment}, which is destroyed");
        return Err(Fault::new(Code::EnvironmentDestroyed, message, "start another thread"));
    }
    if !thread.active {
        let message = format!("thread {id} has ended");
        return Err(Fault::new(Code::ThreadEnded, message, "start another one"));
    }
    if thread.holder.is_none() {
        let message = format!("nobody is registered to answer for thread {id}");
        return Err(Fault::new(Code::NoHolder, message, "start it with a holder"));
    }
    Ok(thread)
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
