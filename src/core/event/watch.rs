//! What is remembered of watching: only that it was given up, and that somebody asked again.

use serde::{Deserialize, Serialize};

use crate::core::id::EnvironmentId;

/// Kind 100: watching failed too often; nothing tries again until somebody asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherGaveUp {
    /// Of what.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// Failures in a row.
    pub attempts: u32,
    /// The last of them.
    pub reason: String,
}

/// Kind 101: somebody asked for changes again, so watching is tried once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherResumed {
    /// Of what.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
}
