//! What happens to the rebuildable parts of environments: taken away, put back, unlinked for good.

use serde::{Deserialize, Serialize};

use crate::core::event::archive::Size;
use crate::core::event::common::Actor;
use crate::core::fault::Fault;
use crate::core::id::{EnvironmentId, HostPath, Seq, Time};

/// A directory that a clean or its undo left where it was, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NotMoved {
    /// Relative to the worktree.
    pub path: String,
    /// Why, in words.
    pub why: String,
}

/// Kind 85: somebody wants the rebuildable output of an environment to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanRequested {
    /// Whose.
    pub environment: EnvironmentId,
    /// Who asked.
    pub actor: Actor,
    /// Whether it is unlinked at once, and cannot be put back.
    pub now: bool,
}

/// Kind 86: the rebuildable output of an environment is in the trash, or why it stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    /// Whose.
    pub environment: EnvironmentId,
    /// What was taken, relative to the worktree; bounded.
    pub paths: Vec<String>,
    /// How much it took.
    pub size: Size,
    /// Why nothing was taken; none when all went well.
    pub fault: Option<Fault>,
    /// What was left in its place; bounded.
    pub left: Vec<NotMoved>,
    /// Where it is now, with the same paths inside; none when nothing was taken.
    pub trash: Option<HostPath>,
}

/// Kind 87: somebody wants back what a clean took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanUndoRequested {
    /// Whose.
    pub environment: EnvironmentId,
    /// The record that asked for that clean.
    pub clean: Seq,
    /// Who asked.
    pub actor: Actor,
}

/// Kind 88: what a clean took is back in its place, as far as that was free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanUndone {
    /// Whose.
    pub environment: EnvironmentId,
    /// The record that asked for that clean.
    pub clean: Seq,
    /// What was put back, relative to the worktree; bounded.
    pub returned: Vec<String>,
    /// What stays in the trash; bounded.
    pub left: Vec<NotMoved>,
    /// How much of it stays in the trash.
    pub size: Size,
    /// Why nothing was put back; none when all went well.
    pub fault: Option<Fault>,
}

/// Kind 82: what a clean took is to be unlinked; it cannot be put back any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanPurgeDecided {
    /// Whose.
    pub environment: EnvironmentId,
    /// The record that asked for that clean.
    pub clean: Seq,
    /// Why: `age`, `bytes`, `count`, `disk` (it is nearly full) or `request`.
    pub reason: String,
    /// Who asked, when somebody did.
    pub actor: Option<Actor>,
}

/// Kind 83: what a clean took is gone, or stays because it cannot be unlinked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanPurged {
    /// Whose.
    pub environment: EnvironmentId,
    /// The record that asked for that clean.
    pub clean: Seq,
    /// Files, links and directories that were unlinked, as far as this daemon did it.
    pub entries: u64,
    /// Why it stays, after all attempts; none in the ordinary case.
    pub fault: Option<Fault>,
}

/// Kind 84: unlinking what a clean took failed and will be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanAttemptFailed {
    /// Whose.
    pub environment: EnvironmentId,
    /// The record that asked for that clean.
    pub clean: Seq,
    /// Which step.
    pub step: String,
    /// How many attempts have failed now.
    pub attempts: u32,
    /// When the next one may start.
    pub retry_at: Time,
    /// Why.
    pub fault: Fault,
}
