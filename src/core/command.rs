//! What can be asked of the core, by people, by effects that come home, and by the clock.
//!
//! Everything that is not a function of the state rides in on a command: ids, times, commit
//! hashes, byte counts. Commands are not stored; the events they lead to are.

use super::effect::{Note, Outcome};
use super::event::{Actor, Plan};
use super::fault::Fault;
use super::id::{EffectId, EnvironmentId, HostPath, LeaseId, RequestId, Time};

/// One request to the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A daemon has opened the log.
    Start {
        /// Its process id.
        pid: u32,
        /// Its version.
        version: String,
    },
    /// The daemon is about to close the log.
    Stop {
        /// Why.
        reason: String,
    },
    /// Make an environment; the same plan for a living one is a success that changes nothing.
    Provision {
        /// Its name.
        environment: EnvironmentId,
        /// What to make.
        plan: Plan,
        /// Who asks.
        actor: Actor,
        /// Idempotency key.
        request: Option<RequestId>,
    },
    /// Stop making an environment; nothing to cancel is a success.
    Cancel {
        /// Which.
        environment: EnvironmentId,
        /// Who asks.
        actor: Actor,
    },
    /// Take an environment apart; an unknown or tombstoned one is a success.
    Destroy {
        /// Which.
        environment: EnvironmentId,
        /// Whether unsaved work may go to the trash, and leases may be broken.
        force: bool,
        /// Who asks.
        actor: Actor,
        /// Idempotency key.
        request: Option<RequestId>,
    },
    /// Claim that an environment is in use; the same lease again moves its end.
    Lease {
        /// Which environment.
        environment: EnvironmentId,
        /// The lease's name.
        lease: LeaseId,
        /// When it ends by itself.
        until: Time,
        /// What for.
        purpose: String,
        /// Who asks.
        actor: Actor,
        /// Idempotency key.
        request: Option<RequestId>,
    },
    /// Give a lease back; an unknown one is a success.
    Release {
        /// Which.
        lease: LeaseId,
    },
    /// Allow hooks of this content in this repository.
    Trust {
        /// Common directory of the repository.
        repository: HostPath,
        /// SHA-256 of the hook in hex.
        hash: String,
        /// Who asks.
        actor: Actor,
    },
    /// Take all trust in a repository back.
    Distrust {
        /// Common directory of the repository.
        repository: HostPath,
        /// Who asks.
        actor: Actor,
    },
    /// An effect tells a fact that must be durable before it goes on.
    Note {
        /// Which effect.
        effect: EffectId,
        /// The fact.
        note: Note,
    },
    /// An effect has ended. If it is no longer owed, this changes nothing.
    Settle {
        /// Which effect.
        effect: EffectId,
        /// How it ended.
        outcome: Result<Outcome, Fault>,
    },
    /// A deadline has passed.
    Tick,
}
