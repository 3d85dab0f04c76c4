//! Wire types of processes.

use serde::{Deserialize, Serialize};

use crate::core::event::ProcessSeen;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ProcessView {
    /// Its id.
    pub pid: u32,
    /// Its program, without arguments.
    pub name: String,
    /// What ties it to the environment: `cgroup`, `group`, `marker`, `child`, `cwd`, `file`, ...
    pub why: String,
    /// Whether a removal would end it; bystanders are left alone.
    pub ours: bool,
}

impl ProcessView {
    /// Returns the wire form of a process; `ours` says whether a removal ends it.
    #[must_use]
    pub fn of(seen: &ProcessSeen, ours: bool) -> Self {
        Self { pid: seen.pid, name: seen.name.clone(), why: seen.why.clone(), ours }
    }
}

/// A command that waits to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Its process id; it waits for the answer before it runs.
    pub pid: u32,
    /// Name of its program, without arguments.
    #[serde(default)]
    pub name: String,
}
