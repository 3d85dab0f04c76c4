//! The outside world: git, files and processes. No other module touches them.
//!
//! Layers, each of which names only those before it: [`fs`], [`process`], [`git`], [`status`] and
//! [`watch`], [`effects`]. [`World::perform`] carries out one owed effect: it inspects, acts,
//! proves the result and returns the evidence. Every effect converges: repeated after any
//! interruption, it ends in the same state. This layer never decides what should happen, never
//! appends to the log, and removes nothing that `git/ownership.rs` has not proven to be ours.
//! [`queries`], [`presence`] and [`survey`] read the world outside of effects.

pub mod effects;
pub mod fs;
pub mod git;
#[cfg(feature = "faults")]
pub mod parsers;
pub mod presence;
pub mod process;
pub mod queries;
pub mod relocation;
pub mod status;
pub mod survey;
pub mod watch;

pub use effects::context::{Reporter, World};
pub use effects::raw_list::names as copies_in;
pub use git::locks::ExistingLock;
