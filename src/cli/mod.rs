//! The command line: turns arguments into API requests, and answers into text or JSON.
//!
//! Data goes to stdout, everything else to stderr. It starts a daemon if none runs. It decides
//! nothing; every rule is the daemon's. [`args`] is the command-line definition, `dispatch` hands
//! each verb to its file in `commands`, [`client`] is the connection to the daemon, `output` prints
//! results, `failure` reports why there is none, and [`render`] formats text for people.

pub mod args;
pub mod client;
pub mod render;

mod commands;
mod dispatch;
mod failure;
mod output;

pub use dispatch::main;
