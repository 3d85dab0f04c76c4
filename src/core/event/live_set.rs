//! What a control server said that lives here, and what came of it.

use serde::{Deserialize, Serialize};

use crate::core::event::common::Actor;
use crate::core::id::{EnvironmentId, RequestId};

/// Kind 110: a live set was taken in; what has to go is asked for by the records after it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveSetTaken {
    /// Which server.
    pub server: String,
    /// The server's count of its live sets.
    pub epoch: u64,
    /// Not listed and idle: torn down.
    pub retired: Vec<EnvironmentId>,
    /// Not listed, and yet left alone.
    pub kept: Vec<Kept>,
    /// Listed, and not here.
    pub missing: Vec<EnvironmentId>,
    /// Listed, and back in service after a teardown that failed.
    pub healed: Vec<EnvironmentId>,
    /// Who brought it.
    pub actor: Actor,
}

/// An environment that a live set does not list and that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Which.
    pub environment: EnvironmentId,
    /// Why: `leased`, `processes`, `adopted`, `newer`, `more`.
    pub why: String,
}

/// Kind 111: a live set would have retired too many at once; it waits for somebody to confirm it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveSetHeld {
    /// Which server.
    pub server: String,
    /// The server's count of its live sets.
    pub epoch: u64,
    /// What it would have retired.
    pub would_retire: Vec<EnvironmentId>,
    /// How many environments there were.
    pub of: u64,
    /// Who brought it.
    pub actor: Actor,
}

/// Kind 112: a command that cannot be done twice is about to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequested {
    /// In which environment.
    pub environment: EnvironmentId,
    /// The request, which the answer is kept under.
    pub request: RequestId,
    /// Name of the program, without arguments, which may hold secrets.
    pub name: String,
    /// Who asked.
    pub actor: Actor,
}

/// Kind 113: how such a command ended. What it printed is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFinished {
    /// In which environment.
    pub environment: EnvironmentId,
    /// The request.
    pub request: RequestId,
    /// Its exit code; none when it did not end by itself.
    pub code: Option<i32>,
    /// Why it did not: `timeout`, `signal 9`, `interrupted`, `destroyed`, a failed start; empty
    /// when it did.
    pub why: String,
}
