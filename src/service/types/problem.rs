//! The wire form of a fault.

use serde::{Deserialize, Serialize};

use crate::core::Fault;

/// An error, as in RFC 9457, with the cause chain and the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct Problem {
    /// Stable code to match on.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What caused it, outermost first.
    pub causes: Vec<String>,
    /// What it is about.
    pub evidence: Vec<String>,
    /// The next step.
    pub hint: String,
    /// The code again, as a URI reference (RFC 9457 `type`).
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The code again, in words (RFC 9457 `title`).
    #[serde(default)]
    pub title: String,
    /// The message again (RFC 9457 `detail`).
    #[serde(default)]
    pub detail: String,
    /// The HTTP status it came with; 0 inside another answer.
    #[serde(default)]
    pub status: u16,
}

impl Problem {
    /// Returns the wire form of a fault. The status is 0; the HTTP layer sets it.
    #[must_use]
    pub fn of(fault: &Fault) -> Self {
        Self {
            code: fault.code.as_str().to_owned(),
            message: fault.message.clone(),
            causes: fault.causes.clone(),
            evidence: fault.evidence.clone(),
            hint: fault.hint.clone(),
            kind: format!("urn:groundskeeper:{}", fault.code),
            title: fault.code.as_str().replace('_', " "),
            detail: fault.message.clone(),
            status: 0,
        }
    }
}
