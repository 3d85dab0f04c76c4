//! Runs the daemon from start to end: lock the data directory, open the log, serve, shut down.
//!
//! The order matters: the lock before any change, the log before the socket, the socket before the
//! ready line. Nothing here is a recovery: unfinished work of an earlier daemon is owed, and the
//! engine starts it like any other step.

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
use crate::api::run::RUNS_MAX;
use crate::api::sweep::sweep_at_start;
use crate::api::{App, events, router, tcp, unix_socket};
use crate::config::{self, Config};
use crate::core::event::Retention;
use crate::core::{Code, Command, Fault, Ground, Seq};
use crate::daemon::ground;
use crate::daemon::startup_migrations::bring_up;
use crate::engine::{Ended, Engine, Handle, WatchService, make_room, scheduling};
use crate::journal::{self, Journal};
use crate::migrate::recipe::{Keychain, Network};
use crate::migrate::request::MigrationRequest;
use crate::migrate::{MigrationRunner, http, keychain};
use crate::session::{self, Link};
use crate::world::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::git::command;
use crate::world::process::cancel::Cancel;
use crate::world::process::{orphans, table};
use crate::world::watch::select::backend;

/// Facts about a running daemon, in a file that its clients read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Process id of the daemon.
    pub pid: u32,
    /// Path of the socket on which it listens.
    pub socket: PathBuf,
    /// Version of the daemon's program.
    pub version: String,
}

/// Longest time that an orphan remains a zombie after it has ended.
const ORPHANS_EVERY: Duration = Duration::from_secs(1);

/// Longest time that a child of a killed daemon takes until it executes its own program.
const HALF_STARTED: Duration = Duration::from_secs(2);

/// Start of the line that tells a parent process the path of the socket.
pub const READY: &str = "GROUNDSKEEPER_READY:";
/// Start of that line in the form that the Executor application waits for.
const EXECUTOR_READY: &str = "EXECUTOR_READY:";

/// Options of a daemon besides its configuration.
#[derive(Debug, Default)]
pub struct StartOptions {
    /// Control server that replaces the configured one.
    pub link: Option<Link>,
    /// Databases to migrate before the daemon is ready, in addition to the configured ones.
    pub databases: Vec<MigrationRequest>,
    /// Format of the ready line.
    pub ready: ReadyFormat,
    /// TCP address for clients that have the token; none for the socket alone.
    pub listen: Option<SocketAddr>,
}

/// Format of the line on stdout that tells a parent process that the daemon is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadyFormat {
    /// `GROUNDSKEEPER_READY:<socket>`, and the TCP address after a space if there is one.
    #[default]
    Groundskeeper,
    /// `EXECUTOR_READY:<port>`, or the socket if there is no port.
    Executor,
}

impl std::str::FromStr for ReadyFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "groundskeeper" => Ok(Self::Groundskeeper),
            "executor" => Ok(Self::Executor),
            _ => Err("must be groundskeeper or executor".to_owned()),
        }
    }
}

/// Runs a daemon on a data directory until a signal, a request or a failure of the engine ends it.
///
/// # Errors
/// When the daemon cannot start, or the log fails while it runs.
pub fn run(data_dir: &Path, mut start_options: StartOptions) -> Result<(), Fault> {
    let layout = Layout::new(create_directory(data_dir)?);
    let _lock = take_lock(&layout)?;
    let config = Config::load()?;
    let link = link(start_options.link.take(), &config)?;
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
    // No child of a killed daemon may act while this one runs. The children in the log of a copy
    // are the original's, so they are left alone.
    let is_copy = ground.copy_of.is_some();
    let over = if is_copy { Vec::new() } else { world.end_runs(&found.state, &cancel) };
    let (engine, handle) = Engine::new(journal, found.state, Arc::clone(&world));
    let groups = world.cgroups().clone();
    let migration_runner = Arc::new(migration_runner(&layout));
    let engine = engine.with_migration_runner(Arc::clone(&migration_runner));
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
    let watching = WatchService::start(&world, handle.clone(), options, make)
        .map_err(|e| Fault::new(Code::Io, "cannot watch files", "free some memory").because(e))?;
    let runtime = runtime()?;
    let StartOptions { databases, ready, listen, .. } = start_options;
    let context = ServeContext {
        world,
        config,
        handle: handle.clone(),
        about,
        link,
        migration_runner,
        databases,
        ready,
        listen,
    };
    let served = runtime.block_on(serve(context, ended, &watching));
    watching.stop();
    handle.shutdown("stopped");
    runtime.shutdown_timeout(Duration::from_secs(1));
    let outcome = thread.join();
    drop(paths::remove_file_if_any(&unix_socket::address(&layout)));
    drop(paths::remove_file_if_any(&layout.daemon_info()));
    groups.remove_empty();
    served?;
    match outcome {
        Ok(Ended::Orderly) => Ok(()),
        Ok(Ended::Journal(e)) => Err(log_fault(&e)),
        Err(_) => Err(Fault::new(Code::Defect, "the engine panicked", "please report this")),
    }
}

/// Returns the control server: the given one, else the configured one.
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
    built.map_err(|e| {
        Fault::new(Code::Io, "cannot start the runtime", "free some memory").because(e)
    })
}

/// Returns the real path of the data directory; creates it, for its owner only, if it is missing.
fn create_directory(path: &Path) -> Result<PathBuf, Fault> {
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
    match lock_left_by_killed_daemon(&file, layout) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let holder = read_info(layout).map_or_else(
                || "another process".to_owned(),
                |info| format!("process {} (version {})", info.pid, info.version),
            );
            let message = format!("{holder} owns the data directory {}", layout.root().display());
            let hint =
                "use that daemon, stop it with `groundskeeper stop`, or choose another --data-dir";
            Err(Fault::new(Code::AlreadyRunning, message, hint))
        }
        Err(TryLockError::Error(e)) => Err(paths::fault("lock", &path, &e)),
    }
}

/// Takes the lock. If the process in the info file has ended, a held lock is retried for a short
/// time: a child that the killed daemon was starting holds it until it executes its program.
#[expect(clippy::disallowed_methods, reason = "a file lock cannot be awaited with a bound")]
fn lock_left_by_killed_daemon(file: &File, layout: &Layout) -> Result<(), TryLockError> {
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

/// Returns the facts that the daemon of a data directory wrote about itself; none if there is no
/// such file. That daemon may have ended since.
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
    // Written aside and renamed, so that a client never reads half a file.
    std::fs::write(&fresh, text).map_err(paths::failed("write", &fresh))?;
    std::fs::rename(&fresh, &path).map_err(paths::failed("publish", &path))
}

/// Raises the soft limit of open files to the hard one: hundreds of hooks and connections need more
/// descriptors than the usual soft limit.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _raised = setrlimit(Resource::Nofile, limit);
}

/// Converts a journal error to a fault, with its cause and a hint.
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
    // Dropped when the engine ends, also by a panic, so `serve` always notices.
    let (over, ended) = oneshot::channel::<()>();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let version = crate::VERSION.to_owned();
    let begin = Command::Start { pid: std::process::id(), version, retention, ground };
    let thread = std::thread::Builder::new().name("gk-engine".to_owned()).spawn(move || {
        let _told = sender.send(scheduling::raise());
        let outcome = engine.run(begin);
        drop(over);
        outcome
    });
    let thread = thread.map_err(|e| {
        Fault::new(Code::Io, "cannot start the engine", "free some memory").because(e)
    })?;
    let priority = receiver.recv().map_or_else(|_| String::new(), |p| p.as_str().to_owned());
    Ok((thread, ended, priority))
}

/// The parts that [`serve`] needs.
struct ServeContext {
    world: Arc<World>,
    config: Config,
    handle: Handle,
    about: About,
    link: Option<Link>,
    migration_runner: Arc<MigrationRunner>,
    databases: Vec<MigrationRequest>,
    ready: ReadyFormat,
    listen: Option<SocketAddr>,
}

/// Environment variable with a file that replaces the system's keychain.
const KEYCHAIN_FILE: &str = "GROUNDSKEEPER_KEYCHAIN_FILE";

/// Environment variable that, if not empty, keeps migrations off the network.
const OFFLINE: &str = "GROUNDSKEEPER_OFFLINE";

/// Makes the runner that performs migrations.
fn migration_runner(layout: &Layout) -> MigrationRunner {
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
    context: ServeContext,
    engine_ended: oneshot::Receiver<()>,
    watching: &Arc<WatchService>,
) -> Result<(), Fault> {
    let ServeContext {
        world,
        config,
        handle,
        about,
        link,
        migration_runner,
        databases,
        ready,
        listen,
    } = context;
    // No client is accepted before the databases are migrated.
    let mut wanted = config.databases.clone();
    wanted.extend(databases);
    let _owned = bring_up(&handle, &migration_runner, &wanted).await?;
    migration_runner.remove_unused_recipes(|id| handle.view(|state| state.wants_recipe(id)));
    let layout = world.layout().clone();
    let address = unix_socket::address(&layout);
    let listener = unix_socket::bind(&address)?;
    // After the bind, since clients connect to the socket that this file names.
    write_info(&layout, &address)?;
    let (stopper, stop) = watch::channel(false);
    let head = handle.head();
    let app = App {
        handle,
        layout: layout.clone(),
        world,
        migration_runner,
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
    let socket_task = tokio::spawn(unix_socket::serve(listener, router.clone(), stop.clone()));
    let port = match listen {
        Some(address) => Some(tcp::open(address, layout.root(), &router, stop.clone()).await?),
        None => None,
    };
    if let Some(link) = link {
        let session_status = session::start(Arc::clone(&app), router, link);
        drop(app.session.set(session_status));
    }
    tokio::spawn(sweep_at_start(app));
    tokio::spawn(collect_orphans());
    tokio::spawn(notify_watcher(head, Arc::clone(watching)));
    announce(ready, &address, port);
    let why = wait_for_end(stop, engine_ended).await;
    tracing::info!(why, "stopping");
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
    stopper.send_replace(true);
    drop(socket_task.await);
    Ok(())
}

/// Notifies the watch service of every change of the state.
async fn notify_watcher(mut head: watch::Receiver<Seq>, watching: Arc<WatchService>) {
    // Once at the start, for changes before this task subscribed.
    watching.state_changed();
    while head.changed().await.is_ok() {
        watching.state_changed();
    }
}

/// Reaps orphaned processes of hooks when they end; many ends in a row make one round.
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

/// Reports to the parent process and the service manager that the socket accepts clients.
fn announce(format: ReadyFormat, address: &Path, port: Option<SocketAddr>) {
    let mut out = std::io::stdout().lock();
    let socket = address.display();
    let line = match (format, port) {
        (ReadyFormat::Groundskeeper, None) => format!("{READY}{socket}"),
        (ReadyFormat::Groundskeeper, Some(port)) => format!("{READY}{socket} {port}"),
        (ReadyFormat::Executor, Some(port)) => format!("{EXECUTOR_READY}{}", port.port()),
        (ReadyFormat::Executor, None) => format!("{EXECUTOR_READY}{socket}"),
    };
    // The parent may have closed stdout; the daemon runs all the same.
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

/// Waits for a signal that asks the process to end, and returns its name.
pub async fn on_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let on = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            // Without a handler the signal ends the process at once, which is also safe.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = on(SignalKind::terminate()) => "SIGTERM",
        () = on(SignalKind::interrupt()) => "SIGINT",
    }
}
