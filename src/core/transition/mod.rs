//! Transitions of the state: decided, applied, owed and settled, one subject per file.

mod archive;
mod clean;
mod host;
mod lease;
mod migration;
mod owed;
mod provision;
mod reconcile;
mod relocation;
mod repository;
mod requests;
mod retention;
mod service;
mod settle;
mod teardown;
