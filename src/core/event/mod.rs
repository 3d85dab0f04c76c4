//! The facts of the log, in the past tense, one payload struct per kind.
//!
//! An event carries everything that [`State::apply`](super::State::apply) needs, so that a replay
//! never reads the world. The structs are contracts: the golden files in `schema/events/` freeze
//! their encoding per kind and version. A changed payload is a new version with an upcaster in the
//! journal's codec, never an edit here. No enum is stored by index; choices are stored by name or
//! as plain booleans, because the codec would decode a reordered enum wrongly and silently. An
//! event never contains a secret.

mod archive;
mod catalogue;
mod clean;
mod common;
mod host;
mod label;
mod live_set;
mod migration;
mod names;
mod provision;
mod teardown;
mod watch;

pub use archive::*;
pub use catalogue::*;
pub use clean::*;
pub use common::*;
pub use host::*;
pub use label::*;
pub use live_set::*;
pub use migration::*;
pub use names::*;
pub use provision::*;
pub use teardown::*;
pub use watch::*;
