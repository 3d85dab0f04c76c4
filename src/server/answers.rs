//! Applies hosts' answers to operations to the catalogue.

use rusqlite::Transaction;

use crate::core::{Code, Fault};
use crate::server::catalog::{fault, now};
use crate::server::facts;
use crate::server::operations::{COLUMNS, Operation, find, of_row, release_lease};
use crate::server::store::{self, Applied};
use crate::server::threads;
use crate::server::transitions::{Change, Status};
use crate::service::types::problem::Problem;
use crate::session::protocol::Answer;

/// Milliseconds until an environment that was in use is retired again.
const RETIRE_AGAIN_MS: i64 = 300_000;

/// Records a host's answer and applies its result. A second answer changes nothing. The caller must
/// hold back the statuses 429 and 503: the daemon is overloaded or shutting down, and the operation
/// stays open to be sent again.
pub(super) fn answered(
    tx: &Transaction<'_>,
    host: &str,
    answer: &Answer,
) -> Result<Option<Operation>, Fault> {
    let known = find(tx, &answer.request)?;
    let Some(operation) = known.filter(|o| o.host == host && o.status.is_none()) else {
        return Ok(None);
    };
    let put = "UPDATE operations SET status = ?2, answer = ?3, ended_at = ?4 WHERE id = ?1";
    tx.execute(put, (&operation.id, answer.status, answer.body.to_string(), now()))
        .map_err(fault)?;
    let ok = answer.status < 400;
    let problem: Option<Problem> =
        (!ok).then(|| serde_json::from_value(answer.body.clone()).ok()).flatten();
    match operation.command.as_str() {
        "environment.provision" | "environment.restore" => {
            provision_ended(tx, &operation, answer, problem)?;
        }
        "environment.destroy" => destroy_ended(tx, &operation, answer, problem.as_ref())?,
        "lease.acquire" => {
            let lease = operation.body["id"].as_str().unwrap_or_default();
            if !ok {
                threads::refused(tx, host, lease, answer)?;
            } else if !threads::holds(tx, host, lease)? {
                // The thread ended while the request was in transit.
                release_lease(tx, host, &operation.environment, lease)?;
            }
        }
        _ => {}
    }
    Ok(Some(operation))
}

fn provision_ended(
    tx: &Transaction<'_>,
    operation: &Operation,
    answer: &Answer,
    problem: Option<Problem>,
) -> Result<(), Fault> {
    let (host, id) = (&operation.host, &operation.environment);
    let phase = answer.body["phase"].as_str().unwrap_or_default();
    let made = answer.status < 400 && phase == "ready";
    let error = serde_json::from_value(answer.body["error"].clone()).ok();
    let change = if made { Change::Made } else { Change::NotMade };
    let error: Option<Problem> = problem.or(error);
    let attempt = Some(operation.id.as_str());
    let applied = store::change(tx, host, id, change, attempt, error.as_ref())?;
    if matches!(applied, Applied::Now(_)) {
        let life = answer.body["incarnation"].as_u64().filter(|_| made);
        let life = life.and_then(|n| u32::try_from(n).ok());
        facts::catch_up(tx, host, id, life)?;
    }
    Ok(())
}

fn destroy_ended(
    tx: &Transaction<'_>,
    operation: &Operation,
    answer: &Answer,
    problem: Option<&Problem>,
) -> Result<(), Fault> {
    let (host, id) = (&operation.host, &operation.environment);
    let over = answer.status < 400 && answer.body["phase"] == "tombstoned";
    let change = match answer.status {
        // An id that the host never had counts as destroyed.
        404 | 410 => Change::DestroyDone,
        _ if over => Change::DestroyDone,
        409 => Change::DestroyRefused,
        _ => Change::DestroyFailed,
    };
    let applied = store::change(tx, host, id, change, Some(&operation.id), problem)?;
    if applied == Applied::Now(Status::Error) {
        facts::catch_up(tx, host, id, None)?;
    }
    // Refused because it is in use: it retires again later, when its users may have left.
    if applied == Applied::Now(Status::Ready) && operation.body["retire"] == true {
        store::change(tx, host, id, Change::Retire, None, None)?;
        store::retire_at(tx, host, id, now() + RETIRE_AGAIN_MS)?;
    }
    Ok(())
}

/// Gives up destroys that were not answered in time: they end with 504 and are not sent again.
pub(super) fn give_up(tx: &Transaction<'_>, before: i64) -> Result<usize, Fault> {
    let find = format!(
        "{COLUMNS} WHERE status IS NULL AND command = 'environment.destroy' AND created_at < ?1"
    );
    let mut lost = tx.prepare_cached(&find).map_err(fault)?;
    let rows = lost.query_map([before], of_row).map_err(fault)?;
    let rows: Vec<Operation> = rows.collect::<Result<_, _>>().map_err(fault)?;
    for operation in &rows {
        let hint = "destroy it again when its host has a session";
        let message = format!(
            "the host did not report the end of the removal of {} in time",
            operation.environment
        );
        let problem = Problem::of(&Fault::new(Code::Timeout, message, hint));
        let answer = serde_json::to_string(&problem).unwrap_or_default();
        let put = "UPDATE operations SET status = 504, answer = ?2, ended_at = ?3 WHERE id = ?1";
        tx.execute(put, (&operation.id, answer, now())).map_err(fault)?;
        let (host, id) = (&operation.host, &operation.environment);
        let attempt = Some(operation.id.as_str());
        store::change(tx, host, id, Change::DestroyLost, attempt, Some(&problem))?;
    }
    Ok(rows.len())
}
