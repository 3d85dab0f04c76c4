//! The order of records, and the bounds on retries and waits.

use crate::event::Record;
use crate::id::{EnvironmentId, Seq, Time};
use crate::invariants::list::{ATTEMPTS, BOOT, DEATHS, LIMITS, SEQ, TIME, Violations};
use crate::model::step::{Owed, Step};
use crate::state::State;
use crate::{Event, policy};

/// Checks position, time and start number.
pub(super) fn check(state: &State, record: &Record, found: &mut Violations) {
    let expected = state.seq().next();
    if record.seq != expected {
        found.push((SEQ, format!("record {} is at the position of record {expected}", record.seq)));
    }
    if record.at < state.at() && state.seq() > Seq(0) {
        let back = state.at().since(record.at);
        found.push((
            TIME,
            format!("it is {} ms earlier than the record before it", back.as_millis()),
        ));
    }
    let start = matches!(record.event, Event::DaemonStarted(_));
    let expected = state.boot().saturating_add(u32::from(start));
    if record.boot != expected {
        found.push((BOOT, format!("it has start {}, expected {expected}", record.boot)));
    }
}

/// Checks attempts, daemon deaths and limits.
pub(super) fn check_bounds(state: &State, record: &Record, found: &mut Violations) {
    let mut bad = |name: &'static str, what: String| found.push((name, what));
    match &record.event {
        Event::AttemptFailed(e) => {
            let owed = state.environment(&e.environment).and_then(|env| env.owed.as_ref());
            let before = owed.map(|o| o.attempts);
            attempt(record.at, &e.step, e.attempts, e.retry_at, before, found);
        }
        Event::RemainsAttemptFailed(e) => {
            let owed = state.archive_of(&e.environment, e.incarnation);
            let before = owed.and_then(|r| r.owed.as_ref()).map(|o| o.attempts);
            attempt(record.at, &e.step, e.attempts, e.retry_at, before, found);
        }
        Event::CleanAttemptFailed(e) => {
            let owed = state.output(&e.environment, e.clean).and_then(|o| o.owed.as_ref());
            let before = owed.map(|o| o.attempts);
            attempt(record.at, &e.step, e.attempts, e.retry_at, before, found);
        }
        Event::MigrationAttemptFailed(e) => {
            let owed = state.migration(&e.migration).and_then(|m| m.owed.as_ref());
            let before = owed.map(|o| o.attempts);
            attempt(record.at, &e.step, e.attempts, e.retry_at, before, found);
        }
        Event::TeardownPostponed(e) => {
            let before = state.environment(&e.environment).map_or(0, |env| env.failed_teardowns);
            if e.failures != before + 1 || e.failures > policy::TEARDOWNS_MAX {
                bad(ATTEMPTS, format!("teardown failure {} follows failure {before}", e.failures));
            }
            if e.retry_at <= record.at {
                bad(ATTEMPTS, "a teardown is postponed to a time in the past".to_owned());
            }
        }
        Event::DaemonStarted(_) => deaths(state, found),
        Event::ProvisionRequested(e) => {
            if e.plan.setup_path.is_some() && e.plan.setup_limit_ms == 0 {
                bad(LIMITS, "a setup hook without a limit".to_owned());
            }
            if e.plan.fetch && e.plan.fetch_limit_ms == 0 {
                bad(LIMITS, "a fetch without a limit".to_owned());
            }
        }
        Event::DestroyRequested(e)
            if e.options.hook_path.is_some() && e.options.hook_limit_ms == 0 =>
        {
            bad(LIMITS, "a teardown hook without a limit".to_owned());
        }
        Event::LeaseGranted(e) => {
            let span = e.until.since(record.at);
            if span > policy::LEASE_SPAN_MAX {
                bad(LIMITS, format!("lease {} lasts {} s", e.lease, span.as_secs()));
            }
        }
        _ => {}
    }
}

fn attempt(
    at: Time,
    name: &str,
    attempts: u32,
    retry_at: Time,
    before: Option<u32>,
    found: &mut Violations,
) {
    let Some(step) = Step::ALL.iter().copied().find(|step| step.as_str() == name) else {
        found.push((ATTEMPTS, format!("there is no step {name:?}")));
        return;
    };
    let before = before.unwrap_or(0);
    if attempts != before.saturating_add(1) {
        found.push((ATTEMPTS, format!("attempt {attempts} at {name} follows attempt {before}")));
    }
    if attempts >= policy::attempts_max(step) {
        let max = policy::attempts_max(step);
        found.push((
            ATTEMPTS,
            format!("attempt {attempts} at {name} is retried; at most {max} are allowed"),
        ));
    }
    if retry_at <= at {
        found.push((ATTEMPTS, format!("{name} is retried without a wait")));
    }
}

/// Checks that no start leaves a step owed that more daemons died in than are allowed.
fn deaths(state: &State, found: &mut Violations) {
    for env in state.environments() {
        found.extend(env.owed.as_ref().and_then(|owed| fatal(&env.id, owed)));
    }
    for archive in state.archives() {
        found.extend(archive.owed.as_ref().and_then(|owed| fatal(&archive.id, owed)));
    }
    for output in state.outputs() {
        found.extend(output.owed.as_ref().and_then(|owed| fatal(&output.id, owed)));
    }
}

fn fatal<S: Copy + Into<Step>>(
    id: &EnvironmentId,
    owed: &Owed<S>,
) -> Option<(&'static str, String)> {
    let (step, times) = (owed.step.into().as_str(), owed.interruptions);
    let is_fatal = times > policy::INTERRUPTIONS_MAX;
    is_fatal.then(|| (DEATHS, format!("{times} daemons died at {step} of {id}")))
}
