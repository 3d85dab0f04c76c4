//! Brings an early schema of the old generation to its last one, in place, on the migration's copy.
//! The original database is never changed.
//!
//! The chain has thirteen steps. A database with a sound history gets the steps that it lacks. A
//! database whose history cannot be trusted gets whatever its schema lacks. Both happen in one
//! transaction.

mod bring_up;
mod chain;
mod history;
mod parts;
mod rowids;

pub(super) use bring_up::{bring_up, losses};
pub(super) use parts::LOSSES;
