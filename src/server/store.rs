//! The only writer of environment rows. Every change of status goes through [`change`], which
//! compares before it sets: a change that does not fit leaves the row as it is, and the result is
//! the reason.

use rusqlite::OptionalExtension as _;
use rusqlite::{Row, Transaction};

use crate::api::types::Problem;
use crate::core::{Code, Fault};
use crate::server::catalog::{self, fault, now};
use crate::server::operations;
use crate::server::transitions::{Change, Status, next};
use crate::session::protocol::Fact;

/// Bound on the environments of one host that are not destroyed.
const ENVIRONMENTS_MAX: i64 = 10_000;

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
fn count(tx: &Transaction<'_>, host: &str) -> Result<i64, Fault> {
    let count = "SELECT count(*) FROM environments WHERE host = ?1 AND status <> 'destroyed'";
    tx.query_row(count, [host], |row| row.get(0)).map_err(fault)
}

/// Inserts a row if the id has none; the incarnation of a pruned id carries on.
fn insert(tx: &Transaction<'_>, host: &str, id: &str, status: Status) -> Result<(), Fault> {
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

/// Applies a host's fact about one environment. An unknown one that is not tombstoned was made
/// there without this server and gets a row. A newer incarnation than the known one counts,
/// whatever was requested for the one before.
pub(super) fn apply_fact(tx: &Transaction<'_>, host: &str, fact: &Fact) -> Result<Applied, Fault> {
    let over = fact.phase == "tombstoned";
    let Some(known) = find(tx, host, &fact.id)? else {
        // Bounded here as well: a host must not fill the table with invented names.
        if over || count(tx, host)? >= ENVIRONMENTS_MAX {
            return Ok(Applied::NotFound);
        }
        return insert_incarnation(tx, host, fact);
    };
    if fact.seq < known.host_seq || fact.incarnation < known.incarnation {
        return Ok(Applied::Superseded);
    }
    let newer = fact.incarnation > known.incarnation;
    if newer && known.incarnation > 0 {
        // Its threads used the earlier incarnation, whose end the host has not reported.
        crate::server::threads::end_all(tx, host, &fact.id)?;
    }
    if newer && !over && matches!(known.status, Status::Destroyed | Status::Destroying) {
        return insert_incarnation(tx, host, fact);
    }
    // The answer of a provision in progress decides about the row, not the facts meanwhile.
    let attempted = known.status == Status::Provisioning && known.attempt.is_some();
    if known.status == Status::Destroyed || (attempted && over) {
        return Ok(Applied::Superseded);
    }
    note(tx, host, fact)?;
    match seen(&fact.phase).filter(|_| !attempted) {
        Some(seen) => change(tx, host, &fact.id, seen, None, fact.error.as_ref()),
        None => Ok(Applied::Superseded),
    }
}

/// Returns the change for a phase on the host; `None` for a phase that is only passed through.
fn seen(phase: &str) -> Option<Change> {
    match phase {
        "provisioning" => Some(Change::SeenMaking),
        "ready" => Some(Change::SeenReady),
        "failed" => Some(Change::SeenFailed),
        "tombstoned" => Some(Change::SeenOver),
        _ => None,
    }
}

/// Makes or reuses a row for an incarnation that was not requested at this server.
fn insert_incarnation(tx: &Transaction<'_>, host: &str, fact: &Fact) -> Result<Applied, Fault> {
    insert(tx, host, &fact.id, Status::Destroyed)?;
    change(tx, host, &fact.id, Change::SeenMaking, None, None)?;
    note(tx, host, fact)?;
    // A retiring environment is still served, so it counts as ready; so does one in teardown.
    let seen = seen(&fact.phase).unwrap_or(Change::SeenReady);
    change(tx, host, &fact.id, seen, None, fact.error.as_ref())
}

fn note(tx: &Transaction<'_>, host: &str, fact: &Fact) -> Result<(), Fault> {
    let put = "UPDATE environments SET host_seq = ?3, incarnation = ?4, path = ?5, branch = ?6,
               host_phase = ?7 WHERE host = ?1 AND id = ?2";
    let path = Some(&fact.path).filter(|_| fact.phase != "tombstoned");
    let of = (host, &fact.id, fact.seq, fact.incarnation, path, &fact.branch, &fact.phase);
    tx.execute(put, of).map_err(fault)?;
    Ok(())
}

/// Applies, after the end of an attempt, the phase that the host reported meanwhile: another actor
/// may have made or destroyed the environment there. `life` is the incarnation that the attempt
/// made, if it made one.
pub(super) fn catch_up(
    tx: &Transaction<'_>,
    host: &str,
    id: &str,
    life: Option<u32>,
) -> Result<(), Fault> {
    let find =
        "SELECT host_phase, incarnation, error FROM environments WHERE host = ?1 AND id = ?2";
    let found: Option<(String, u32, Option<String>)> = tx
        .query_row(find, [host, id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
        .map_err(fault)?;
    let Some((phase, known, error)) = found else { return Ok(()) };
    // A phase of an earlier incarnation does not describe this one.
    let fresh = life.is_none_or(|life| known >= life);
    let counts = match phase.as_str() {
        "ready" => life.is_none(),
        "tombstoned" => life.is_some(),
        _ => false,
    };
    if let Some(seen) = seen(&phase).filter(|_| fresh && counts) {
        change(tx, host, id, seen, None, None)?;
        // The environment is in service, but the reason of the failed attempt stays useful.
        let put = "UPDATE environments SET error = ?3 WHERE host = ?1 AND id = ?2
                   AND status = 'ready'";
        tx.execute(put, (host, id, error)).map_err(fault)?;
    }
    let put = "UPDATE environments SET incarnation = max(incarnation, ?3)
               WHERE host = ?1 AND id = ?2";
    tx.execute(put, (host, id, life.unwrap_or(0))).map_err(fault)?;
    Ok(())
}

/// Applies a host's report that it does not have a listed environment.
pub(super) fn missing(tx: &Transaction<'_>, host: &str, id: &str) -> Result<Applied, Fault> {
    let hint = "restore it, or destroy it at the server as well";
    let message = format!("{host} no longer has environment {id}");
    let problem = Problem::of(&Fault::new(Code::EnvironmentNotFound, message, hint));
    change(tx, host, id, Change::SeenMissing, None, Some(&problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(id: &str, incarnation: u32, phase: &str, seq: u64) -> Fact {
        Fact {
            id: id.to_owned(),
            incarnation,
            phase: phase.to_owned(),
            seq,
            path: "/p".to_owned(),
            branch: "b".to_owned(),
            error: None,
        }
    }

    /// Facts about known environments are still accepted, and a tombstoned one frees its slot.
    #[test]
    fn environments_per_host_are_bounded() {
        let mut catalogue = catalog::in_memory();
        let tx = catalogue.transaction().expect("begun");
        catalog::add_host(&tx, "box", false).expect("a host");
        for n in 0..ENVIRONMENTS_MAX {
            let known = apply_fact(&tx, "box", &fact(&format!("e{n}"), 1, "ready", 5)).expect("in");
            assert_eq!(known, Applied::Now(Status::Ready));
        }
        let more = apply_fact(&tx, "box", &fact("more", 1, "ready", 6)).expect("skipped");
        assert_eq!(more, Applied::NotFound);
        let gone = apply_fact(&tx, "box", &fact("e0", 1, "tombstoned", 7)).expect("accepted");
        assert_eq!(
            gone,
            Applied::Now(Status::Destroyed),
            "facts about a known environment are accepted"
        );
        let room = apply_fact(&tx, "box", &fact("more", 1, "ready", 8)).expect("accepted");
        assert_eq!(room, Applied::Now(Status::Ready));
    }

    /// An older seq or incarnation is superseded; a tombstoned incarnation never becomes ready.
    #[test]
    fn stale_facts_change_nothing() {
        let mut catalogue = catalog::in_memory();
        let tx = catalogue.transaction().expect("begun");
        catalog::add_host(&tx, "box", false).expect("a host");
        apply_fact(&tx, "box", &fact("a", 2, "ready", 9)).expect("accepted");
        for old in [fact("a", 2, "tombstoned", 8), fact("a", 1, "tombstoned", 12)] {
            assert_eq!(apply_fact(&tx, "box", &old).expect("skipped"), Applied::Superseded);
        }
        apply_fact(&tx, "box", &fact("a", 2, "tombstoned", 10)).expect("accepted");
        let late = apply_fact(&tx, "box", &fact("a", 2, "ready", 11)).expect("skipped");
        assert_eq!(late, Applied::Superseded, "a tombstoned incarnation does not return");
        let next = apply_fact(&tx, "box", &fact("a", 3, "ready", 12)).expect("accepted");
        assert_eq!(next, Applied::Now(Status::Ready));
    }
}
