//! The daemon: owns the data directory, opens the log, serves clients, and shuts down in order. It
//! makes no decisions about environments; the core does.

#[cfg(feature = "daemon")]
pub mod ground;
#[cfg(feature = "daemon")]
pub mod run;
#[cfg(feature = "daemon")]
pub mod startup_migrations;
