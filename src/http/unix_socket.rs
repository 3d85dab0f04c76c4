//! Connections to the Unix socket of a daemon or a control server: peers are checked, and
//! connections are bounded in number and time. It does not make the socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::MissedTickBehavior;

use crate::core::event::{Actor, Origin};
use crate::http::error::Error;
use crate::http::kept_socket::{EVERY, KeptSocket};
use crate::http::problem::Refusal;

/// Limit of concurrent connections. One more gets status 503 and is closed.
pub const CONNECTIONS_MAX: usize = 512;

/// Timeout for a client to send a request head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// Time that open connections get to end at a shutdown.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Reports that no connection could be accepted, and pauses. The process is out of file
/// descriptors: the connection waits in the backlog until some are free. Without the pause the loop
/// that accepts would use a whole core.
pub(super) async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Serves until `stop` becomes true, then gives open connections `CLOSE_LIMIT` to end. Keeps the
/// socket under its name meanwhile.
pub async fn serve(
    socket: Arc<KeptSocket>,
    mut listener: UnixListener,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let owner = rustix::process::geteuid().as_raw();
    let mut looks = tokio::time::interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = looks.tick() => {
                // Connections in the backlog of the old one are lost with it; their clients retry.
                listener = socket.keep().unwrap_or(listener);
                continue;
            }
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
    socket.close();
    drop(listener);
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
