//! A small control server: keeps a catalogue of hosts and their environments, and commands hosts.
//!
//! The server keeps its rows in a database (`schema/catalog/`), accepts requests over HTTP, and has
//! a session with the daemon of each host. Over the session, requests become commands and the
//! host's facts become rows. The server touches nothing on a host by itself, and it stores no
//! secret of a host, only hashes of keys.
//!
//! `transitions` defines the legal changes of a row (pure), `catalog` opens the database, `store`
//! writes environments, `facts` applies to them what hosts report, `threads`, `operations` and
//! `answers` write their own tables, `registry` holds the open sessions, `host_session` is one of
//! them, and `sync` translates between its messages and the catalogue. `app` is what handlers
//! share, `routes` maps addresses to handlers in `environments`, `workspace` and `connections`;
//! `run` starts and stops them all.

pub mod run;
pub mod types;

mod answers;
mod app;
mod catalog;
mod completeness;
mod connections;
#[cfg(test)]
mod document;
mod environments;
mod facts;
mod host_session;
mod operations;
mod registry;
mod routes;
#[cfg(test)]
mod sim;
mod store;
mod sync;
mod threads;
pub mod transitions;
mod usage;
mod workspace;

pub use app::Timing;
pub use routes::OPENAPI;
