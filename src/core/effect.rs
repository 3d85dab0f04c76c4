//! Effects: the work owed to subjects, as a function of the state, never of the last event.
//!
//! The engine evaluates [`State::owed`] after every batch of records and after every start;
//! recovery needs nothing else. Effects are described here as data; `world` performs them.

use std::fmt;

use super::event::{
    Base, FoldedRescue, Included, LeftoverArchived, NotMoved, ProcessesEnded, Rescue, SetupReport,
    Size, SourceCopy, SourceState, Staging, SweepFinished, Worktree,
};
use super::fault::{Code, Fault};
use super::id::{EffectId, EnvironmentId, HostPath, MigrationId, Seq, Subject};
use super::state::State;
use crate::model::archive::ArchivedIncarnation;
use crate::model::cleaned_output::CleanedOutput;
use crate::model::environment::Environment;
use crate::model::migration::Migration;
use crate::model::step::{
    ArchiveStep, EnvironmentStep, HostStep, MigrationStep, OutputStep, Owed, Step,
};

/// One effect that may be started now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwedEffect {
    /// Its identity and fencing token.
    pub id: EffectId,
    /// The step to perform.
    pub step: Step,
}

/// Everything needed to perform one effect, copied out of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Its identity and fencing token.
    pub id: EffectId,
    /// Its subject, as it was when the effect was started, and the step to perform.
    pub target: Target,
}

impl Effect {
    /// Returns the step to perform.
    #[must_use]
    pub fn step(&self) -> Step {
        match &self.target {
            Target::Environment(step, ..) => (*step).into(),
            Target::Archive(step, ..) => (*step).into(),
            Target::Output(step, _) => (*step).into(),
            Target::Migration(step, _) => (*step).into(),
            Target::Host(step, _) => (*step).into(),
        }
    }
}

/// The subject of an effect, with the step that it is owed and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A live environment, and the hook contents that the user trusts in its repository.
    Environment(EnvironmentStep, Box<Environment>, Vec<String>),
    /// The archive of an ended incarnation; and those whose rescues are to be folded, for that step
    /// alone.
    Archive(ArchiveStep, Box<ArchivedIncarnation>, Vec<ArchivedIncarnation>),
    /// The output that one clean took.
    Output(OutputStep, Box<CleanedOutput>),
    /// A database under migration.
    Migration(MigrationStep, Box<Migration>),
    /// The data directory, with the whole state, which explains its content.
    Host(HostStep, Box<State>),
}

/// The end of an effect, one variant a subject: the outcome of another subject cannot be expressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Of an effect on an environment.
    Environment(EnvironmentId, Ended<EnvironmentOutcome>),
    /// Of an effect on the archive of an ended incarnation.
    Archive(EnvironmentId, u32, Ended<ArchiveOutcome>),
    /// Of an effect on the output of the clean that this record requested.
    Output(EnvironmentId, Seq, Ended<OutputOutcome>),
    /// Of an effect on a database under migration.
    Migration(MigrationId, Ended<MigrationOutcome>),
    /// Of an effect on the data directory.
    Host(Ended<HostOutcome>),
}

/// The result of one effect of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended<O> {
    /// The record that made the effect owed; with the subject it identifies the effect.
    pub entered: Seq,
    /// Its outcome, or why it failed.
    pub result: Result<O, Fault>,
}

impl Settlement {
    /// Creates the settlement of an effect that failed.
    #[must_use]
    pub fn failed(effect: EffectId, fault: Fault) -> Self {
        let entered = effect.entered;
        match effect.subject {
            Subject::Environment(id) => {
                Self::Environment(id, Ended { entered, result: Err(fault) })
            }
            Subject::Archive(id, incarnation) => {
                Self::Archive(id, incarnation, Ended { entered, result: Err(fault) })
            }
            Subject::Output(id, clean) => {
                Self::Output(id, clean, Ended { entered, result: Err(fault) })
            }
            Subject::Migration(id) => Self::Migration(id, Ended { entered, result: Err(fault) }),
            Subject::Host => Self::Host(Ended { entered, result: Err(fault) }),
        }
    }

    /// Returns the identity of the effect that ended.
    #[must_use]
    pub fn effect(&self) -> EffectId {
        let (subject, entered) = match self {
            Self::Environment(id, ended) => (Subject::Environment(id.clone()), ended.entered),
            Self::Archive(id, incarnation, ended) => {
                (Subject::Archive(id.clone(), *incarnation), ended.entered)
            }
            Self::Output(id, clean, ended) => (Subject::Output(id.clone(), *clean), ended.entered),
            Self::Migration(id, ended) => (Subject::Migration(id.clone()), ended.entered),
            Self::Host(ended) => (Subject::Host, ended.entered),
        };
        EffectId { subject, entered }
    }

    /// Returns why the effect failed; none when it succeeded.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Environment(_, ended) => ended.result.as_ref().err(),
            Self::Archive(_, _, ended) => ended.result.as_ref().err(),
            Self::Output(_, _, ended) => ended.result.as_ref().err(),
            Self::Migration(_, ended) => ended.result.as_ref().err(),
            Self::Host(ended) => ended.result.as_ref().err(),
        }
    }
}

/// A successful outcome of an effect on one kind of subject.
pub trait Outcome {
    /// The steps of the subject.
    type Step: PartialEq;

    /// Returns the step that ends with this outcome.
    fn step(&self) -> Self::Step;
}

impl<O: Outcome + fmt::Debug> Ended<O> {
    /// Returns what this means for the step that is owed; `None` when its effect was superseded.
    /// The outcome of another step is a defect of the program: it counts as a failure of the step,
    /// whose attempts are bounded, and never as its success.
    pub(crate) fn result_for(self, owed: &Owed<O::Step>) -> Option<Result<O, Fault>> {
        if self.entered != owed.entered {
            return None;
        }
        Some(self.result.and_then(|outcome| {
            if outcome.step() == owed.step {
                return Ok(outcome);
            }
            let message = format!("the owed step returned an unexpected outcome: {outcome:?}");
            Err(Fault::new(Code::Defect, message, "please report this"))
        }))
    }
}

/// Declares the successful outcomes of one subject, each of them with the step that it ends.
macro_rules! outcomes {
    ($(#[$of_doc:meta])* $of:ident of $step:ident {
        $($(#[$doc:meta])* $ends:ident: $outcome:ident $(($($data:ty),*))?;)*
    }) => {
        $(#[$of_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $of { $(
            #[doc = concat!("Of [`", stringify!($step), "::", stringify!($ends), "`]:")]
            $(#[$doc])*
            $outcome $(($($data),*))?
        ),* }

        impl Outcome for $of {
            type Step = $step;

            fn step(&self) -> $step {
                match self { $(Self::$outcome { .. } => $step::$ends),* }
            }
        }
    };
}

outcomes! {
    /// Successful outcome of an effect on an environment, with the evidence that the log keeps.
    EnvironmentOutcome of EnvironmentStep {
        /// the base that was found.
        ResolveBase: Resolved(Base);
        /// the worktree exists and is clean.
        AddWorktree: Added(Worktree);
        /// everything that could be copied was copied.
        CopyIncluded: Included(Included);
        /// the hook ran and succeeded; with the last lines of its output.
        RunSetup: SetUp(SetupReport, Vec<String>);
        /// nothing is left in place; what was archived, where work was possible.
        RollBack: RolledBack(RolledBackTo);
        /// whether it was done; not while another process held the index.
        RefreshIndex: Refreshed(bool);
        /// working tree and index are as they were.
        ApplyRescue: Applied;
        /// the worktree is back in its place, with the branch that is checked out.
        Restore: Restored(Worktree, String);
        /// the output that was taken.
        Clean: Cleaned(Taken);
        /// the output that was put back.
        UndoClean: CleanUndone(Returned);
        /// the content that a removal would take away.
        Inspect: Inspected(Inspection);
        /// the hook succeeded, after so many milliseconds, with these last lines of output.
        RunTeardown: TornDown(u64, Vec<String>);
        /// processes that were ended, spared, or survived.
        EndProcesses: Ended(ProcessesEnded);
        /// the ref that holds work no branch holds; none when there was none.
        Rescue: Rescued(Option<Rescue>);
        /// the tree differs from the one consented to; nothing was moved.
        MoveToTrash: Outdated;
        /// the directory's place in the trash, none when it was missing already; and the branch,
        /// when it and the registration could be settled in one go.
        MoveToTrash: Trashed(Option<HostPath>, Option<BranchOutcome>);
        /// git no longer has the worktree registered.
        Unregister: Unregistered;
        /// the branch was deleted or kept.
        SettleBranch: BranchSettled(BranchOutcome);
    }
}

outcomes! {
    /// Successful outcome of an effect on an archive.
    ArchiveOutcome of ArchiveStep {
        /// the size; and a new rescue, when the old one lacks work.
        Measure: Measured(Size, Option<Rescue>);
        /// unlinked, with so many entries.
        Purge: Purged(u64);
        /// the rescue was missing and was made anew; nothing is unlinked yet.
        Purge: RescuedAgain(Rescue);
        /// the ref was removed.
        DropRescue: RescueDropped;
        /// the ref that holds the rescues of these incarnations now.
        FoldRescues: Folded(String, Vec<FoldedRescue>);
    }
}

outcomes! {
    /// Successful outcome of an effect on the output of a clean.
    OutputOutcome of OutputStep {
        /// unlinked, with so many entries.
        Purge: Purged(u64);
    }
}

outcomes! {
    /// Successful outcome of an effect on the data directory.
    HostOutcome of HostStep {
        /// what was found and settled, and the directories that went to the trash.
        Sweep: Swept(SweepFinished, Vec<LeftoverArchived>);
    }
}

outcomes! {
    /// Successful outcome of an effect on a database under migration.
    MigrationOutcome of MigrationStep {
        /// state of the database.
        InspectSource: SourceInspected(SourceState);
        /// the private copy.
        CopySource: SourceCopied(SourceCopy);
        /// done, with warnings for the user.
        NormaliseSource: SourceNormalised(Vec<String>);
        /// the new database.
        BuildStaging: StagingBuilt(Staging);
        /// number of entries written.
        WriteSecrets: SecretsWritten(u64);
        /// whole, with so many bytes, and the file's size and time.
        VerifyStaging: StagingVerified(u64, String);
        /// path of the old database.
        Flip: Flipped(HostPath);
        /// done, with files that could not be removed.
        CleanUp: CleanedUp(Vec<String>);
        /// done, with files that could not be removed.
        DropStaging: StagingDropped(Vec<String>);
        /// the new database was installed already, and stays; path of the old one.
        DropStaging: TooLate(HostPath);
        /// the old database is back; path of the new one.
        ReturnBackup: Returned(HostPath);
    }
}

/// The end of a removed environment's branch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BranchOutcome {
    /// Whether it was deleted.
    pub deleted: bool,
    /// Why it was kept or deleted, in words.
    pub reason: String,
}

/// The archive that a rollback leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RolledBackTo {
    /// The directory's place in the trash.
    pub trash: Option<HostPath>,
    /// The commit at HEAD, if there is one.
    pub head: Option<String>,
    /// The rescue of the work in it.
    pub rescue: Option<Rescue>,
    /// What could not be rolled back, and why.
    pub left: Vec<String>,
}

/// The output that a clean took out of a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// Paths relative to the worktree; bounded.
    pub paths: Vec<String>,
    /// Size of what was taken.
    pub size: Size,
    /// Directories that were not moved, and why; bounded.
    pub left: Vec<NotMoved>,
    /// Its folder in the trash; none when nothing was taken.
    pub trash: Option<HostPath>,
}

/// The output that an undo put back into a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Returned {
    /// Paths relative to the worktree; bounded.
    pub paths: Vec<String>,
    /// Directories that stay in the trash, and why; bounded.
    pub left: Vec<NotMoved>,
    /// Size of what stays.
    pub size: Size,
}

/// Result of inspecting a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// Work that a removal would take away; empty means none.
    pub unsaved: Vec<String>,
    /// SHA-256 over everything inspected, in hex; none where the tree could not be inspected.
    pub fingerprint: Option<String>,
    /// The commit at HEAD, if there is one.
    pub head: Option<String>,
    /// Whether there is work for a rescue to save.
    pub rescue: bool,
    /// Whether the worktree has the teardown hook of the options.
    pub has_hook: bool,
    /// Whether it is known that no process uses the worktree.
    pub quiet: bool,
    /// Seconds since 1970 of the last change that the inspection saw.
    pub last_change: u64,
    /// The branch that is checked out, if there is one.
    pub branch: Option<String>,
    /// Content that is removed with it and is not work, but is worth reporting.
    pub noted: Vec<String>,
    /// Whether the repository could not be read, so that it is unknown which content is saved.
    pub unseen: bool,
    /// Whether a nested repository holds work.
    pub nested: bool,
    /// Why the directory cannot be moved at all at present.
    pub immovable: Option<Fault>,
}

/// A fact that an effect must have recorded before it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A hook's process exists and waits at its gate: the setup hook's or, in a teardown, the
    /// teardown hook's.
    HookSpawned {
        /// Process and group id.
        pid: u32,
        /// Start time as the kernel reports it.
        started: u64,
        /// SHA-256 of the hook in hex.
        hash: String,
    },
}
