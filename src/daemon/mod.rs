//! The daemon: owns the data directory, opens the log, serves, and drains.

#[cfg(feature = "daemon")]
pub mod ground;
#[cfg(feature = "daemon")]
pub mod run;
#[cfg(feature = "daemon")]
pub mod startup_migrations;
