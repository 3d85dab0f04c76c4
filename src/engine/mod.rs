//! The one loop: take commands, decide, append, apply, publish, reply, start what is owed.
//!
//! One thread owns the journal and the state ([`main_loop`]). Everything that wants something from
//! it holds a [`Handle`]: it sends commands into a bounded mailbox and reads a published copy of
//! the state. Effects run on threads of their own ([`driver`]), one at a time per environment, and
//! report their outcome as commands. A batch of commands costs one commit; there is no linger
//! timer, because what arrives during a commit is the next batch.
//!
//! Beside the loop, [`watcher`] follows the state and sees to it that what somebody is interested
//! in is watched.
//!
//! The order is the promise: what a reply says is durable, and what the world is asked to do was
//! durable before. A failed commit ends the loop, and with it the process.

pub mod driver;
pub mod handle;

mod disk_guard;
#[cfg(test)]
mod gives_up;
pub mod log_stream;
pub mod main_loop;
pub mod scheduling;
pub mod watcher;

pub use crate::engine::disk_guard::make_room;
pub use crate::engine::main_loop::{Ended, Engine, MAILBOX_MAX};
pub use crate::engine::watcher::Watching;
pub use handle::{Handle, Progress, Receipt};
