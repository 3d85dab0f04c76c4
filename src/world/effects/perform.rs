//! Performs an effect: takes its lock, dispatches to the code of its step, and turns a panic
//! into a fault. Dispatch only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::core::effect::Effect;
use crate::core::{Code, Fault, Outcome, Step, Target};
use crate::world::effects::context::{Reporter, Task, World, misdirected};
use crate::world::effects::{
    add_worktree, archive_context, clean, clean_output, copy_included, hook, inspect, rescue,
    resolve_base, restore, roll_back, sweep, teardown,
};
use crate::world::process::cancel::Cancel;
use crate::world::process::scope::Scope;

impl World {
    /// Performs one effect. First waits for children that an earlier daemon left for the same
    /// subject. A panic becomes a fault of this effect and affects nothing else.
    ///
    /// # Errors
    /// The fault that ended the effect; the core decides whether to retry.
    pub fn perform(
        &self,
        effect: &Effect,
        cancel: &Cancel,
        reporter: &dyn Reporter,
    ) -> Result<Outcome, Fault> {
        let lock = self.lock(&effect.id.subject, cancel)?;
        let work = || match &effect.target {
            Target::Environment(env, trusted) => {
                if !env.is_served() {
                    // Before anything is done to the worktree: the gate keeps it from being watched
                    // again, and a watch would follow the renamed tree under its old path.
                    self.unwatch(&env.id);
                }
                let task = Task { world: self, env, trusted, lock: &lock, cancel, reporter };
                task.perform(effect.step)
            }
            Target::Remains(remains) => {
                let lost = archive_context::Task { world: self, remains, lock: &lock, cancel };
                lost.perform(effect.step)
            }
            Target::Output(output) => {
                clean_output::Task { world: self, output, cancel }.perform(effect.step)
            }
            Target::Migration(_) => Err(misdirected(effect.step, "worktrees")),
            Target::Host(state) => sweep::Task { world: self, state, cancel }.perform(),
        };
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            let message = format!("step {} panicked: {text}", effect.step.as_str());
            Err(Fault::new(Code::Defect, message, "report this defect with the daemon log"))
        })
    }
}

impl Task<'_> {
    fn perform(&self, step: Step) -> Result<Outcome, Fault> {
        match step {
            Step::ResolveBase => resolve_base::resolve(self),
            Step::AddWorktree => add_worktree::add(self),
            Step::ApplyRescue => rescue::apply(self),
            Step::Restore => restore::restore(self),
            Step::CopyIncluded => copy_included::copy(self),
            Step::RunSetup => hook::run(self),
            Step::RollBack => roll_back::roll_back(self),
            Step::RefreshIndex => teardown::refresh_index(self),
            Step::Clean => clean::clean(self),
            Step::UndoClean => clean::undo(self),
            Step::Inspect => inspect::inspect(self),
            Step::RunTeardown => hook::run_teardown(self),
            Step::EndProcesses => self.end_processes(),
            Step::Rescue => rescue::rescue(self),
            Step::MoveToTrash => teardown::move_to_trash(self),
            Step::Unregister => teardown::unregister(self),
            Step::SettleBranch => teardown::settle_branch(self),
            other => Err(misdirected(other, "an environment")),
        }
    }

    /// Ends the processes in the environment. Processes that do not end are reported; they do
    /// not hold up the teardown.
    fn end_processes(&self) -> Result<Outcome, Fault> {
        let env = self.env();
        let options = env.teardown.as_ref().map(|t| t.options.clone()).unwrap_or_default();
        let grace = Duration::from_millis(options.grace_ms);
        let scope = Scope::of(env, &self.world.cgroups);
        crate::world::process::terminate::end(&scope, grace, self.cancel).map(Outcome::Ended)
    }
}
