//! An early schema of the old generation, brought to its last one. It works in place, on the copy.
//!
//! The chain has thirteen steps. A database that has a sound history of them gets the ones it has
//! not had; one whose history cannot be trusted gets whatever its schema lacks. Either way in one
//! transaction.

mod bring_up;
mod chain;
mod history;
mod parts;

pub(super) use bring_up::{bring_up, losses};
pub(super) use parts::LOSSES;
