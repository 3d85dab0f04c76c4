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

/// Parses a JSON body. Its texts become paths, names and arguments, which hold no NUL character.
///
/// # Errors
/// With the position and the reason.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let parsed = serde_json::from_slice(bytes).map_err(Error::InvalidBody)?;
    if has_nul(bytes) { Err(Error::Nul) } else { Ok(parsed) }
}

/// Returns whether a text in valid JSON holds a NUL character, which only its escape can write.
fn has_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at..].starts_with(b"\\u0000") {
            return true;
        }
        // What is escaped may be a backslash itself.
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_nul_are_refused() {
        let parsed = |text: &str| parse::<serde_json::Value>(text.as_bytes());
        for bad in [r#""\u0000""#, r#"{"a":["b\\\u0000"]}"#, r#"{"\u0000":1}"#] {
            assert!(matches!(parsed(bad), Err(Error::Nul)), "{bad}");
        }
        for good in [r#""\\u0000""#, r#""\u0001""#, r#""u0000""#, "1"] {
            assert!(parsed(good).is_ok(), "{good}");
        }
        assert!(matches!(parsed(r#""\u0000"#), Err(Error::InvalidBody(_))));
    }
}
