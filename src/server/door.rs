//! The server's doors: a socket for this user, and a port for those who have a key.
//!
//! By the port every request but that for a session carries the token of the server, which stands
//! in a file that only its owner can read. A session carries the key of its host.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::api::door::{CONNECTIONS_MAX, converse};
use crate::api::problem::Refusal;
use crate::core::{Code, Fault};
use crate::session::client::random_name;

/// The token for the port, made once.
///
/// # Errors
/// When its file cannot be used.
pub(super) fn token(path: &Path) -> Result<String, Fault> {
    if let Ok(text) = std::fs::read_to_string(path) {
        let text = text.trim().to_owned();
        if !text.is_empty() {
            return Ok(text);
        }
    }
    let token = format!("gks_{}{}", random_name(), random_name());
    super::run::put_secret(path, &token)?;
    Ok(token)
}

/// Lets in who has the token, and hosts, whose key is looked at later.
pub(super) async fn guard(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let given = bearer.and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
    let open = matches!(path, "/healthz" | "/v1/openapi.json" | crate::session::protocol::PATH);
    if open || same(given, &token) {
        return next.run(request).await;
    }
    let hint = "send `Authorization: Bearer TOKEN` with the token in the server's admin-token file";
    Refusal(Fault::new(Code::Unauthorized, "the token is missing or wrong", hint)).into_response()
}

/// Compares without telling by the time it takes how much is right.
fn same(a: &str, b: &str) -> bool {
    let differ = a.bytes().zip(b.bytes()).fold(0, |acc, (x, y)| acc | (x ^ y));
    a.len() == b.len() && differ == 0
}

/// Listens on a port.
///
/// # Errors
/// When it is taken or not ours.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Fault> {
    TcpListener::bind(address).await.map_err(|e| {
        let message = format!("cannot listen on {address}");
        Fault::new(Code::Io, message, "choose another address with --listen").because(e)
    })
}

/// Serves until `stop` says so.
pub(super) async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // One that there is no room for is closed.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        drop(stream.set_nodelay(true));
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            converse(stream, router, stop).await;
            drop(slot);
        });
    }
}

pub(super) fn guarded(router: Router, token: &str) -> Router {
    let token: Arc<str> = token.into();
    router.layer(axum::middleware::from_fn_with_state(token, guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same("abc", "abc"));
        for (a, b) in [("", "abc"), ("ab", "abc"), ("abcd", "abc"), ("abd", "abc")] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn a_token_is_made_once_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        let first = token(&path).expect("made");
        assert_eq!(token(&path).expect("read"), first);
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }
}
