//! Events about live sets of a control server and about commands that run once per request.

use serde::{Deserialize, Serialize};

use crate::empty_is_none;
use crate::event::common::Actor;
use crate::event::names::KeepReason;
use crate::id::{EnvironmentId, RequestId};

/// Kind 110: a live set was taken in; the records after it request the teardowns.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveSetTaken {
    /// Name of the server.
    pub server: String,
    /// The server's count of its live sets.
    pub epoch: u64,
    /// Not listed and idle: torn down.
    pub retired: Vec<EnvironmentId>,
    /// Not listed, but left alone, with the reason.
    pub kept: Vec<Kept>,
    /// Listed, but with no live incarnation here.
    pub missing: Vec<EnvironmentId>,
    /// Listed, and back in service after a failed teardown.
    pub healed: Vec<EnvironmentId>,
    /// The actor that sent it.
    pub actor: Actor,
}

/// Kind 114: the rest of a long live set, which one record cannot hold. It follows the record of
/// the set, in the same commit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveSetContinued {
    /// Name of the server.
    pub server: String,
    /// The server's count of its live sets.
    pub epoch: u64,
    /// More that are not listed, but left alone.
    pub kept: Vec<Kept>,
    /// More that are listed, but with no live incarnation here.
    pub missing: Vec<EnvironmentId>,
    /// More that are listed, and back in service.
    pub healed: Vec<EnvironmentId>,
}

/// An environment that a live set does not list and that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Why it is left alone.
    pub why: KeepReason,
}

/// Kind 111: a live set would retire too many environments at once; it waits for confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveSetHeld {
    /// Name of the server.
    pub server: String,
    /// The server's count of its live sets.
    pub epoch: u64,
    /// The environments that it would have retired.
    pub would_retire: Vec<EnvironmentId>,
    /// Number of live environments that were not adopted.
    pub of: u64,
    /// The actor that sent it.
    pub actor: Actor,
}

/// Kind 112: a command that must not run twice is about to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequested {
    /// The environment it runs in.
    pub environment: EnvironmentId,
    /// Idempotency key of the request, under which the result is kept.
    pub request: RequestId,
    /// Name of the program, without arguments, which may hold secrets.
    pub name: String,
    /// The actor of the request.
    pub actor: Actor,
}

/// Kind 113: the result of such a command. Its output is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFinished {
    /// The environment it ran in.
    pub environment: EnvironmentId,
    /// Idempotency key of the request.
    pub request: RequestId,
    /// Its exit code; none when it did not exit by itself.
    pub code: Option<i32>,
    /// Why there is no exit code, if there is none: `timeout`, `signal 9`, `interrupted`,
    /// `destroyed`, a failed start.
    #[serde(with = "empty_is_none")]
    pub why: Option<String>,
}
