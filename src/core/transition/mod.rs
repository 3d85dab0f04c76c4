//! Transitions of the state: decided, applied, owed and settled, one subject per file.

mod apply;
pub(crate) mod archive;
pub(crate) mod clean;
pub(crate) mod decide;
mod migration;
mod owed;
mod reconcile;
mod relocation;
mod remote_requests;
mod retention;
pub(crate) mod settle;
mod teardown;
