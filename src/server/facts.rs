//! Applies what a host reports about its environments to their rows. It makes no change of status
//! by itself: `store::change` does.

use rusqlite::{OptionalExtension as _, Transaction};

use crate::core::{Code, Fault};
use crate::server::catalog::fault;
use crate::server::completeness;
use crate::server::store::{Applied, ENVIRONMENTS_MAX, change, count, find, insert};
use crate::server::transitions::{Change, Status};
use crate::service::types::problem::Problem;
use crate::session::protocol::Fact;

/// Applies a host's fact about one environment. An unknown one that is not tombstoned was made
/// there without this server and gets a row. A newer incarnation than the known one counts,
/// whatever was requested for the one before.
pub(super) fn apply_fact(tx: &Transaction<'_>, host: &str, fact: &Fact) -> Result<Applied, Fault> {
    let over = fact.phase == "tombstoned";
    let Some(known) = find(tx, host, &fact.id)? else {
        if over {
            return Ok(Applied::NotFound);
        }
        // Bounded here as well: a host must not fill the table with invented names.
        if count(tx, host)? >= ENVIRONMENTS_MAX {
            let why = format!("more than {ENVIRONMENTS_MAX} environments, such as {}", fact.id);
            completeness::passed_over(tx, host, &why)?;
            return Ok(Applied::NoRoom);
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
    use crate::server::catalog;

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
        assert_eq!(more, Applied::NoRoom);
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
