//! Use cases of live sets: lists of the environments that must exist on this host, from a control
//! server or from the user in its place.

use std::collections::BTreeSet;

use crate::core::event::{Actor, LiveSetTaken, Origin, TeardownReason};
use crate::core::model::live_set::{LiveSet, Report};
use crate::core::{Command, Environment, EnvironmentId, Fault, Seq};
use crate::engine::Receipt;
use crate::service::app::{App, now};
use crate::service::environments::teardown_options;
use crate::service::processes::record_ended_processes;
use crate::service::requests::environment_id;
use crate::service::types::live_set::{BY_HAND, LiveView, ReconciledView};
use crate::service::types::removal::RemoveQuery;

fn report(taken: LiveSetTaken) -> Report {
    let LiveSetTaken { retired, kept, missing, healed, .. } = taken;
    Report { retired, kept, missing, healed, ..Report::default() }
}

/// Returns the ids of a live set. No environment here can have one that cannot be parsed, so such a
/// one of a server, which may be newer, is left out; a user is told.
fn readable(ids: &[String], actor: &Actor) -> Result<BTreeSet<EnvironmentId>, Fault> {
    let mut live = BTreeSet::new();
    for id in ids {
        match environment_id(id) {
            Ok(id) => drop(live.insert(id)),
            Err(fault) if actor.origin == Origin::Session => {
                tracing::warn!(%fault, "the control server lists an id that is none; it is left out");
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(live)
}

/// Applies a live set and returns what it led to.
///
/// # Errors
/// If the set is invalid or the engine does not take it.
pub(crate) async fn apply_live_set(
    app: &App,
    wanted: LiveView,
    actor: Actor,
) -> Result<ReconciledView, Fault> {
    let live = readable(&wanted.live, &actor)?;
    let known = wanted.known.map_or_else(|| app.handle.view(crate::core::State::seq), Seq);
    let (server, epoch) = (wanted.server.chars().take(64).collect(), wanted.epoch);
    let by_hand = wanted.server == BY_HAND;
    let set = LiveSet { server, epoch, live, known, confirmed: wanted.confirmed, by_hand };
    // A registered process that has ended unreported would keep its environment.
    let lived_in: Vec<Environment> = app.handle.view(|state| {
        let unlisted = state.environments().filter(|e| !set.live.contains(&e.id));
        unlisted.filter(|e| !e.processes.is_empty()).cloned().collect()
    });
    for env in &lived_in {
        record_ended_processes(app, env).await?;
    }
    let options =
        teardown_options(&app.config, &RemoveQuery::default(), TeardownReason::Reconcile)?;
    let before = app.handle.view(|state| state.reconcile(now(), &set));
    let command = Command::Reconcile { set: set.clone(), options, actor };
    let receipt = app.handle.submit(command).await?;
    Ok(ReconciledView::of(epoch, decided(app, &set, before, receipt)))
}

/// Returns the decision on a live set: from its record in the log, or from the state before the
/// command if that appended no record or the set was on hold.
fn decided(app: &App, set: &LiveSet, before: Report, receipt: Receipt) -> Report {
    let taken = app.handle.view(|state| state.live().taken.clone());
    let taken = taken.filter(|t| t.server == set.server && t.epoch == set.epoch);
    match taken {
        Some(taken) if receipt.changed && !before.held => report(taken),
        _ => before,
    }
}

/// Lets a live set on hold take effect, and returns what it led to.
///
/// # Errors
/// If no set with this epoch is on hold.
pub(crate) async fn confirm(app: &App, epoch: u64, actor: Actor) -> Result<ReconciledView, Fault> {
    let options =
        teardown_options(&app.config, &RemoveQuery::default(), TeardownReason::Reconcile)?;
    app.handle.submit(Command::ConfirmLiveSet { epoch, options, actor }).await?;
    let taken = app.handle.view(|state| state.live().taken.clone());
    Ok(ReconciledView::of(epoch, taken.map(report).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_id_voids_itself_alone() {
        let ids = ["a".to_owned(), "not an id".to_owned(), "b".to_owned()];
        let by_server = Actor { origin: Origin::Session, ..Actor::default() };
        let live = readable(&ids, &by_server).expect("the others count");
        assert_eq!(live.iter().map(EnvironmentId::as_str).collect::<Vec<_>>(), ["a", "b"]);
        let by_user = Actor { origin: Origin::Api, ..Actor::default() };
        assert!(readable(&ids, &by_user).is_err(), "a user has mistyped it");
    }
}
