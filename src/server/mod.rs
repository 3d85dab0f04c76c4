//! A small control server: which environments there are on which host, and what is to be done.
//!
//! It keeps its rows in a database (`schema/catalog/`), takes wishes over HTTP, and has a session
//! with the daemon of each host, over which wishes become commands and the host's facts become
//! rows. It touches nothing on a host by itself and knows no secret but hashes of keys.
//!
//! `transitions` says what a row may become (pure), `catalog` opens the database, `store` is the
//! one writer of environments, `threads`, `operations` and `answers` keep their own tables,
//! `registry` knows the open sessions, `host_session` is one of them, `sync` what it and the
//! catalogue say to each other. `app` is what handlers share, `routes` lists the addresses, with
//! handlers in `environments`, `workspace` and `connections`; `run` puts them together.

pub mod run;
pub mod types;

mod answers;
mod app;
mod catalog;
mod connections;
mod environments;
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

pub use app::Pace;
pub use routes::openapi;
