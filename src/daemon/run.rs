//! Runs the daemon from start to end: lock the data directory, open the log, serve, shut down.
//!
//! The order matters: the lock before any change, the log before the socket, the socket before the
//! ready line. Nothing here is a recovery: unfinished work of an earlier daemon is owed, and the
//! engine starts it like any other step.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::clock::now;
use crate::config::{self, Config, LogArchive};
use crate::config_file;
use crate::core::event::Retention;
use crate::core::{Code, Command, Fault, Ground};
use crate::daemon::lock::{self, create_directory, take_lock};
use crate::daemon::options::StartOptions;
use crate::daemon::serve::{ServeContext, serve};
use crate::daemon::service_manager;
use crate::daemon::signals::End;
use crate::daemon::{ground, missing_log, own_files};
use crate::engine::watcher::Options;
use crate::engine::{Ended, Engine, Handle, LogLimits, WatchService, make_room, scheduling};
use crate::journal::{Inspection, Journal};
use crate::recipes;
use crate::service::app::About;
use crate::session::Link;
use crate::world::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::git::command;
use crate::world::process::cancel::Cancel;
use crate::world::process::orphans;
use crate::world::watch::select::backend;
use groundskeeper_system::heap;

/// Longest time that work of an ended daemon is waited for before it starts again.
const LEFT_LIMIT: Duration = Duration::from_secs(5);

/// How a daemon ended, and what its work held.
type Once = (End, Weak<World>);

/// Runs a daemon on a data directory until a signal, a request or a failure of the engine ends it.
/// A reload starts it again, from the log as after any end; the lock is held meanwhile, so that no
/// other daemon takes its place.
///
/// # Errors
/// When the daemon cannot start, or the log fails while it runs.
pub fn run(data_dir: &Path, mut options: StartOptions) -> Result<(), Fault> {
    options.listener = service_manager::take_listener()?.map(Arc::new);
    heap::tune();
    let layout = Layout::new(create_directory(data_dir)?);
    let _lock = take_lock(&layout)?;
    loop {
        let again = options.for_reload();
        let (end, world) = run_once(&layout, options)?;
        if matches!(end, End::Stop(_)) {
            return Ok(());
        }
        await_end_of(&world)?;
        tracing::info!("starting again");
        options = again;
    }
}

/// Waits until nothing of an ended daemon works any more: its effects and requests hold its world.
/// What outlives the drain of the engine ends with the process only, and a second daemon beside it
/// would do the same step twice; so this one ends then, as any other stop does.
#[expect(clippy::disallowed_methods, reason = "threads that end have no event in common")]
fn await_end_of(world: &Weak<World>) -> Result<(), Fault> {
    let until = Instant::now() + LEFT_LIMIT;
    while world.strong_count() > 0 {
        if Instant::now() > until {
            let message = "the daemon cannot start again: a step of it does not end";
            let hint = "start it again with `groundskeeper daemon`; the step continues then";
            return Err(Fault::new(Code::Timeout, message, hint));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn run_once(layout: &Layout, mut start_options: StartOptions) -> Result<Once, Fault> {
    own_files::check(layout)?;
    let config = config_file::load()?;
    let link = link(start_options.link.take(), &config)?;
    let cancel = Cancel::new().map_err(paths::failed("watch a process in", layout.root()))?;
    let git = command::check_version(&cancel)?;
    World::prepare(layout)?;
    raise_file_limit();
    let (mut journal, found) = open_log(layout, start_options.start_over)?;
    let (ground, high_water) = ground::find(layout, &mut journal, &found.state)?;

    let world = Arc::new(
        World::new(layout.clone(), journal.log_id()).with_rebuildable(&config.rebuildable),
    );
    let (log_id, left) = (world.log_id().to_owned(), Arc::downgrade(&world));
    orphans::adopt_all();
    // No child of a killed daemon may act while this one runs. The children in the log of a copy
    // are the original's, so they are left alone.
    let over = ground.copy_of.is_none().then(|| world.end_runs(&found.state, &cancel));
    let (engine, handle) = Engine::new(journal, found.state, Arc::clone(&world));
    let groups = world.cgroups().clone();
    let migration_runner = Arc::new(recipes::runner(&layout.migrations()));
    let engine = engine.with_migration_runner(Arc::clone(&migration_runner));
    let low_disk = config.low_disk_gigabytes.saturating_mul(1 << 30);
    let limits = log_limits(&config, layout);
    let engine = engine.with_low_disk(low_disk).with_high_water(high_water).with_log_limits(limits);
    let (thread, ended, priority) = start(engine, config.retention(), ground)?;
    ground::settle(&handle, &world)?;
    for (environment, pid) in over.into_iter().flatten() {
        handle.submit_blocking(Command::Exited { environment, pid })?;
    }
    let about = About { git, log_id, started: now(), priority };
    let watching = start_watching(&world, &handle, &config)?;
    let runtime = runtime()?;
    let context = ServeContext {
        world,
        config,
        handle: handle.clone(),
        about,
        link,
        migration_runner,
        watching: Arc::clone(&watching),
        options: start_options,
    };
    let served = runtime.block_on(serve(context, ended));
    watching.stop();
    handle.shutdown("stopped");
    runtime.shutdown_timeout(Duration::from_secs(1));
    let outcome = engine_outcome(thread);
    drop(paths::remove_file_if_any(&layout.daemon_info()));
    groups.remove_empty();
    served.and_then(|end| outcome.map(|()| (end, left)))
}

fn log_limits(config: &Config, layout: &Layout) -> LogLimits {
    let (age, bytes) = config.log_limits();
    let archive = (config.log_archive == LogArchive::On).then(|| layout.log_archive());
    LogLimits { age, bytes, archive }
}

/// Opens the log, also on a full disk.
fn open_log(layout: &Layout, start_over: bool) -> Result<(Journal, Inspection), Fault> {
    make_room(layout);
    missing_log::check(layout, start_over)?;
    let opened = lock::open_log(&layout.log());
    let (journal, found) = opened.map_err(|e| e.to_fault())?;
    tracing::info!(head = %found.head.seq, folded = found.folded, "log opened");
    Ok((journal, found))
}

/// Waits for the engine's thread, and returns how it ended.
fn engine_outcome(thread: JoinHandle<Ended>) -> Result<(), Fault> {
    match thread.join() {
        Ok(Ended::Orderly) => Ok(()),
        Ok(Ended::Journal(e)) => Err(e.to_fault()),
        Err(_) => Err(Fault::new(Code::Defect, "the engine panicked", "please report this")),
    }
}

/// Starts the watcher with the configured backend.
fn start_watching(
    world: &Arc<World>,
    handle: &Handle,
    config: &Config,
) -> Result<Arc<WatchService>, Fault> {
    let always = config.watch == config::Watching::Always;
    let portable = config.watch_backend == config::WatchBackend::Portable;
    let make = |sink| backend(portable, sink);
    WatchService::start(world, handle.clone(), Options { always, speed: 1 }, make)
        .map_err(|e| Fault::new(Code::Io, "cannot watch files", "free some memory").because(e))
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

/// Raises the soft limit of open files to the hard one: hundreds of hooks and connections need more
/// descriptors than the usual soft limit.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _raised = setrlimit(Resource::Nofile, limit);
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
