//! The daemon: owns the data directory, opens the log, serves clients, and shuts down in order. It
//! makes no decisions about environments; the core does.

pub mod ground;
pub mod run;
pub mod startup_migrations;
