//! Incarnations: how one begins, that an ended one stays ended, that only one in service is used.

use crate::event::{Actor, Event, FormerLife, LivesForgotten, Origin, Plan, Record};
use crate::id::EnvironmentId;
use crate::invariants::checker::Audit;
use crate::invariants::list::{
    ADOPTED, ALONE, ASKED, EPOCHS, FINAL, FLIPPED, FOLLOWS, FORGOTTEN, KNOWN, MIGRATES, PLACES,
    REHEARSED, SERVED, TRIMMED, Violations,
};
use crate::model::environment::{Environment, Phase};
use crate::model::migration::{Migration, MigrationPhase};
use crate::model::step::MigrationStep as Step;
use crate::state::State;

impl Audit {
    pub(super) fn check_life(&self, state: &State, record: &Record, found: &mut Violations) {
        match &record.event {
            Event::ProvisionRequested(e) => {
                self.begins(state, (&e.environment, e.incarnation), &e.actor, found);
                self.has_a_place_of_its_own(&e.environment, &e.plan, found);
            }
            Event::RestoreRequested(e) => {
                self.begins(state, (&e.environment, e.incarnation), &e.actor, found);
                self.has_a_place_of_its_own(&e.environment, &e.plan, found);
            }
            Event::EnvironmentAdopted(e) => {
                self.begins(state, (&e.environment, e.incarnation), &e.actor, found);
                self.has_a_place_of_its_own(&e.environment, &e.plan, found);
            }
            Event::LiveSetTaken(e) => {
                let last = state.live().taken.as_ref().filter(|last| last.server == e.server);
                if let Some(last) = last.filter(|last| last.epoch > e.epoch) {
                    found.push((EPOCHS, format!("epoch {} after {}", e.epoch, last.epoch)));
                }
            }
            Event::LivesForgotten(e) => forgotten(state, e, found),
            Event::LogTrimmed(e) if e.last >= record.seq => {
                found.push((TRIMMED, format!("up to record {}, before it was written", e.last)));
            }
            event if event.archive().is_some() || event.output().is_some() => {}
            event => {
                self.goes_on(state, event, found);
                self.migrates(state, event, found);
            }
        }
    }

    fn begins(
        &self,
        state: &State,
        life: (&EnvironmentId, u32),
        actor: &Actor,
        found: &mut Violations,
    ) {
        let (id, incarnation) = life;
        let before = state.environment(id);
        let last = before.map(|env| env.incarnation).or_else(|| self.former.get(id).copied());
        let expected = last.unwrap_or(0).saturating_add(1);
        let is_known = last.is_some() || !self.begins_late;
        if incarnation != expected && is_known {
            found.push((FOLLOWS, format!("incarnation {incarnation}, expected {expected}")));
        }
        if let Some(env) = before.filter(|env| env.is_live()) {
            let (life, phase) = (env.incarnation, env.phase.as_str());
            found.push((FOLLOWS, format!("incarnation {life} is {phase} and has not ended")));
        }
        if last.is_some() && actor.origin == Origin::Daemon {
            let what = format!("incarnation {incarnation} of {id} was begun by the daemon");
            found.push((ASKED, what));
        }
    }

    fn has_a_place_of_its_own(&self, id: &EnvironmentId, plan: &Plan, found: &mut Violations) {
        let path = plan.path.as_bytes();
        if path.split(|b| *b == b'/').any(|part| part == b"..") {
            found.push((PLACES, format!("{} contains `..`", plan.path)));
        }
        let other = self.places.get(&plan.path).filter(|other| *other != id);
        // An empty path is no directory that two environments could share.
        if let Some(other) = other.filter(|_| !path.is_empty()) {
            found.push((PLACES, format!("{} is the directory of {other}", plan.path)));
        }
    }

    /// Checks a fact about an incarnation that has begun.
    #[expect(clippy::unused_self, reason = "reads like the other questions")]
    fn goes_on(&self, state: &State, event: &Event, found: &mut Violations) {
        let Some(id) = event.environment() else { return };
        let Some(env) = state.environment(id) else {
            found.push((KNOWN, format!("no record begins environment {id}")));
            return;
        };
        // The end of an interrupted run may be recorded after the tombstone.
        if env.phase == Phase::Tombstoned && !matches!(event, Event::RunFinished(_)) {
            let life = env.incarnation;
            found.push((FINAL, format!("incarnation {life} of {id} had ended")));
            return;
        }
        if env.adopted && touches(event) {
            found.push((ADOPTED, format!("{} for {id}, which is adopted", event.kind())));
        }
        if let Some(what) = unserved(env, event) {
            found.push((SERVED, format!("{what} {id}, which is {}", env.phase.as_str())));
        }
    }

    fn migrates(&self, state: &State, event: &Event, found: &mut Violations) {
        let Some(id) = event.migration() else { return };
        if let Event::MigrationRequested(e) = event {
            if let Some(other) = state.migrating(&e.plan.database) {
                found.push((
                    ALONE,
                    format!("{} is being migrated by {}", e.plan.database, other.id),
                ));
            }
            return;
        }
        let Some(migration) = state.migration(id) else {
            found.push((KNOWN, format!("no record begins migration {id}")));
            return;
        };
        let owed = migration.owed.as_ref().map(|o| o.step);
        if !fits(migration, owed, event) {
            let owed = owed.map_or("nothing", Step::as_str);
            let (kind, phase) = (event.kind(), migration.phase.as_str());
            found.push((MIGRATES, format!("{kind} in phase {phase}, which owes {owed}")));
        }
        let verified = self.verified.contains(id);
        if matches!(event, Event::FlipBegun(_) | Event::Flipped(_)) && !verified {
            found.push((MIGRATES, format!("{} before it was verified", event.kind())));
        }
        let back = matches!(event, Event::MigrationFailed(_) | Event::MigrationRolledBack(_));
        let installed =
            matches!(migration.phase, MigrationPhase::Flipped | MigrationPhase::Finished);
        if back && installed && migration.backup.is_some() {
            found.push((FLIPPED, format!("{} after it was installed", event.kind())));
        }
        let acts =
            matches!(event, Event::SecretsWritten(_) | Event::FlipBegun(_) | Event::Flipped(_));
        if acts && migration.plan.dry_run {
            found.push((REHEARSED, format!("{} in a dry run", event.kind())));
        }
    }
}

/// Checks that forgotten lives are over.
fn forgotten(state: &State, e: &LivesForgotten, found: &mut Violations) {
    for FormerLife { environment: id, incarnation, .. } in &e.lives {
        let env = state.environment(id).filter(|env| env.incarnation == *incarnation);
        if env.is_none_or(|env| env.is_live() || env.owed.is_some()) {
            found.push((FORGOTTEN, format!("incarnation {incarnation} of {id} is not over")));
        }
    }
}

/// Returns whether an event acts on a worktree, in a teardown or a clean.
fn touches(event: &Event) -> bool {
    matches!(
        event,
        Event::TeardownInspected(_)
            | Event::TeardownHookStarted(_)
            | Event::ProcessesEnded(_)
            | Event::WorkRescued(_)
            | Event::DirectoryTrashed(_)
            | Event::RegistrationRemoved(_)
            | Event::BranchSettled(_)
            | Event::CleanRequested(_)
            | Event::Cleaned(_)
            | Event::CleanUndoRequested(_)
            | Event::CleanUndone(_)
            | Event::RolledBack(_)
    )
}

/// Returns, in words, the use of an environment that is not in service.
fn unserved(env: &Environment, event: &Event) -> Option<&'static str> {
    let other_life = |life: u32| life != env.incarnation;
    let what = match event {
        Event::LeaseGranted(_) => "a lease on",
        Event::ProcessStarted(_) => "a command in",
        Event::RunRequested(_) => "a run in",
        Event::CleanRequested(_) | Event::CleanUndoRequested(_) => "cleaning of",
        Event::WatcherGaveUp(e) if other_life(e.incarnation) => {
            return Some("a watch of another incarnation of");
        }
        Event::WatcherResumed(e) if other_life(e.incarnation) => {
            return Some("a watch of another incarnation of");
        }
        Event::WatcherGaveUp(_) | Event::WatcherResumed(_) => "a watch of",
        _ => return None,
    };
    (!env.is_served()).then_some(what)
}

/// Returns whether a fact fits the phase of a migration.
fn fits(migration: &Migration, owed: Option<Step>, event: &Event) -> bool {
    use MigrationPhase as Is;
    let phase = migration.phase;
    match event {
        Event::SourceInspected(_) => owed == Some(Step::InspectSource),
        Event::SourceCopied(_) => owed == Some(Step::CopySource),
        Event::SourceNormalised(_) => owed == Some(Step::NormaliseSource),
        Event::StagingBuilt(_) => owed == Some(Step::BuildStaging),
        Event::SecretsWritten(_) => owed == Some(Step::WriteSecrets),
        Event::StagingVerified(_) | Event::FlipBegun(_) => owed == Some(Step::VerifyStaging),
        // A rollback that finds the new database installed records the flip instead.
        Event::Flipped(_) => matches!(owed, Some(Step::Flip | Step::DropStaging)),
        Event::MigrationFinished(_) => {
            owed == Some(Step::CleanUp) || (phase == Is::Inspected && !migration.found.old)
        }
        Event::MigrationRolledBack(_) => owed == Some(Step::DropStaging),
        Event::MigrationFailed(_) | Event::MigrationAttemptFailed(_) => owed.is_some(),
        // An undo in progress may be asked to keep the new database.
        Event::MigrationUndoRequested(e) => {
            phase == Is::Finished || (phase == Is::Undoing && e.keep_new)
        }
        Event::MigrationUndone(_) | Event::MigrationUndoRefused(_) => {
            owed == Some(Step::ReturnBackup)
        }
        _ => true,
    }
}
