//! Effects that are owed, as a function of the state, and when time alone will change that.

use crate::effect::{Effect, OwedEffect, Target};
use crate::id::{EffectId, Subject, Time};
use crate::model::environment::{Owed, Phase};
use crate::state::State;

impl State {
    /// Returns the effects that may be started at `now`: one per subject at most.
    pub fn owed(&self, now: Time) -> impl Iterator<Item = OwedEffect> {
        let due = move |o: &&Owed| o.not_before <= now;
        let environments = self.environments().filter_map(move |env| {
            let owed = env.owed.as_ref().filter(due)?;
            Some(OwedEffect { id: env.effect_id()?, step: owed.step })
        });
        let remains = self.remains().filter_map(move |remains| {
            let owed = remains.owed.as_ref().filter(due)?;
            Some(OwedEffect { id: remains.effect_id()?, step: owed.step })
        });
        let outputs = self.outputs().filter_map(move |output| {
            let owed = output.owed.as_ref().filter(due)?;
            Some(OwedEffect { id: output.effect_id()?, step: owed.step })
        });
        let sweep = self.sweep().map(|s| &s.owed).filter(due).map(|owed| OwedEffect {
            id: EffectId { subject: Subject::Host, entered: owed.entered },
            step: owed.step,
        });
        let migrations = self.migrations().filter_map(move |migration| {
            let owed = migration.owed.as_ref().filter(due)?;
            Some(OwedEffect { id: migration.effect_id()?, step: owed.step })
        });
        environments.chain(remains).chain(outputs).chain(migrations).chain(sweep)
    }

    /// Returns the identity of the effect that a subject is owed now, whether it is due or not.
    #[must_use]
    pub fn owed_to(&self, subject: &Subject) -> Option<EffectId> {
        match subject {
            Subject::Environment(id) => self.environment(id)?.effect_id(),
            Subject::Remains(id, incarnation) => self.remains_of(id, *incarnation)?.effect_id(),
            Subject::Output(id, clean) => self.output(id, *clean)?.effect_id(),
            Subject::Migration(id) => self.migration(id)?.effect_id(),
            Subject::Host => {
                let entered = self.sweep()?.owed.entered;
                Some(EffectId { subject: Subject::Host, entered })
            }
        }
    }

    /// Returns everything needed to perform the effect `id`; none when it is no longer owed.
    #[must_use]
    pub fn effect(&self, id: &EffectId) -> Option<Effect> {
        if self.owed_to(&id.subject).as_ref() != Some(id) {
            return None;
        }
        let (step, target) = match &id.subject {
            Subject::Environment(name) => {
                let env = self.environment(name)?;
                let trusted = self.trusted(&env.plan.repository.common_dir).to_vec();
                (env.owed.as_ref()?.step, Target::Environment(Box::new(env.clone()), trusted))
            }
            Subject::Remains(name, incarnation) => {
                let remains = self.remains_of(name, *incarnation)?;
                (remains.owed.as_ref()?.step, Target::Remains(Box::new(remains.clone())))
            }
            Subject::Output(name, clean) => {
                let output = self.output(name, *clean)?;
                (output.owed.as_ref()?.step, Target::Output(Box::new(output.clone())))
            }
            Subject::Migration(name) => {
                let migration = self.migration(name)?;
                (migration.owed.as_ref()?.step, Target::Migration(Box::new(migration.clone())))
            }
            Subject::Host => (self.sweep()?.owed.step, Target::Host(Box::new(self.clone()))),
        };
        Some(Effect { id: id.clone(), step, target })
    }

    /// Returns the next time at which something changes by itself: a retry, a refresh, the end of a
    /// lease, the end of a retention.
    #[must_use]
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let waits = self.environments().filter_map(|e| e.owed.as_ref());
        let waits = waits.chain(self.remains().filter_map(|r| r.owed.as_ref()));
        let waits = waits.chain(self.outputs().filter_map(|o| o.owed.as_ref()));
        let waits = waits.chain(self.migrations().filter_map(|m| m.owed.as_ref()));
        let waits = waits.chain(self.sweep().map(|s| &s.owed)).map(|o| o.not_before);
        let waits = waits.filter(|t| *t > now);
        let leases = self.leases().map(|(_, lease)| lease.until);
        let seconds = self.retention().trash_seconds;
        let trash = self.remains().filter_map(|r| r.due(seconds));
        // A time that is past already: the next tick comes at once and decides the purges.
        let full = self.trash_is_over().then(|| self.at());
        waits.chain(leases).chain(trash).chain(self.output_due()).chain(full).min()
    }

    /// Returns whether nothing is owed and nothing is being made: the state is at rest.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.environments().all(|e| e.owed.is_none() && e.phase != Phase::Provisioning)
            && self.remains().all(|r| r.owed.is_none())
            && self.outputs().all(|o| o.owed.is_none())
            && self.migrations().all(|m| m.owed.is_none())
            && self.sweep().is_none()
    }
}
