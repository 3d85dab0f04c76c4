//! Lives that are over and that the state has forgotten. A decision gets what it must know of them
//! with the command, as it gets the time: the core looks nothing up.

use std::collections::BTreeMap;

use crate::command::Command;
use crate::effect::{HostOutcome, Settlement};
use crate::event::{FormerLife, Plan};
use crate::id::{EnvironmentId, Time};
use crate::model::environment::{Environment, Phase};
use crate::model::step::At;

impl FormerLife {
    /// Returns the environment as far as this entry describes it: its end, but no plan.
    #[must_use]
    pub fn outline(&self) -> Environment {
        let at = At { seq: self.begun, time: self.ended_at };
        let mut env = Environment::begin(at, &self.environment, self.incarnation, &Plan::default());
        env.nonce.clone_from(&self.nonce);
        env.phase = if self.failed { Phase::Failed } else { Phase::Tombstoned };
        (env.seq, env.owed) = (self.last, None);
        env
    }
}

/// The last forgotten life of each environment that a command names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Former(BTreeMap<EnvironmentId, FormerLife>);

impl Former {
    /// Returns the last forgotten life of an environment.
    pub(crate) fn life(&self, id: &EnvironmentId) -> Option<&FormerLife> {
        self.0.get(id)
    }
}

impl FromIterator<FormerLife> for Former {
    fn from_iter<T: IntoIterator<Item = FormerLife>>(lives: T) -> Self {
        Self(lives.into_iter().map(|life| (life.environment.clone(), life)).collect())
    }
}

/// What a decision knows besides the state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moment {
    /// The present time.
    pub now: Time,
    /// The former lives of what the command names.
    pub former: Former,
}

impl From<Time> for Moment {
    fn from(now: Time) -> Self {
        Self { now, former: Former::default() }
    }
}

impl Command {
    /// Returns the environments whose former lives this command is decided by.
    #[must_use]
    pub fn lives_named(&self) -> Vec<&EnvironmentId> {
        match self {
            Self::Provision(wanted) => vec![&wanted.environment],
            Self::Restore(wanted) => vec![&wanted.environment],
            Self::Adopt(wanted) => vec![&wanted.environment],
            Self::Launch(started) => vec![&started.environment],
            Self::Label(wanted) => vec![&wanted.environment],
            Self::Lease(granted) => vec![&granted.environment],
            Self::Cancel { environment, .. }
            | Self::Destroy { environment, .. }
            | Self::Clean { environment, .. }
            | Self::UndoClean { environment, .. }
            | Self::BeginRun { environment, .. } => vec![environment],
            Self::Settle(Settlement::Host(ended)) => match &ended.result {
                Ok(HostOutcome::Swept(_, leftovers)) => {
                    leftovers.iter().map(|leftover| &leftover.environment).collect()
                }
                Err(_) => Vec::new(),
            },
            // What these change is in the state, or is nothing. A life that a live set lists and
            // that is over is reported as missing, whether it ever was or not.
            Self::Start { .. }
            | Self::Stop { .. }
            | Self::Exited { .. }
            | Self::WatchGaveUp(_)
            | Self::WatchAgain { .. }
            | Self::EmptyTrash { .. }
            | Self::DiskLow
            | Self::TrimLog(_)
            | Self::DropRescue { .. }
            | Self::Sweep(_)
            | Self::Reconcile { .. }
            | Self::ConfirmLiveSet { .. }
            | Self::EndRun { .. }
            | Self::Migrate { .. }
            | Self::CancelMigration { .. }
            | Self::UndoMigration { .. }
            | Self::Release { .. }
            | Self::MoveRepository { .. }
            | Self::Trust(_)
            | Self::Distrust(_)
            | Self::Note { .. }
            | Self::Settle(
                Settlement::Environment(..)
                | Settlement::Archive(..)
                | Settlement::Output(..)
                | Settlement::Migration(..),
            )
            | Self::Tick => Vec::new(),
        }
    }
}
