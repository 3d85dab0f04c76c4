//! The archive of an ended incarnation: a directory in the trash, a rescue ref, or both.

use serde::Serialize;

use crate::event::{Base, Plan, ProcessSeen, PurgeReason, Rescue, Size, Worktree};
use crate::fault::Fault;
use crate::id::{EnvironmentId, HostPath, Nonce, Time};
use crate::model::step::{ArchiveStep, Owed};
use crate::model::text::or_empty;

/// The archive of one ended incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchivedIncarnation {
    /// The environment's id.
    pub id: EnvironmentId,
    /// Number of the ended incarnation.
    pub incarnation: u32,
    /// Plan that the incarnation was made by.
    pub plan: Plan,
    /// When the incarnation ended.
    pub at: Time,
    /// The incarnation's directory in the trash; none where only a rescue ref is left.
    pub trash: Option<HostPath>,
    /// Size of that directory; none until it was measured in the trash.
    pub size: Option<Size>,
    /// The commit at HEAD, if there was one.
    #[serde(serialize_with = "or_empty")]
    pub head: Option<String>,
    /// The base it started from.
    pub base: Option<Base>,
    /// Facts about its worktree, which a restore needs.
    pub worktree: Option<Worktree>,
    /// The ref that holds work that no branch holds.
    pub rescue: Option<Rescue>,
    /// When the last inspection before the rescue became owed: later writes may be in no rescue.
    /// None once a measurement has checked for them, and where no rescue is wanted.
    pub looked_at: Option<Time>,
    /// Whether the teardown deleted its branch.
    pub branch_deleted: bool,
    /// Processes that did not end; the unlink waits for them.
    pub survivors: Vec<ProcessSeen>,
    /// Number of the incarnation that is being restored from it.
    pub restoring: Option<u32>,
    /// The step that is owed to it.
    pub owed: Option<Owed<ArchiveStep>>,
    /// Reason of the decided unlink; none while it is kept.
    #[serde(serialize_with = "or_empty")]
    pub purge: Option<PurgeReason>,
    /// Why the last attempt at the owed step failed.
    pub fault: Option<Fault>,
    /// Nonce of the ended incarnation; none where an earlier version began it.
    pub nonce: Option<Nonce>,
    /// Nonces of the incarnations that it continued, latest last.
    pub lineage: Vec<Nonce>,
    /// Whether its repository could not be read, so that it is unknown which content is saved.
    pub unseen: bool,
    /// The branch that was checked out at the end, if it is known.
    #[serde(serialize_with = "or_empty")]
    pub on_branch: Option<String>,
}
