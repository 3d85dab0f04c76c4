//! What is kept of an incarnation that is over: a directory in the trash, a rescue ref.

use serde::{Deserialize, Serialize};

use crate::core::event::{Base, Plan, ProcessSeen, Rescue, Size, Worktree};
use crate::core::fault::Fault;
use crate::core::id::{EnvironmentId, HostPath, Nonce, Time};
use crate::core::model::environment::Owed;

/// What is left of one incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remains {
    /// Whose.
    pub id: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// What it was made by.
    pub plan: Plan,
    /// When it was over.
    pub at: Time,
    /// Its directory in the trash.
    pub trash: Option<HostPath>,
    /// How large that is, once it was measured.
    pub size: Option<Size>,
    /// The commit that its HEAD was at; empty when there was none.
    pub head: String,
    /// Where it started from.
    pub base: Option<Base>,
    /// Its worktree's facts, for a restore.
    pub worktree: Option<Worktree>,
    /// The ref that holds what no branch has.
    pub rescue: Option<Rescue>,
    /// When the last look at it before its rescue began: what was written since may be in no
    /// rescue. None once that was seen to, and where no rescue is wanted.
    pub looked_at: Option<Time>,
    /// Whether its branch was deleted.
    pub branch_deleted: bool,
    /// Processes that did not end; the unlink waits for them.
    pub survivors: Vec<ProcessSeen>,
    /// The incarnation that is being restored from it.
    pub restoring: Option<u32>,
    /// What the world owes it.
    pub owed: Option<Owed>,
    /// Why it is to be unlinked; empty while it is kept.
    pub purge: String,
    /// Why the last attempt at what is owed failed.
    pub fault: Option<Fault>,
    /// What tells the life that is over from all others; none where an earlier version began it.
    pub nonce: Option<Nonce>,
    /// The lives that it went on with, the latest last.
    pub lineage: Vec<Nonce>,
    /// Whether its repository could not be looked into: nobody knows yet what is saved.
    pub unseen: bool,
    /// The branch that was checked out at the end; empty when that is not known.
    pub on_branch: String,
}

/// The reason of a purge that whoever asked for it named, knowing what goes.
pub const LOSE: &str = "lose";
