//! Events about archives: the trash entries and rescue refs of ended incarnations.

use serde::{Deserialize, Serialize};

use crate::empty_is_none;
use crate::event::common::{Actor, Plan};
use crate::event::names::PurgeReason;
use crate::event::provision::Worktree;
use crate::event::teardown::Rescue;
use crate::fault::Fault;
use crate::id::{EnvironmentId, HostPath, Nonce, Time};

/// Disk usage of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Size {
    /// Files, links and directories.
    pub entries: u64,
    /// Sum of the file lengths in bytes.
    pub apparent: u64,
    /// Bytes of the allocated blocks; a file with several names is counted once.
    pub allocated: u64,
}

/// Kind 70: the size of a directory in the trash is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashMeasured {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// Its measured size.
    pub size: Size,
}

/// Kind 76: a directory in the trash held work written after its rescue was made and before it was
/// moved; a new rescue holds that work and the content of the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateWorkRescued {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// The new rescue.
    pub rescue: Rescue,
}

/// Kind 77: every attempt to inspect a directory in the trash failed. It stays there, since it may
/// hold content that no rescue holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashLookFailed {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// Why the last attempt failed.
    pub fault: Fault,
}

/// Kind 71: a directory in the trash is to be unlinked; it cannot be restored any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeDecided {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// Why.
    pub reason: PurgeReason,
    /// The requester; none when the daemon decided it.
    pub actor: Option<Actor>,
}

/// Kind 72: a directory in the trash was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashPurged {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// Files, links and directories that this daemon unlinked.
    pub entries: u64,
    /// What could not be removed after all attempts; usually empty.
    pub leftovers: Vec<String>,
}

/// Kind 73: a step on an archive failed and will be retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemainsAttemptFailed {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// Name of the step.
    pub step: String,
    /// Failed attempts, this one included.
    pub attempts: u32,
    /// When the next one may start.
    pub retry_at: Time,
    /// Why the attempt failed.
    pub fault: Fault,
}

/// Kind 74: the user wants a rescue removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueDropRequested {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// The actor of the request.
    pub actor: Actor,
}

/// Kind 75: a rescue's ref was removed, or its removal was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueDropped {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// Why the ref is still there, if it could not be removed.
    #[serde(with = "empty_is_none")]
    pub leftover: Option<String>,
}

/// Kind 78: a sweep found the directory of an ended incarnation, proved that it is managed, and
/// moved it to the trash, from which it can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoverArchived {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// Nonce of that incarnation; none where an earlier version began it.
    pub nonce: Option<Nonce>,
    /// Plan that the incarnation was made by.
    pub plan: Plan,
    /// The directory's place in the trash.
    pub trash: HostPath,
    /// Facts about the worktree, as far as the sweep found them.
    pub worktree: Worktree,
    /// The commit at HEAD, if it is known.
    #[serde(with = "empty_is_none")]
    pub head: Option<String>,
    /// The branch that is checked out, if there is one.
    #[serde(with = "empty_is_none")]
    pub branch: Option<String>,
}

/// Kind 92: a rescue is to be dropped because of its age, not before a time that is at least a day
/// away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueExpiryAnnounced {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// When it is dropped.
    pub at: Time,
}

/// Kind 79: a repository has many rescues with refs of their own; the older ones are to be folded
/// into one ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueFoldDecided {
    /// The environment of the archive that the step is owed to, one of those to be folded.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
}

/// Kind 89: rescues have no refs of their own any more; one ref holds them all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescuesFolded {
    /// The environment of the archive that the step was owed to.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// Full name of the ref that holds them now; none if nothing was folded.
    #[serde(with = "empty_is_none")]
    pub reference: Option<String>,
    /// The rescues that it holds; bounded.
    pub folded: Vec<FoldedRescue>,
    /// Why nothing was folded after all attempts.
    #[serde(with = "empty_is_none")]
    pub leftover: Option<String>,
}

/// A rescue that was folded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedRescue {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ended incarnation.
    pub incarnation: u32,
    /// The commits that the fold holds of it: of the rescue itself and of nested repositories.
    pub commits: Vec<String>,
}
