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
