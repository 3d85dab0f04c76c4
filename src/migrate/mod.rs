//! Staged migration of SQLite databases: copy, build beside, verify, flip.
//!
//! | file | what |
//! |---|---|
//! | `recipe.rs`, `recipes/` | what one kind of database needs; rows and schemas |
//! | `runner.rs`, `context.rs` | performs the effects that the core owes a migration |
//! | `inspect.rs`, `recovery.rs` | the first look, and what an earlier attempt left |
//! | `copy.rs`, `build.rs`, `secrets.rs` | the private copy, the new database, secrets beside it |
//! | `flip.rs`, `undo.rs` | the one rename, the end either way, and the way back |
//! | `file_names.rs`, `manifest.rs`, `app_lock.rs` | file names, the manifest beside the database, the foreign lock |
//! | `files.rs`, `sqlite.rs` | durable, patient primitives |
//! | `request.rs` | from what somebody typed to a plan |
//! | `standalone.rs` | the same without a daemon and its log |
//!
//! Which phase comes next is decided by `core::migration`. Nothing here appends to a log.

pub mod files;
pub mod inspect;
pub mod keychain;
pub mod recipe;
pub mod recipes;
pub mod request;
pub mod secrets;
pub mod sqlite;

mod context;
mod copy;
mod copy_source;
mod flip;
mod source;
mod undo;

pub mod app_lock;
mod build;
pub mod file_names;
pub mod http;
pub mod manifest;
#[cfg(any(test, feature = "faults"))]
pub mod power;
mod recovery;
pub mod runner;
#[cfg(any(test, feature = "faults"))]
#[cfg_attr(not(test), expect(dead_code, reason = "some of it is for tests alone"))]
mod sample;
pub mod standalone;

pub use crate::migrate::context::MigrationRunner;
pub use crate::migrate::context::Progress;
