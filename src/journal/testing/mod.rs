//! Support for tests of the log: sample events, golden files, a simulated disk, power losses.

#![allow(clippy::expect_used, reason = "test code: a failed expectation ends the test")]

#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
mod golden_snapshots;
#[cfg(any(test, feature = "testing"))]
pub mod lives;
#[cfg(test)]
pub(crate) mod parts;
#[cfg(any(test, feature = "testing"))]
pub mod power_loss;
#[cfg(test)]
pub(crate) mod sample_migrations;
#[cfg(test)]
pub(crate) mod sample_state;
#[cfg(test)]
pub(crate) mod sample_teardowns;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod simdisk;
#[cfg(test)]
mod wincode;
