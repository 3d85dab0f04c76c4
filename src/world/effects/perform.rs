//! Performs an effect: takes its lock, dispatches to the code of its step, and turns a panic
//! into a fault. Dispatch only.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::core::{
    ArchiveOutcome, ArchiveStep, ArchivedIncarnation, CleanedOutput, Code, Environment,
    EnvironmentOutcome, EnvironmentStep as Step, Fault, HostOutcome, HostStep, OutputOutcome,
    OutputStep, State, Subject,
};
use crate::world::effects::context::{Reporter, Task, World};
use crate::world::effects::{
    add_worktree, archive_context, clean, clean_output, copy_included, hook, inspect, rescue,
    resolve_base, restore, roll_back, sweep, teardown,
};
use crate::world::process::cancel::Cancel;
use crate::world::process::scope::Scope;

impl World {
    /// Performs the step that an environment is owed. `trusted` has the hashes of the hooks that
    /// the user trusts in its repository.
    ///
    /// # Errors
    /// The fault that ended the effect; the core decides whether to retry.
    pub fn perform(
        &self,
        step: Step,
        env: &Environment,
        trusted: &[String],
        cancel: &Cancel,
        reporter: &dyn Reporter,
    ) -> Result<EnvironmentOutcome, Fault> {
        self.alone(&Subject::Environment(env.id.clone()), step.as_str(), cancel, |lock| {
            if !env.is_served() {
                // Before anything is done to the worktree: the gate keeps it from being watched
                // again, and a watch would follow the renamed tree under its old path.
                self.unwatch(&env.id);
            }
            Task { world: self, env, trusted, lock, cancel, reporter }.perform(step)
        })
    }

    /// Performs the step that the archive of an ended incarnation is owed. `to_fold` has the
    /// archives whose rescues are to be folded, if that is the step.
    ///
    /// # Errors
    /// The fault that ended the effect; the core decides whether to retry.
    pub fn perform_on_archive(
        &self,
        step: ArchiveStep,
        archive: &ArchivedIncarnation,
        to_fold: &[ArchivedIncarnation],
        cancel: &Cancel,
    ) -> Result<ArchiveOutcome, Fault> {
        let subject = Subject::Archive(archive.id.clone(), archive.incarnation);
        self.alone(&subject, step.as_str(), cancel, |lock| {
            archive_context::Task { world: self, archive, to_fold, lock, cancel }.perform(step)
        })
    }

    /// Performs the step that the output of a clean is owed.
    ///
    /// # Errors
    /// The fault that ended the effect; the core decides whether to retry.
    pub fn perform_on_output(
        &self,
        step: OutputStep,
        output: &CleanedOutput,
        cancel: &Cancel,
    ) -> Result<OutputOutcome, Fault> {
        let subject = Subject::Output(output.id.clone(), output.clean);
        self.alone(&subject, step.as_str(), cancel, |_| match step {
            OutputStep::Purge => clean_output::Task { world: self, output, cancel }.purge(),
        })
    }

    /// Performs the step that the data directory is owed.
    ///
    /// # Errors
    /// The fault that ended the effect.
    pub fn perform_on_host(
        &self,
        step: HostStep,
        state: &State,
        cancel: &Cancel,
    ) -> Result<HostOutcome, Fault> {
        self.alone(&Subject::Host, step.as_str(), cancel, |_| match step {
            HostStep::Sweep => sweep::task::Task { world: self, state, cancel }.perform(),
        })
    }

    /// Runs the work of one effect under the lock of its subject. First waits for children that an
    /// earlier daemon left for the same subject. A panic becomes a fault of this effect and affects
    /// nothing else.
    fn alone<T>(
        &self,
        subject: &Subject,
        step: &str,
        cancel: &Cancel,
        work: impl FnOnce(&File) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let lock = self.lock(subject, cancel)?;
        catch_unwind(AssertUnwindSafe(|| work(&lock))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            let message = format!("step {step} panicked: {text}");
            Err(Fault::new(Code::Defect, message, "report this defect with the daemon log"))
        })
    }
}

impl Task<'_> {
    fn perform(&self, step: Step) -> Result<EnvironmentOutcome, Fault> {
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
            Step::Inspect => inspect::inspect(self).map(EnvironmentOutcome::Inspected),
            Step::RunTeardown => hook::run_teardown(self),
            Step::EndProcesses => self.end_processes(),
            Step::Rescue => rescue::rescue(self),
            Step::MoveToTrash => teardown::move_to_trash(self),
            Step::Unregister => teardown::unregister(self),
            Step::SettleBranch => teardown::settle_branch(self),
        }
    }

    /// Ends the processes in the environment. Processes that do not end are reported; they do
    /// not hold up the teardown.
    fn end_processes(&self) -> Result<EnvironmentOutcome, Fault> {
        let env = self.env();
        let options = env.teardown.as_ref().map(|t| t.options.clone()).unwrap_or_default();
        let grace = Duration::from_millis(options.grace_ms);
        let scope = Scope::of(env, &self.world.cgroups);
        let ended = crate::world::process::terminate::end(&scope, grace, self.cancel)?;
        Ok(EnvironmentOutcome::Ended(ended))
    }
}
