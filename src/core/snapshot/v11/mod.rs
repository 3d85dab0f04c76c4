//! Version 11 of the snapshot format: the one that is written.

mod archive;
mod common;
mod environment;
mod host;
mod migration;
mod state;
mod step;

pub use state::{State, VERSION};

/// The structs of this version, for an earlier one that has some of them.
pub(super) mod parts {
    pub(in crate::snapshot) use super::archive::*;
    pub(in crate::snapshot) use super::common::*;
    pub(in crate::snapshot) use super::environment::*;
    pub(in crate::snapshot) use super::host::*;
    pub(in crate::snapshot) use super::migration::*;
    pub(in crate::snapshot) use super::step::*;
}
