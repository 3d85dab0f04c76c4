//! The laws of the core over random histories, on a simulated disk.

#![cfg_attr(not(test), allow(dead_code, reason = "other packages use a part of it"))]
#![allow(clippy::expect_used, reason = "test code: a failed expectation ends the test")]

pub(crate) mod actions;
pub(crate) mod checks;
pub(crate) mod disk;
pub mod harness;
#[cfg(test)]
pub(crate) mod laws;
mod memory;
#[cfg(test)]
pub(crate) mod migration_laws;
#[cfg(test)]
pub(crate) mod output_laws;
pub(crate) mod perform;
