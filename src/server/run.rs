//! Starts and stops a server: its data directory, its socket and port, its periodic work.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use groundskeeper_system::own_file::{self, Links};
use tokio::sync::{Semaphore, watch};

use super::catalog::{self, Catalog};
use super::environments::{DestroyMode, request_destroy};
use super::routes::router;
use super::{operations, threads};
use crate::core::{Code, Fault};
use crate::http::auth::{token, with_token, write_secret};
use crate::http::kept_socket::KeptSocket;
use crate::http::unix_socket::serve;
use crate::http::{socket_file, tcp};
use crate::server::app::{Shared, Timing};
use crate::server::registry::SessionRegistry;
use crate::server::store;
use crate::server::threads::claim;
use crate::session::connector::random_name;
use crate::world::fs::paths;

/// Prefix of the line on stdout that gives a parent process the socket and the port.
pub const READY: &str = "GROUNDSKEEPER_SERVER_READY:";
/// Bound on sessions, including connections that have not sent `open` yet.
const SESSIONS_MAX: usize = 2_048;
/// A longer file holds no key of a host.
const KEY_FILE_BYTES_MAX: u64 = 4 * 1024;
/// Bound on subscribers of the event stream.
const STREAMS_MAX: usize = 64;
/// Interval of the periodic work: expired grace periods, leases to renew.
const PERIOD: Duration = Duration::from_secs(2);
/// Rounds of the periodic work between two prunings: one hour.
const PRUNE_EVERY: u32 = 1_800;
/// Age in milliseconds at which an unanswered destroy is given up. It is not sent again; the host's
/// next facts correct the row.
const LOST_AFTER_MS: i64 = 24 * 3_600 * 1_000;

/// Configuration of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the catalogue, the lock file and the admin token.
    pub dir: PathBuf,
    /// TCP address to listen on, besides the socket.
    pub listen: Option<SocketAddr>,
    /// Heartbeat interval and timeouts of sessions.
    pub timing: Timing,
}

/// A running server; it holds the lock on its directory.
#[derive(Debug)]
pub struct Running {
    /// Path of its socket.
    pub socket: PathBuf,
    /// Bound TCP address, if one was asked for.
    pub port: Option<SocketAddr>,
    shared: Arc<Shared>,
    stopper: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _lock: File,
}

/// Returns the default pace, or one scaled to `GROUNDSKEEPER_SERVER_HEARTBEAT_MS` (50 or more):
/// that heartbeat, and six times it for the timeout and for repetitions.
#[must_use]
pub fn timing() -> Timing {
    let named = std::env::var("GROUNDSKEEPER_SERVER_HEARTBEAT_MS").ok();
    let heartbeat = named.and_then(|text| text.parse::<u64>().ok()).filter(|ms| *ms >= 50);
    let ms = Duration::from_millis;
    let scaled =
        |every: u64| Timing { heartbeat: ms(every), lease: ms(every * 6), repeat: ms(every * 6) };
    heartbeat.map_or_else(Timing::default, scaled)
}

/// Returns the path of the socket of a server with this directory.
#[must_use]
pub fn address(dir: &Path) -> PathBuf {
    socket_file::address_in(dir, "server.sock")
}

/// Starts a server: locks its directory, opens the catalogue, and serves the socket and the port.
///
/// # Errors
/// Fails if the directory, the database, the socket or the port cannot be used, or if another
/// server holds the directory.
pub async fn start(options: Options) -> Result<Running, Fault> {
    let dir = &options.dir;
    own_file::make_folder(dir).map_err(paths::failed("create", dir))?;
    let dir = dir.canonicalize().map_err(paths::failed("find", dir))?;
    // Before the database and the socket: with the lock held, a socket found there is stale.
    let lock = lock_directory(&dir)?;
    let database = dir.join("catalog.db");
    // SQLite itself would wait for a FIFO.
    own_file::check(&database, Links::Followed).map_err(paths::failed("open", &database))?;
    let catalog = Catalog::open(&database)?;
    let (stopper, stop) = watch::channel(false);
    let shared = Arc::new(Shared {
        catalog,
        registry: SessionRegistry::new(),
        timing: options.timing,
        stop: stop.clone(),
        sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        place: dir.clone(),
    });
    let socket = address(&dir);
    // Its clients look for the socket only, so nothing else is to be told.
    let (kept, listener) = KeptSocket::open(&socket, &dir, Box::new(|_, _| {}))?;
    let kept = Arc::new(kept);
    let mut tasks =
        vec![tokio::spawn(serve(kept, listener, router(Arc::clone(&shared)), stop.clone()))];
    let mut port = None;
    if let Some(address) = options.listen {
        let token = token(&dir.join("admin-token"))?;
        let listener = tcp::bind(address).await?;
        port = listener.local_addr().ok();
        let router = with_token(router(Arc::clone(&shared)), &token);
        tasks.push(tokio::spawn(tcp::serve(listener, router, stop.clone())));
    }
    tasks.push(tokio::spawn(run_periodic_work(Arc::clone(&shared))));
    Ok(Running { socket, port, shared, stopper, tasks, _lock: lock })
}

/// Locks the directory. The kernel releases the lock with the process, also after a crash.
fn lock_directory(dir: &Path) -> Result<File, Fault> {
    let path = dir.join("server.lock");
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    let open = own_file::open(&path, &options, Links::Refused);
    let file = open.map_err(paths::failed("open", &path))?;
    file.try_lock().map_err(|_| {
        let message = format!("another server uses {}", dir.display());
        Fault::new(Code::AlreadyRunning, message, "use that one, or choose another --server-dir")
    })?;
    Ok(file)
}

impl Running {
    /// Prints the socket and the port on stdout, for a parent process.
    pub fn announce(&self) {
        let mut out = std::io::stdout().lock();
        let socket = self.socket.display();
        let port = self.port.map(|port| format!(" {port}")).unwrap_or_default();
        // A closed stdout is no error.
        drop(writeln!(out, "{READY}{socket}{port}").and_then(|()| out.flush()));
    }

    /// Makes sure that a host exists and that the file holds its key; replaces the key otherwise.
    ///
    /// # Errors
    /// Fails if the catalogue or the file cannot be used.
    pub async fn ensure_host(&self, host: &str, key_file: &Path) -> Result<(), Fault> {
        let given = own_file::read(key_file, KEY_FILE_BYTES_MAX, Links::Followed);
        let given = given.map_err(paths::failed("read", key_file))?.unwrap_or_default();
        let given = String::from_utf8(given).unwrap_or_default().trim().to_owned();
        let known = self.shared.catalog.with(move |tx| catalog::host_of_key(tx, &given)).await?;
        if known.is_some_and(|known| known.id == host) {
            return Ok(());
        }
        let name = host.to_owned();
        let key = self.shared.catalog.with(move |tx| catalog::add_host(tx, &name, true)).await?;
        // The key is committed first: after a crash here the next start only makes another one.
        Ok(write_secret(key_file, &key)?)
    }

    /// Stops the server; waits at most five seconds for each task.
    pub async fn stop(self) {
        self.stopper.send_replace(true);
        for task in self.tasks {
            drop(tokio::time::timeout(Duration::from_secs(5), task).await);
        }
        tracing::info!(place = %self.shared.place.display(), "server ended");
    }
}

/// Periodic work: destroys environments whose grace period ended, renews leases, and prunes.
async fn run_periodic_work(shared: Arc<Shared>) {
    let mut stop = shared.stop.clone();
    let mut round = 0_u32;
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        round = round.wrapping_add(1);
        let prune = round.is_multiple_of(PRUNE_EVERY);
        // Each host has a transaction of its own, so that one failure does not block the rest.
        if let Err(fault) = retire_due(&shared).await {
            tracing::warn!(%fault, "cannot retire environments that are due");
        }
        if let Err(fault) = renew(&shared).await {
            tracing::warn!(%fault, "cannot renew leases");
        }
        if prune {
            let pruned = shared.catalog.with(|tx| {
                crate::server::answers::give_up(tx, catalog::now() - LOST_AFTER_MS)?;
                catalog::prune(tx)
            });
            if let Err(fault) = pruned.await {
                tracing::warn!(%fault, "cannot delete ended records");
            }
        }
    }
}

async fn retire_due(shared: &Shared) -> Result<(), Fault> {
    for (host, id) in shared.catalog.with(store::due).await? {
        let place = host.clone();
        let destroyed = shared
            .catalog
            .with(move |tx| request_destroy(tx, &place, &id, &random_name(), DestroyMode::Unused))
            .await;
        match destroyed {
            Ok(_) => shared.registry.wake(&host),
            // Still due, so the next round tries again.
            Err(fault) => tracing::debug!(%fault, "cannot retire an environment yet"),
        }
    }
    Ok(())
}

async fn renew(shared: &Shared) -> Result<(), Fault> {
    for thread in shared.catalog.with(threads::to_renew).await? {
        let host = thread.host.clone();
        let renewed = shared.catalog.with(move |tx| {
            if operations::claims(tx, &thread.host, &thread.lease)? {
                return Ok(());
            }
            operations::add(tx, &claim(&thread), &thread.host)
        });
        match renewed.await {
            Ok(()) => shared.registry.wake(&host),
            Err(fault) => tracing::warn!(%fault, host, "cannot renew a lease"),
        }
    }
    Ok(())
}
