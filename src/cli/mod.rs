//! The command line: turns arguments into API requests, and answers into text or JSON.
//!
//! Data goes to stdout, everything else to stderr. It starts a daemon if none runs. It decides
//! nothing; every rule is the daemon's. [`args`] is the command-line definition, `dispatch` hands
//! each verb to its file in `commands`, `client` is the connection to the daemon, `output` prints
//! results, `error` and `failure` report why there is none, and [`render`] formats text for people.
//! `named` finds the environment that was meant, `completion` offers values to a shell, `shell`
//! tells its function where to go, `pager` shows a long text, and `ask` asks before much is taken
//! away.
//! `local` migrates a database without a daemon, `follow` follows a migration in the daemon,
//! `progress_line` is the progress of both as JSON, and `migrate_only` is the program of a build
//! that has no other verb.

pub mod args;
#[cfg(feature = "daemon")]
pub mod client;
pub mod render;

#[cfg(feature = "daemon")]
mod ask;
#[cfg(feature = "daemon")]
mod commands;
#[cfg(feature = "daemon")]
mod completion;
#[cfg(feature = "daemon")]
mod dispatch;
pub mod error;
#[cfg(feature = "daemon")]
mod event_stream;
#[cfg(feature = "daemon")]
mod failure;
#[cfg(feature = "daemon")]
mod follow;
#[cfg(feature = "daemon")]
mod interrupt;
mod local;
#[cfg(not(feature = "daemon"))]
mod migrate_only;
#[cfg(feature = "daemon")]
mod named;
mod output;
#[cfg(feature = "daemon")]
mod pager;
mod progress_line;
#[cfg(feature = "daemon")]
mod removal;
#[cfg(feature = "daemon")]
mod shell;
#[cfg(feature = "daemon")]
mod tracking;
#[cfg(feature = "daemon")]
mod units;

#[cfg(feature = "daemon")]
pub use dispatch::main;
#[cfg(not(feature = "daemon"))]
pub use migrate_only::main;
