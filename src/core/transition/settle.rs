//! Settlement of a step: the next fact, another attempt, or giving up. In full for the steps of an
//! environment; those of another subject are in its own file.
//!
//! Called only with an outcome of the step that is owed; stale settlements never get here.

use crate::effect::{
    EnvironmentOutcome as Outcome, HostOutcome, Returned, RolledBackTo, Settlement, Taken,
};
use crate::event::{
    AttemptFailed, BaseResolved, BranchSettled, CleanUndone, Cleaned, EnvironmentReady, Event,
    FilesIncluded, IndexRefreshed, InspectionOutdated, ProcessesEnded, ProvisionFailed,
    RegistrationRemoved, RescueApplied, Restored, RolledBack, SetupFinished, Size, SweepFinished,
    TeardownHookFinished, Tombstoned, WorkRescued, WorktreeAdded,
};
use crate::fault::{Code, Fault};
use crate::former::Moment;
use crate::id::{EnvironmentId, Time};
use crate::model::environment::Environment;
use crate::model::step::EnvironmentStep as Step;
use crate::policy;
use crate::state::State;

impl State {
    /// Decides a settlement. One of a step that is no longer owed is absorbed.
    pub(crate) fn decide_settle(&self, moment: &Moment, settlement: Settlement) -> Vec<Event> {
        let now = moment.now;
        let events = match settlement {
            Settlement::Environment(id, ended) => self.environment(&id).and_then(|env| {
                let owed = env.owed.as_ref()?;
                let result = ended.result_for(owed)?;
                Some(decide(now, env, owed.step, result, &self.claims(&id, now)))
            }),
            Settlement::Archive(id, incarnation, ended) => {
                self.archive_of(&id, incarnation).and_then(|archive| {
                    let owed = archive.owed.as_ref()?;
                    Some(archive.settle(now, owed.step, ended.result_for(owed)?))
                })
            }
            Settlement::Output(id, clean, ended) => self.output(&id, clean).and_then(|output| {
                let owed = output.owed.as_ref()?;
                Some(output.settle(now, owed.step, ended.result_for(owed)?))
            }),
            Settlement::Migration(id, ended) => self.migration(&id).and_then(|migration| {
                let owed = migration.owed.as_ref()?;
                Some(migration.settle(now, owed.step, ended.result_for(owed)?))
            }),
            Settlement::Host(ended) => self.sweep().and_then(|sweep| {
                Some(match ended.result_for(&sweep.owed)? {
                    Ok(HostOutcome::Swept(finished, leftovers)) => {
                        self.swept(&moment.former, finished, leftovers)
                    }
                    Err(fault) => vec![held(fault.to_string())],
                })
            }),
        };
        events.unwrap_or_default()
    }
}

/// Returns the events that a settlement leads to. `leases` describes those still in force.
fn decide(
    now: Time,
    env: &Environment,
    step: Step,
    result: Result<Outcome, Fault>,
    leases: &[String],
) -> Vec<Event> {
    match result {
        Ok(outcome) => succeeded(now, env, outcome, leases),
        Err(fault) => failed(now, env, step, fault),
    }
}

fn succeeded(now: Time, env: &Environment, outcome: Outcome, leases: &[String]) -> Vec<Event> {
    let environment = env.id.clone();
    match outcome {
        Outcome::Resolved(base) => vec![BaseResolved { environment, base }.into()],
        Outcome::Added(worktree) => {
            let rescue = env.restore.as_ref().is_some_and(|r| r.rescue.is_some());
            let more = worktree.has_include || worktree.has_setup || rescue;
            ready_unless(more, environment.clone(), WorktreeAdded { environment, worktree })
        }
        Outcome::Applied => {
            let more = env.worktree.as_ref().is_some_and(|w| w.has_include || w.has_setup);
            ready_unless(more, environment.clone(), RescueApplied { environment })
        }
        Outcome::Restored(worktree, branch) => {
            ready_unless(false, environment.clone(), Restored { environment, worktree, branch })
        }
        Outcome::Included(included) => {
            let more = env.worktree.as_ref().is_some_and(|w| w.has_setup);
            ready_unless(more, environment.clone(), FilesIncluded { environment, included })
        }
        Outcome::SetUp(report, tail) => {
            ready_unless(false, environment.clone(), SetupFinished { environment, report, tail })
        }
        Outcome::RolledBack(mut kept) => {
            let left = std::mem::take(&mut kept.left);
            rolled_back(env, left, kept)
        }
        Outcome::Refreshed(done) => vec![IndexRefreshed { environment, done }.into()],
        Outcome::Cleaned(Taken { paths, size, left, trash }) => {
            vec![Cleaned { environment, paths, size, fault: None, left, trash }.into()]
        }
        Outcome::CleanUndone(Returned { paths, left, size }) => {
            let (clean, returned) = (env.undoing.unwrap_or_default(), paths);
            vec![CleanUndone { environment, clean, returned, left, size, fault: None }.into()]
        }
        Outcome::Inspected(seen) => env.inspected(now, leases, seen),
        Outcome::TornDown(millis, tail) => {
            vec![TeardownHookFinished { environment, millis, fault: None, tail }.into()]
        }
        Outcome::Ended(ended) => vec![ProcessesEnded { environment, ..ended }.into()],
        Outcome::Rescued(rescue) => vec![WorkRescued { environment, rescue }.into()],
        Outcome::Outdated => vec![InspectionOutdated { environment }.into()],
        Outcome::Trashed(trash, branch) => env.trashed(trash, branch),
        Outcome::Unregistered => vec![RegistrationRemoved { environment }.into()],
        Outcome::BranchSettled(branch) => env.branch_settled(branch),
    }
}

fn ready_unless(more: bool, environment: EnvironmentId, event: impl Into<Event>) -> Vec<Event> {
    let mut events = vec![event.into()];
    if !more {
        events.push(EnvironmentReady { environment }.into());
    }
    events
}

fn rolled_back(env: &Environment, leftovers: Vec<String>, kept: RolledBackTo) -> Vec<Event> {
    let environment = env.id.clone();
    let RolledBackTo { trash, head, rescue, .. } = kept;
    let (id, left) = (environment.clone(), leftovers.clone());
    let rolled = RolledBack { environment: id, leftovers: left, trash, head, rescue };
    let mut events = vec![rolled.into()];
    if env.destroy_wanted {
        events.push(Tombstoned { environment, leftovers }.into());
    }
    events
}

fn failed(now: Time, env: &Environment, step: Step, fault: Fault) -> Vec<Event> {
    let attempts = env.owed.as_ref().map_or(0, |o| o.attempts).saturating_add(1);
    // A removal goes on after any failure but `NotOurs`: the content it must remove does not vanish
    // by a refusal, but foreign content does not become managed by a retry.
    let removal =
        matches!(step, Step::RollBack | Step::MoveToTrash | Step::Unregister | Step::SettleBranch);
    // A mount or a process in the way stays for longer than a few seconds, so the teardown is
    // postponed instead.
    let in_the_way = step == Step::MoveToTrash && fault.code == Code::EnvironmentBusy;
    // A concurrent `git gc` may remove an object before the rescue ref holds it, so retry.
    let rescue = step == Step::Rescue && fault.code != Code::DiskFull;
    let again =
        !in_the_way && (fault.transient || rescue || (removal && fault.code != Code::NotOurs));
    if again && attempts < policy::attempts_max(step) {
        let environment = env.id.clone();
        let retry_at = now.after(policy::retry_delay(attempts));
        let step = step.as_str().to_owned();
        return vec![AttemptFailed { environment, step, attempts, retry_at, fault }.into()];
    }
    give_up(now, env, step, fault)
}

/// Returns the events that end a step without success. A given-up rollback names its leftovers.
pub(crate) fn give_up(now: Time, env: &Environment, step: Step, fault: Fault) -> Vec<Event> {
    let environment = env.id.clone();
    let name = step.as_str().to_owned();
    let leftover = format!("{name}: {fault}");
    let branch_left = |reason: String| {
        let (deleted, rescue) = (false, Vec::new());
        BranchSettled { environment: environment.clone(), deleted, reason, rescue }.into()
    };
    match step {
        Step::ResolveBase
        | Step::AddWorktree
        | Step::ApplyRescue
        | Step::Restore
        | Step::CopyIncluded
        | Step::RunSetup => {
            let kept = env.plan.keep_failed && step == Step::RunSetup;
            vec![ProvisionFailed { environment, step: name, fault, kept }.into()]
        }
        Step::RollBack => rolled_back(env, vec![leftover], RolledBackTo::default()),
        Step::RefreshIndex => vec![IndexRefreshed { environment, done: false }.into()],
        Step::Clean => {
            let (paths, size) = (Vec::new(), Size::default());
            let (fault, left, trash) = (Some(fault), Vec::new(), None);
            vec![Cleaned { environment, paths, size, fault, left, trash }.into()]
        }
        Step::UndoClean => {
            let (clean, returned) = (env.undoing.unwrap_or_default(), Vec::new());
            let (left, size, fault) = (Vec::new(), Size::default(), Some(fault));
            vec![CleanUndone { environment, clean, returned, left, size, fault }.into()]
        }
        // A failed hook never blocks a teardown: its transcript and the log name what it left.
        Step::RunTeardown => {
            let (fault, tail) = (Some(fault), Vec::new());
            vec![TeardownHookFinished { environment, millis: 0, fault, tail }.into()]
        }
        Step::Unregister => vec![
            RegistrationRemoved { environment: environment.clone() }.into(),
            branch_left(leftover.clone()),
            Tombstoned { environment, leftovers: vec![leftover] }.into(),
        ],
        Step::SettleBranch => {
            let settled = branch_left(leftover.clone());
            vec![settled, Tombstoned { environment, leftovers: vec![leftover] }.into()]
        }
        Step::Inspect | Step::EndProcesses | Step::Rescue | Step::MoveToTrash => {
            env.postpone(now, step, fault)
        }
    }
}

/// Returns the event of a sweep that ended without a result.
pub(crate) fn held(why: String) -> Event {
    SweepFinished { held: Some(why), ..SweepFinished::default() }.into()
}
