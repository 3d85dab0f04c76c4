//! Environments: one incarnation each, with what is owed to it and how its teardown stands. Data
//! and questions about it; nothing here changes state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::event::{
    Base, CleanUndone, Cleaned, Included, Plan, ProcessSeen, Rescue, RestoreFrom, SetupReport,
    TeardownOptions, Worktree,
};
use crate::core::fault::Fault;
use crate::core::id::{EffectId, EnvironmentId, HostPath, Life, Nonce, Seq, Subject, Time};
use crate::core::model::step::Step;

/// Where an incarnation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Being made, or being rolled back because that did not work out.
    Provisioning,
    /// May be used.
    Ready,
    /// Served, and will be torn down when its time comes: a teardown failed and is tried again.
    Retiring,
    /// Being taken apart; still served until its directory has left its place.
    TearingDown,
    /// Over. Only an explicit provision or restore starts another incarnation.
    Tombstoned,
    /// Provisioning failed; nothing is left but this record, or the kept worktree.
    Failed,
}

impl Phase {
    /// The name that people and scripts see.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub id: EnvironmentId,
    /// Which life of the name, counted from 1.
    pub incarnation: u32,
    /// Where it stands.
    pub phase: Phase,
    /// What was asked for.
    pub plan: Plan,
    /// When it was asked for.
    pub created_at: Time,
    /// When its phase last changed.
    pub changed_at: Time,
    /// The last record about it.
    pub seq: Seq,
    /// The record that it began with.
    pub begun: Seq,
    /// Where it starts from, once that is known.
    pub base: Option<Base>,
    /// The worktree, from the moment it exists until it is proven gone.
    pub worktree: Option<Worktree>,
    /// What the include copy did.
    pub included: Option<Included>,
    /// A setup hook that may still run: pid and start time.
    pub hook: Option<(u32, u64)>,
    /// How the setup hook ended.
    pub setup: Option<SetupReport>,
    /// What the world owes it.
    pub owed: Option<Owed>,
    /// The error that explains a `failed` phase or a retry.
    pub fault: Option<Fault>,
    /// Why the last removal was refused or given up.
    pub refusal: Option<Fault>,
    /// Destroy was asked for before it was ready: after the rollback comes the tombstone.
    pub destroy_wanted: bool,
    /// The teardown in progress or, once tombstoned, the one that ended it.
    pub teardown: Option<Teardown>,
    /// What could not be removed and awaits a sweep.
    pub leftovers: Vec<String>,
    /// Made by somebody else: watched and leased, never deleted.
    pub adopted: bool,
    /// What it is restored from, when it is not made from scratch.
    pub restore: Option<RestoreFrom>,
    /// Commands that were started for it and may still run, by process id.
    pub processes: BTreeMap<u32, Process>,
    /// Teardowns of it that failed in a row.
    pub failed_teardowns: u32,
    /// What the last clean led to; none while one is under way.
    pub cleaned: Option<Cleaned>,
    /// The clean that is being undone, or was last.
    pub undoing: Option<Seq>,
    /// What the last undo of a clean led to.
    pub undone: Option<CleanUndone>,
    /// Why its changes are not watched any more; nobody tries again until somebody asks.
    pub unwatched: Option<String>,
    /// What tells this life from all others; none for one that an earlier version began.
    pub nonce: Option<Nonce>,
    /// The tree from which git reads attributes for the checkout, where one was named.
    pub attributes: Option<String>,
    /// The lives that it goes on with, the latest last: their branch is its branch.
    pub lineage: Vec<Nonce>,
}

/// A command that was started for an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Start time as the kernel tells it; with the pid it names one process for ever.
    pub started: u64,
    /// Name of its program.
    pub name: String,
    /// The daemon itself started it, for a request: it ends with that daemon.
    pub of_daemon: bool,
}

/// A step that is owed, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// What to do.
    pub step: Step,
    /// The record that made it owed in this form; half of its [`EffectId`].
    pub entered: Seq,
    /// Not before this time.
    pub not_before: Time,
    /// Attempts that failed.
    pub attempts: u32,
    /// Daemons that died while it was owed.
    pub interruptions: u32,
}

/// A teardown: what was agreed to, and how far it came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Teardown {
    /// Whether unsaved work may go to the trash.
    pub force: bool,
    /// How it is to be done.
    pub options: TeardownOptions,
    /// Whether it began on the kept worktree of a failed provision.
    pub of_failed: bool,
    /// Who asked: process id of the peer, whose ancestors are spared.
    pub asker: u32,
    /// Work that goes to the trash by consent.
    pub unsaved: Vec<String>,
    /// When the last look at the tree began.
    pub looked_at: Time,
    /// What the consent is about; empty before the first look.
    pub fingerprint: String,
    /// The commit that HEAD was at.
    pub head: String,
    /// Whether there is something that a rescue would save.
    pub rescue_wanted: bool,
    /// Whether there is a teardown hook to run.
    pub has_hook: bool,
    /// Whether the hook has had its turn.
    pub hooked: bool,
    /// Whether processes were ended.
    pub quiet: bool,
    /// How often the tree was looked at.
    pub inspections: u32,
    /// A daemon died meanwhile, or the tree changed: before the rename it must be compared with
    /// what was consented to.
    pub disturbed: bool,
    /// Where the directory went.
    pub trash: Option<HostPath>,
    /// Whether the branch was deleted.
    pub branch_deleted: bool,
    /// What became of the branch, in words.
    pub branch_reason: String,
    /// The ref that holds what no branch has.
    pub rescue: Option<Rescue>,
    /// Refs that an earlier version put on commits without a branch.
    pub other_refs: Vec<String>,
    /// Processes that were left alone.
    pub spared: Vec<ProcessSeen>,
    /// Processes that did not end.
    pub survivors: Vec<ProcessSeen>,
    /// Why the teardown hook did not end well.
    pub hook_fault: Option<Fault>,
    /// What goes with it and is no work, and yet worth a word.
    pub noted: Vec<String>,
    /// Whether its repository could not be looked into.
    pub unseen: bool,
    /// The branch that was checked out; empty when there was none.
    pub on_branch: String,
}

impl Teardown {
    /// Whether what is written after the last look may be in no rescue although somebody wants it.
    /// Where the repository was gone, all of it went to the trash unseen, by consent.
    #[must_use]
    pub fn may_lack_work(&self) -> bool {
        let was_seen = !self.head.is_empty() || self.rescue.is_some();
        self.unseen || was_seen && !self.options.no_rescue
    }
}

impl Environment {
    /// Identity of the effect that is owed now.
    #[must_use]
    pub fn effect_id(&self) -> Option<EffectId> {
        let entered = self.owed.as_ref()?.entered;
        Some(EffectId { subject: Subject::Environment(self.id.clone()), entered })
    }

    /// What the names of its traces outside are made of.
    #[must_use]
    pub fn life(&self) -> Life<'_> {
        Life { id: &self.id, incarnation: self.incarnation, nonce: self.nonce.as_ref() }
    }

    /// The commit that its worktree was made with: its base, or what it was restored at.
    #[must_use]
    pub fn start(&self) -> Option<&str> {
        let restored = self.restore.as_ref().map(|from| from.head.as_str());
        restored.filter(|head| !head.is_empty()).or(self.base.as_ref().map(|b| b.commit.as_str()))
    }

    /// Whether it may be used, looked at and watched: nobody is making it or taking it apart.
    #[must_use]
    pub fn is_served(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Retiring)
    }

    /// Whether anything of this incarnation may still be on disk.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase != Phase::Tombstoned && !(self.phase == Phase::Failed && self.worktree.is_none())
    }

    pub(in crate::core) fn check(&self) -> Result<(), String> {
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
            return Err(format!("{}: tearing down without a teardown", self.id));
        }
        if self.adopted && !matches!(self.phase, Phase::Ready | Phase::Tombstoned) {
            return Err(format!("{}: adopted, and yet {}", self.id, self.phase.as_str()));
        }
        Ok(())
    }
}
