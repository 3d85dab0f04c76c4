//! Leases and remembered requests.

use serde::Serialize;

use crate::id::{EnvironmentId, Seq, Time};

/// A claim that an environment is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// The leased environment.
    pub environment: EnvironmentId,
    /// When it ends by itself.
    pub until: Time,
    /// Reason, in the words of the holder.
    pub purpose: String,
}

/// The use of a remembered idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdempotencyRecord {
    /// The environment of the request.
    pub environment: EnvironmentId,
    /// The verb: `provision`, `restore`, `destroy`, `lease`.
    pub verb: String,
    /// The record that the request led to.
    pub seq: Seq,
}
