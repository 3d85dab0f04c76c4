//! Staged migrations: the phases, the step owed in each, and the end.
//!
//! Until the flip everything that is made is private and can be removed: any failure leads back to
//! the untouched old database. The flip is one rename; before it the old database is current, after
//! it the new one. Only then are copies and the backups of secrets removed. Nothing here does I/O.

use crate::effect::MigrationOutcome as Outcome;
use crate::event::{
    Event, FlipBegun, Flipped, MigrationAttemptFailed, MigrationEvent, MigrationFailed,
    MigrationFinished, MigrationRequested, MigrationRolledBack, MigrationUndoRefused,
    MigrationUndone, SecretsWritten, SourceCopied, SourceInspected, SourceNormalised, SourceState,
    Staging, StagingBuilt, StagingVerified,
};
use crate::fault::Fault;
use crate::id::{EffectId, HostPath, MigrationId, Subject, Time};
use crate::model::migration::{Migration, MigrationPhase};
use crate::model::step::{At, MigrationStep as Step, Owed};
use crate::policy;
use crate::state::State;

impl Migration {
    /// Returns the identity of the effect that is owed now.
    #[must_use]
    pub fn effect_id(&self) -> Option<EffectId> {
        Some(self.owed.as_ref()?.id(Subject::Migration(self.id.clone())))
    }

    /// Returns whether its recipe may be needed again: to go on, or to undo it.
    #[must_use]
    pub fn wants_recipe(&self) -> bool {
        !self.is_over() || self.has_migrated()
    }

    /// Returns whether it is in a terminal phase.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase.step().is_none()
    }

    /// Returns whether the old database is being put back.
    #[must_use]
    pub fn is_undoing(&self) -> bool {
        matches!(self.phase, MigrationPhase::Undoing | MigrationPhase::UndoingKeepNew)
    }

    /// Returns whether it installed the new database, and was not undone.
    #[must_use]
    pub fn has_migrated(&self) -> bool {
        self.backup.is_some() && self.phase == MigrationPhase::Finished
    }

    /// Returns all warnings for the user, in order.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let staged = self.staging.iter().flat_map(|s| s.warnings.iter());
        self.replayed.iter().chain(staged).chain(&self.found.warnings).cloned().collect()
    }

    fn begin(at: At, e: &MigrationRequested) -> Self {
        Self {
            id: e.migration.clone(),
            plan: e.plan.clone(),
            phase: MigrationPhase::Started,
            created_at: at.time,
            changed_at: at.time,
            seq: at.seq,
            found: SourceState::default(),
            copy: None,
            replayed: Vec::new(),
            staging: None,
            secrets: 0,
            backup: None,
            installed: String::new(),
            owed: Some(Owed::new(Step::InspectSource, at)),
            fault: None,
            leftovers: Vec::new(),
        }
    }

    fn set_phase(&mut self, phase: MigrationPhase, at: At) {
        self.phase = phase;
        self.changed_at = at.time;
        self.owed = phase.step().map(|step| Owed::new(step, at));
    }

    fn apply(&mut self, at: At, event: MigrationEvent<'_>) {
        use MigrationEvent as Is;
        use MigrationPhase as Phase;
        self.seq = at.seq;
        match event {
            // It is folded in where the migration begins.
            Is::MigrationRequested(_) => {}
            Is::SourceInspected(e) => {
                self.found = e.found.clone();
                self.set_phase(Phase::Inspected, at);
            }
            Is::SourceCopied(e) => {
                self.copy = Some(e.copy.clone());
                self.set_phase(Phase::Copied, at);
            }
            Is::SourceNormalised(e) => {
                self.replayed.clone_from(&e.warnings);
                self.set_phase(Phase::Normalised, at);
            }
            Is::StagingBuilt(e) => self.built(at, &e.staging),
            Is::SecretsWritten(e) => {
                self.secrets = e.entries;
                self.set_phase(Phase::SecretsWritten, at);
            }
            Is::StagingVerified(e) => {
                self.installed.clone_from(&e.fingerprint);
                if self.plan.dry_run {
                    self.set_phase(Phase::RollingBack, at);
                }
            }
            Is::FlipBegun(_) => self.set_phase(Phase::FlipBegun, at),
            Is::Flipped(e) => {
                self.backup = Some(e.backup.clone());
                self.fault = None;
                self.set_phase(Phase::Flipped, at);
            }
            Is::MigrationFinished(e) => self.finished(at, &e.leftovers),
            Is::MigrationFailed(e) => self.fails(at, &e.fault, Phase::RollingBack),
            Is::MigrationRolledBack(e) => {
                self.leftovers.clone_from(&e.leftovers);
                let failed = self.fault.is_some();
                self.set_phase(if failed { Phase::Failed } else { Phase::Rehearsed }, at);
            }
            Is::MigrationAttemptFailed(e) => self.attempt_failed(at, e),
            Is::MigrationUndoRequested(e) if e.keep_new => {
                // It answers the refusal of an earlier one, which is of no interest any more.
                self.fault = None;
                self.set_phase(Phase::UndoingKeepNew, at);
            }
            Is::MigrationUndoRequested(_) => self.set_phase(Phase::Undoing, at),
            Is::MigrationUndone(_) => {
                self.backup = None;
                self.set_phase(Phase::Undone, at);
            }
            Is::MigrationUndoRefused(e) => self.fails(at, &e.fault, Phase::Finished),
        }
    }

    fn built(&mut self, at: At, staging: &Staging) {
        self.staging = Some(staging.clone());
        // A rehearsal changes nothing, and the secrets file is not its own.
        let rehearsal = self.plan.dry_run;
        let next = if rehearsal { MigrationPhase::SecretsWritten } else { MigrationPhase::Staged };
        self.set_phase(next, at);
    }

    fn finished(&mut self, at: At, leftovers: &[String]) {
        self.leftovers = leftovers.to_vec();
        if self.backup.is_none() {
            self.backup.clone_from(&self.found.backup);
        }
        self.set_phase(MigrationPhase::Finished, at);
    }

    fn fails(&mut self, at: At, fault: &Fault, phase: MigrationPhase) {
        self.fault = Some(fault.clone());
        self.set_phase(phase, at);
    }

    fn attempt_failed(&mut self, at: At, e: &MigrationAttemptFailed) {
        if let Some(owed) = &mut self.owed {
            owed.retry(at, e.attempts, e.retry_at);
        }
        // A failure of the rollback must not hide the error that caused it.
        if self.phase != MigrationPhase::RollingBack {
            self.fault = Some(e.fault.clone());
        }
    }

    /// Returns the events that the end of an effect leads to.
    pub(crate) fn settle(
        &self,
        now: Time,
        step: Step,
        result: Result<Outcome, Fault>,
    ) -> Vec<Event> {
        match result {
            Ok(outcome) => self.succeeded(outcome),
            Err(fault) => self.failed(now, step, fault),
        }
    }

    fn succeeded(&self, outcome: Outcome) -> Vec<Event> {
        let migration = self.id.clone();
        match outcome {
            Outcome::SourceInspected(found) => {
                let over = !found.old;
                let inspected = SourceInspected { migration: migration.clone(), found };
                let mut events = vec![inspected.into()];
                if over {
                    let leftovers = Vec::new();
                    events.push(MigrationFinished { migration, leftovers }.into());
                }
                events
            }
            Outcome::SourceCopied(copy) => vec![SourceCopied { migration, copy }.into()],
            Outcome::SourceNormalised(warnings) => {
                vec![SourceNormalised { migration, warnings }.into()]
            }
            Outcome::StagingBuilt(staging) => vec![StagingBuilt { migration, staging }.into()],
            Outcome::SecretsWritten(entries) => vec![SecretsWritten { migration, entries }.into()],
            Outcome::StagingVerified(bytes, fingerprint) => {
                let verified = StagingVerified { migration: migration.clone(), bytes, fingerprint };
                let mut events = vec![verified.into()];
                if !self.plan.dry_run {
                    events.push(FlipBegun { migration }.into());
                }
                events
            }
            Outcome::Flipped(backup) | Outcome::TooLate(backup) => {
                vec![Flipped { migration, backup }.into()]
            }
            Outcome::CleanedUp(leftovers) => {
                vec![MigrationFinished { migration, leftovers }.into()]
            }
            Outcome::StagingDropped(leftovers) => {
                vec![MigrationRolledBack { migration, leftovers }.into()]
            }
            Outcome::Returned(kept) => vec![MigrationUndone { migration, kept }.into()],
        }
    }

    fn failed(&self, now: Time, step: Step, fault: Fault) -> Vec<Event> {
        if self.is_retried(step, &fault) {
            let (migration, attempts) = (self.id.clone(), self.attempts_with_this());
            let retry_at = now.after(policy::retry_delay(attempts));
            let step = step.as_str().to_owned();
            let failed = MigrationAttemptFailed { migration, step, attempts, retry_at, fault };
            return vec![failed.into()];
        }
        self.give_up(step, fault)
    }

    /// Returns whether a step that failed with this fault is owed again, after a delay.
    #[must_use]
    pub fn is_retried(&self, step: Step, fault: &Fault) -> bool {
        // Removals are retried after any failure: giving up leaves private files behind.
        let again = fault.transient || matches!(step, Step::CleanUp | Step::DropStaging);
        // A caller waits, and a full or read-only disk does not change within a minute: the next
        // migration of this database removes what is left.
        // Once the flip has begun, only this step finds out which database is installed.
        let flipping = step == Step::DropStaging && !self.installed.is_empty();
        let lasting =
            if fault.transient || flipping { u32::MAX } else { policy::LASTING_ATTEMPTS_MAX };
        again && self.attempts_with_this() < policy::attempts_max(step).min(lasting)
    }

    fn attempts_with_this(&self) -> u32 {
        self.owed.as_ref().map_or(0, |owed| owed.attempts).saturating_add(1)
    }

    /// Returns the events that end a step without success.
    pub(crate) fn give_up(&self, step: Step, fault: Fault) -> Vec<Event> {
        let migration = self.id.clone();
        let leftovers = vec![format!("{}: {fault}", step.as_str())];
        vec![match step {
            Step::CleanUp => MigrationFinished { migration, leftovers }.into(),
            Step::DropStaging => MigrationRolledBack { migration, leftovers }.into(),
            Step::ReturnBackup => MigrationUndoRefused { migration, fault }.into(),
            Step::InspectSource
            | Step::CopySource
            | Step::NormaliseSource
            | Step::BuildStaging
            | Step::WriteSecrets
            | Step::VerifyStaging
            | Step::Flip => {
                MigrationFailed { migration, step: step.as_str().to_owned(), fault }.into()
            }
        }]
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let step = self.owed.as_ref().map(|o| o.step);
        if step != self.phase.step() {
            return Err(format!("migration {}: {} owes {step:?}", self.id, self.phase.as_str()));
        }
        if self.phase == MigrationPhase::Flipped && self.backup.is_none() {
            return Err(format!("migration {}: installed without a backup", self.id));
        }
        if self.plan.dry_run && self.backup.is_some() {
            return Err(format!("migration {}: a dry run with a backup", self.id));
        }
        Ok(())
    }
}

impl State {
    /// Returns a migration by its id.
    #[must_use]
    pub fn migration(&self, id: &MigrationId) -> Option<&Migration> {
        self.migrations.get(id)
    }

    /// Returns whether the recipe of a migration may be needed again.
    #[must_use]
    pub fn wants_recipe(&self, id: &MigrationId) -> bool {
        self.migration(id).is_some_and(Migration::wants_recipe)
    }

    /// Returns all migrations that are remembered, by id.
    pub fn migrations(&self) -> impl Iterator<Item = &Migration> {
        self.migrations.values()
    }

    /// Returns the migration of a database that is in progress.
    #[must_use]
    pub fn migrating(&self, database: &HostPath) -> Option<&Migration> {
        self.migrations().find(|m| !m.is_over() && m.plan.database == *database)
    }

    /// Folds in an event about a migration.
    pub(crate) fn apply_migration(&mut self, at: At, event: MigrationEvent<'_>) {
        let id = event.subject();
        if let MigrationEvent::MigrationRequested(e) = event {
            self.migrations.insert(id.clone(), Migration::begin(at, e));
            self.forget_migrations();
        } else if let Some(migration) = self.migrations.get_mut(id) {
            migration.apply(at, event);
        }
    }

    fn forget_migrations(&mut self) {
        while self.migrations.len() > policy::MIGRATIONS_REMEMBERED {
            let over = self.migrations.values().filter(|m| m.is_over());
            // One in progress is never forgotten, even above the limit.
            let Some(oldest) = over.min_by_key(|m| m.seq).map(|m| m.id.clone()) else { return };
            self.migrations.remove(&oldest);
        }
    }
}
