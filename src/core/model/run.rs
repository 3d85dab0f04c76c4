//! Commands that run at most once per request.

use serde::Serialize;

use crate::id::{EnvironmentId, Seq};

/// A command that was run for a request; the same request does not run it twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The environment it runs in.
    pub environment: EnvironmentId,
    /// The record that began it.
    pub seq: Seq,
    /// Result, once it ended: its exit code, and the reason when there is none.
    pub ended: Option<(Option<i32>, String)>,
}
