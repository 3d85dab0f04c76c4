//! The API: HTTP and JSON over a Unix socket, under `/v1`.
//!
//! It translates requests into commands and the published state into answers. It decides nothing.
//! [`app`] holds what handlers share, [`extract`] parses requests, and [`mod@router`] lists every
//! address. Each subject has its handlers in one file ([`environments`], [`daemon`], [`clean`],
//! [`inside`], [`kept`], [`live`], [`locks`], [`migrations`], [`run`], [`status`], [`events`],
//! [`log`]). [`types`] holds the wire types. [`door`] is the socket and [`port`] the TCP port: they
//! check the client and limit the number and duration of connections. A test keeps the `OpenAPI`
//! document in `schema/` equal to the types.

pub mod app;
pub mod clean;
pub mod daemon;
pub mod document;
pub mod door;
pub mod environments;
pub mod events;
pub mod extract;
pub mod inside;
pub mod kept;
pub mod live;
pub mod locks;
pub mod log;
pub mod migrations;
mod moved;
pub mod port;
pub mod problem;
pub mod router;
pub mod run;
pub mod status;
pub mod types;

mod leases;
mod trust;

pub use app::App;
pub use router::{openapi, router};
