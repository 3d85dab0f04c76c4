//! Requests about migrations: begin one, end one, put the old database back. Nothing here performs
//! a step.

use crate::decision::Decision;
use crate::event::{
    Actor, MigrationFailed, MigrationPlan, MigrationRequested, MigrationUndoRequested,
};
use crate::fault::{Code, Fault};
use crate::id::MigrationId;
use crate::model::migration::{Migration, MigrationPhase};
use crate::model::step::MigrationStep as Step;
use crate::policy;
use crate::state::State;

impl State {
    /// Decides a migration: one per database at a time; a repeated identical request joins it.
    pub(crate) fn decide_migrate(
        &self,
        migration: MigrationId,
        plan: MigrationPlan,
        actor: Actor,
    ) -> Decision {
        if let Some(other) = self.migrating(&plan.database) {
            // The time is set per request; two identical requests differ in it alone.
            let same = MigrationPlan { at_ms: other.plan.at_ms, ..plan.clone() } == other.plan;
            if same {
                return Ok(Vec::new());
            }
            let message = format!("{} is already being migrated with other options", plan.database);
            let hint = "retry when it has ended; `groundskeeper migrate status` shows it";
            return Err(Fault::new(Code::DatabaseInUse, message, hint));
        }
        if self.migrations.contains_key(&migration) {
            let message = format!("migration {migration} already exists");
            return Err(Fault::new(Code::Defect, message, "retry; each request draws a new id"));
        }
        if self.migrations().filter(|m| !m.is_over()).count() >= policy::MIGRATIONS_AT_ONCE {
            let message = format!(
                "the limit of {} concurrent migrations is reached",
                policy::MIGRATIONS_AT_ONCE
            );
            let hint = "retry when one has ended; `groundskeeper migrate status` lists them";
            return Err(Fault::new(Code::LimitReached, message, hint));
        }
        Ok(vec![MigrationRequested { migration, plan, actor }.into()])
    }

    fn known_migration(&self, id: &MigrationId) -> Result<&Migration, Fault> {
        self.migration(id).ok_or_else(|| {
            let hint = "run `groundskeeper migrate status` to list migrations";
            Fault::new(Code::MigrationNotFound, format!("there is no migration {id}"), hint)
        })
    }

    /// Decides to end a migration: until the flip begins, nothing that was made counts. After that
    /// the new database may be in its place, and only an undo leads back.
    pub(crate) fn decide_cancel_migration(&self, id: &MigrationId) -> Decision {
        use MigrationPhase as Phase;
        let found = self.known_migration(id)?;
        match found.phase {
            Phase::Started
            | Phase::Inspected
            | Phase::Copied
            | Phase::Normalised
            | Phase::Staged
            | Phase::SecretsWritten => {
                let step = found.phase.step().map_or("", Step::as_str).to_owned();
                let hint = "run the same migration again to begin anew";
                let fault = Fault::new(Code::Cancelled, "the migration was cancelled", hint);
                Ok(vec![MigrationFailed { migration: id.clone(), step, fault }.into()])
            }
            // It ends without the new database already.
            Phase::RollingBack | Phase::Failed | Phase::Rehearsed => Ok(Vec::new()),
            Phase::FlipBegun | Phase::Flipped | Phase::Finished => {
                let database = &found.plan.database;
                let message =
                    format!("cannot cancel migration {id}: it is {}", found.phase.as_str());
                let hint = format!("run `groundskeeper migrate undo {database}` when it has ended");
                Err(Fault::new(Code::MigrationConflict, message, hint))
            }
            Phase::Undoing | Phase::UndoingKeepNew | Phase::Undone => {
                let message =
                    format!("cannot cancel migration {id}: it is {}", found.phase.as_str());
                let hint = "run `groundskeeper migrate status` to see how it ends";
                Err(Fault::new(Code::MigrationConflict, message, hint))
            }
        }
    }

    /// Decides to put the old database back, unless a later migration of it took effect or runs.
    /// With `keep_new` also when the new one was written to; an undo in progress goes on that way.
    pub(crate) fn decide_undo_migration(
        &self,
        id: &MigrationId,
        actor: Actor,
        keep_new: bool,
    ) -> Decision {
        let found = self.known_migration(id)?;
        let requested = MigrationUndoRequested { migration: id.clone(), actor, keep_new };
        match found.phase {
            MigrationPhase::Undoing if keep_new => return Ok(vec![requested.into()]),
            MigrationPhase::Undoing | MigrationPhase::UndoingKeepNew => return Ok(Vec::new()),
            _ => {}
        }
        let later = self.migrations().find(|m| {
            m.plan.database == found.plan.database && m.seq > found.seq && !m.plan.dry_run
        });
        let reason = match later {
            Some(later) if !later.is_over() || later.has_migrated() => {
                Some(format!("migration {} of the same database followed it", later.id))
            }
            _ if !found.has_migrated() => Some(format!("it is {}", found.phase.as_str())),
            _ => None,
        };
        if let Some(reason) = reason {
            let message = format!("cannot undo migration {id}: {reason}");
            let hint = "run `groundskeeper migrate status` to see which migrations can be undone";
            return Err(Fault::new(Code::MigrationFailed, message, hint));
        }
        Ok(vec![requested.into()])
    }
}
