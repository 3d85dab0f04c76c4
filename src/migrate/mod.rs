//! Staged migration of SQLite databases: copy, build beside, verify, flip.
//!
//! | file | content |
//! |---|---|
//! | `recipe.rs` | what one kind of database needs: its rows and schemas |
//! | `recipes/` | the table of the recipes that a program knows, and folders of SQL files |
//! | `runner.rs`, `context.rs` | performs the effects that the core owes a migration |
//! | `inspect.rs`, `recovery.rs` | the first inspection; settles an earlier interrupted attempt |
//! | `copy.rs`, `build.rs`, `secrets.rs` | the private copy, the new database, secrets beside it |
//! | `keychain_entries.rs` | secrets in the system's keychain |
//! | `replace.rs` | one database takes the name of another by one rename |
//! | `flip.rs`, `undo.rs` | the installation, clean-up and roll-back, and the undo |
//! | `content.rs` | the content of a new database, to tell the application's stamp from a write |
//! | `prune/` | removes old backups, databases that an undo put aside, and kept secrets |
//! | `file_names.rs`, `manifest.rs`, `app_lock.rs` | file names, the manifest beside the database, the application's lock |
//! | `hold.rs`, `source.rs` | other programs kept out between two steps; the locked old database |
//! | `files.rs`, `sqlite.rs` | durable primitives that retry transient errors |
//! | `plain_file.rs`, `interrupt.rs` | reads of plain files only, work that can be interrupted |
//! | `private.rs`, `access.rs` | private files that no other user replaces, owners and modes |
//! | `request.rs` | turns a request or configuration into a plan |
//! | `contract.md` | the contract with programs in other languages |
//! | `standalone.rs`, `place.rs` | runs migrations in the calling process, with a log of their own |
//!
//! `groundskeeper_core` decides which phase comes next. Only `standalone.rs` appends to a log, and
//! no recipe is built in: a program passes its own in [`recipes::Recipes`].
//!
//! # In a program of your own
//!
//! Programs in other languages start `groundskeeper migrate`; its contract is in [`contract`].
//!
//! One call at every start, when there is a database and before anything else opens it. It settles
//! what an interrupted call left, and changes nothing when the database is current. Where SQL is
//! not enough, implement [`recipe::Recipe`] in place of the scripts.
//!
//! ```
//! use groundskeeper_migrate::recipes::{Recipes, folder::Folder};
//! use groundskeeper_migrate::request::MigrationRequest;
//! use groundskeeper_migrate::rusqlite::Connection;
//! use groundskeeper_migrate::standalone::{self, Control, Place};
//! use groundskeeper_migrate::{MigrationRunner, http::NoNetwork, keychain::NoKeychain};
//!
//! # let dir = tempfile::tempdir()?;
//! # let (database, kept) = (dir.path().join("notes.db"), dir.path().join("migrations"));
//! # Connection::open(&database)?.execute_batch("CREATE TABLE note (text)")?;
//! let recognise = "SELECT iif(user_version < 2, 'old', 'current') FROM pragma_user_version";
//! let build = "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
//!              INSERT INTO note (text) SELECT text FROM old.note;";
//! let stamp = "PRAGMA user_version = 2";
//! let scripts = [Some(recognise), None, Some(build), Some(stamp), None, None, None];
//! let recipes = Recipes::new(vec![std::sync::Arc::new(Folder::built_in("notes", scripts))]);
//!
//! let recipe = "notes".to_owned();
//! let request = MigrationRequest { database, recipe, ..MigrationRequest::default() };
//! let place = Place::within(&kept);
//! let runner = MigrationRunner::new(&kept, recipes, Box::new(NoNetwork), Box::new(NoKeychain));
//! let done = standalone::run(&place, &runner, &request, &Control::default())?.into_result()?;
//! let migrated = done.migration.is_some_and(|migration| migration.has_migrated());
//! assert!(migrated, "the old database is kept under another name");
//! let again = standalone::run(&place, &runner, &request, &Control::default())?;
//! assert!(again.migration.is_none(), "it is current");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod files;
pub mod inspect;
pub mod keychain;
pub mod prune;
pub mod recipe;
pub mod recipes;
pub mod request;
pub mod secrets;
pub mod sqlite;

mod access;
mod content;
mod context;
mod copy;
mod copy_source;
mod flip;
mod hold;
mod ids;
#[cfg(test)]
#[cfg(unix)]
mod inspect_tests;
mod interrupt;
mod keychain_entries;
#[cfg(test)]
mod keychain_tests;
mod place;
mod plain_file;
mod private;
mod replace;
mod source;
mod undo;
mod warnings;

pub mod app_lock;
mod build;
pub mod contract;
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

pub use crate::context::{MigrationRunner, Progress};
pub use groundskeeper_core::{Code, Fault, Migration, MigrationPhase};
/// The SQLite that a [`recipe::Recipe`] is called with.
pub use rusqlite;
