//! The optional TCP port of the API, for clients that have a token: it limits the number of
//! connections. It opens no port on its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::core::event::{Actor, Origin};
use crate::http::auth::{token, with_token};
use crate::http::error::Error;
use crate::http::unix_socket::{CONNECTIONS_MAX, accept_failed, serve_connection};

/// Binds a TCP port.
///
/// # Errors
/// If the address is in use or may not be used.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Serves until `stop` becomes true.
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
                accept_failed(&e).await;
                continue;
            }
        };
        // A connection beyond the limit is closed without an answer.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        // Small messages must not wait for the acknowledgement of earlier ones.
        drop(stream.set_nodelay(true));
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            serve_connection(stream, router, stop).await;
            drop(slot);
        });
    }
}

/// Opens the TCP port of a daemon, guarded by the token in the file `token` in `dir`. Returns the
/// bound address.
///
/// # Errors
/// If the port is in use, or the file cannot be used.
pub async fn open(
    address: SocketAddr,
    dir: &Path,
    router: &Router,
    stop: watch::Receiver<bool>,
) -> Result<SocketAddr, Error> {
    let token = token(&dir.join("token"))?;
    let listener = bind(address).await?;
    let bound = listener.local_addr().map_err(|source| Error::PortAddress { source })?;
    // A client that has the token could read this user's files, so it acts as this user.
    let uid = rustix::process::geteuid().as_raw();
    let actor = Actor { origin: Origin::Port, uid, pid: 0 };
    let router = with_token(router.clone().layer(Extension(actor)), &token);
    tokio::spawn(serve(listener, router, stop));
    Ok(bound)
}
