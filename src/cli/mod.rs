//! The command line: arguments to API requests, answers to text or JSON.
//!
//! Data goes to stdout, everything else to stderr. It starts a daemon when none runs. It decides
//! nothing; every rule is the daemon's. [`args`] is what can be typed, [`verbs`] one function per
//! verb (with `kept`, `inside`, `status`, `exec` and `gc`), [`client`] the connection, [`render`] what people see, [`doctor`] the checks.

pub mod args;
pub mod client;
pub mod render;

mod commands;
mod dispatch;
mod output;

pub use dispatch::main;
