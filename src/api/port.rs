//! A port, where one is asked for: for those who have a token.
//!
//! Every request carries the token, which stands in a file that only its owner can read; but for a
//! host's session with a control server, which carries the key of its host.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::door::{CONNECTIONS_MAX, converse};
use super::problem::Refusal;
use crate::core::event::Actor;
use crate::core::{Code, Fault};
use crate::format::hex;
use crate::world::fs::paths;

/// Where sessions of hosts begin; they are let in by their own keys.
pub const SESSION_PATH: &str = "/v1/session";

/// The token for the port, made once.
///
/// # Errors
/// When its file cannot be used.
pub fn token(path: &Path) -> Result<String, Fault> {
    if let Ok(text) = std::fs::read_to_string(path) {
        let text = text.trim().to_owned();
        if !text.is_empty() {
            return Ok(text);
        }
    }
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(|e| {
        Fault::new(Code::Io, "the system has no random numbers", "see the cause").because(e)
    })?;
    let token = format!("gks_{}", hex(&random));
    put_secret(path, &token)?;
    Ok(token)
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// What the system says.
pub fn put_secret(path: &Path, text: &str) -> Result<(), Fault> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    paths::remove_file_if_any(&fresh).map_err(paths::failed("write", &fresh))?;
    let open = File::options().create_new(true).write(true).mode(0o600).open(&fresh);
    let mut file = open.map_err(paths::failed("write", &fresh))?;
    let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
    written.map_err(paths::failed("write", &fresh))?;
    std::fs::rename(&fresh, path).map_err(paths::failed("publish", path))
}

/// Lets in who has the token, and hosts, whose key is looked at later.
async fn guard(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let given = bearer.and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
    let open = matches!(path, "/healthz" | "/v1/openapi.json" | SESSION_PATH);
    if open || same(given, &token) {
        return next.run(request).await;
    }
    let hint = "send `Authorization: Bearer TOKEN` with the token in the file that the daemon or server made";
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
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Fault> {
    TcpListener::bind(address).await.map_err(|e| {
        let message = format!("cannot listen on {address}");
        Fault::new(Code::Io, message, "choose another address with --listen").because(e)
    })
}

/// Serves until `stop` says so.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
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

/// Opens a port of a daemon: for whoever has the token that stands in a file in `dir`.
///
/// # Errors
/// When the port is taken, or the file cannot be used.
pub async fn open(
    address: SocketAddr,
    dir: &Path,
    router: &Router,
    stop: watch::Receiver<bool>,
) -> Result<SocketAddr, Fault> {
    let token = token(&dir.join("token"))?;
    let listener = bind(address).await?;
    let bound = listener.local_addr();
    let bound = bound.map_err(|e| Fault::new(Code::Io, "no port", "see the cause").because(e))?;
    // Whoever has the token could read this user's files.
    let uid = rustix::process::geteuid().as_raw();
    let actor = Actor { door: "port".to_owned(), uid, pid: 0 };
    let router = guarded(router.clone().layer(Extension(actor)), &token);
    tokio::spawn(serve(listener, router, stop));
    Ok(bound)
}

/// Lets in only who has the token.
pub fn guarded(router: Router, token: &str) -> Router {
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
