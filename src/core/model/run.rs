//! Commands that are run once for each request.

use serde::{Deserialize, Serialize};

use crate::core::id::{EnvironmentId, Seq};

/// A command that was run for a request, and is not run twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// In which environment.
    pub environment: EnvironmentId,
    /// The record that it began with.
    pub seq: Seq,
    /// How it ended, once it has: its exit code, and why it has none.
    pub ended: Option<(Option<i32>, String)>,
}
