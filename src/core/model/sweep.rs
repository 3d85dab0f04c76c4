//! A sweep in progress.

use serde::Serialize;

use crate::model::step::{HostStep, Owed};

/// A sweep in progress; there is at most one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sweep {
    /// The step that is owed: always the sweep itself.
    pub owed: Owed<HostStep>,
    /// Whether findings that are proven managed are settled, or only reported.
    pub apply: bool,
    /// Most directories, registrations, refs and processes it may settle.
    pub limit: u64,
    /// Whether the daemon began it unattended: it does not inspect the worktrees of other tools,
    /// which it may only name. An earlier version settled only findings that were named before.
    pub seen_only: bool,
}
