//! What must never happen, as far as a log can show it: a fold beside the fold.
//!
//! [`Audit::fold`] takes a record into a state like [`State::apply`](crate::core::State::apply) and
//! says which [`Invariant`] it breaks. The core's own laws, the torture runs and `replay verify`
//! and `replay bisect` all ask here. It decides nothing, and a breach changes nothing about the
//! fold. What it holds grows with the environments that live, not with the records.

mod checker;
#[cfg(test)]
mod forged;
mod lifecycle;
mod list;
mod ordering;
mod settlement;
mod work_safety;

pub use checker::Audit;
pub use list::{Breach, INVARIANTS, Invariant, invariant};
