//! What the end of an effect leads to: the next fact, another attempt, or giving up.
//!
//! Called only for the effect that is owed; stale settlements never get here.

use super::decide::Decision;
use super::effect::Outcome;
use super::event::{
    AttemptFailed, BaseResolved, BranchSettled, DestroyRefused, DirectoryTrashed, EnvironmentReady,
    Event, FilesIncluded, IndexRefreshed, ProvisionFailed, RegistrationRemoved, RolledBack,
    SetupFinished, TeardownGaveUp, TeardownInspected, Tombstoned, WorktreeAdded,
};
use super::fault::{Code, Fault};
use super::id::{EnvironmentId, Time};
use super::policy;
use super::state::{Environment, Step};

/// The events that a settlement leads to.
pub(super) fn decide(
    now: Time,
    env: &Environment,
    step: Step,
    outcome: Result<Outcome, Fault>,
) -> Vec<Event> {
    let result = outcome.and_then(|outcome| succeeded(env, step, outcome));
    match result {
        Ok(events) => events,
        Err(fault) => failed(now, env, step, fault),
    }
}

fn succeeded(env: &Environment, step: Step, outcome: Outcome) -> Decision {
    let environment = env.id.clone();
    Ok(match (step, outcome) {
        (Step::ResolveBase, Outcome::Resolved(base)) => {
            vec![BaseResolved { environment, base }.into()]
        }
        (Step::AddWorktree, Outcome::Added(worktree)) => {
            let more = worktree.has_include || worktree.has_setup;
            ready_unless(more, environment.clone(), WorktreeAdded { environment, worktree })
        }
        (Step::CopyIncluded, Outcome::Included(included)) => {
            let more = env.worktree.as_ref().is_some_and(|w| w.has_setup);
            ready_unless(more, environment.clone(), FilesIncluded { environment, included })
        }
        (Step::RunSetup, Outcome::SetUp(report)) => {
            ready_unless(false, environment.clone(), SetupFinished { environment, report })
        }
        (Step::RollBack, Outcome::RolledBack) => rolled_back(env, Vec::new()),
        (Step::RefreshIndex, Outcome::Refreshed(done)) => {
            vec![IndexRefreshed { environment, done }.into()]
        }
        (Step::Inspect, Outcome::Inspected(unsaved)) => inspected(env, unsaved),
        (Step::MoveToTrash, Outcome::Trashed(trash)) => {
            vec![DirectoryTrashed { environment, trash }.into()]
        }
        (Step::Unregister, Outcome::Unregistered) => {
            vec![RegistrationRemoved { environment }.into()]
        }
        (Step::SettleBranch, Outcome::BranchSettled(deleted, reason, rescue)) => vec![
            BranchSettled { environment: environment.clone(), deleted, reason, rescue }.into(),
            Tombstoned { environment, leftovers: env.leftovers.clone() }.into(),
        ],
        (step, outcome) => {
            let message = format!("{} came home with {outcome:?}", step.as_str());
            return Err(Fault::new(Code::Defect, message, "please report this"));
        }
    })
}

fn ready_unless(more: bool, environment: EnvironmentId, event: impl Into<Event>) -> Vec<Event> {
    let mut events = vec![event.into()];
    if !more {
        events.push(EnvironmentReady { environment }.into());
    }
    events
}

fn rolled_back(env: &Environment, leftovers: Vec<String>) -> Vec<Event> {
    let environment = env.id.clone();
    let rolled = RolledBack { environment: environment.clone(), leftovers: leftovers.clone() };
    let mut events = vec![rolled.into()];
    if env.destroy_wanted {
        events.push(Tombstoned { environment, leftovers }.into());
    }
    events
}

fn inspected(env: &Environment, unsaved: Vec<String>) -> Vec<Event> {
    let environment = env.id.clone();
    let force = env.teardown.as_ref().is_some_and(|t| t.force);
    if unsaved.is_empty() || force {
        let mut kept = Fault::new(Code::UnsafeToRemove, "", "").with_evidence(unsaved);
        let unsaved = std::mem::take(&mut kept.evidence);
        return vec![TeardownInspected { environment, unsaved }.into()];
    }
    let message = format!("environment {} holds work that is saved nowhere else", env.id);
    let hint = format!(
        "commit and push it, or run `groundskeeper rm {} --force` to move it to the trash",
        env.id
    );
    let fault = Fault::new(Code::UnsafeToRemove, message, hint).with_evidence(unsaved);
    vec![DestroyRefused { environment, fault }.into()]
}

fn failed(now: Time, env: &Environment, step: Step, fault: Fault) -> Vec<Event> {
    let attempts = env.owed.as_ref().map_or(0, |o| o.attempts).saturating_add(1);
    // A removal goes on after any failure but one: what it must remove does not go away by being
    // refused. What is not ours, however, will not become ours by asking again.
    let removal =
        matches!(step, Step::RollBack | Step::MoveToTrash | Step::Unregister | Step::SettleBranch);
    let again = fault.transient || (removal && fault.code != Code::NotOurs);
    if again && attempts < policy::attempts_max(step) {
        let environment = env.id.clone();
        let retry_at = now.after(policy::retry_delay(attempts));
        let step = step.as_str().to_owned();
        return vec![AttemptFailed { environment, step, attempts, retry_at, fault }.into()];
    }
    give_up(env, step, fault)
}

/// The events that end a step without success. A rollback that is given up says what it left.
pub(super) fn give_up(env: &Environment, step: Step, fault: Fault) -> Vec<Event> {
    let environment = env.id.clone();
    let name = step.as_str().to_owned();
    let leftover = format!("{name}: {fault}");
    match step {
        Step::ResolveBase | Step::AddWorktree | Step::CopyIncluded | Step::RunSetup => {
            let kept = env.plan.keep_failed && step == Step::RunSetup;
            vec![ProvisionFailed { environment, step: name, fault, kept }.into()]
        }
        Step::RollBack => rolled_back(env, vec![leftover]),
        Step::RefreshIndex => vec![IndexRefreshed { environment, done: false }.into()],
        Step::Inspect | Step::MoveToTrash => {
            vec![TeardownGaveUp { environment, step: name, fault }.into()]
        }
        Step::Unregister => vec![
            RegistrationRemoved { environment: environment.clone() }.into(),
            BranchSettled {
                environment: environment.clone(),
                deleted: false,
                reason: leftover.clone(),
                rescue: Vec::new(),
            }
            .into(),
            Tombstoned { environment, leftovers: vec![leftover] }.into(),
        ],
        Step::SettleBranch => vec![
            BranchSettled {
                environment: environment.clone(),
                deleted: false,
                reason: leftover.clone(),
                rescue: Vec::new(),
            }
            .into(),
            Tombstoned { environment, leftovers: vec![leftover] }.into(),
        ],
    }
}
