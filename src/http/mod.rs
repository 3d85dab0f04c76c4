//! HTTP without addresses: what the daemon's API and the control server's share.
//!
//! [`extract`] parses requests, `body` their bodies; `answer` and [`problem`] turn an outcome or a
//! fault into an answer with its status; [`unix_socket`] and [`tcp`] accept connections and limit
//! their number and duration, and [`auth`] checks tokens. Nothing here routes a request or calls
//! a use case.

pub(crate) mod answer;
pub mod auth;
pub(crate) mod body;
pub mod extract;
#[cfg(test)]
pub(crate) mod openapi;
pub mod problem;
pub mod tcp;
pub mod unix_socket;
