//! The pure core: ids, commands, events, the state and the effects it owes.
//!
//! Four functions are its interface:
//!
//! * [`State::decide`]`(moment, command)` returns the events a command leads to, or refuses it;
//! * [`State::apply`]`(record)` folds a recorded event in;
//! * [`State::owed`]`(now)` returns the effects that are due, as a function of the state alone;
//! * [`State::next_deadline`]`(now)` returns when time alone will change that.
//!
//! Laws between them, which `sim/laws.rs` tests over random histories with crashes anywhere: a fold
//! of the log equals the live state; after a crash the owed effects finish what was begun; a
//! settlement that is not owed changes nothing; a snapshot plus later records equals the fold.
//!
//! A command leads to events; the state that they add up to says which effect is due:
//!
//! ```
//! use groundskeeper_core::event::{Actor, Plan, Record};
//! use groundskeeper_core::{Command, EnvironmentId, Nonce, Provision, State, Step, Time};
//!
//! let (mut state, now) = (State::default(), Time(1_000));
//! let command = Command::Provision(Provision {
//!     environment: EnvironmentId::parse("demo")?,
//!     plan: Plan { branch: "gk/demo".into(), ..Plan::default() },
//!     actor: Actor::daemon(),
//!     request: None,
//!     nonce: Nonce::parse("0123456789abcdef0123456789abcdef")?,
//!     attributes: None,
//! });
//! for event in state.decide(now, command)? {
//!     let record = Record { seq: state.seq().next(), at: now, boot: 1, event };
//!     state.apply(&record); // After the record is on disk.
//! }
//! let owed = state.owed(now).next().map(|effect| effect.step);
//! assert_eq!(owed, Some(Step::ResolveBase));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`model`] is the data, [`state`] the maps over it, `transition` the code that changes them: each
//! subject is decided, applied and settled in one file. `machine` dispatches to them. What a
//! decision must know of lives that the state has forgotten comes with it ([`former`]). [`command`]
//! holds the inputs, [`effect`] the outputs.
//!
//! [`invariants`] checks what must never happen, beside the state's own fold.
//!
//! Nothing in here does I/O, reads a clock, waits, spawns or draws a random number, and there is no
//! hash map: two folds of one log must be equal to the last byte on every machine.

pub mod command;
mod decision;
pub mod demand;
pub mod effect;
pub mod empty_is_none;
pub mod event;
pub mod fault;
pub mod former;
mod hex;
pub mod id;
pub mod label;
mod machine;
pub mod model;
pub mod policy;
pub mod snapshot;
pub mod state;
mod transition;

pub mod invariants;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
pub mod suspend;
pub mod watch_machine;

pub use crate::decision::{Decision, destroyed, not_found};
pub use crate::model::archive::ArchivedIncarnation;
pub use crate::model::cleaned_output::CleanedOutput;
pub use crate::model::environment::{Environment, Phase};
pub use crate::model::migration::{Migration, MigrationPhase};
pub use crate::model::step::{
    ArchiveStep, EnvironmentStep, HostStep, MigrationStep, OutputStep, Owed, Step,
};
pub use command::{Adopt, Command, Ground, Provision, Restore};
pub use demand::Demand;
pub use effect::{
    ArchiveOutcome, BranchOutcome, Effect, Ended, EnvironmentOutcome, HostOutcome, Inspection,
    MigrationOutcome, Note, Outcome, OutputOutcome, OwedEffect, RolledBackTo, Settlement, Target,
};
pub use event::{Event, Record};
pub use fault::{Code, Fault, Kind};
pub use former::{Former, Moment};
pub use hex::hex;
pub use id::{
    EffectId, EnvironmentId, HostPath, LeaseId, Life, MigrationId, Nonce, RequestId, Seq, Subject,
    Time,
};
pub use label::Label;
pub use state::State;
