//! The output that one clean moved to the trash.

use serde::Serialize;

use crate::event::{PurgeReason, Size};
use crate::fault::Fault;
use crate::id::{EnvironmentId, HostPath, Seq, Time};
use crate::model::step::{OutputStep, Owed};
use crate::model::text::or_empty;

/// Position of the output of one clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum OutputPhase {
    /// It is being moved out of the worktree.
    Taking,
    /// It is in the trash.
    Kept,
    /// It is being put back into the worktree.
    Returning,
}

/// The output that one clean took from an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CleanedOutput {
    /// The environment's id.
    pub id: EnvironmentId,
    /// The record that requested the clean; with the id it names the folder in the trash.
    pub clean: Seq,
    /// The incarnation that it can be put back into; a restore hands it on to the new one.
    pub incarnation: u32,
    /// When the clean was requested.
    pub at: Time,
    /// Common directory of the repository.
    pub repository: HostPath,
    /// The branch that was checked out.
    pub branch: String,
    /// Whether it is being taken, kept or returned.
    #[serde(rename = "standing")]
    pub phase: OutputPhase,
    /// Whether it is unlinked as soon as it is moved.
    pub now: bool,
    /// Its folder in the trash; none until the clean has settled.
    pub trash: Option<HostPath>,
    /// Paths that were taken, relative to the worktree; bounded.
    pub paths: Vec<String>,
    /// Its size, as the clean reported it.
    pub size: Option<Size>,
    /// Reason of the decided unlink; none while it is kept.
    #[serde(serialize_with = "or_empty")]
    pub purge: Option<PurgeReason>,
    /// The step that is owed to it; only an unlink.
    pub owed: Option<Owed<OutputStep>>,
    /// Why the last attempt at that step failed.
    pub fault: Option<Fault>,
}
