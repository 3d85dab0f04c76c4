//! Plans the contents of the new database, before a row of it is written.
//!
//! Pure: the same snapshot and context always give the same plan. It reads no database, no secret
//! and no network.

mod clashes;
mod clients;
mod group;
mod groups;
mod make;
mod policies;
mod stored_secrets;
mod target;

pub(crate) use clashes::{ClashOutcome, ClashOutcomes, Clashes};
pub(crate) use make::{Context, Plan, make};
pub(crate) use target::Client;
pub(crate) use target::{SecretOp, SecretRef, Target};
