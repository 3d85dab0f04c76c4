//! Bearer tokens: their files, and the check of every request. It never reads the key of a host.
//!
//! Every request carries the token, which lies in a file that only its owner can read. Exceptions
//! are the health check, the API description, and a host's session with a control server, which
//! carries the key of its host.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use groundskeeper_system::own_file::{self, Links};

use crate::format::hex;
use crate::http::error::Error;
use crate::http::problem::Refusal;
use crate::world::fs;
use crate::world::fs::paths;

/// Path at which hosts open sessions; the server checks their own keys, not the token.
pub const SESSION_PATH: &str = "/v1/session";

/// A longer file holds no token.
const TOKEN_BYTES_MAX: u64 = 4 * 1024;

/// Returns the token of the port from its file; creates it at the first call.
///
/// # Errors
/// If the file cannot be written or the system has no random bytes.
pub fn token(path: &Path) -> Result<String, Error> {
    let found = own_file::read(path, TOKEN_BYTES_MAX, Links::Refused);
    let found = found.map_err(fs::Error::about("read", path))?.unwrap_or_default();
    if let Ok(text) = std::str::from_utf8(&found)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(Error::NoRandomBytes)?;
    let token = format!("gks_{}", hex(&random));
    write_secret(path, &token)?;
    Ok(token)
}

/// Writes a file with mode 0600 atomically: a crash leaves the old file or the whole new one.
///
/// # Errors
/// The I/O error of the step that failed.
pub fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    own_file::check(path, Links::Followed).map_err(fs::Error::about("write", path))?;
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    paths::remove_file_if_any(&fresh).map_err(fs::Error::about("write", &fresh))?;
    let open = File::options().create_new(true).write(true).mode(0o600).open(&fresh);
    let mut file = open.map_err(fs::Error::about("write", &fresh))?;
    // Synced before the rename, so that the final name never holds a partial secret.
    let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
    written.map_err(fs::Error::about("write", &fresh))?;
    Ok(std::fs::rename(&fresh, path).map_err(fs::Error::about("publish", path))?)
}

/// Wraps a router so that requests need the token, except for the open paths.
pub fn with_token(router: Router, token: &str) -> Router {
    let token: Arc<str> = token.into();
    router.layer(axum::middleware::from_fn_with_state(token, require_token))
}

/// Passes requests that carry the token, and the open paths. The key of a host is checked later.
async fn require_token(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let given = bearer.and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
    let open = matches!(path, "/healthz" | "/v1/openapi.json" | SESSION_PATH);
    if open || equals_in_constant_time(given, &token) {
        return next.run(request).await;
    }
    Refusal::from(Error::Unauthorized).into_response()
}

/// Compares in a time that does not depend on how many bytes match.
fn equals_in_constant_time(a: &str, b: &str) -> bool {
    let differ = a.bytes().zip(b.bytes()).fold(0, |acc, (x, y)| acc | (x ^ y));
    a.len() == b.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prefix, an extension or a different last byte of the token is rejected.
    #[test]
    fn token_comparison_requires_full_match() {
        assert!(equals_in_constant_time("abc", "abc"));
        for (a, b) in [("", "abc"), ("ab", "abc"), ("abcd", "abc"), ("abd", "abc")] {
            assert!(!equals_in_constant_time(a, b), "{a} {b}");
        }
    }

    /// A second call reads the same token.
    #[test]
    fn token_file_created_once_mode_0600() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        let first = token(&path).expect("made");
        assert_eq!(token(&path).expect("read"), first);
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }
}
