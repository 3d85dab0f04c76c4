//! The API: HTTP and JSON over a Unix socket, under `/v1`.
//!
//! It translates requests into commands and the published state into answers. It decides nothing.
//! [`app`] holds what handlers share, [`extract`] parses requests, and [`mod@router`] lists every
//! address. Each subject has its handlers in one file ([`environments`], [`daemon`], [`clean`],
//! [`archives`], [`contents`], [`live_sets`], [`locks`], [`migrations`], [`processes`], [`run`],
//! [`status`], [`sweep`], [`events`], [`log`]). [`types`] holds the wire types. [`unix_socket`] is
//! the socket and [`tcp`] the TCP port: they check the client and limit the number and duration of
//! connections. A test keeps the `OpenAPI` document in `schema/` equal to the types.

pub mod app;
pub mod archives;
pub mod clean;
pub mod contents;
pub mod daemon;
#[cfg(test)]
pub(crate) mod document;
pub mod environments;
pub mod events;
pub mod extract;
pub mod live_sets;
pub mod locks;
pub mod log;
pub mod migrations;
pub mod problem;
pub mod processes;
mod relocation;
pub mod router;
pub mod run;
pub mod status;
pub mod sweep;
pub mod tcp;
pub mod types;
pub mod unix_socket;

mod leases;
mod trust;

pub use app::App;
pub use router::{OPENAPI, router};
