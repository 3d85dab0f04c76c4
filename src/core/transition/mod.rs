//! Transitions of the state: decided, applied, owed and settled, one subject per file.

mod apply;
pub(in crate::core) mod archive;
pub(in crate::core) mod clean;
pub(in crate::core) mod decide;
mod migration;
mod owed;
mod reconcile;
mod relocation;
mod remote_requests;
mod retention;
pub(in crate::core) mod settle;
mod teardown;
