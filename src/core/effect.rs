//! What the world owes: a function of the state, never of the last event.
//!
//! [`State::owed`] is asked after every batch of records and after every start. That is all there
//! is to recovery. Effects are described here as data; `world` performs them.

use super::event::{Base, Included, SetupReport, Worktree};
use super::id::{EffectId, HostPath, Time};
use super::state::{Environment, Phase, State, Step};

/// One effect that may be started now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwedEffect {
    /// Its identity and fencing token.
    pub id: EffectId,
    /// What to do.
    pub step: Step,
}

/// All that the world needs to perform one effect, copied out of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Its identity and fencing token.
    pub id: EffectId,
    /// What to do.
    pub step: Step,
    /// For whom, as it was when the effect was started.
    pub environment: Environment,
    /// Hook contents that the user trusts in its repository.
    pub trusted: Vec<String>,
}

/// How an effect ended well, with the evidence that the log keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// [`Step::ResolveBase`]: found.
    Resolved(Base),
    /// [`Step::AddWorktree`]: exists and is clean.
    Added(Worktree),
    /// [`Step::CopyIncluded`]: copied what could be copied.
    Included(Included),
    /// [`Step::RunSetup`]: ran and succeeded.
    SetUp(SetupReport),
    /// [`Step::RollBack`]: nothing of it is left.
    RolledBack,
    /// [`Step::RefreshIndex`]: done, or left alone because somebody else held the index.
    Refreshed(bool),
    /// [`Step::Inspect`]: what a removal would take away; empty means nothing.
    Inspected(Vec<String>),
    /// [`Step::MoveToTrash`]: where the directory is now; none when it was gone already.
    Trashed(Option<HostPath>),
    /// [`Step::Unregister`]: git no longer knows it.
    Unregistered,
    /// [`Step::SettleBranch`]: whether it was deleted, why or why not, and what was rescued.
    BranchSettled(bool, String, Vec<String>),
}

/// A fact that an effect tells before it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The setup hook's process exists and waits at its gate.
    SetupSpawned {
        /// Process and group id.
        pid: u32,
        /// Start time as the kernel tells it.
        started: u64,
        /// SHA-256 of the hook in hex.
        hash: String,
    },
}

impl State {
    /// The effects that may be started at `now`, by environment.
    pub fn owed(&self, now: Time) -> impl Iterator<Item = OwedEffect> {
        self.environments().filter_map(move |env| {
            let owed = env.owed.as_ref().filter(|o| o.not_before <= now)?;
            Some(OwedEffect { id: env.effect_id()?, step: owed.step })
        })
    }

    /// All that is needed to perform the owed effect `id`; none when it is not owed any more.
    #[must_use]
    pub fn effect(&self, id: &EffectId) -> Option<Effect> {
        let env = self.environment(&id.environment)?;
        let owed = env.owed.as_ref().filter(|o| o.entered == id.entered)?;
        Some(Effect {
            id: id.clone(),
            step: owed.step,
            environment: env.clone(),
            trusted: self.trusted(&env.plan.repository.common_dir).to_vec(),
        })
    }

    /// The next time at which something changes by itself: a retry, a refresh, the end of a lease.
    #[must_use]
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let waits = self.environments().filter_map(|e| e.owed.as_ref()).map(|o| o.not_before);
        let waits = waits.filter(|t| *t > now);
        let leases = self.leases().map(|(_, lease)| lease.until);
        waits.chain(leases).min()
    }

    /// Whether anything but waiting for an agent is left to do.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.environments().all(|e| e.owed.is_none() && e.phase != Phase::Provisioning)
    }
}
