//! The recipe for the Executor application's local database, from v1 (scopes, sources, bindings) to
//! v2 (tenants, integrations, connections).
//!
//! The application has its own migration, called *the original* in these comments. The new rows
//! equal the original's to the byte. Many rules here exist only for that equality, even where
//! another rule would be better; recorded runs of the original test it. The original drops some
//! data silently; this recipe reports each such loss in a warning. In reading order:
//!
//! ```text
//!  recipe      the steps, in the engine's order          gate       recognise, verify
//!  legacy      an early v1 schema to the last one        tables, cells  rows as JS sees them
//!  snapshot    input of the plan, in memory              config, oauth  JSON of connections
//!  plan        pure: contents of the new database        secrets    values under their new ids
//!  discovery   metadata of OAuth servers                 write      the rows, streamed
//!  ledger      small steps at every start                losses     warnings about lost data
//! ```
//!
//! Nothing here names a file, renames, locks or writes a secret; the migration engine does.
//!
//! # Accepted differences
//!
//! Where a recorded run shows a result of the original, that result counts, even if it is odd. A
//! result is ours only where the original crashes, refuses a database for ever, or loses data
//! without a word. Each has a test, in `tests/differences.rs`, `tests/kinds.rs` or
//! `tests/clashes.rs`:
//!
//! | the original | this recipe |
//! |---|---|
//! | reads a BLOB in a text or number column as `[object ArrayBuffer]` or as no number | reads the text in it |
//! | overlooks an optional column that is generated, or whose name has capitals | reads it |
//! | stops for ever if the history of the early schema claims a step that the schema lacks | takes the history for unusable |
//! | stops or loses a source if a table or column beside it is gone from an early schema | takes the table for empty, the column for NULL |
//! | stops for ever if a map of headers in an early schema is text, or drops it if it is a number | drops it and says so |
//! | replaces a binding of an early schema by a later one of the same slot | does the same and says so |
//! | cuts a text with half of a surrogate pair | does the same and says so |
//! | stops for ever if a secret for the keychain is no text | stores it as JSON text |
//! | starts with an empty database if `source.scope_id` has capitals or is generated | migrates |
//! | stops for ever at rows that clash, naming one index | names the rows, and can keep the first or rename |
//!
//! A secrets file that is no JSON object, or that starts with a byte order mark, is refused, and
//! the hint says how to save it.

mod cells;
mod config;
mod defaults;
mod discovery;
mod fail;
mod gate;
mod ids;
mod js;
mod ledger;
mod legacy;
mod losses;
mod oauth;
mod plan;
mod recipe;
mod scope;
mod secrets;
mod slug;
mod snapshot;
mod tables;
#[cfg(test)]
mod tests;
mod unread;
mod url;
mod write;

pub use recipe::Executor;
