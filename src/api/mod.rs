//! The API: HTTP and JSON over a Unix socket, under `/v1`.
//!
//! It parses requests, calls one use case of [`crate::service`] for each, and renders the result as
//! an answer. [`mod@router`] lists every address. Each subject has its handlers in one file
//! ([`environments`], [`daemon`], [`clean`], [`archives`], [`contents`], [`live_sets`], [`locks`],
//! [`migrations`], [`processes`], [`run`], [`status`], [`sweep`], [`events`], [`log`]); [`types`]
//! holds the wire types. [`crate::http`] accepts the connections. A test keeps the `OpenAPI`
//! document in `schema/` equal to the types.

pub mod archives;
pub mod clean;
pub mod contents;
pub mod daemon;
#[cfg(test)]
pub(crate) mod document;
pub mod environments;
pub mod events;
pub mod live_sets;
pub mod locks;
pub mod log;
pub mod migrations;
pub mod processes;
pub mod router;
pub mod run;
pub mod status;
pub mod sweep;
pub mod types;

mod leases;
mod shared;
mod trust;

pub use router::{OPENAPI, router};
