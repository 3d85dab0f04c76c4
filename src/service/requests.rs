//! The ids that requests carry. It checks their form and never whether they exist.

use crate::core::{Code, EnvironmentId, Fault, LeaseId};

/// Returns the fault for an invalid request; `what` says what is wrong with it.
#[must_use]
pub fn invalid(what: impl Into<String>) -> Fault {
    let hint = "check the request against the API description at /v1/openapi.json";
    Fault::new(Code::InvalidRequest, what, hint)
}

/// Parses the id of an environment.
///
/// # Errors
/// `Code::InvalidRequest` for a text that can be no id.
pub(crate) fn environment_id(text: &str) -> Result<EnvironmentId, Fault> {
    EnvironmentId::parse(text)
        .map_err(|e| invalid(format!("{text:?} is not a valid environment id: {e}")))
}

/// Parses the id of the lease that a request is about.
///
/// # Errors
/// `Code::InvalidRequest` for a text that can be no id.
pub(crate) fn lease_id(text: &str) -> Result<LeaseId, Fault> {
    LeaseId::parse(text).map_err(|e| invalid(format!("lease id: {e}")))
}
