//! Running a server: its directory, its doors, its clock.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::catalog::{self, Catalog};
use super::environments::{How, destroy_in};
use super::routes::router;
use super::{operations, threads};
use crate::api::door as socket;
use crate::api::port::{self, put_secret};
use crate::core::{Code, Fault};
use crate::server::app::{Pace, Shared};
use crate::server::registry::Hub;
use crate::server::store;
use crate::server::threads::claim;
use crate::session::connector::random_name;
use crate::world::fs::paths;

/// The start of the line that tells a parent process where the door is.
pub const READY: &str = "GROUNDSKEEPER_SERVER_READY:";
/// Open sessions, and those about to open.
const SESSIONS_MAX: usize = 2_048;
/// Readers of news.
const STREAMS_MAX: usize = 64;
/// How often it is looked what time has done.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often what is long over is dropped.
const PRUNE_EVERY: u32 = 1_800;
/// Silence after which a destroy is given up; the next session takes it up again.
const LOST_AFTER_MS: i64 = 24 * 3_600 * 1_000;

/// How a server is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it keeps its catalogue and its secrets.
    pub dir: PathBuf,
    /// A port to listen on as well.
    pub listen: Option<SocketAddr>,
    /// How fast dead sessions are found.
    pub pace: Pace,
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    /// Its socket.
    pub socket: PathBuf,
    /// Its port.
    pub port: Option<SocketAddr>,
    shared: Arc<Shared>,
    stopper: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _lock: File,
}

/// The ordinary pace, or the one that the environment names in milliseconds, for those who cannot
/// wait to see a dead session found.
#[must_use]
pub fn pace() -> Pace {
    let named = std::env::var("GROUNDSKEEPER_SERVER_HEARTBEAT_MS").ok();
    let heartbeat = named.and_then(|text| text.parse::<u64>().ok()).filter(|ms| *ms >= 50);
    let ms = Duration::from_millis;
    let scaled =
        |every: u64| Pace { heartbeat: ms(every), lease: ms(every * 6), again: ms(every * 6) };
    heartbeat.map_or_else(Pace::default, scaled)
}

/// Where the socket of a server in this directory is.
#[must_use]
pub fn address(dir: &Path) -> PathBuf {
    socket::address_in(dir, "server.sock")
}

/// Starts a server.
///
/// # Errors
/// When its directory, its database or its doors cannot be used, or another one has them.
pub async fn start(options: Options) -> Result<Running, Fault> {
    use std::os::unix::fs::DirBuilderExt as _;
    let dir = &options.dir;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(paths::failed("create", dir))?;
    let dir = dir.canonicalize().map_err(paths::failed("find", dir))?;
    let lock = own(&dir)?;
    let catalog = Catalog::open(&dir.join("catalog.db"))?;
    let (stopper, stop) = watch::channel(false);
    let shared = Arc::new(Shared {
        catalog,
        hub: Hub::new(),
        pace: options.pace,
        stop: stop.clone(),
        sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        place: dir.clone(),
    });
    let socket = address(&dir);
    let listener = socket::bind(&socket)?;
    let mut tasks =
        vec![tokio::spawn(socket::serve(listener, router(Arc::clone(&shared)), stop.clone()))];
    let mut port = None;
    if let Some(address) = options.listen {
        let token = port::token(&dir.join("admin-token"))?;
        let listener = port::bind(address).await?;
        port = listener.local_addr().ok();
        let router = port::guarded(router(Arc::clone(&shared)), &token);
        tasks.push(tokio::spawn(port::serve(listener, router, stop.clone())));
    }
    tasks.push(tokio::spawn(tend(Arc::clone(&shared))));
    Ok(Running { socket, port, shared, stopper, tasks, _lock: lock })
}

fn own(dir: &Path) -> Result<File, Fault> {
    let path = dir.join("server.lock");
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(paths::failed("open", &path))?;
    file.try_lock().map_err(|_| {
        let message = format!("another server owns {}", dir.display());
        Fault::new(Code::AlreadyRunning, message, "use that one, or choose another --server-dir")
    })?;
    Ok(file)
}

impl Running {
    /// Says where the doors are, for parents.
    pub fn announce(&self) {
        let mut out = std::io::stdout().lock();
        let socket = self.socket.display();
        let port = self.port.map(|port| format!(" {port}")).unwrap_or_default();
        // Nobody may be listening on stdout; that is fine.
        drop(writeln!(out, "{READY}{socket}{port}").and_then(|()| out.flush()));
    }

    /// Makes sure that a host has a key, and that the key is in a file.
    ///
    /// # Errors
    /// When the catalogue or the file cannot be used.
    pub async fn introduce(&self, host: &str, key_file: &Path) -> Result<(), Fault> {
        let given = std::fs::read_to_string(key_file).unwrap_or_default().trim().to_owned();
        let known = self.shared.catalog.with(move |tx| catalog::host_of_key(tx, &given)).await?;
        if known.is_some_and(|known| known.id == host) {
            return Ok(());
        }
        let name = host.to_owned();
        let key = self.shared.catalog.with(move |tx| catalog::add_host(tx, &name, true)).await?;
        put_secret(key_file, &key)
    }

    /// Ends it in an orderly way; bounded in time.
    pub async fn stop(self) {
        self.stopper.send_replace(true);
        for task in self.tasks {
            drop(tokio::time::timeout(Duration::from_secs(5), task).await);
        }
        drop(paths::remove_file_if_any(&self.socket));
        tracing::info!(place = %self.shared.place.display(), "server ended");
    }
}

/// Does what time alone brings: graces that are over, leases to renew, what is long over.
async fn tend(shared: Arc<Shared>) {
    let mut stop = shared.stop.clone();
    let mut round = 0_u32;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        round = round.wrapping_add(1);
        let prune = round.is_multiple_of(PRUNE_EVERY);
        // One by one: what one host cannot have holds up no other.
        if let Err(fault) = retire_due(&shared).await {
            tracing::warn!(%fault, "what is due cannot be looked for");
        }
        if let Err(fault) = renew(&shared).await {
            tracing::warn!(%fault, "leases cannot be renewed now");
        }
        if prune {
            let pruned = shared.catalog.with(|tx| {
                crate::server::answers::lose(tx, catalog::now() - LOST_AFTER_MS)?;
                catalog::prune(tx)
            });
            if let Err(fault) = pruned.await {
                tracing::warn!(%fault, "what is over cannot be dropped now");
            }
        }
    }
}

async fn retire_due(shared: &Shared) -> Result<(), Fault> {
    for (host, id) in shared.catalog.with(store::due).await? {
        let place = host.clone();
        let destroyed = shared
            .catalog
            .with(move |tx| destroy_in(tx, &place, &id, &random_name(), How::Unused))
            .await;
        match destroyed {
            Ok(_) => shared.hub.wake(&host),
            // One that cannot go now is looked at again the next time.
            Err(fault) => tracing::debug!(%fault, "not retired yet"),
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
            Ok(()) => shared.hub.wake(&host),
            Err(fault) => tracing::warn!(%fault, host, "a lease cannot be renewed now"),
        }
    }
    Ok(())
}
