//! Watches the environments that are served and have a lease or a subscriber.
//!
//! One thread (`watch_loop`) carries out the decisions of `core::watch_machine` for each of them.
//! It follows the state and never leads it: a record states only that watching was given up or
//! resumed. A read starts no watch. An environment that is being torn down or is tombstoned is
//! never watched. No thread ever holds two of the watcher's locks at once.
//!
//! `service` is what the rest of the daemon uses. `inbox` is what waits for the thread, and the
//! subscriptions; `changes` keeps the notifications; `poller` asks for what cannot be watched.

mod changes;
mod context;
mod data;
#[cfg(test)]
mod failures;
mod inbox;
mod poller;
mod service;
mod watch_loop;

pub use data::{Change, Metrics, Options};
pub use inbox::Subscription;
pub use service::WatchService;
