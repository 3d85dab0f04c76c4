//! The commands, one file for each verb or group of verbs. Each sends requests to the daemon and
//! shows the answer; none decides anything.

pub(super) mod adopt;
pub(super) mod backup;
mod check;
pub(super) mod clean;
pub(super) mod config;
pub(super) mod daemon;
pub(super) mod daemon_log;
pub(super) mod df;
pub(super) mod doctor;
mod doctor_checks;
pub(super) mod events;
pub(super) mod exec;
mod fields;
pub(super) mod gc;
pub(super) mod init;
pub(super) mod lease;
pub(super) mod logs;
pub(super) mod ls;
pub(super) mod man;
pub(super) mod migrate;
pub(super) mod new;
pub(super) mod ps;
pub(super) mod reconcile;
pub(super) mod rename;
pub(super) mod rescue;
pub(super) mod restore;
pub(super) mod rm;
pub(super) mod server;
pub(super) mod service;
pub(super) mod status;
pub(super) mod status_watch;
pub(super) mod sweep;
pub(super) mod trash;
pub(super) mod trust;
