//! The API: HTTP and JSON over a Unix socket, `/v1`.
//!
//! It translates requests into commands and the published state into answers. It decides nothing.
//! [`types`] is what goes over the wire, [`routes`] are the resources, [`clean`] what tools rebuild, [`inside`] what goes
//! on in an environment, [`kept`] what is left of those that are over, [`live`] what a control server says that lives, [`locks`] git's lock files, [`migrations`] databases on their way, [`run`] commands for those who are not there, [`events`] the stream, [`log`] the records as they stand,
//! [`port`] the port and [`door`] the socket: who may connect, how many, for how long. The `OpenAPI` document in `schema/`
//! is made from the types and a test keeps the two equal.

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
