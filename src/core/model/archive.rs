//! The archive of an ended incarnation: a directory in the trash, a rescue ref, or both. Data and
//! queries; nothing here changes state.

use serde::Serialize;

use crate::empty_is_none;
use crate::event::{Base, Plan, ProcessSeen, PurgeReason, Rescue, RestoreFrom, Size, Worktree};
use crate::fault::Fault;
use crate::id::{EffectId, EnvironmentId, HostPath, Life, Nonce, Subject, Time};
use crate::model::step::{ArchiveStep, Owed};
use crate::policy::LINEAGE_MAX;

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
    #[serde(serialize_with = "empty_is_none::serialize")]
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
    #[serde(serialize_with = "empty_is_none::serialize")]
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
    #[serde(serialize_with = "empty_is_none::serialize")]
    pub on_branch: Option<String>,
    /// When its rescue is dropped because of its age, once that is announced.
    pub rescue_ends: Option<Time>,
}

impl ArchivedIncarnation {
    /// Returns the identity of the effect that is owed now.
    #[must_use]
    pub fn effect_id(&self) -> Option<EffectId> {
        let subject = Subject::Archive(self.id.clone(), self.incarnation);
        Some(self.owed.as_ref()?.id(subject))
    }

    /// Returns what a new incarnation would be restored from.
    #[must_use]
    pub fn restore_from(&self) -> RestoreFrom {
        RestoreFrom {
            incarnation: self.incarnation,
            trash: self.trash.clone().filter(|_| self.purge.is_none()),
            head: self.head.clone(),
            rescue: self.rescue.as_ref().and_then(|r| r.commit.clone()),
            nonce: self.nonce.clone(),
            saved: self.rescue.clone(),
        }
    }

    /// Returns the parts from which its names outside the log (refs, files, markers) are built.
    #[must_use]
    pub fn life(&self) -> Life<'_> {
        Life { id: &self.id, incarnation: self.incarnation, nonce: self.nonce.as_ref() }
    }

    /// Returns the lineage of an incarnation restored from this one; bounded, oldest dropped.
    pub(crate) fn lineage(&self) -> Vec<Nonce> {
        let all: Vec<&Nonce> = self.lineage.iter().chain(&self.nonce).collect();
        let old = all.len().saturating_sub(LINEAGE_MAX);
        all[old..].iter().map(|nonce| (*nonce).clone()).collect()
    }

    /// Returns why the directory in the trash is the last copy of something, one line each; empty
    /// when it is not. A last copy is purged only when a request names it and accepts the loss.
    #[must_use]
    pub fn is_last_copy_of(&self) -> Vec<String> {
        if self.trash.is_none() {
            return Vec::new();
        }
        let unseen = self.unseen.then(|| "its repository could not be read".to_owned());
        let given_up = self.is_given_up().then(|| "no inspection of it succeeded".to_owned());
        let lacks = self.rescue.iter().flat_map(|rescue| rescue.lacks.iter().cloned());
        unseen.into_iter().chain(given_up).chain(lacks).collect()
    }

    /// Returns whether the directory in the trash is the last copy of something.
    pub(crate) fn is_last_copy(&self) -> bool {
        self.unseen
            || self.is_given_up()
            || self.rescue.as_ref().is_some_and(|r| !r.lacks.is_empty())
    }

    /// Returns whether it is to be purged although it is a last copy.
    pub(crate) fn is_to_be_lost(&self) -> bool {
        self.purge == Some(PurgeReason::Lose)
    }

    /// Returns whether its directory is in the trash and was not inspected there.
    pub(crate) fn is_unmeasured(&self) -> bool {
        self.trash.is_some() && self.size.is_none()
    }

    /// Returns whether its directory is in the trash and no operation on it is in progress.
    pub(crate) fn is_kept(&self) -> bool {
        let dropping = self.owed.as_ref().is_some_and(|o| o.step == ArchiveStep::DropRescue);
        self.trash.is_some() && self.purge.is_none() && self.restoring.is_none() && !dropping
    }

    /// Returns whether every attempt to inspect it there failed: only a request starts again.
    pub(crate) fn is_given_up(&self) -> bool {
        self.is_unmeasured() && self.owed.is_none() && self.fault.is_some()
    }

    pub(crate) fn expires(&self, seconds: u64) -> Time {
        self.at.after(std::time::Duration::from_secs(seconds))
    }

    /// Returns when it is unlinked because of its age; none for a last copy.
    pub(crate) fn due(&self, seconds: u64) -> Option<Time> {
        (self.is_kept() && !self.is_last_copy()).then(|| self.expires(seconds))
    }

    /// Returns whether its unlink was decided and was blocked; the obstacle may have gone since.
    pub(crate) fn is_postponed(&self) -> bool {
        self.purge.is_some() && self.fault.is_some() && self.restoring.is_none()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let step = self.owed.as_ref().map(|o| o.step);
        let fits = match step {
            None => true,
            // Also before an unlink: only the measurement finds work that was written late.
            Some(ArchiveStep::Measure) => self.trash.is_some(),
            Some(ArchiveStep::Purge) => self.trash.is_some() && self.purge.is_some(),
            Some(ArchiveStep::DropRescue | ArchiveStep::FoldRescues) => self.rescue.is_some(),
        };
        if !fits {
            return Err(format!("archive {}.{} owes {step:?}", self.id, self.incarnation));
        }
        Ok(())
    }
}
