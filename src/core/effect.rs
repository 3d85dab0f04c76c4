//! Effects: the work owed to subjects, as a function of the state, never of the last event.
//!
//! The engine evaluates [`State::owed`] after every batch of records and after every start;
//! recovery needs nothing else. Effects are described here as data; `world` performs them.

use super::event::{
    Base, Included, NotMoved, ProcessesEnded, Rescue, SetupReport, Size, SourceCopy, SourceState,
    Staging, SweepFinished, Worktree,
};
use super::fault::Fault;
use super::id::{EffectId, HostPath};
use super::state::State;
use crate::model::archive::Remains;
use crate::model::cleaned_output::CleanedOutput;
use crate::model::environment::Environment;
use crate::model::migration::Migration;
use crate::model::step::Step;

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
    /// The step to perform.
    pub step: Step,
    /// Its subject, as it was when the effect was started.
    pub target: Target,
}

/// The subject of an effect, with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A live environment, and the hook contents that the user trusts in its repository.
    Environment(Box<Environment>, Vec<String>),
    /// The archive of an ended incarnation.
    Remains(Box<Remains>),
    /// The output that one clean took.
    Output(Box<CleanedOutput>),
    /// A database under migration.
    Migration(Box<Migration>),
    /// The data directory, with the whole state, which explains its content.
    Host(Box<State>),
}

/// Successful outcome of an effect, with the evidence that the log keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// [`Step::ResolveBase`]: the base that was found.
    Resolved(Base),
    /// [`Step::AddWorktree`]: the worktree exists and is clean.
    Added(Worktree),
    /// [`Step::CopyIncluded`]: everything that could be copied was copied.
    Included(Included),
    /// [`Step::RunSetup`]: the hook ran and succeeded.
    SetUp(SetupReport),
    /// [`Step::RollBack`]: nothing is left in place; what was archived, where work was possible.
    RolledBack(RolledBackTo),
    /// [`Step::RefreshIndex`]: whether it was done; not while another process held the index.
    Refreshed(bool),
    /// [`Step::ApplyRescue`]: working tree and index are as they were.
    Applied,
    /// [`Step::Restore`]: the worktree is back in its place, with the branch that is checked out.
    Restored(Worktree, String),
    /// [`Step::Clean`]: the output that was taken.
    Cleaned(Taken),
    /// [`Step::UndoClean`]: the output that was put back.
    CleanUndone(Returned),
    /// [`Step::Inspect`]: the content that a removal would take away.
    Inspected(Inspection),
    /// [`Step::RunTeardown`]: the hook succeeded, after so many milliseconds.
    TornDown(u64),
    /// [`Step::EndProcesses`]: processes that were ended, spared, or survived.
    Ended(ProcessesEnded),
    /// [`Step::Rescue`]: the ref that holds work no branch holds; none when there was none.
    Rescued(Option<Rescue>),
    /// [`Step::MoveToTrash`]: the tree differs from the one consented to; nothing was moved.
    Outdated,
    /// [`Step::MoveToTrash`]: the directory's place in the trash, none when it was missing already;
    /// and, when registration and branch could be settled in one go, whether the branch was deleted
    /// and why.
    Trashed(Option<HostPath>, Option<(bool, String)>),
    /// [`Step::Unregister`]: git no longer has the worktree registered.
    Unregistered,
    /// [`Step::SettleBranch`]: whether it was deleted, why or why not, and rescue refs.
    BranchSettled(bool, String, Vec<String>),
    /// [`Step::Measure`]: the size; and a new rescue, when the old one lacks work.
    Measured(Size, Option<Rescue>),
    /// [`Step::Purge`]: unlinked, with so many entries.
    Purged(u64),
    /// [`Step::Purge`]: the rescue was missing and was made anew; nothing is unlinked yet.
    RescuedAgain(Rescue),
    /// [`Step::DropRescue`]: the ref was removed.
    RescueDropped,
    /// [`Step::Sweep`]: what was found and settled.
    Swept(SweepFinished),
    /// [`Step::InspectSource`]: state of the database.
    SourceInspected(SourceState),
    /// [`Step::CopySource`]: the private copy.
    SourceCopied(SourceCopy),
    /// [`Step::NormaliseSource`]: done, with warnings for the user.
    SourceNormalised(Vec<String>),
    /// [`Step::BuildStaging`]: the new database.
    StagingBuilt(Staging),
    /// [`Step::WriteSecrets`]: number of entries written.
    SecretsWritten(u64),
    /// [`Step::VerifyStaging`]: whole, with so many bytes, and the file's size and time.
    StagingVerified(u64, String),
    /// [`Step::Flip`]: path of the old database.
    Flipped(HostPath),
    /// [`Step::CleanUp`], [`Step::DropStaging`]: done, with files that could not be removed.
    CleanedUp(Vec<String>),
    /// [`Step::ReturnBackup`]: the old database is back; path of the new one.
    Returned(HostPath),
}

/// The archive that a rollback leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RolledBackTo {
    /// The directory's place in the trash.
    pub trash: Option<HostPath>,
    /// The commit at HEAD; empty when there is none.
    pub head: String,
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
    /// SHA-256 over everything inspected, in hex.
    pub fingerprint: String,
    /// The commit at HEAD; empty when there is none.
    pub head: String,
    /// Whether there is work for a rescue to save.
    pub rescue: bool,
    /// Whether the worktree has the teardown hook of the options.
    pub has_hook: bool,
    /// Whether it is known that no process uses the worktree.
    pub quiet: bool,
    /// Seconds since 1970 of the last change that the inspection saw.
    pub last_change: u64,
    /// The branch that is checked out; empty when there is none.
    pub branch: String,
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
