//! Wire types of commands that the daemon runs in an environment.

use serde::{Deserialize, Serialize};

use crate::core::RequestId;

/// A command to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct RunRequest {
    /// The program and its arguments; no shell looks at them.
    pub argv: Vec<String>,
    /// The lease that it is run under; it must be in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// Most seconds that it may take; 600 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct RunView {
    /// The request.
    pub request: String,
    /// Its exit code; none when it did not end by itself.
    pub code: Option<i32>,
    /// Why it did not: `timeout`, `signal 9`, `interrupted`, `destroyed`; empty when it did.
    pub why: String,
    /// The end of what it printed; none when this is not the first answer.
    pub stdout: Option<String>,
    /// The same of its errors.
    pub stderr: Option<String>,
    /// Whether more was printed than is told.
    pub truncated: bool,
}

impl RunView {
    pub(crate) fn earlier_result(
        request: &RequestId,
        code: Option<i32>,
        why: Option<&str>,
    ) -> Self {
        let (request, why) = (request.to_string(), why.unwrap_or_default().to_owned());
        Self { request, code, why, ..Self::default() }
    }
}
