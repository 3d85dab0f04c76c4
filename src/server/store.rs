//! Reads and writes environment rows. Every change of status goes through [`change`], which
//! compares before it sets: a change that does not fit leaves the row as it is, and the result is
//! the reason. What a host reports about its environments is applied in `facts`, through the same
//! function.

use rusqlite::OptionalExtension as _;
use rusqlite::{Row, Transaction};

use crate::core::{Code, Fault};
use crate::server::catalog::{self, fault, now};
use crate::server::operations;
use crate::server::transitions::{Change, Status, next};
use crate::service::types::problem::Problem;

/// Bound on the environments of one host that are not destroyed.
pub(super) const ENVIRONMENTS_MAX: i64 = 10_000;

/// One row of the table of environments; times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvironmentRow {
    pub(super) host: String,
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) attempt: Option<String>,
    pub(super) incarnation: u32,
    pub(super) host_seq: u64,
    pub(super) path: Option<String>,
    pub(super) branch: Option<String>,
    pub(super) error: Option<Problem>,
    pub(super) retire_at: Option<i64>,
    pub(super) created_at: i64,
    pub(super) changed_at: i64,
}

/// Result of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// The row now has this status.
    Now(Status),
    /// The row has this status, and no transition leads from it.
    Illegal(Status),
    /// The change ends another attempt, or is older than the row.
    Superseded,
    /// There is no such row, and none was made.
    NotFound,
    /// There is no such row, and none can be made: the host has too many.
    NoRoom,
}

const COLUMNS: &str = "SELECT host, id, status, attempt, incarnation, host_seq, path, branch, \
                       error, retire_at, created_at, changed_at FROM environments";

fn row_of(row: &Row<'_>) -> rusqlite::Result<EnvironmentRow> {
    let status: String = row.get(2)?;
    let error: Option<String> = row.get(8)?;
    Ok(EnvironmentRow {
        host: row.get(0)?,
        id: row.get(1)?,
        status: Status::parse(&status).unwrap_or(Status::Error),
        attempt: row.get(3)?,
        incarnation: row.get(4)?,
        host_seq: row.get(5)?,
        path: row.get(6)?,
        branch: row.get(7)?,
        error: error.and_then(|text| serde_json::from_str(&text).ok()),
        retire_at: row.get(9)?,
        created_at: row.get(10)?,
        changed_at: row.get(11)?,
    })
}

/// Returns an environment. One whose row was pruned is returned as destroyed, from its id.
pub(super) fn find(
    tx: &Transaction<'_>,
    host: &str,
    id: &str,
) -> Result<Option<EnvironmentRow>, Fault> {
    let find = format!("{COLUMNS} WHERE host = ?1 AND id = ?2");
    let found = tx.query_row(&find, [host, id], row_of).optional().map_err(fault)?;
    if found.is_some() {
        return Ok(found);
    }
    let spent = "SELECT incarnation, destroyed_at FROM spent WHERE host = ?1 AND id = ?2";
    let spent: Option<(u32, i64)> = tx
        .query_row(spent, [host, id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(fault)?;
    Ok(spent.map(|(incarnation, at)| EnvironmentRow {
        host: host.to_owned(),
        id: id.to_owned(),
        status: Status::Destroyed,
        attempt: None,
        incarnation,
        host_seq: 0,
        path: None,
        branch: None,
        error: None,
        retire_at: None,
        created_at: at,
        changed_at: at,
    }))
}

/// Returns an environment, or `EnvironmentNotFound`; `HostNotFound` if the host is unknown.
pub(super) fn get(tx: &Transaction<'_>, host: &str, id: &str) -> Result<EnvironmentRow, Fault> {
    catalog::host(tx, host)?;
    find(tx, host, id)?.ok_or_else(|| {
        let message = format!("there is no environment {id} on {host}");
        let hint = format!("list environments with GET /v1/hosts/{host}/environments");
        Fault::new(Code::EnvironmentNotFound, message, hint)
    })
}

/// Lists the environments of a host by id; destroyed ones only with `all`.
pub(super) fn list(
    tx: &Transaction<'_>,
    host: &str,
    all: bool,
) -> Result<Vec<EnvironmentRow>, Fault> {
    let which = if all { "" } else { "AND status <> 'destroyed'" };
    let mut find = tx
        .prepare_cached(&format!("{COLUMNS} WHERE host = ?1 {which} ORDER BY id"))
        .map_err(fault)?;
    let rows = find.query_map([host], row_of).map_err(fault)?;
    rows.collect::<Result<_, _>>().map_err(fault)
}

/// Returns the live set of a host: the ids of all environments that are not destroyed.
pub(super) fn live(tx: &Transaction<'_>, host: &str) -> Result<Vec<String>, Fault> {
    let find = "SELECT id FROM environments WHERE host = ?1 \
                AND status <> 'destroyed' ORDER BY id";
    let mut find = tx.prepare_cached(find).map_err(fault)?;
    let rows = find.query_map([host], |row| row.get(0)).map_err(fault)?;
    rows.collect::<Result<_, _>>().map_err(fault)
}

/// Starts to provision: inserts a row, or reuses one that is destroyed or in error.
pub(super) fn request_incarnation(
    tx: &Transaction<'_>,
    host: &str,
    id: &str,
    attempt: &str,
) -> Result<(), Fault> {
    let free = |known: &EnvironmentRow| matches!(known.status, Status::Destroyed | Status::Error);
    if let Some(known) = find(tx, host, id)?.filter(|known| !free(known)) {
        let status = known.status.as_str();
        let message = format!("environment {id} already exists on {host} and is {status}");
        return Err(Fault::new(Code::EnvironmentExists, message, "choose another id"));
    }
    if count(tx, host)? >= ENVIRONMENTS_MAX {
        let message = format!("the limit of {ENVIRONMENTS_MAX} environments on {host} is reached");
        return Err(Fault::new(Code::LimitReached, message, "destroy an environment first"));
    }
    // A new row starts as destroyed, so that `change` makes this transition like any other.
    insert(tx, host, id, Status::Destroyed)?;
    operations::overtake(tx, host, id)?;
    match change(tx, host, id, Change::Wanted, Some(attempt), None)? {
        Applied::Now(_) => Ok(()),
        other => {
            let message = format!("cannot provision {id}: {other:?}");
            Err(Fault::new(Code::Defect, message, "please report this"))
        }
    }
}

/// Counts the environments of a host that are not destroyed.
pub(super) fn count(tx: &Transaction<'_>, host: &str) -> Result<i64, Fault> {
    let count = "SELECT count(*) FROM environments WHERE host = ?1 AND status <> 'destroyed'";
    tx.query_row(count, [host], |row| row.get(0)).map_err(fault)
}

/// Inserts a row if the id has none; the incarnation of a pruned id carries on.
pub(super) fn insert(
    tx: &Transaction<'_>,
    host: &str,
    id: &str,
    status: Status,
) -> Result<(), Fault> {
    let put = "INSERT INTO environments (host, id, status, incarnation, created_at, changed_at)
               VALUES (?1, ?2, ?3, coalesce(
                   (SELECT incarnation FROM spent WHERE host = ?1 AND id = ?2), 0), ?4, ?4)
               ON CONFLICT (host, id) DO NOTHING";
    tx.execute(put, (host, id, status.as_str(), now())).map_err(fault)?;
    tx.execute("DELETE FROM spent WHERE host = ?1 AND id = ?2", [host, id]).map_err(fault)?;
    Ok(())
}

/// Applies a change to a row. `attempt` is the operation that the change begins or ends.
pub(super) fn change(
    tx: &Transaction<'_>,
    host: &str,
    id: &str,
    change: Change,
    attempt: Option<&str>,
    error: Option<&Problem>,
) -> Result<Applied, Fault> {
    let find = format!("{COLUMNS} WHERE host = ?1 AND id = ?2");
    let known = tx.query_row(&find, [host, id], row_of).optional().map_err(fault)?;
    let Some(known) = known else { return Ok(Applied::NotFound) };
    if change.ends_attempt() && known.attempt.as_deref() != attempt {
        return Ok(noted(&known, change, Applied::Superseded));
    }
    let Some(to) = next(known.status, change) else {
        return Ok(noted(&known, change, Applied::Illegal(known.status)));
    };
    let begins = matches!(change, Change::Wanted | Change::DestroyStarted);
    let attempt = match to {
        _ if begins => attempt.map(str::to_owned),
        Status::Error => known.attempt.clone(),
        _ => None,
    };
    let is_stored = to == Status::Error || change == Change::DestroyRefused;
    let error = error.and_then(|e| serde_json::to_string(e).ok()).filter(|_| is_stored);
    let put = "UPDATE environments SET status = ?4, attempt = ?5, error = ?6, changed_at = ?7,
               retire_at = CASE WHEN ?4 = 'retiring' THEN coalesce(retire_at, ?7) END
               WHERE host = ?1 AND id = ?2 AND status = ?3";
    let (from, at) = (known.status.as_str(), now());
    tx.execute(put, (host, id, from, to.as_str(), attempt, error, at)).map_err(fault)?;
    if known.status.is_live() != to.is_live() {
        catalog::next_epoch(tx, host)?;
    }
    if to == Status::Destroyed {
        crate::server::threads::end_all(tx, host, id)?;
    }
    Ok(Applied::Now(to))
}

fn noted(known: &EnvironmentRow, change: Change, applied: Applied) -> Applied {
    let (host, id) = (&known.host, &known.id);
    tracing::debug!(%host, %id, ?change, ?applied, "change without effect");
    applied
}

/// Sets the end of a retiring environment's grace period, in milliseconds since 1970.
pub(super) fn retire_at(tx: &Transaction<'_>, host: &str, id: &str, at: i64) -> Result<(), Fault> {
    let put = "UPDATE environments SET retire_at = ?3 WHERE host = ?1 AND id = ?2
               AND status = 'retiring'";
    tx.execute(put, (host, id, at)).map_err(fault)?;
    Ok(())
}

/// Lists the retiring environments whose grace period has ended, as host and id.
pub(super) fn due(tx: &Transaction<'_>) -> Result<Vec<(String, String)>, Fault> {
    let find = "SELECT host, id FROM environments WHERE status = 'retiring' AND retire_at <= ?1";
    let mut find = tx.prepare_cached(find).map_err(fault)?;
    let rows = find.query_map([now()], |row| Ok((row.get(0)?, row.get(1)?))).map_err(fault)?;
    rows.collect::<Result<_, _>>().map_err(fault)
}
