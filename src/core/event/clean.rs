//! Events about rebuildable output: taken from a worktree, put back, unlinked.

use serde::{Deserialize, Serialize};

use crate::event::archive::Size;
use crate::event::common::Actor;
use crate::event::names::PurgeReason;
use crate::fault::Fault;
use crate::id::{EnvironmentId, HostPath, Seq, Time};

/// A directory that a clean or its undo did not move.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NotMoved {
    /// Its path, relative to the worktree.
    pub path: String,
    /// The reason, in words.
    pub why: String,
}

/// Kind 85: a requester wants the rebuildable output of an environment removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanRequested {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The actor of the request.
    pub actor: Actor,
    /// Whether it is unlinked at once, and cannot be put back.
    pub now: bool,
}

/// Kind 86: the rebuildable output of an environment is in the trash, or the clean failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Paths that were taken, relative to the worktree; bounded.
    pub paths: Vec<String>,
    /// Size of what was taken.
    pub size: Size,
    /// Why nothing was taken; none when the clean succeeded.
    pub fault: Option<Fault>,
    /// Directories that were not moved; bounded.
    pub left: Vec<NotMoved>,
    /// The folder in the trash, with the same paths inside; none when nothing was taken.
    pub trash: Option<HostPath>,
}

/// Kind 87: a requester wants the output of a clean put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanUndoRequested {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The record that requested that clean.
    pub clean: Seq,
    /// The actor of the request.
    pub actor: Actor,
}

/// Kind 88: the output of a clean is back in its place, as far as that was free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanUndone {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The record that requested that clean.
    pub clean: Seq,
    /// Paths that were put back, relative to the worktree; bounded.
    pub returned: Vec<String>,
    /// Directories that stay in the trash; bounded.
    pub left: Vec<NotMoved>,
    /// Size of what stays in the trash.
    pub size: Size,
    /// Why nothing was put back; none when the undo succeeded.
    pub fault: Option<Fault>,
}

/// Kind 82: the output of a clean is to be unlinked; it cannot be put back any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanPurgeDecided {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The record that requested that clean.
    pub clean: Seq,
    /// Why.
    pub reason: PurgeReason,
    /// The requester; none when the daemon decided it.
    pub actor: Option<Actor>,
}

/// Kind 83: the output of a clean was unlinked, or stays because it cannot be unlinked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanPurged {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The record that requested that clean.
    pub clean: Seq,
    /// Files, links and directories that this daemon unlinked.
    pub entries: u64,
    /// Why it stays, after all attempts; usually none.
    pub fault: Option<Fault>,
}

/// Kind 84: unlinking the output of a clean failed and will be retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanAttemptFailed {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The record that requested that clean.
    pub clean: Seq,
    /// Name of the step.
    pub step: String,
    /// Failed attempts, this one included.
    pub attempts: u32,
    /// When the next one may start.
    pub retry_at: Time,
    /// Why the attempt failed.
    pub fault: Fault,
}
