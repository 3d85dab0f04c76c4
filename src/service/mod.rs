//! Use cases: what a client or a control server can ask of the daemon, as typed functions.
//!
//! A use case submits commands to the engine, waits for their end where it was asked to, and
//! returns the published state as a view. It decides nothing about environments and knows neither
//! addresses nor status numbers: [`crate::api`] and [`crate::session`] call it and answer in their
//! own form. Each subject has its use cases in one file. [`app`] holds what all of them share,
//! [`types`] their requests and views; `outcome` says how far an operation has come, `requests`
//! checks what every request carries, and `relocation` finds a repository that was moved.

pub mod app;
pub(crate) mod archives;
pub(crate) mod blocking;
pub(crate) mod clean;
pub(crate) mod contents;
pub(crate) mod daemon;
pub(crate) mod environments;
pub(crate) mod events;
pub(crate) mod leases;
pub(crate) mod locks;
pub(crate) mod log;
pub(crate) mod migrations;
pub(crate) mod outcome;
pub(crate) mod processes;
pub(crate) mod reconcile;
pub(crate) mod relocation;
pub(crate) mod requests;
pub mod runs;
pub(crate) mod status;
pub mod streams;
pub mod sweep;
pub(crate) mod trust;
pub mod types;

pub use app::App;
