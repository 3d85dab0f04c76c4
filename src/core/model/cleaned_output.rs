//! What one clean moved to the trash.

use serde::{Deserialize, Serialize};

use crate::core::event::Size;
use crate::core::fault::Fault;
use crate::core::id::{EnvironmentId, HostPath, Seq, Time};
use crate::core::model::environment::Owed;

/// Where the output of one clean stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It is being moved out of the worktree.
    Taking,
    /// It lies in the trash.
    Kept,
    /// It is being put back.
    Returning,
}

/// What one clean took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanedOutput {
    /// Whose.
    pub id: EnvironmentId,
    /// The record that asked for the clean; with the id it names the folder in the trash.
    pub clean: Seq,
    /// The life that it can be put back into. A restore hands it on to the next one.
    pub incarnation: u32,
    /// When it was asked for.
    pub at: Time,
    /// The repository: its common directory.
    pub repository: HostPath,
    /// The branch that was checked out.
    pub branch: String,
    /// Where it stands.
    pub standing: Standing,
    /// Whether it is unlinked as soon as it is moved.
    pub now: bool,
    /// Where it lies, once that is known.
    pub trash: Option<HostPath>,
    /// What was taken, relative to the worktree; bounded.
    pub paths: Vec<String>,
    /// How large it is.
    pub size: Option<Size>,
    /// Why it is to be unlinked; empty while it is kept.
    pub purge: String,
    /// What the world owes it.
    pub owed: Option<Owed>,
    /// Why the last attempt at that failed.
    pub fault: Option<Fault>,
}
