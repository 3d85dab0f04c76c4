//! Wire types of sweeps.

use serde::{Deserialize, Serialize};

use crate::core::event::{Finding, SweepFinished};
use crate::core::policy::SWEEP_LIMIT;

/// A request to sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SweepRequest {
    /// Settle what is proven ours; otherwise it is only named.
    #[serde(default)]
    pub apply: bool,
    /// Most things that may be settled; with more nothing is.
    #[serde(default = "sweep_limit")]
    pub limit: u64,
}

fn sweep_limit() -> u64 {
    SWEEP_LIMIT
}

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct SweepView {
    /// When it ended, RFC 3339.
    pub at: String,
    /// What was found, bounded.
    pub findings: Vec<FindingView>,
    /// How many were found.
    pub found: u64,
    /// How many were settled.
    pub settled: u64,
    /// Why it stopped before the end; empty when it did not.
    pub held: String,
}

/// One thing that no record explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct FindingView {
    /// What it is.
    pub kind: String,
    /// Where it is.
    pub path: String,
    /// Whether marker and log prove that it is ours.
    pub ours: bool,
    /// Whether it was settled.
    pub settled: bool,
    /// What is known of it, and what to do.
    pub detail: String,
}

impl SweepView {
    pub(crate) fn of(at: String, s: &SweepFinished) -> Self {
        let findings = s.findings.iter().map(|f: &Finding| FindingView {
            kind: f.kind.clone(),
            path: f.path.to_string(),
            ours: f.ours,
            settled: f.settled,
            detail: f.detail.clone(),
        });
        Self {
            at,
            findings: findings.collect(),
            found: s.found,
            settled: s.settled,
            held: s.held.clone().unwrap_or_default(),
        }
    }
}
