//! Wire types of leases.

use serde::{Deserialize, Serialize};

use crate::core::LeaseId;
use crate::core::model::lease::Lease;
use crate::format::rfc3339;

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct LeaseView {
    /// Its name, for `release`.
    pub id: String,
    /// The environment it is on.
    pub environment: String,
    /// When it ends by itself, RFC 3339.
    pub until: String,
    /// What for.
    pub purpose: String,
}

/// A request for a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewLease {
    /// How long, in seconds.
    pub seconds: u64,
    /// What for.
    #[serde(default)]
    pub purpose: String,
    /// A lease to extend; a new one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl LeaseView {
    /// Returns the wire form of a lease; its times are RFC 3339.
    #[must_use]
    pub fn of(id: &LeaseId, lease: &Lease) -> Self {
        Self {
            id: id.to_string(),
            environment: lease.environment.to_string(),
            until: rfc3339(lease.until),
            purpose: lease.purpose.clone(),
        }
    }
}
