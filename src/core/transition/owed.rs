//! Effects that are owed, as a function of the state, and when time alone will change that.

use crate::effect::{Effect, OwedEffect, Target};
use crate::id::{EffectId, Subject, Time};
use crate::model::environment::Phase;
use crate::model::step::{ArchiveStep, Owed, Step};
use crate::state::State;

impl State {
    /// Returns the effects of environments that may be started at `now`.
    pub(crate) fn owed_to_environments(&self, now: Time) -> Vec<OwedEffect> {
        let owed = self.environments().filter_map(|env| {
            let owed = env.owed.as_ref()?;
            due(owed, now, || Subject::Environment(env.id.clone()))
        });
        owed.collect()
    }

    /// Returns the effects of archives that may be started at `now`.
    pub(crate) fn owed_to_archives(&self, now: Time) -> Vec<OwedEffect> {
        let owed = self.archives().filter_map(|archive| {
            let owed = archive.owed.as_ref()?;
            due(owed, now, || Subject::Archive(archive.id.clone(), archive.incarnation))
        });
        owed.collect()
    }

    /// Returns the effects of cleaned output that may be started at `now`.
    pub(crate) fn owed_to_outputs(&self, now: Time) -> Vec<OwedEffect> {
        let owed = self.outputs().filter_map(|output| {
            let owed = output.owed.as_ref()?;
            due(owed, now, || Subject::Output(output.id.clone(), output.clean))
        });
        owed.collect()
    }

    /// Returns the effects of migrations that may be started at `now`.
    pub(crate) fn owed_to_migrations(&self, now: Time) -> Vec<OwedEffect> {
        let owed = self.migrations().filter_map(|migration| {
            let owed = migration.owed.as_ref()?;
            due(owed, now, || Subject::Migration(migration.id.clone()))
        });
        owed.collect()
    }

    /// Returns the effect of the data directory, if it may be started at `now`.
    pub(crate) fn owed_to_host(&self, now: Time) -> Vec<OwedEffect> {
        let sweep = self.sweep().and_then(|sweep| due(&sweep.owed, now, || Subject::Host));
        sweep.into_iter().collect()
    }

    /// Returns the next retry of an environment, or the next end of a lease on one.
    pub(crate) fn deadline_of_environments(&self, now: Time) -> Option<Time> {
        let retries = self.environments().filter_map(|e| later(e.owed.as_ref()?, now));
        let leases = self.leases().map(|(_, lease)| lease.until);
        retries.chain(leases).chain(self.failures_over_at()).min()
    }

    /// Returns the next retry of an archive, or the next end of a retention.
    pub(crate) fn deadline_of_archives(&self, now: Time) -> Option<Time> {
        let retries = self.archives().filter_map(|r| later(r.owed.as_ref()?, now));
        let seconds = self.retention().trash_seconds;
        let ends = self.archives().filter_map(|r| r.due(seconds));
        // A time that is past already: the next tick comes at once and decides the purges.
        let full = (self.trash_is_over() || self.folds_are_due()).then(|| self.at());
        retries.chain(ends).chain(full).chain(self.rescues_over_at()).min()
    }

    /// Returns the next retry of cleaned output, or the next end of its retention.
    pub(crate) fn deadline_of_outputs(&self, now: Time) -> Option<Time> {
        let retries = self.outputs().filter_map(|o| later(o.owed.as_ref()?, now));
        retries.chain(self.output_due()).min()
    }

    /// Returns the next retry of a migration.
    pub(crate) fn deadline_of_migrations(&self, now: Time) -> Option<Time> {
        self.migrations().filter_map(|m| later(m.owed.as_ref()?, now)).min()
    }

    /// Returns when a sweep that waits may start, when the next one is due, or when finished lives
    /// are to be forgotten.
    pub(crate) fn deadline_of_host(&self, now: Time) -> Option<Time> {
        let sweep = self.sweep().map_or_else(|| self.next_sweep(), |sweep| later(&sweep.owed, now));
        sweep.into_iter().chain(self.forgetting_due()).min()
    }

    /// Returns the identity of the effect that a subject is owed now, whether it is due or not.
    #[must_use]
    pub fn owed_to(&self, subject: &Subject) -> Option<EffectId> {
        match subject {
            Subject::Environment(id) => self.environment(id)?.effect_id(),
            Subject::Archive(id, incarnation) => self.archive_of(id, *incarnation)?.effect_id(),
            Subject::Output(id, clean) => self.output(id, *clean)?.effect_id(),
            Subject::Migration(id) => self.migration(id)?.effect_id(),
            Subject::Host => Some(self.sweep()?.owed.id(Subject::Host)),
        }
    }

    /// Returns everything needed to perform the effect `id`; none when it is no longer owed.
    #[must_use]
    pub fn effect(&self, id: &EffectId) -> Option<Effect> {
        if self.owed_to(&id.subject).as_ref() != Some(id) {
            return None;
        }
        let target = match &id.subject {
            Subject::Environment(name) => {
                let env = self.environment(name)?;
                let trusted = self.trusted(&env.plan.repository.common_dir).to_vec();
                Target::Environment(env.owed.as_ref()?.step, Box::new(env.clone()), trusted)
            }
            Subject::Archive(name, incarnation) => {
                let archive = self.archive_of(name, *incarnation)?;
                let step = archive.owed.as_ref()?.step;
                let fold = (step == ArchiveStep::FoldRescues).then(|| self.to_fold(archive));
                Target::Archive(step, Box::new(archive.clone()), fold.unwrap_or_default())
            }
            Subject::Output(name, clean) => {
                let output = self.output(name, *clean)?;
                Target::Output(output.owed.as_ref()?.step, Box::new(output.clone()))
            }
            Subject::Migration(name) => {
                let migration = self.migration(name)?;
                Target::Migration(migration.owed.as_ref()?.step, Box::new(migration.clone()))
            }
            Subject::Host => Target::Host(self.sweep()?.owed.step, Box::new(self.clone())),
        };
        Some(Effect { id: id.clone(), target })
    }

    /// Returns whether nothing is owed and nothing is being made: the state is at rest.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.environments().all(|e| e.owed.is_none() && e.phase != Phase::Provisioning)
            && self.archives().all(|r| r.owed.is_none())
            && self.outputs().all(|o| o.owed.is_none())
            && self.migrations().all(|m| m.owed.is_none())
            && self.sweep().is_none()
    }
}

/// Returns the effect of an owed step, if it may be started at `now`.
fn due<S>(owed: &Owed<S>, now: Time, subject: impl FnOnce() -> Subject) -> Option<OwedEffect>
where
    S: Copy + Into<Step>,
{
    let is_due = owed.not_before <= now;
    is_due.then(|| OwedEffect { id: owed.id(subject()), step: owed.step.into() })
}

/// Returns when an owed step may start, if that is after `now`.
fn later<S>(owed: &Owed<S>, now: Time) -> Option<Time> {
    Some(owed.not_before).filter(|time| *time > now)
}
