//! Events about watching: only that it was given up, and that a subscriber asked again.

use serde::{Deserialize, Serialize};

use crate::id::EnvironmentId;

/// Kind 100: watching failed too often; it is not retried until a subscriber asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherGaveUp {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Number of the incarnation.
    pub incarnation: u32,
    /// Failures in a row.
    pub attempts: u32,
    /// The last failure.
    pub reason: String,
}

/// Kind 101: a subscriber asked for changes again, so watching is retried once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherResumed {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Number of the incarnation.
    pub incarnation: u32,
}
