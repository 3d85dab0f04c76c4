//! Executor: its local database from v1 (scopes, sources, bindings) to v2 (tenants, integrations,
//! connections).
//!
//! The rows come out as the original's own migration writes them, to the byte; what it drops
//! without a word is named here. In reading order:
//!
//! ```text
//!  recipe      the steps, in the engine's order          gate       what a database is
//!  legacy      an early v1 schema to the last one        tables, cells  rows as JS sees them
//!  snapshot    what the plan needs, in memory            config, oauth  JSON of connections
//!  plan        pure: what the new database will hold     secrets    values under their new ids
//!  discovery   what servers say of themselves            write      the rows, streamed
//!  ledger      small steps at every start                losses     what has no place any more
//! ```
//!
//! Nothing here names a file, renames, locks or writes a secret; that is the engine's.

mod cells;
mod config;
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
