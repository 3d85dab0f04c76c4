//! Use cases: what a client or a control server can ask of the daemon, as typed functions.
//!
//! A use case submits commands to the engine, waits for their end where it was asked to, and
//! returns the published state as a view. It decides nothing about environments and knows neither
//! addresses nor status numbers: [`crate::api`] and [`crate::session`] call it and answer in their
//! own form. Each subject has its use cases in one file. [`app`] holds what all of them share,
//! [`types`] their requests and views; `outcome` says how far an operation has come, `requests`
//! and [`keys`] check what every request carries, and `relocation` finds a repository that was
//! moved.

#[cfg(feature = "daemon")]
pub mod app;
#[cfg(feature = "daemon")]
pub(crate) mod archives;
#[cfg(feature = "daemon")]
pub(crate) mod blocking;
#[cfg(feature = "daemon")]
pub(crate) mod changes;
#[cfg(feature = "daemon")]
pub(crate) mod clean;
#[cfg(feature = "daemon")]
pub(crate) mod contents;
#[cfg(feature = "daemon")]
pub(crate) mod daemon;
#[cfg(feature = "daemon")]
pub(crate) mod environments;
#[cfg(feature = "daemon")]
pub(crate) mod events;
#[cfg(feature = "daemon")]
pub mod keys;
#[cfg(feature = "daemon")]
pub(crate) mod leases;
#[cfg(feature = "daemon")]
pub(crate) mod list;
#[cfg(feature = "daemon")]
pub(crate) mod locks;
#[cfg(feature = "daemon")]
pub(crate) mod log;
#[cfg(feature = "daemon")]
pub(crate) mod migrations;
#[cfg(feature = "daemon")]
pub(crate) mod outcome;
#[cfg(feature = "daemon")]
pub(crate) mod presence;
#[cfg(feature = "daemon")]
pub(crate) mod processes;
#[cfg(feature = "daemon")]
pub(crate) mod reconcile;
#[cfg(feature = "daemon")]
pub(crate) mod relocation;
#[cfg(feature = "daemon")]
pub(crate) mod requests;
#[cfg(feature = "daemon")]
pub mod runs;
#[cfg(feature = "daemon")]
pub(crate) mod start_over;
#[cfg(feature = "daemon")]
pub(crate) mod status;
#[cfg(feature = "daemon")]
pub mod streams;
#[cfg(feature = "daemon")]
pub mod sweep;
#[cfg(feature = "daemon")]
pub(crate) mod trust;
pub mod types;

#[cfg(feature = "daemon")]
pub use app::App;
