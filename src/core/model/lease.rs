//! Leases and remembered requests.

use serde::{Deserialize, Serialize};

use crate::core::id::{EnvironmentId, Seq, Time};

/// A claim that an environment is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Which environment.
    pub environment: EnvironmentId,
    /// When it ends by itself.
    pub until: Time,
    /// What for.
    pub purpose: String,
}

/// What a remembered idempotency key was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The environment that the request was about.
    pub environment: EnvironmentId,
    /// The verb: `provision`, `destroy`, `lease`.
    pub verb: String,
    /// The record it led to.
    pub seq: Seq,
}
