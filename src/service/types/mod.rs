//! Wire types: the requests and views of the use cases, in one file for each subject.
//!
//! Changes are additive only; requests with unknown fields are refused. A view is made from the
//! state and holds no reference to it.

pub mod archive;
pub mod clean;
pub mod contents;
pub mod daemon;
pub mod environment;
pub mod lease;
pub mod live_set;
pub mod lock;
pub mod log;
pub mod migration;
pub mod problem;
pub mod process;
pub mod removal;
pub mod run;
pub mod status;
pub mod sweep;
pub mod trust;
