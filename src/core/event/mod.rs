//! The facts: everything that ever happened, in the past tense, one payload struct per kind.
//!
//! An event carries all that [`State::apply`](super::State::apply) needs, so that a replay never
//! looks at the world. The structs are contracts: their encoding is frozen per kind and version
//! by the golden files in `schema/events/`. A changed payload is a new version with an upcaster
//! in the journal's codec, never an edit here. No enum is stored by index; choices are stored by
//! name or as plain booleans, because the codec would decode a reordered enum wrongly and without
//! a word. Secrets are never put into an event.

mod archive;
mod catalogue;
mod clean;
mod common;
mod host;
mod live_set;
mod migration;
mod provision;
mod teardown;
mod watch;

pub use archive::*;
pub use catalogue::*;
pub use clean::*;
pub use common::*;
pub use host::*;
pub use live_set::*;
pub use migration::*;
pub use provision::*;
pub use teardown::*;
pub use watch::*;
