//! Proof that the maintained crate `wincode` can take over from `bincode` without a change of
//! bytes.
//!
//! `wincode` has schemas of its own and does not know serde. A bridge of a few functions gives it
//! the fields in serde's order; with that, each event is written and read as today.

mod comparison;
mod failed;
mod reader;
mod writer;
