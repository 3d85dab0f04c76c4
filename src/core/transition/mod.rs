//! Transitions of the state: decided, applied, owed and settled, one subject per file.

mod adoption;
mod archive;
mod archive_requests;
mod clean;
mod finished;
mod folding;
mod host;
mod label;
mod lease;
mod leftover;
mod migration;
mod migration_requests;
mod owed;
mod provision;
mod reconcile;
#[cfg(test)]
mod reconcile_tests;
mod relocation;
mod repository;
mod requests;
mod rescue_age;
mod restore;
mod retention;
mod service;
mod settle;
mod teardown;
mod teardown_inspection;
