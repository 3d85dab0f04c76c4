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
    /// Most findings it may settle.
    pub limit: u64,
    /// Whether only findings of the previous sweep are settled: the daemon began it unattended.
    pub seen_only: bool,
}
