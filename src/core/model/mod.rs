//! The data of the state, one subject per file. Imports only ids, faults, policy and events.

pub mod archive;
pub mod cleaned_output;
pub mod environment;
pub mod lease;
pub mod live_set;
pub mod migration;
pub mod process;
pub mod run;
pub mod step;
pub mod sweep;
