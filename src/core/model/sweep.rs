//! A sweep that is under way.

use serde::{Deserialize, Serialize};

use crate::core::model::environment::Owed;

/// A sweep in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// What the world owes it.
    pub owed: Owed,
    /// Whether what is proven ours is settled, or only named.
    pub apply: bool,
    /// Most things it may settle.
    pub limit: u64,
    /// Whether only what the sweep before named is settled: nobody looks on.
    pub seen_only: bool,
}
