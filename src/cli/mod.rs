//! The command line: arguments to API requests, answers to text or JSON.
//!
//! Data goes to stdout, everything else to stderr. It starts a daemon when none runs. It decides
//! nothing; every rule is the daemon's. [`args`] is the command-line definition, `dispatch` hands
//! each verb to its file in `commands`, [`client`] is the connection, `output` how a command
//! answers and [`render`] the text for people.

pub mod args;
pub mod client;
pub mod render;

mod commands;
mod dispatch;
mod output;

pub use dispatch::main;
