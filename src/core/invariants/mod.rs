//! Checks of what must never happen, as far as a log can show it: a fold beside the state's fold.
//!
//! [`Audit::fold`] takes a record into a state like [`State::apply`](crate::State::apply) and
//! returns each [`Invariant`] it breaks. The core's own laws, the torture runs and `replay verify`
//! and `replay bisect` use it. It decides nothing, and a breach changes nothing about the fold. Its
//! memory grows with the live environments and with the migrations, not with the records.

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
