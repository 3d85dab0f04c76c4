//! The Unix socket of a daemon or a control server: only its owner can open it, peers are checked,
//! and connections are bounded in number and time.

use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sha2::Digest as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use crate::core::event::{Actor, Origin};
use crate::format::hex;
use crate::http::error::Error;
use crate::http::problem::Refusal;
use crate::world::fs;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;

/// Limit of concurrent connections. One more gets status 503 and is closed.
pub const CONNECTIONS_MAX: usize = 512;

/// Timeout for a client to send a request head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// Time that open connections get to end at a shutdown.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Length in bytes of a socket path that every supported system accepts.
const SOCKET_PATH_MAX: usize = 100;

/// Returns the socket path of a daemon of this data directory. The socket lies inside the
/// directory, or in the runtime directory when the path would be too long for a socket.
#[must_use]
pub fn address(layout: &Layout) -> PathBuf {
    address_in(layout.root(), "daemon.sock")
}

/// Returns the path of a socket with this name in a directory. Where that path is too long, returns
/// one in the runtime directory whose name contains a hash of the directory.
#[must_use]
pub fn address_in(dir: &Path, name: &str) -> PathBuf {
    let inside = dir.join(name);
    if inside.as_os_str().len() <= SOCKET_PATH_MAX {
        return inside;
    }
    let digest = sha2::Sha256::digest(paths::to_host(dir).as_bytes());
    let short = hex(&digest[..8]);
    let name = format!("{short}-{name}");
    let uid = rustix::process::getuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.unwrap_or_else(std::env::temp_dir);
    runtime.join(format!("groundskeeper-{uid}")).join(name)
}

/// Binds the socket with mode 0600 in a directory of this user with mode 0700. The caller holds the
/// lock of the data directory, so an existing socket is stale and is replaced. Any other existing
/// file is left alone.
///
/// # Errors
/// If the directory is not this user's, the path exists and is not a socket, or binding fails.
pub fn bind(address: &Path) -> Result<UnixListener, Error> {
    let folder = address.parent().unwrap_or(address);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(fs::Error::about("create", folder))?;
    let found = folder.symlink_metadata().map_err(fs::Error::about("inspect", folder))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::ForeignDirectory { path: folder.to_owned() });
    }
    if found.mode() & 0o077 != 0 {
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(folder, mode)
            .map_err(fs::Error::about("restrict the mode of", folder))?;
    }
    match address.symlink_metadata() {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(Error::NotASocket { path: address.to_owned() });
        }
        _ => {}
    }
    // Bound under another name and renamed, so that no client can connect before the mode is set.
    let fresh = address.with_extension("new");
    paths::remove_file_if_any(&fresh).map_err(fs::Error::about("remove", &fresh))?;
    let listener = UnixListener::bind(&fresh).map_err(fs::Error::about("listen on", &fresh))?;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&fresh, mode)
        .map_err(fs::Error::about("restrict the mode of", &fresh))?;
    std::fs::rename(&fresh, address).map_err(fs::Error::about("publish", address))?;
    Ok(listener)
}

/// Reports that no connection could be accepted, and pauses. The process is out of file
/// descriptors: the connection waits in the backlog until some are free. Without the pause the loop
/// that accepts would use a whole core.
pub(super) async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Serves until `stop` becomes true, then gives open connections `CLOSE_LIMIT` to end.
pub async fn serve(listener: UnixListener, router: Router, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let owner = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                accept_failed(&e).await;
                continue;
            }
        };
        let peer = stream.peer_cred().ok();
        let Some(peer) = peer.filter(|p| p.uid() == owner || p.uid() == 0) else {
            tracing::warn!("refused a connection from another user");
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tokio::spawn(refuse_connection(stream));
            continue;
        };
        let pid = peer.pid().and_then(|p| u32::try_from(p).ok()).unwrap_or(0);
        let actor = Actor { origin: Origin::Api, uid: peer.uid(), pid };
        let router = router.clone().layer(Extension(actor));
        let stop = stop.clone();
        tokio::spawn(async move {
            serve_connection(stream, router, stop).await;
            drop(slot);
        });
    }
    // All permits are free when the last connection has ended.
    drop(tokio::time::timeout(CLOSE_LIMIT, slots.acquire_many(CONNECTIONS_MAX as u32)).await);
}

pub(crate) async fn serve_connection<S>(stream: S, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(64 * 1024);
    let mut connection =
        std::pin::pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let stopping = async move { drop(stop.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "connection ended early");
    }
}

/// Answers a connection beyond the limit with status 503. The write has a timeout of one second, so
/// these connections cannot pile up either.
async fn refuse_connection(mut stream: UnixStream) {
    let refusal = Refusal::from(Error::TooManyConnections { limit: CONNECTIONS_MAX });
    let problem = axum::response::IntoResponse::into_response(refusal);
    let body = axum::body::to_bytes(problem.into_body(), 16 * 1024).await.unwrap_or_default();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let answer = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await
    };
    drop(tokio::time::timeout(Duration::from_secs(1), answer).await);
}
