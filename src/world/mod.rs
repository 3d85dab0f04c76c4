//! The outside: git, files and processes. The only code that touches them.
//!
//! Layers, each of which names only those before it: [`fs`], [`process`], [`git`], [`status`] and
//! [`watch`], [`effects`]. [`World::perform`] does what one owed effect asks for: look, act, prove,
//! and report the evidence. Every effect converges: done again after any interruption it ends in
//! the same place. It never decides what should happen, never appends to the log, and removes
//! nothing that `git/marker.rs` has not proven ours. [`queries`] answers questions outside of
//! effects.

pub mod effects;
pub mod fs;
pub mod git;
pub mod process;
pub mod queries;
pub mod relocation;
pub mod status;
pub mod watch;

pub use effects::context::{Reporter, World};
pub use effects::raw_copies::names as copies_in;
pub use git::locks::Standing;
