//! Bound and form of a request body, for every sender of one. It reads from no connection.

use serde::de::DeserializeOwned;

use crate::core::{Code, Fault};
use crate::http::problem::invalid;

/// Limit of a request body in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Returns the fault for a body above the limit.
pub(crate) fn too_large() -> Fault {
    let message = format!("the request is larger than {BODY_BYTES_MAX} bytes");
    Fault::new(Code::RequestTooLarge, message, "send a smaller request")
}

/// Parses a JSON body.
///
/// # Errors
/// `Code::InvalidRequest` with the position and the reason.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|e| invalid(format!("invalid body: {e}")))
}
