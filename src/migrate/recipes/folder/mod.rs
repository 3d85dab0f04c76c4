//! A recipe that is a folder of SQL files, for databases that SQL alone can migrate.
//!
//! | file | content |
//! |---|---|
//! | `recognise.sql` | one query with one row: `old`, `current`, `newer` or `foreign`, and a reason in an optional second column |
//! | `normalise.sql` | optional; a script for the private copy |
//! | `build.sql` | a script for the new, empty database; the copy is attached as `old` |
//! | `stamp.sql` | a script that marks the new database as being of the new generation |
//! | `verify.sql` | optional; a query; each row is a defect of the new database |
//! | `warnings.sql` | optional; a query; each row is a warning for the user; `old` is attached |
//! | `ready.sql` | optional; a script for every start |
//!
//! The hash of their content is part of the migration's plan, and the engine keeps a copy of them
//! with the migration: that copy is the recipe until the migration ends, even if the folder
//! changes.
//!
//! # Scripts
//!
//! A script runs in one transaction, which belongs to the engine: a script that begins, commits or
//! rolls back one is refused, and so is one with a savepoint. It cannot attach, detach or load
//! anything, and it only reads `old`. It may read any pragma of its database, and set
//! `user_version`, `application_id`, `analysis_limit`, `defer_foreign_keys`, `legacy_alter_table`
//! and `recursive_triggers`, run `optimize` and `incremental_vacuum`, and, at the beginning of
//! `build.sql`, set `page_size` and then `auto_vacuum`. The text encoding of the new database is
//! that of the old one. A script has no parameters.
//!
//! A comment or string that is not closed, a NUL byte, and a required file without a statement are
//! refused with their line before anything is changed. A script has a limit of time and a limit of
//! pages, and ends within a second when a stop is requested.
//!
//! `build.sql` must make a table. If the old database has rows and the new one has none, the
//! migration is refused, unless this line is in `build.sql`:
//!
//! ```sql
//! -- groundskeeper: may-be-empty
//! ```
//!
//! A line of `stamp.sql` names a table to which the application adds rows on its own when it
//! starts, such as a ledger of its steps. That alone does not stand in the way of an undo:
//!
//! ```sql
//! -- groundskeeper: stamps ledger
//! ```
//!
//! # Queries
//!
//! A query is one statement that changes nothing. Numbers count as their text, a blob as its bytes
//! in hexadecimal form. `NULL` in a row of `verify.sql` or `warnings.sql` counts as the text
//! `NULL`, since the row is a finding in any case; a reason of `NULL` is no reason.

mod fault;
mod guard;
mod recipe;
mod script;
mod text;

#[cfg(test)]
pub(crate) mod case;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

pub use recipe::Folder;
pub(crate) use recipe::LABEL;
