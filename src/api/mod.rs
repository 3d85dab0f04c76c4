//! The API: HTTP and JSON over a Unix socket, `/v1`.
//!
//! It translates requests into commands and the published state into answers. It decides nothing.
//! [`app`] is what handlers share, [`extract`] what they take out of a request, [`mod@router`]
//! lists every address; each subject has its handlers in one file ([`environments`], [`daemon`],
//! [`clean`], [`inside`], [`kept`], [`live`], [`locks`], [`migrations`], [`run`], [`status`],
//! [`events`], [`log`]). [`types`] is what goes over the wire, [`door`] the socket and [`port`] the
//! TCP port: who may connect, how many, for how long. A test keeps the `OpenAPI` document in
//! `schema/` equal to the types.

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
