//! The daemon: owns the data directory, opens the log, serves clients, and shuts down in order. It
//! makes no decisions about environments; the core does.

pub mod ground;
pub mod info;
pub mod options;
pub mod ready;
pub mod run;
pub mod running;
pub mod signals;
pub mod startup_migrations;

mod lock;
mod missing_log;
mod own_files;
mod serve;
mod service_manager;
pub mod text_log;
