//! What the log adds up to: environments, leases, trust, remembered requests.
//!
//! The state is plain data in ordered maps. It is changed by [`State::apply`] alone (file
//! `apply.rs`); everything else reads. It holds nothing that the log cannot rebuild.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::{
    Base, CleanUndone, Cleaned, Included, Plan, ProcessSeen, Rescue, RestoreFrom, Retention,
    SetupReport, SweepFinished, TeardownOptions, Worktree,
};
use super::fault::Fault;
use super::id::{
    EffectId, EnvironmentId, HostPath, LeaseId, Life, MigrationId, Nonce, RequestId, Seq, Subject,
    Time,
};
use super::migration::Migration;
use super::output::CleanedOutput;
use super::reconcile::Live;
use super::remains::Remains;

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

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal;)*) => {
        /// The one thing that the world owes a subject next.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Step { $($(#[$doc])* $step),* }

        impl Step {
            /// All steps, in the order of a life.
            pub const ALL: &'static [Self] = &[$(Self::$step),*];

            /// The name that people and the log see.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$step => $name),* }
            }
        }
    };
}

steps! {
    /// Find the base commit and that the branch is free.
    ResolveBase = "resolve_base";
    /// Make branch, registration and working tree.
    AddWorktree = "add_worktree";
    /// Put the rescued working tree and index into the new worktree.
    ApplyRescue = "apply_rescue";
    /// Bring directory, registration and branch back from the trash.
    Restore = "restore";
    /// Copy the git-ignored files that the repository names.
    CopyIncluded = "copy_included";
    /// Run the repository's setup hook.
    RunSetup = "run_setup";
    /// Remove all that this provision made, or put back what a restore took.
    RollBack = "roll_back";
    /// Make later status calls cheap.
    RefreshIndex = "refresh_index";
    /// Move rebuildable output to the trash.
    Clean = "clean";
    /// Put back what a clean took.
    UndoClean = "undo_clean";
    /// Look for work that a teardown would take away.
    Inspect = "inspect";
    /// Run the repository's teardown hook.
    RunTeardown = "run_teardown";
    /// End what lives in the environment.
    EndProcesses = "end_processes";
    /// Put what no branch has under a ref.
    Rescue = "rescue";
    /// Rename the directory to the trash.
    MoveToTrash = "move_to_trash";
    /// Remove lock and registration.
    Unregister = "unregister";
    /// Settle the branch as its policy says.
    SettleBranch = "settle_branch";
    /// Find out how large a directory in the trash is.
    Measure = "measure";
    /// Unlink a directory, or what a clean took, in the trash.
    Purge = "purge";
    /// Remove a rescue's ref.
    DropRescue = "drop_rescue";
    /// Look for what no record explains.
    Sweep = "sweep";
    /// Settle what an interrupted migration left, and see what a database is.
    InspectSource = "inspect_source";
    /// Make a private copy of the old database.
    CopySource = "copy_source";
    /// Bring the copy to the shape that the recipe reads.
    NormaliseSource = "normalise_source";
    /// Build the new database beside the old one.
    BuildStaging = "build_staging";
    /// Write the secrets that the new database refers to.
    WriteSecrets = "write_secrets";
    /// Stamp the new database and prove that it is whole.
    VerifyStaging = "verify_staging";
    /// Install the new database.
    Flip = "flip";
    /// Drop copies and secrets' backups.
    CleanUp = "clean_up";
    /// Drop all that was made; the old database stays.
    DropStaging = "drop_staging";
    /// Put the old database back.
    ReturnBackup = "return_backup";
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

/// A claim that an environment is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Which environment.
    pub environment: EnvironmentId,
    /// When it ends by itself.
    pub until: Time,
    /// What for.
    pub purpose: String,
}

/// What a remembered idempotency key was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The environment that the request was about.
    pub environment: EnvironmentId,
    /// The verb: `provision`, `destroy`, `lease`.
    pub verb: String,
    /// The record it led to.
    pub seq: Seq,
}

/// Everything the daemon knows, as of one seq.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    pub(super) seq: Seq,
    pub(super) at: Time,
    pub(super) boot: u32,
    /// The last daemon closed the log in an orderly way; what it left owed did not end it.
    pub(super) orderly: bool,
    pub(super) environments: BTreeMap<EnvironmentId, Environment>,
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    pub(super) trust: BTreeMap<HostPath, Vec<String>>,
    pub(super) requests: BTreeMap<RequestId, Remembered>,
    pub(super) request_order: BTreeMap<Seq, RequestId>,
    pub(super) retention: Retention,
    pub(super) remains: BTreeMap<EnvironmentId, BTreeMap<u32, Remains>>,
    pub(super) outputs: BTreeMap<EnvironmentId, BTreeMap<Seq, CleanedOutput>>,
    pub(super) sweep: Option<Sweep>,
    pub(super) last_sweep: Option<(Time, SweepFinished)>,
    pub(super) live: Live,
    /// Leases that have ended lately, oldest first.
    pub(super) ended_leases: Vec<LeaseId>,
    pub(super) runs: BTreeMap<RequestId, Run>,
    pub(super) migrations: BTreeMap<MigrationId, Migration>,
    /// The last record that the data directory is known to have had, where the log has fewer.
    pub(super) found_older: Option<Seq>,
}

/// A command that was run for a request, and is not run twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// In which environment.
    pub environment: EnvironmentId,
    /// The record that it began with.
    pub seq: Seq,
    /// How it ended, once it has: its exit code, and why it has none.
    pub ended: Option<(Option<i32>, String)>,
}

/// A sweep in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// What the world owes it.
    pub owed: Owed,
    /// Whether what is proven ours is settled, or only named.
    pub apply: bool,
    /// Most things it may settle.
    pub limit: u64,
    /// Whether only what the sweep before named is settled: nobody looks on.
    pub seen_only: bool,
}

impl State {
    /// The last record that is folded in.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The time of that record.
    #[must_use]
    pub fn at(&self) -> Time {
        self.at
    }

    /// How many daemons have started on this log.
    #[must_use]
    pub fn boot(&self) -> u32 {
        self.boot
    }

    /// The current incarnation of an environment, whatever its phase.
    #[must_use]
    pub fn environment(&self, id: &EnvironmentId) -> Option<&Environment> {
        self.environments.get(id)
    }

    /// All current incarnations, by id, tombstones included.
    pub fn environments(&self) -> impl Iterator<Item = &Environment> {
        self.environments.values()
    }

    /// One lease.
    #[must_use]
    pub fn lease(&self, id: &LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// All leases, by id.
    pub fn leases(&self) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        self.leases.iter()
    }

    /// The leases of one environment that have not ended at `now`.
    pub fn leases_of<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        now: Time,
    ) -> impl Iterator<Item = (&'a LeaseId, &'a Lease)> {
        self.leases.iter().filter(move |(_, l)| l.environment == *environment && l.until > now)
    }

    /// The hook contents that the user trusts in a repository, oldest first.
    #[must_use]
    pub fn trusted(&self, repository: &HostPath) -> &[String] {
        self.trust.get(repository).map_or(&[], Vec::as_slice)
    }

    /// What an idempotency key was used for, if it is still remembered.
    #[must_use]
    pub fn request(&self, key: &RequestId) -> Option<&Remembered> {
        self.requests.get(key)
    }

    /// How long what was removed is kept.
    #[must_use]
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// What is left of one incarnation that is over.
    #[must_use]
    pub fn remains_of(&self, id: &EnvironmentId, incarnation: u32) -> Option<&Remains> {
        self.remains.get(id)?.get(&incarnation)
    }

    /// What is left of all incarnations that are over, by id and incarnation.
    pub fn remains(&self) -> impl Iterator<Item = &Remains> {
        self.remains.values().flat_map(BTreeMap::values)
    }

    /// Whether there was such a lease lately.
    #[must_use]
    pub fn has_ended(&self, lease: &LeaseId) -> bool {
        self.ended_leases.contains(lease)
    }

    /// What was run for a request, if it is still remembered.
    #[must_use]
    pub fn run(&self, request: &RequestId) -> Option<&Run> {
        self.runs.get(request)
    }

    /// Requests whose commands were begun in an environment and have not ended.
    #[must_use]
    pub fn unfinished_runs(&self, environment: &EnvironmentId) -> Vec<RequestId> {
        let open = self.runs.iter().filter(|(_, run)| run.ended.is_none());
        let here = open.filter(|(_, run)| run.environment == *environment);
        here.map(|(request, _)| request.clone()).collect()
    }

    /// The sweep in progress.
    #[must_use]
    pub fn sweep(&self) -> Option<&Sweep> {
        self.sweep.as_ref()
    }

    /// What the last sweep found, and when.
    #[must_use]
    pub fn last_sweep(&self) -> Option<&(Time, SweepFinished)> {
        self.last_sweep.as_ref()
    }

    /// Looks for what no sequence of records may lead to. Used by tests and `replay verify`.
    ///
    /// # Errors
    /// A sentence that names the first contradiction.
    pub fn check(&self) -> Result<(), String> {
        for (id, e) in &self.environments {
            if *id != e.id || e.incarnation == 0 || e.seq > self.seq {
                return Err(format!("{id}: filed under a wrong key or from the future"));
            }
            e.check()?;
        }
        for (id, lease) in &self.leases {
            let holder = self.environments.get(&lease.environment);
            if holder.is_none_or(|e| e.phase == Phase::Tombstoned) {
                return Err(format!("lease {id} of {}, which is not alive", lease.environment));
            }
        }
        for remains in self.remains() {
            let live = self.environments.get(&remains.id).filter(|e| e.is_live());
            if live.is_some_and(|e| e.incarnation <= remains.incarnation) {
                return Err(format!("{}: remains of an incarnation that lives", remains.id));
            }
            remains.check()?;
        }
        self.check_outputs()?;
        for migration in self.migrations() {
            migration.check()?;
        }
        if self.requests.len() != self.request_order.len() {
            return Err("remembered requests and their order differ".into());
        }
        Ok(())
    }
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

    pub(super) fn check(&self) -> Result<(), String> {
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
