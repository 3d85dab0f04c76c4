//! What the world owes: a function of the state, never of the last event.
//!
//! [`State::owed`] is asked after every batch of records and after every start. That is all there
//! is to recovery. Effects are described here as data; `world` performs them.

use super::event::{
    Base, Included, NotMoved, ProcessesEnded, Rescue, SetupReport, Size, SourceCopy, SourceState,
    Staging, SweepFinished, Worktree,
};
use super::fault::Fault;
use super::id::{EffectId, HostPath};
use super::state::State;
use crate::core::model::archive::Remains;
use crate::core::model::cleaned_output::CleanedOutput;
use crate::core::model::environment::Environment;
use crate::core::model::migration::Migration;
use crate::core::model::step::Step;

/// One effect that may be started now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwedEffect {
    /// Its identity and fencing token.
    pub id: EffectId,
    /// What to do.
    pub step: Step,
}

/// All that the world needs to perform one effect, copied out of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Its identity and fencing token.
    pub id: EffectId,
    /// What to do.
    pub step: Step,
    /// For whom, as it was when the effect was started.
    pub target: Target,
}

/// For whom an effect is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A living environment, and the hook contents that the user trusts in its repository.
    Environment(Box<Environment>, Vec<String>),
    /// What is left of one that is over.
    Remains(Box<Remains>),
    /// What one clean took.
    Output(Box<CleanedOutput>),
    /// A database on its way.
    Migration(Box<Migration>),
    /// The data directory, with all that the log explains in it.
    Host(Box<State>),
}

/// How an effect ended well, with the evidence that the log keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// [`Step::ResolveBase`]: found.
    Resolved(Base),
    /// [`Step::AddWorktree`]: exists and is clean.
    Added(Worktree),
    /// [`Step::CopyIncluded`]: copied what could be copied.
    Included(Included),
    /// [`Step::RunSetup`]: ran and succeeded.
    SetUp(SetupReport),
    /// [`Step::RollBack`]: nothing of it is left in its place; what is kept, when somebody may have
    /// worked in it.
    RolledBack(RolledBackTo),
    /// [`Step::RefreshIndex`]: done, or left alone because somebody else held the index.
    Refreshed(bool),
    /// [`Step::ApplyRescue`]: working tree and index are as they were.
    Applied,
    /// [`Step::Restore`]: back in its place, with the branch that is checked out.
    Restored(Worktree, String),
    /// [`Step::Clean`]: what was taken.
    Cleaned(Taken),
    /// [`Step::UndoClean`]: what was put back.
    CleanUndone(Returned),
    /// [`Step::Inspect`]: what a removal would take away.
    Inspected(Inspection),
    /// [`Step::RunTeardown`]: ran and succeeded, after so many milliseconds.
    TornDown(u64),
    /// [`Step::EndProcesses`]: what was ended, spared, and survived.
    Ended(ProcessesEnded),
    /// [`Step::Rescue`]: the ref that holds what no branch has; none when there was nothing.
    Rescued(Option<Rescue>),
    /// [`Step::MoveToTrash`]: the tree is not the one that was consented to; nothing was moved.
    Outdated,
    /// [`Step::MoveToTrash`]: where the directory is now, none when it was gone already; and, when
    /// registration and branch could be settled in one go, whether the branch was deleted and why.
    Trashed(Option<HostPath>, Option<(bool, String)>),
    /// [`Step::Unregister`]: git no longer knows it.
    Unregistered,
    /// [`Step::SettleBranch`]: whether it was deleted, why or why not, and what was rescued.
    BranchSettled(bool, String, Vec<String>),
    /// [`Step::Measure`]: how large it is; and a new rescue, when it holds what the old one lacks.
    Measured(Size, Option<Rescue>),
    /// [`Step::Purge`]: gone, with so many entries.
    Purged(u64),
    /// [`Step::Purge`]: the rescue had gone and was made anew; nothing is unlinked yet.
    RescuedAgain(Rescue),
    /// [`Step::DropRescue`]: gone.
    RescueDropped,
    /// [`Step::Sweep`]: what was found and settled.
    Swept(SweepFinished),
    /// [`Step::InspectSource`]: what the database is.
    SourceInspected(SourceState),
    /// [`Step::CopySource`]: what was copied.
    SourceCopied(SourceCopy),
    /// [`Step::NormaliseSource`]: done, with what a person should know.
    SourceNormalised(Vec<String>),
    /// [`Step::BuildStaging`]: what was built.
    StagingBuilt(Staging),
    /// [`Step::WriteSecrets`]: how many entries.
    SecretsWritten(u64),
    /// [`Step::VerifyStaging`]: whole, with so many bytes, and the file's size and time.
    StagingVerified(u64, String),
    /// [`Step::Flip`]: where the old database is.
    Flipped(HostPath),
    /// [`Step::CleanUp`], [`Step::DropStaging`]: done; what could not be removed.
    CleanedUp(Vec<String>),
    /// [`Step::ReturnBackup`]: the old database is back; where the new one is.
    Returned(HostPath),
}

/// What a roll-back has kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RolledBackTo {
    /// Where its directory is now.
    pub trash: Option<HostPath>,
    /// The commit that its HEAD was at; empty when there is none.
    pub head: String,
    /// What was saved of the work in it.
    pub rescue: Option<Rescue>,
    /// What could not be taken back, and why.
    pub left: Vec<String>,
}

/// What a clean took out of a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// Relative to the worktree; bounded.
    pub paths: Vec<String>,
    /// How much that is.
    pub size: Size,
    /// What was left, and why; bounded.
    pub left: Vec<NotMoved>,
    /// Where it is now; none when nothing was taken.
    pub trash: Option<HostPath>,
}

/// What an undo put back into a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Returned {
    /// Relative to the worktree; bounded.
    pub paths: Vec<String>,
    /// What stays in the trash, and why; bounded.
    pub left: Vec<NotMoved>,
    /// How much of it stays.
    pub size: Size,
}

/// What a look at a worktree led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// Work that a removal would take away; empty means nothing.
    pub unsaved: Vec<String>,
    /// SHA-256 over all that was looked at, in hex.
    pub fingerprint: String,
    /// The commit that HEAD is at; empty when there is none.
    pub head: String,
    /// Whether there is anything that a rescue would save.
    pub rescue: bool,
    /// Whether the worktree has the teardown hook that was planned.
    pub has_hook: bool,
    /// Whether it is known that no process has anything to do with it.
    pub quiet: bool,
    /// Seconds since 1970 at which something last changed, as far as the look saw it.
    pub last_change: u64,
    /// The branch that is checked out; empty when there is none.
    pub branch: String,
    /// What goes with it and is no work, and yet worth a word.
    pub noted: Vec<String>,
    /// Whether the repository could not be looked into, so that nobody knows what is saved.
    pub unseen: bool,
    /// Whether there is a repository inside that is work.
    pub nested: bool,
    /// Why the directory cannot be moved at all, as things are.
    pub immovable: Option<Fault>,
}

/// A fact that an effect tells before it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A hook's process exists and waits at its gate: the setup hook's or, in a teardown, the
    /// teardown hook's.
    HookSpawned {
        /// Process and group id.
        pid: u32,
        /// Start time as the kernel tells it.
        started: u64,
        /// SHA-256 of the hook in hex.
        hash: String,
    },
}
