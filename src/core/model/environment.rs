//! Environments: one incarnation each, with the step it owes and the progress of its teardown. Data
//! and queries; nothing here changes state.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::empty_is_none;
use crate::event::{
    Base, CleanUndone, Cleaned, Included, Plan, ProcessSeen, Rescue, RestoreFrom, SetupReport,
    TeardownOptions, Worktree,
};
use crate::fault::Fault;
use crate::id::{EffectId, EnvironmentId, HostPath, Life, Nonce, Seq, Subject, Time};
use crate::model::process::ProcessId;
use crate::model::step::{EnvironmentStep as Step, Owed};

/// Phase of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// Being made, or being rolled back because that failed or was cancelled.
    Provisioning,
    /// In service: it accepts leases, commands, watches and cleans.
    Ready,
    /// In service; its teardown failed and is retried at a later time.
    Retiring,
    /// A teardown runs; the directory stays in place until its move, but new use is refused.
    TearingDown,
    /// The incarnation ended. Only an explicit provision or restore begins another one.
    Tombstoned,
    /// Provisioning failed; only this record is left, or the worktree kept for inspection.
    Failed,
}

impl Phase {
    /// Returns the name that users and scripts see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Ready => "ready",
            Self::Retiring => "retiring",
            Self::TearingDown => "tearing_down",
            Self::Tombstoned => "tombstoned",
            Self::Failed => "failed",
        }
    }
}

/// One incarnation of an environment id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// The environment's id.
    pub id: EnvironmentId,
    /// Number of the incarnation, counted from 1.
    pub incarnation: u32,
    /// Its current phase.
    pub phase: Phase,
    /// The plan of the request that made it.
    pub plan: Plan,
    /// When it was requested.
    pub created_at: Time,
    /// When its phase last changed.
    pub changed_at: Time,
    /// The last record about it.
    pub seq: Seq,
    /// The record that began it.
    pub begun: Seq,
    /// The base it starts from, once resolved.
    pub base: Option<Base>,
    /// The worktree, from the moment it exists until it is proven removed.
    pub worktree: Option<Worktree>,
    /// Result of the include copy.
    pub included: Option<Included>,
    /// A setup or teardown hook that may still run.
    pub hook: Option<ProcessId>,
    /// How the setup hook ended; none unless it succeeded.
    pub setup: Option<SetupReport>,
    /// The step that is owed to it.
    pub owed: Option<Owed<Step>>,
    /// The error behind a `failed` phase or a retry.
    pub fault: Option<Fault>,
    /// Why the last removal was refused, postponed or given up.
    pub refusal: Option<Fault>,
    /// A destroy was requested before it was ready: the tombstone follows the rollback.
    pub destroy_wanted: bool,
    /// The teardown in progress or, once tombstoned, the one that ended it.
    pub teardown: Option<Teardown>,
    /// What could not be removed; a sweep is to find it.
    pub leftovers: Vec<String>,
    /// Its worktree is foreign: watched and leased, never deleted.
    pub adopted: bool,
    /// The archive it is restored from; none when it is made from scratch.
    pub restore: Option<RestoreFrom>,
    /// Commands that were started for it and may still run, by process id.
    pub processes: BTreeMap<u32, Process>,
    /// Failed teardowns in a row.
    pub failed_teardowns: u32,
    /// Result of the last clean; none while a clean is in progress.
    pub cleaned: Option<Cleaned>,
    /// The clean whose undo is in progress, or was the last.
    pub undoing: Option<Seq>,
    /// Result of the last undo of a clean.
    pub undone: Option<CleanUndone>,
    /// Why watching was given up; it is not retried until a subscriber asks again.
    pub unwatched: Option<String>,
    /// Nonce of this incarnation; none where an earlier version began it.
    pub nonce: Option<Nonce>,
    /// The tree from which git reads attributes for the checkout, where one was named.
    pub attributes: Option<String>,
    /// Nonces of the incarnations that it continues, latest last: their branch is its branch.
    pub lineage: Vec<Nonce>,
}

/// A command that was started for an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Start time as the kernel reports it; with the pid it identifies one process for ever.
    pub started: u64,
    /// Name of its program.
    pub name: String,
    /// The daemon itself started it for a request, so it ends with that daemon.
    pub of_daemon: bool,
}

/// A teardown: the consent it runs under, and its progress.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Teardown {
    /// Whether work at risk may go to the trash.
    pub force: bool,
    /// Options of the request.
    pub options: TeardownOptions,
    /// Whether it began on the kept worktree of a failed provision.
    pub of_failed: bool,
    /// Process id of the requesting peer, whose ancestors are spared; 0 when unknown.
    #[serde(rename = "asker")]
    pub requester: u32,
    /// Work at risk that goes to the trash by consent.
    pub unsaved: Vec<String>,
    /// When the last inspection became owed; it may miss anything written since.
    pub looked_at: Time,
    /// Hash of the tree that the consent covers; none before the first inspection.
    #[serde(serialize_with = "empty_is_none::serialize")]
    pub fingerprint: Option<String>,
    /// The commit at HEAD, if there is one.
    #[serde(serialize_with = "empty_is_none::serialize")]
    pub head: Option<String>,
    /// Whether there is work for a rescue to save.
    pub rescue_wanted: bool,
    /// Whether there is a teardown hook to run.
    pub has_hook: bool,
    /// Whether the hook has run or was given up.
    pub hooked: bool,
    /// Whether no process of the environment is left to end.
    pub quiet: bool,
    /// Completed inspections of the tree.
    pub inspections: u32,
    /// A daemon restarted meanwhile, or the tree changed: before the rename the tree must be
    /// compared with the one that the consent covers.
    pub disturbed: bool,
    /// The directory's place in the trash.
    pub trash: Option<HostPath>,
    /// Whether the branch was deleted.
    pub branch_deleted: bool,
    /// Why the branch was kept or deleted, in words.
    pub branch_reason: String,
    /// The ref that holds work that no branch holds.
    pub rescue: Option<Rescue>,
    /// Refs that an earlier version put on commits without a branch.
    pub other_refs: Vec<String>,
    /// Processes that were left running.
    pub spared: Vec<ProcessSeen>,
    /// Processes that did not end.
    pub survivors: Vec<ProcessSeen>,
    /// Why the teardown hook failed or could not run.
    pub hook_fault: Option<Fault>,
    /// Content that is removed with it and is not work, but is worth reporting.
    pub noted: Vec<String>,
    /// Whether its repository could not be read.
    pub unseen: bool,
    /// The branch that was checked out, if there was one.
    #[serde(serialize_with = "empty_is_none::serialize")]
    pub on_branch: Option<String>,
}

impl Teardown {
    /// Returns whether work written after the last inspection may be in no rescue although one is
    /// wanted. Where the repository was missing, all of it went to the trash unseen, by consent.
    #[must_use]
    pub fn may_lack_work(&self) -> bool {
        let was_seen = self.head.is_some() || self.rescue.is_some();
        self.unseen || was_seen && !self.options.no_rescue
    }
}

impl Environment {
    /// Returns the identity of the effect that is owed now.
    #[must_use]
    pub fn effect_id(&self) -> Option<EffectId> {
        Some(self.owed.as_ref()?.id(Subject::Environment(self.id.clone())))
    }

    /// Returns the parts from which its names outside the log (refs, files, markers) are built.
    #[must_use]
    pub fn life(&self) -> Life<'_> {
        Life { id: &self.id, incarnation: self.incarnation, nonce: self.nonce.as_ref() }
    }

    /// Returns the commit its worktree was made with: its base, or the commit it was restored at.
    #[must_use]
    pub fn start(&self) -> Option<&str> {
        let restored = self.restore.as_ref().and_then(|from| from.head.as_deref());
        restored.or(self.base.as_ref().map(|b| b.commit.as_str()))
    }

    /// Returns whether it may be used, inspected and watched: no provision or teardown runs.
    #[must_use]
    pub fn is_served(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Retiring)
    }

    /// Returns whether anything of this incarnation may still be on disk.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase != Phase::Tombstoned && !(self.phase == Phase::Failed && self.worktree.is_none())
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let step = self.owed.as_ref().map(|o| o.step);
        let fits = match self.phase {
            Phase::Provisioning => matches!(
                step,
                Some(
                    Step::ResolveBase
                        | Step::AddWorktree
                        | Step::ApplyRescue
                        | Step::Restore
                        | Step::CopyIncluded
                        | Step::RunSetup
                        | Step::RollBack
                )
            ),
            Phase::Ready => {
                matches!(step, None | Some(Step::RefreshIndex | Step::Clean | Step::UndoClean))
            }
            Phase::Retiring => matches!(step, Some(Step::Inspect)),
            Phase::TearingDown => matches!(
                step,
                Some(
                    Step::Inspect
                        | Step::RunTeardown
                        | Step::EndProcesses
                        | Step::Rescue
                        | Step::MoveToTrash
                        | Step::Unregister
                        | Step::SettleBranch
                )
            ),
            Phase::Tombstoned | Phase::Failed => step.is_none(),
        };
        if !fits {
            return Err(format!("{}: {} owes {step:?}", self.id, self.phase.as_str()));
        }
        if self.phase == Phase::Ready && self.worktree.is_none() {
            return Err(format!("{}: ready without a worktree", self.id));
        }
        if self.phase == Phase::Tombstoned && self.worktree.is_some() {
            return Err(format!("{}: tombstoned with a worktree", self.id));
        }
        let torn = matches!(self.phase, Phase::TearingDown | Phase::Retiring);
        if torn && self.teardown.is_none() {
            return Err(format!("{}: in teardown without the data of a teardown", self.id));
        }
        if self.adopted && !matches!(self.phase, Phase::Ready | Phase::Tombstoned) {
            return Err(format!("{}: adopted, but {}", self.id, self.phase.as_str()));
        }
        Ok(())
    }
}
