//! The daemon from start to end: own the data directory, open the log, serve, drain.
//!
//! Order matters: the lock before anything is touched, the log before the door, the door before
//! the ready line. Nothing here is a recovery: what an earlier daemon left undone is owed, and the
//! engine starts it like anything else.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::api::app::{About, now};
use crate::api::kept::sweep_at_start;
use crate::api::run::RUNS_MAX;
use crate::api::{App, door, events, port, router};
use crate::config::{self, Config};
use crate::core::event::Retention;
use crate::core::{Code, Command, Fault, Ground, Seq};
use crate::daemon::ground;
use crate::daemon::startup_migrations::bring_up;
use crate::engine::{Ended, Engine, Handle, Watching, make_room, scheduling};
use crate::journal::{self, Journal};
use crate::migrate::recipe::{Keychain, Network};
use crate::migrate::request::Wanted;
use crate::migrate::{MigrationRunner, http, keychain};
use crate::session::{self, Link};
use crate::world::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::git::command;
use crate::world::process::cancel::Cancel;
use crate::world::process::{orphans, table};
use crate::world::watch::select::backend;

/// What a daemon writes down about itself, for its clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Its process id.
    pub pid: u32,
    /// Where it listens.
    pub socket: PathBuf,
    /// Its version.
    pub version: String,
}

/// Longest time that an orphan which has ended stays uncollected.
const ORPHANS_EVERY: Duration = Duration::from_secs(1);

/// Most time that a child of a killed daemon takes until it runs its own program.
const HALF_STARTED: Duration = Duration::from_secs(2);

/// The start of the line that tells a parent process where the door is.
pub const READY: &str = "GROUNDSKEEPER_READY:";
/// The same in the form that parents of the Executor application wait for.
const EXECUTOR_READY: &str = "EXECUTOR_READY:";

/// What a daemon is told besides its configuration.
#[derive(Debug, Default)]
pub struct StartOptions {
    /// The control server, instead of the configured one.
    pub link: Option<Link>,
    /// Databases to bring up before it is ready, besides the configured ones.
    pub databases: Vec<Wanted>,
    /// How readiness is told.
    pub ready: ReadyFormat,
    /// A port for those who have the token.
    pub listen: Option<SocketAddr>,
}

/// The line on stdout that tells a parent process that the daemon is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadyFormat {
    /// `GROUNDSKEEPER_READY:<socket>`, and the port after a space where there is one.
    #[default]
    Groundskeeper,
    /// `EXECUTOR_READY:<port>`, or the socket where there is no port.
    Executor,
}

impl std::str::FromStr for ReadyFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "groundskeeper" => Ok(Self::Groundskeeper),
            "executor" => Ok(Self::Executor),
            _ => Err("there are groundskeeper and executor".to_owned()),
        }
    }
}

/// Runs a daemon on a data directory until it is told to stop.
///
/// # Errors
/// When it cannot start, or the log fails while it runs.
pub fn run(data_dir: &Path, mut extra: StartOptions) -> Result<(), Fault> {
    let layout = Layout::new(own_directory(data_dir)?);
    let _lock = take_lock(&layout)?;
    let config = Config::load()?;
    let link = link(extra.link.take(), &config)?;
    let cancel = Cancel::new().map_err(paths::failed("watch a process in", layout.root()))?;
    let git = command::check_version(&cancel)?;
    World::prepare(&layout)?;
    raise_file_limit();
    make_room(layout.root());
    let options = journal::Options::default();
    let (mut journal, found) = Journal::open(&layout.log(), options).map_err(|e| log_fault(&e))?;
    tracing::info!(head = %found.head.seq, folded = found.folded, "log opened");
    let (ground, high_water) = ground::find(&layout, &mut journal, &found.state)?;

    let world = Arc::new(
        World::new(layout.clone(), journal.log_id()).with_rebuildable(&config.rebuildable),
    );
    let log_id = world.log_id().to_owned();
    orphans::adopt_all();
    // No child of a dead daemon acts beside this one.
    // Those in the log of a copy are the original's.
    let is_copy = ground.copy_of.is_some();
    let over = if is_copy { Vec::new() } else { world.end_runs(&found.state, &cancel) };
    let (engine, handle) = Engine::new(journal, found.state, Arc::clone(&world));
    let groups = world.cgroups().clone();
    let desk = Arc::new(desk(&layout));
    let engine = engine.with_desk(Arc::clone(&desk));
    let engine = engine.with_low_disk(config.low_disk_gigabytes.saturating_mul(1 << 30));
    let engine = engine.with_high_water(high_water);
    let (thread, ended, priority) = start(engine, config.retention(), ground)?;
    ground::settle(&handle, &world)?;
    for (environment, pid) in over {
        handle.submit_blocking(Command::Exited { environment, pid })?;
    }
    let about = About { git, log_id, started: now(), priority };
    let always = config.watch == config::Watching::Always;
    let portable = config.watch_backend == config::WatchBackend::Portable;
    let options = crate::engine::watcher::Options { always, speed: 1 };
    let make = |sink| backend(portable, sink);
    let watching = Watching::start(&world, handle.clone(), options, make)
        .map_err(|e| Fault::new(Code::Io, "cannot watch files", "free some memory").because(e))?;
    let runtime = runtime()?;
    let StartOptions { databases, ready, listen, .. } = extra;
    let parts = Parts {
        world,
        config,
        handle: handle.clone(),
        about,
        link,
        desk,
        databases,
        ready,
        listen,
    };
    let served = runtime.block_on(serve(parts, ended, &watching));
    watching.stop();
    handle.shutdown("stopped");
    runtime.shutdown_timeout(Duration::from_secs(1));
    let outcome = thread.join();
    drop(paths::remove_file_if_any(&door::address(&layout)));
    drop(paths::remove_file_if_any(&layout.daemon_info()));
    groups.remove_empty();
    served?;
    match outcome {
        Ok(Ended::Orderly) => Ok(()),
        Ok(Ended::Journal(e)) => Err(log_fault(&e)),
        Err(_) => Err(Fault::new(Code::Defect, "the engine panicked", "please report this")),
    }
}

/// The control server: the one that was named, or the configured one.
fn link(named: Option<Link>, config: &Config) -> Result<Option<Link>, Fault> {
    match (named, &config.server, &config.server_key_file) {
        (Some(link), ..) => Ok(Some(link)),
        (None, Some(server), Some(key)) => Link::new(server, key).map(Some),
        _ => Ok(None),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(2).max_blocking_threads(64).enable_all().build();
    built.map_err(|e| Fault::new(Code::Io, "cannot start the runtime", "see the cause").because(e))
}

/// The data directory, made if need be, as a real path, for its owner only.
fn own_directory(path: &Path) -> Result<PathBuf, Fault> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(paths::failed("create the data directory", path))?;
    path.canonicalize().map_err(paths::failed("find the data directory", path))
}

fn take_lock(layout: &Layout) -> Result<File, Fault> {
    let path = layout.daemon_lock();
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(paths::failed("open", &path))?;
    match lock_of_a_killed_one(&file, layout) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let holder = read_info(layout).map_or_else(
                || "another process".to_owned(),
                |info| format!("process {} (version {})", info.pid, info.version),
            );
            let message = format!("{holder} owns {}", layout.root().display());
            let hint = "use it, end it with `groundskeeper stop`, or choose another --data-dir";
            Err(Fault::new(Code::AlreadyRunning, message, hint))
        }
        Err(TryLockError::Error(e)) => Err(paths::fault("lock", &path, &e)),
    }
}

/// Takes the lock. When whoever wrote down that they hold it is gone, it is waited for a little: a
/// child that a killed daemon was just starting has its lock until it runs its program.
#[expect(clippy::disallowed_methods, reason = "a file lock cannot be awaited with a bound")]
fn lock_of_a_killed_one(file: &File, layout: &Layout) -> Result<(), TryLockError> {
    let until = Instant::now() + HALF_STARTED;
    loop {
        let taken = file.try_lock();
        let lives = || read_info(layout).is_some_and(|info| table::start_time(info.pid).is_some());
        if !matches!(taken, Err(TryLockError::WouldBlock)) || Instant::now() >= until || lives() {
            return taken;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the daemon of a data directory wrote down about itself, if there is one.
#[must_use]
pub fn read_info(layout: &Layout) -> Option<Info> {
    serde_json::from_slice(&std::fs::read(layout.daemon_info()).ok()?).ok()
}

fn write_info(layout: &Layout, socket: &Path) -> Result<(), Fault> {
    let version = crate::VERSION.to_owned();
    let info = Info { pid: std::process::id(), socket: socket.to_owned(), version };
    let path = layout.daemon_info();
    let fresh = path.with_extension("new");
    let text = serde_json::to_vec(&info).unwrap_or_default();
    std::fs::write(&fresh, text).map_err(paths::failed("write", &fresh))?;
    std::fs::rename(&fresh, &path).map_err(paths::failed("publish", &path))
}

/// Hundreds of hooks and connections need more descriptors than the usual soft limit.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _raised = setrlimit(Resource::Nofile, limit);
}

/// A journal error as a fault: whole cause chain, and what to do.
#[must_use]
pub fn log_fault(error: &journal::Error) -> Fault {
    let mut fault = Fault::new(Code::JournalFailed, error.to_string(), error.hint());
    if let Some(source) = std::error::Error::source(error) {
        fault = fault.caused_by(source);
    }
    fault
}

type Started = (JoinHandle<Ended>, oneshot::Receiver<()>, String);

fn start(engine: Engine, retention: Retention, ground: Ground) -> Result<Started, Fault> {
    let (over, ended) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let version = crate::VERSION.to_owned();
    let begin = Command::Start { pid: std::process::id(), version, retention, ground };
    let thread = std::thread::Builder::new().name("gk-engine".to_owned()).spawn(move || {
        let _told = tell.send(scheduling::raise());
        let outcome = engine.run(begin);
        drop(over);
        outcome
    });
    let thread = thread.map_err(|e| {
        Fault::new(Code::Io, "cannot start the engine", "free some memory").because(e)
    })?;
    let priority = told.recv().map_or_else(|_| String::new(), |p| p.as_str().to_owned());
    Ok((thread, ended, priority))
}

/// What the doors need.
struct Parts {
    world: Arc<World>,
    config: Config,
    handle: Handle,
    about: About,
    link: Option<Link>,
    desk: Arc<MigrationRunner>,
    databases: Vec<Wanted>,
    ready: ReadyFormat,
    listen: Option<SocketAddr>,
}

/// Names a file that takes the place of the system's keychain.
const KEYCHAIN_FILE: &str = "GROUNDSKEEPER_KEYCHAIN_FILE";

/// When set, migrations ask no server what it says of itself.
const OFFLINE: &str = "GROUNDSKEEPER_OFFLINE";

/// Where migrations are worked on.
fn desk(layout: &Layout) -> MigrationRunner {
    let keychain: Box<dyn Keychain + Send + Sync> = match std::env::var_os(KEYCHAIN_FILE) {
        Some(path) => Box::new(keychain::FileKeychain::new(path)),
        None => Box::new(keychain::SystemKeychain),
    };
    let offline = std::env::var_os(OFFLINE).is_some_and(|value| !value.is_empty());
    let network: Box<dyn Network + Send + Sync> =
        if offline { Box::new(http::NoNetwork) } else { Box::new(http::Http) };
    MigrationRunner::new(&layout.migrations(), network, keychain)
}

async fn serve(
    parts: Parts,
    engine_ended: oneshot::Receiver<()>,
    watching: &Arc<Watching>,
) -> Result<(), Fault> {
    let Parts { world, config, handle, about, link, desk, databases, ready, listen } = parts;
    // Nobody is let in before its databases are what the daemon says that they are.
    let mut wanted = config.databases.clone();
    wanted.extend(databases);
    let _owned = bring_up(&handle, &desk, &wanted).await?;
    desk.tidy(|id| handle.view(|state| state.wants_recipe(id)));
    let layout = world.layout().clone();
    let address = door::address(&layout);
    let listener = door::bind(&address)?;
    write_info(&layout, &address)?;
    let (stopper, stop) = watch::channel(false);
    let head = handle.head();
    let app = App {
        handle,
        layout: layout.clone(),
        world,
        desk,
        watching: Arc::clone(watching),
        repositories: Arc::default(),
        config,
        streams: Arc::new(Semaphore::new(events::STREAMS_MAX)),
        runs: Arc::new(Semaphore::new(RUNS_MAX)),
        stop: stop.clone(),
        stopper: stopper.clone(),
        about,
        session: OnceLock::new(),
    };
    let app = Arc::new(app);
    let router = router(Arc::clone(&app));
    let door = tokio::spawn(door::serve(listener, router.clone(), stop.clone()));
    let port = match listen {
        Some(address) => Some(port::open(address, layout.root(), &router, stop.clone()).await?),
        None => None,
    };
    if let Some(link) = link {
        let standing = session::start(Arc::clone(&app), router, link);
        drop(app.session.set(standing));
    }
    tokio::spawn(sweep_at_start(app));
    tokio::spawn(collect_orphans());
    tokio::spawn(ring(head, Arc::clone(watching)));
    announce(ready, &address, port);
    let why = wait_for_end(stop, engine_ended).await;
    tracing::info!(why, "stopping");
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
    stopper.send_replace(true);
    drop(door.await);
    Ok(())
}

/// Tells the watching that the state has changed.
async fn ring(mut head: watch::Receiver<Seq>, watching: Arc<Watching>) {
    watching.ring();
    while head.changed().await.is_ok() {
        watching.ring();
    }
}

/// Collects what hooks left behind when it ends; many ends in a row are one round.
async fn collect_orphans() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut children) = signal(SignalKind::child()) else { return };
    while children.recv().await.is_some() {
        tokio::time::sleep(ORPHANS_EVERY).await;
        if tokio::task::spawn_blocking(orphans::collect).await.is_err() {
            return;
        }
    }
}

/// Tells parent and service manager that the door is open.
fn announce(format: ReadyFormat, address: &Path, port: Option<SocketAddr>) {
    let mut out = std::io::stdout().lock();
    let socket = address.display();
    let line = match (format, port) {
        (ReadyFormat::Groundskeeper, None) => format!("{READY}{socket}"),
        (ReadyFormat::Groundskeeper, Some(port)) => format!("{READY}{socket} {port}"),
        (ReadyFormat::Executor, Some(port)) => format!("{EXECUTOR_READY}{}", port.port()),
        (ReadyFormat::Executor, None) => format!("{EXECUTOR_READY}{socket}"),
    };
    // Nobody may be listening on stdout; that is fine.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    tracing::info!(socket = %address.display(), "ready");
}

async fn wait_for_end(
    mut stop: watch::Receiver<bool>,
    engine_ended: oneshot::Receiver<()>,
) -> &'static str {
    tokio::select! {
        why = on_signal() => why,
        _ = stop.wait_for(|stop| *stop) => "request",
        _ = engine_ended => "the engine ended",
    }
}

/// Waits for a signal that asks the process to end, and says which.
pub async fn on_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let on = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            // Without a handler the signal ends the process at once, which is safe as well.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = on(SignalKind::terminate()) => "SIGTERM",
        () = on(SignalKind::interrupt()) => "SIGINT",
    }
}
