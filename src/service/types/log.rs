//! Wire types of the log.

use serde::{Deserialize, Serialize};

/// The state that the log adds up to, as one number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct StateView {
    /// The record that it is the state after.
    pub seq: u64,
    /// SHA-256 of the state, in hex; the same as that of a fold of the log up to there.
    pub sha256: String,
    /// The identity of the log, in hex.
    pub log_id: String,
}
