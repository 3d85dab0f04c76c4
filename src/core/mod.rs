//! The pure core: ids, commands, events, the state and what it owes.
//!
//! Four functions hold the program together:
//!
//! * [`State::decide`]`(now, command)` says which events a command leads to, or refuses it;
//! * [`State::apply`]`(record)` folds a recorded event in;
//! * [`State::owed`]`(now)` says what the world owes, as a function of the state alone;
//! * [`State::next_deadline`]`(now)` says when time alone will change that.
//!
//! The laws between them, which `laws.rs` tests over random histories with crashes anywhere:
//! a fold of the log is the live state; after a crash the effects that are owed finish what was
//! begun; a settlement that is not owed changes nothing; a snapshot plus the records after it is
//! the whole fold.
//!
//! What must never happen is [`audit`], a fold beside the fold.
//!
//! Nothing in here does I/O, reads a clock, waits, spawns or draws a random number, and there is
//! no hash map: two folds of one log must be equal to the last byte on every machine.

pub mod command;
pub mod effect;
pub mod event;
pub mod fault;
pub mod id;
pub mod migration;
pub mod output;
pub mod policy;
pub mod reconcile;
pub mod remains;
pub mod state;

mod apply;
mod decide;
pub mod invariants;
mod relocation;
mod remote_requests;
mod retention;
mod settle;
#[cfg(test)]
pub(crate) mod sim;
pub mod suspend;
mod teardown;
pub mod watch_machine;

pub use command::{Command, Ground, Restore};
pub use decide::{Decision, destroyed, not_found};
pub use effect::{Effect, Inspection, Note, Outcome, OwedEffect, RolledBackTo, Target};
pub use event::{Event, Record};
pub use fault::{Class, Code, Fault};
pub use id::{
    EffectId, EnvironmentId, HostPath, LeaseId, Life, MigrationId, Nonce, RequestId, Seq, Subject,
    Time,
};
pub use migration::{Migration, MigrationPhase};
pub use output::CleanedOutput;
pub use remains::Remains;
pub use state::{Environment, Phase, State, Step};
