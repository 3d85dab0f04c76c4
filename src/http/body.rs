//! Bound and form of a request body, for every sender of one. It reads from no connection.

use axum::extract::Extension;
use serde::de::DeserializeOwned;

use crate::http::error::Error;

/// Limit of a request body in bytes, where a route or a router names no other.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Limit of the request bodies of a route or a router, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimit(pub(super) usize);

impl Default for BodyLimit {
    fn default() -> Self {
        Self(BODY_BYTES_MAX)
    }
}

/// Returns the layer that limits the request bodies of a route or a router to `bytes`. The limit of
/// a route replaces that of its router.
pub(crate) fn limit(bytes: usize) -> Extension<impl Clone + Send + Sync + 'static> {
    Extension(BodyLimit(bytes))
}

/// Parses a JSON body.
///
/// # Errors
/// With the position and the reason.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(Error::InvalidBody)
}
