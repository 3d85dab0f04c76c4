//! HTTP without addresses: what the daemon's API and the control server's share.
//!
//! [`extract`] parses requests, `body` their bodies; `answer` and [`problem`] turn an outcome or a
//! fault into an answer with its status; [`unix_socket`] and [`tcp`] accept connections and limit
//! their number and duration, [`socket_file`] makes a socket, and [`kept_socket`] keeps its name.
//! [`auth`] checks tokens, and [`error`] has what all of them can refuse or fail with. Nothing here
//! routes a request or calls a use case.

pub(crate) mod answer;
pub mod auth;
pub(crate) mod body;
pub mod error;
pub mod extract;
pub mod kept_socket;
#[cfg(test)]
pub(crate) mod openapi;
pub mod problem;
pub mod socket_file;
pub mod tcp;
pub mod unix_socket;

pub use error::Error;
