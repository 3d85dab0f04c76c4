//! The output that one clean moved to the trash. Data and queries; nothing here changes state.

use serde::Serialize;

use crate::empty_is_none;
use crate::event::{PurgeReason, Size};
use crate::fault::Fault;
use crate::id::{EffectId, EnvironmentId, HostPath, Seq, Subject, Time};
use crate::model::step::{OutputStep, Owed};

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
    #[serde(serialize_with = "empty_is_none::serialize")]
    pub purge: Option<PurgeReason>,
    /// The step that is owed to it; only an unlink.
    pub owed: Option<Owed<OutputStep>>,
    /// Why the last attempt at that step failed.
    pub fault: Option<Fault>,
}

impl CleanedOutput {
    /// Returns the identity of the effect that is owed now.
    #[must_use]
    pub fn effect_id(&self) -> Option<EffectId> {
        Some(self.owed.as_ref()?.id(Subject::Output(self.id.clone(), self.clean)))
    }

    /// Returns whether users see it: neither what is being moved nor what was never moved.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.phase != OutputPhase::Taking && (self.trash.is_some() || self.fault.is_some())
    }

    /// Returns whether its unlinking is in progress and nothing blocks it.
    #[must_use]
    pub fn is_being_purged(&self) -> bool {
        self.purge.is_some() && self.fault.is_none()
    }

    pub(crate) fn is_taken(&self, now: bool) -> bool {
        self.phase == OutputPhase::Taking && self.now == now
    }

    /// Returns whether it is in the trash and no operation on it is in progress.
    pub(crate) fn is_kept(&self) -> bool {
        self.phase == OutputPhase::Kept && self.purge.is_none()
    }

    /// Returns whether it may be purged by itself; once all attempts failed it waits for a request.
    pub(crate) fn may_go(&self) -> bool {
        self.is_kept() && self.fault.is_none()
    }

    /// Returns when it is unlinked because of its age.
    #[must_use]
    pub fn expires(&self, seconds: u64) -> Time {
        self.at.after(std::time::Duration::from_secs(seconds))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.size.map_or(0, |s| s.allocated)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let step = self.owed.as_ref().map(|o| o.step);
        let fits = match step {
            None => self.purge.is_none(),
            Some(OutputStep::Purge) => self.purge.is_some() && self.phase == OutputPhase::Kept,
        };
        if !fits {
            let (purge, phase) = (&self.purge, self.phase);
            let name = format!("clean {} of {}", self.clean, self.id);
            return Err(format!("{name} owes {step:?}, {phase:?}, purged for {purge:?}"));
        }
        Ok(())
    }

    /// Returns whether nothing of it is in the trash.
    pub(crate) fn is_nothing(&self) -> bool {
        self.is_kept() && self.trash.is_none() && self.fault.is_none()
    }
}
