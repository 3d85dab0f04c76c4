//! What the new database will hold, decided before a row of it is written.
//!
//! Pure: a snapshot goes in, a plan comes out, the same every time. It looks at no database, no
//! secret and no network.

mod clashes;
mod clients;
mod groups;
mod make;
mod policies;
mod target;

pub(crate) use clashes::{Clashes, Fate, Fates};
pub(crate) use make::{Context, Plan, make};
pub(crate) use target::Client;
pub(crate) use target::{SecretOp, SecretRef, Target};
