//! Use of an environment by threads: revives a retiring environment, or refuses the thread.

use rusqlite::Transaction;

use crate::core::{Code, Fault};
use crate::server::catalog::{fault, now};
use crate::server::store;
use crate::server::threads::{Thread, active, find};
use crate::server::transitions::{Change, Status};

/// Bound on the active threads of one environment.
const ACTIVE_MAX: usize = 48;

/// Starts a thread in an environment that is ready; a retiring one becomes ready again. Starting an
/// active thread again returns it.
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
            let hint = "restore it, or use another environment";
            return Err(Fault::new(Code::EnvironmentDestroyed, message, hint));
        }
        Status::Provisioning | Status::Error => {
            let message = format!("environment {environment} is {}", known.status.as_str());
            let hint = "wait until it is ready, or provision it again after an error";
            return Err(Fault::new(Code::EnvironmentBusy, message, hint));
        }
    }
    if let Some(known) = find(tx, host, &thread.id)? {
        if known.active && known.environment == *environment {
            return Ok(known);
        }
        let message = format!("thread id {} was already used", thread.id);
        return Err(Fault::new(Code::IdempotencyConflict, message, "choose another id"));
    }
    if active(tx, host, environment)?.len() >= ACTIVE_MAX {
        let message = format!(
            "environment {environment} has {ACTIVE_MAX} active threads, which is the limit"
        );
        return Err(Fault::new(Code::LimitReached, message, "end one first"));
    }
    let put = "INSERT INTO threads (host, id, environment, kind, holder, lease, active,
               created_at, renewed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?7)";
    let t = thread;
    tx.execute(put, (host, &t.id, environment, &t.kind, &t.holder, &t.lease, now()))
        .map_err(fault)?;
    Ok(thread.clone())
}

/// Returns a thread that is active and has a holder, in an environment that is not destroyed.
pub(super) fn in_use(tx: &Transaction<'_>, host: &str, id: &str) -> Result<Thread, Fault> {
    let Some(thread) = find(tx, host, id)? else {
        let message = format!("there is no thread {id} on {host}");
        return Err(Fault::new(Code::ThreadNotFound, message, "start the thread first"));
    };
    let environment = &thread.environment;
    let known = store::get(tx, host, environment)?;
    if !known.status.is_live() {
        let message = format!("thread {id} is in {environment}, which is destroyed");
        return Err(Fault::new(Code::EnvironmentDestroyed, message, "start another thread"));
    }
    if !thread.active {
        let message = format!("thread {id} has ended");
        return Err(Fault::new(Code::ThreadEnded, message, "start another thread"));
    }
    if thread.holder.is_none() {
        let message = format!("thread {id} has no registered holder");
        return Err(Fault::new(Code::NoHolder, message, "start another thread with a `holder`"));
    }
    Ok(thread)
}
