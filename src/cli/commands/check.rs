//! The result of one check of `doctor`. It checks nothing.

use serde::Serialize;

use crate::api::types::WatchingView;
use crate::core::Fault;

/// Result of one check.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    /// Counters behind the result, for programs; only the check of watching has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metrics: Option<WatchingView>,
    pub(super) name: &'static str,
    pub(super) status: &'static str,
    pub(super) detail: String,
    pub(super) hint: String,
}

impl Check {
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: "ok", detail: detail.into(), hint: String::new(), metrics: None }
    }

    pub(super) fn warn(
        name: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { name, status: "warn", detail: detail.into(), hint: hint.into(), metrics: None }
    }

    pub(super) fn fail(name: &'static str, fault: &Fault) -> Self {
        Self {
            name,
            status: "fail",
            detail: fault.to_string(),
            hint: fault.hint.clone(),
            metrics: None,
        }
    }
}
