//! Staged migration of SQLite databases: copy, build beside, verify, flip.
//!
//! | file | content |
//! |---|---|
//! | `recipe.rs`, `recipes/` | what one kind of database needs: its rows and schemas |
//! | `runner.rs`, `context.rs` | performs the effects that the core owes a migration |
//! | `inspect.rs`, `recovery.rs` | the first inspection; settles an earlier interrupted attempt |
//! | `copy.rs`, `build.rs`, `secrets.rs` | the private copy, the new database, secrets beside it |
//! | `flip.rs`, `undo.rs` | the one rename, clean-up and roll-back, and the undo |
//! | `file_names.rs`, `manifest.rs`, `app_lock.rs` | file names, the manifest beside the database, the application's lock |
//! | `files.rs`, `sqlite.rs` | durable primitives that retry transient errors |
//! | `request.rs` | turns a request or configuration into a plan |
//! | `standalone.rs` | runs a migration without a daemon and its log |
//!
//! `core::migration` decides which phase comes next. Nothing here appends to a log.

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
