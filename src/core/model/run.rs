//! Commands that run at most once per request.

use serde::{Serialize, Serializer};

use crate::id::{EnvironmentId, Seq};

/// A command that was run for a request; the same request does not run it twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The environment it runs in.
    pub environment: EnvironmentId,
    /// The record that began it.
    pub seq: Seq,
    /// Result, once it ended.
    pub ended: Option<RunEnd>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Its exit code; none when it did not exit by itself.
    pub code: Option<i32>,
    /// Why there is no exit code, if there is none.
    pub why: Option<String>,
}

impl RunEnd {
    /// Returns the end of a command whose environment was destroyed.
    pub(crate) fn destroyed() -> Self {
        Self { code: None, why: Some("destroyed".to_owned()) }
    }
}

// In JSON it is a pair, as it was before it had names, and no reason is an empty text.
impl Serialize for RunEnd {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        (self.code, self.why.as_deref().unwrap_or_default()).serialize(s)
    }
}
