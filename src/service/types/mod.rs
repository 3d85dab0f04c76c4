//! Wire types: the requests and views of the use cases, in one file for each subject.
//!
//! Changes are additive only; requests with unknown fields are refused. A view is made from the
//! state and holds no reference to it.

#[cfg(feature = "daemon")]
pub mod archive;
#[cfg(feature = "daemon")]
pub mod clean;
#[cfg(feature = "daemon")]
pub mod contents;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod environment;
#[cfg(feature = "daemon")]
pub mod lease;
#[cfg(feature = "daemon")]
pub mod live_set;
#[cfg(feature = "daemon")]
pub mod lock;
#[cfg(feature = "daemon")]
pub mod log;
pub mod migration;
pub mod problem;
#[cfg(feature = "daemon")]
pub mod process;
pub mod prune;
#[cfg(feature = "daemon")]
pub mod removal;
#[cfg(feature = "daemon")]
pub mod run;
#[cfg(feature = "daemon")]
pub mod status;
#[cfg(feature = "daemon")]
pub mod sweep;
#[cfg(feature = "daemon")]
pub mod trust;
