//! What the log adds up to: environments, leases, trust, remembered requests.
//!
//! The state is plain data in ordered maps. It is changed by [`State::apply`] alone (file
//! `apply.rs`); everything else reads. It holds nothing that the log cannot rebuild.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::{Base, Included, Plan, SetupReport, Worktree};
use super::fault::Fault;
use super::id::{EffectId, EnvironmentId, HostPath, LeaseId, RequestId, Seq, Time};

/// Where an incarnation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Being made, or being rolled back because that did not work out.
    Provisioning,
    /// May be used.
    Ready,
    /// Will be torn down once its grace is over.
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

/// The one thing that the world owes an environment next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// Find the base commit and that the branch is free.
    ResolveBase,
    /// Make branch, registration and working tree.
    AddWorktree,
    /// Copy the git-ignored files that the repository names.
    CopyIncluded,
    /// Run the repository's setup hook.
    RunSetup,
    /// Remove all that this provision made.
    RollBack,
    /// Make later status calls cheap.
    RefreshIndex,
    /// Look for work that a teardown would take away.
    Inspect,
    /// Rename the directory to the trash.
    MoveToTrash,
    /// Remove lock and registration.
    Unregister,
    /// Delete the branch if we made it and it holds nothing of its own.
    SettleBranch,
}

impl Step {
    /// All steps, in the order of a life.
    pub const ALL: [Self; 10] = [
        Self::ResolveBase,
        Self::AddWorktree,
        Self::CopyIncluded,
        Self::RunSetup,
        Self::RollBack,
        Self::RefreshIndex,
        Self::Inspect,
        Self::MoveToTrash,
        Self::Unregister,
        Self::SettleBranch,
    ];

    /// The name that people and the log see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResolveBase => "resolve_base",
            Self::AddWorktree => "add_worktree",
            Self::CopyIncluded => "copy_included",
            Self::RunSetup => "run_setup",
            Self::RollBack => "roll_back",
            Self::RefreshIndex => "refresh_index",
            Self::Inspect => "inspect",
            Self::MoveToTrash => "move_to_trash",
            Self::Unregister => "unregister",
            Self::SettleBranch => "settle_branch",
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Teardown {
    /// Whether unsaved work may go to the trash.
    pub force: bool,
    /// The phase to return to when it cannot go on.
    pub back_to: Phase,
    /// Work that went to the trash by consent.
    pub unsaved: Vec<String>,
    /// Where the directory went.
    pub trash: Option<HostPath>,
    /// Whether the branch was deleted.
    pub branch_deleted: bool,
    /// Refs that hold what the worktree had and no branch has.
    pub rescue: Vec<String>,
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
        if self.requests.len() != self.request_order.len() {
            return Err("remembered requests and their order differ".into());
        }
        Ok(())
    }
}

impl Environment {
    /// Identity of the effect that is owed now.
    #[must_use]
    pub fn effect_id(&self) -> Option<EffectId> {
        let entered = self.owed.as_ref()?.entered;
        Some(EffectId { environment: self.id.clone(), entered })
    }

    /// Whether anything of this incarnation may still be on disk.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase != Phase::Tombstoned && !(self.phase == Phase::Failed && self.worktree.is_none())
    }

    fn check(&self) -> Result<(), String> {
        let step = self.owed.as_ref().map(|o| o.step);
        let fits = match self.phase {
            Phase::Provisioning => matches!(
                step,
                Some(
                    Step::ResolveBase
                        | Step::AddWorktree
                        | Step::CopyIncluded
                        | Step::RunSetup
                        | Step::RollBack
                )
            ),
            Phase::Ready => matches!(step, None | Some(Step::RefreshIndex)),
            Phase::TearingDown => matches!(
                step,
                Some(Step::Inspect | Step::MoveToTrash | Step::Unregister | Step::SettleBranch)
            ),
            Phase::Retiring | Phase::Tombstoned | Phase::Failed => step.is_none(),
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
        if self.phase == Phase::TearingDown && self.teardown.is_none() {
            return Err(format!("{}: tearing down without a teardown", self.id));
        }
        Ok(())
    }
}
