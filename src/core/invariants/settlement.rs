//! Outcomes match owed steps: a fact that ends a step is recorded only while that step is owed.

use crate::Event;
use crate::invariants::list::{KNOWN, OWED, Violations};
use crate::model::step::Step;
use crate::state::State;

/// Returns the step whose outcome an event is.
fn step_of(event: &Event) -> Option<Step> {
    Some(match event {
        Event::BaseResolved(_) => Step::ResolveBase,
        Event::WorktreeAdded(_) => Step::AddWorktree,
        Event::FilesIncluded(_) => Step::CopyIncluded,
        Event::SetupStarted(_) | Event::SetupFinished(_) => Step::RunSetup,
        Event::RolledBack(_) => Step::RollBack,
        Event::IndexRefreshed(_) => Step::RefreshIndex,
        Event::Restored(_) => Step::Restore,
        Event::RescueApplied(_) => Step::ApplyRescue,
        Event::DestroyRefused(_) | Event::TeardownInspected(_) => Step::Inspect,
        Event::TeardownHookStarted(_) | Event::TeardownHookFinished(_) => Step::RunTeardown,
        Event::ProcessesEnded(_) => Step::EndProcesses,
        Event::WorkRescued(_) => Step::Rescue,
        // `DirectoryTrashed` is not listed: a move without an inspection breaks
        // `look-before-removal`.
        Event::InspectionOutdated(_) => Step::MoveToTrash,
        Event::RegistrationRemoved(_) => Step::Unregister,
        Event::BranchSettled(_) => Step::SettleBranch,
        Event::Cleaned(_) => Step::Clean,
        Event::CleanUndone(_) => Step::UndoClean,
        Event::TrashMeasured(_) | Event::LateWorkRescued(_) | Event::TrashLookFailed(_) => {
            Step::Measure
        }
        Event::TrashPurged(_) | Event::CleanPurged(_) => Step::Purge,
        Event::RescueDropped(_) => Step::DropRescue,
        Event::RescuesFolded(_) => Step::FoldRescues,
        Event::SweepFinished(_) | Event::LeftoverArchived(_) => Step::Sweep,
        _ => return None,
    })
}

/// Returns whether an unlink found its rescue missing and made it anew before the last copy goes.
fn is_rescued_again(event: &Event, owed: Option<Step>) -> bool {
    matches!(event, Event::LateWorkRescued(_)) && owed == Some(Step::Purge)
}

/// Compares a recorded outcome with the step that was owed.
pub(super) fn check(state: &State, event: &Event, found: &mut Violations) {
    if matches!(event, Event::SweepFinished(_) | Event::LeftoverArchived(_)) {
        compare(event, state.sweep().map(|s| s.owed.step.into()), found);
        return;
    }
    if let Some((id, life)) = event.archive() {
        match state.archive_of(id, life) {
            None => {
                found.push((KNOWN, format!("there is no archive of incarnation {life} of {id}")));
            }
            Some(archive) => compare(event, archive.owed.as_ref().map(|o| o.step.into()), found),
        }
        return;
    }
    if let Some((id, clean)) = event.output() {
        match state.output(id, clean) {
            None => found.push((KNOWN, format!("there is no output of clean {clean} of {id}"))),
            Some(output) => compare(event, output.owed.as_ref().map(|o| o.step.into()), found),
        }
        return;
    }
    if let Some(env) = event.environment().and_then(|id| state.environment(id)) {
        compare(event, env.owed.as_ref().map(|o| o.step.into()), found);
    }
}

fn compare(event: &Event, owed: Option<Step>, found: &mut Violations) {
    let Some(step) = step_of(event) else { return };
    if owed != Some(step) && !is_rescued_again(event, owed) {
        let owed = owed.map_or("nothing", Step::as_str);
        let (kind, step) = (event.kind(), step.as_str());
        found.push((OWED, format!("{kind} is an outcome of {step}, but {owed} was owed")));
    }
}
