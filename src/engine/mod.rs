//! The one loop: take commands, decide, append, apply, publish, reply, start owed steps.
//!
//! One thread owns the journal and the state ([`main_loop`]). Every other part of the daemon holds
//! a [`Handle`]: it sends commands into a bounded mailbox and reads a published copy of the state.
//! Effects run on their own threads ([`driver`]), one at a time per environment, and report their
//! outcome as commands. A batch of commands costs one commit. There is no linger timer: commands
//! that arrive during a commit form the next batch.
//!
//! Lives that the state has forgotten are found through the index of the log (`former`).
//!
//! Beside the loop, [`watcher`] follows the state and watches the environments that have a
//! subscriber or a lease.
//!
//! The order is the guarantee: what a reply reports is durable, and an effect starts only after the
//! records that require it are durable. A failed commit ends the loop, and with it the process.

pub mod driver;
pub mod handle;

#[cfg(test)]
mod admission_tests;
mod anchor;
mod disk_guard;
mod former;
pub mod log_stream;
mod log_trim;
pub mod main_loop;
mod record_size;
mod reserve;
pub mod scheduling;
mod spans;
pub mod watcher;

pub use crate::engine::log_trim::LogLimits;
pub use crate::engine::main_loop::{Ended, Engine, MAILBOX_MAX};
pub use crate::engine::reserve::make_room;
pub use crate::engine::watcher::WatchService;
pub use handle::{Handle, Progress, Receipt};
