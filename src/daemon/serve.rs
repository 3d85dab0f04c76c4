//! Serves clients: from the migration of databases, over the socket and the port, to the end.

use std::sync::{Arc, OnceLock};

use std::os::unix::net::UnixListener as Passed;

use tokio::net::UnixListener;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::api::router;
use crate::config::Config;
use crate::config_file;
use crate::core::{Fault, Seq};
use crate::daemon::info::{Info, write_info};
use crate::daemon::options::StartOptions;
use crate::daemon::ready::announce;
use crate::daemon::service_manager;
use crate::daemon::signals::{End, Signals, collect_orphans, wait_for_end};
use crate::daemon::startup_migrations::bring_up;
use crate::daemon::text_log;
use crate::engine::{Handle, WatchService};
use crate::http::kept_socket::KeptSocket;
use crate::http::{socket_file, tcp, unix_socket};
use crate::migrate::MigrationRunner;
use crate::service::App;
use crate::service::app::{About, Reload};
use crate::service::keys::Keys;
use crate::service::runs::RUNS_MAX;
use crate::service::start_over::adopt_worktrees;
use crate::service::streams::STREAMS_MAX;
use crate::service::sweep::sweep_at_start;
use crate::session::{self, Link};
use crate::world::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;

/// The parts that [`serve`] needs.
pub(super) struct ServeContext {
    pub(super) world: Arc<World>,
    pub(super) config: Config,
    pub(super) handle: Handle,
    pub(super) about: About,
    pub(super) link: Option<Link>,
    pub(super) migration_runner: Arc<MigrationRunner>,
    pub(super) watching: Arc<WatchService>,
    /// The other options.
    pub(super) options: StartOptions,
}

/// Migrates the databases, accepts clients, and returns when a signal, a request or the end of the
/// engine ends the daemon.
///
/// # Errors
/// When a database cannot be migrated, or the socket or the port cannot be opened.
pub(super) async fn serve(
    mut context: ServeContext,
    engine_ended: oneshot::Receiver<()>,
) -> Result<End, Fault> {
    // First: a program that reads that the daemon is ready may end it in order.
    let mut signals = Signals::listen().with_reload(context.options.reloads);
    // Before what may take long at a reload.
    tokio::spawn(service_manager::watchdog(context.handle.clone()));
    // No client is accepted before the databases are migrated.
    let mut wanted = context.config.databases.clone();
    wanted.append(&mut context.options.databases);
    let (handle, runner) = (&context.handle, &context.migration_runner);
    tokio::select! {
        brought_up = bring_up(handle, runner, &wanted) => brought_up?,
        // An interrupted migration is owed, and goes on at the next start.
        why = signals.next() => {
            tracing::info!(why, "stopping before the daemon is ready");
            return Ok(End::Stop(why));
        }
    }
    runner.remove_unused_recipes(|id| handle.view(|state| state.wants_recipe(id)));
    let layout = context.world.layout().clone();
    let (socket, listener) = open_socket(&layout, context.options.listener.as_deref())?;
    let address = socket.address().to_owned();
    let socket = Arc::new(socket);
    let (stopper, stop) = watch::channel(false);
    let (reloader, reload) = watch::channel(false);
    let (ready, listen, link) =
        (context.options.ready, context.options.listen, context.link.take());
    let start_over = context.options.start_over;
    let app = Arc::new(app(context, &stopper, reloader));
    if start_over {
        adopt_worktrees(&app).await;
    }
    let router = router(Arc::clone(&app));
    let socket_task =
        tokio::spawn(unix_socket::serve(socket, listener, router.clone(), stop.clone()));
    let port = match listen {
        Some(address) => Some(tcp::open(address, layout.root(), &router, stop.clone()).await?),
        None => None,
    };
    if let Some(link) = link {
        let session_status = session::start(Arc::clone(&app), link);
        drop(app.session.set(session_status));
    }
    tokio::spawn(notify_watcher(app.handle.head(), Arc::clone(&app.watching)));
    tokio::spawn(sweep_at_start(app));
    tokio::spawn(collect_orphans());
    tokio::spawn(text_log::keep_small(layout));
    announce(ready, &address, port);
    let end = wait_for_end(&mut signals, (stop, reload), engine_ended).await;
    tracing::info!(why = end.why(), "stopping");
    service_manager::ending(end);
    stopper.send_replace(true);
    drop(socket_task.await);
    Ok(end)
}

/// Binds the socket and describes this daemon to its clients, now and whenever that changes.
fn open_socket(
    layout: &Layout,
    passed: Option<&Passed>,
) -> Result<(KeptSocket, UnixListener), Fault> {
    let address = socket_file::address(layout);
    let info = Info::of_this_process(&address, passed.and_then(socket_file::opener));
    let (place, known) = (layout.clone(), info.clone());
    let report = move |unreachable: Option<&str>, is_new: bool| {
        // What removes a socket may remove this file, too.
        if !is_new && !matches!(paths::exists(&place.daemon_info()), Ok(false)) {
            return;
        }
        let info = Info { unreachable: unreachable.map(str::to_owned), ..known.clone() };
        if let Err(fault) = write_info(&place, &info) {
            tracing::warn!(%fault, "cannot describe this daemon to its clients");
        }
    };
    let (socket, listener) = match passed {
        Some(passed) => KeptSocket::adopt(passed, &address, layout.root(), Box::new(report))?,
        None => KeptSocket::open(&address, layout.root(), Box::new(report))?,
    };
    // After the bind, since clients connect to the socket that this file names.
    write_info(layout, &info)?;
    Ok((socket, listener))
}

/// Makes what the handlers of requests share.
fn app(context: ServeContext, stopper: &watch::Sender<bool>, reloader: watch::Sender<bool>) -> App {
    // Settings that cannot be used are refused while there is someone to tell.
    let reload = move || {
        config_file::load()?;
        reloader.send_replace(true);
        Ok(())
    };
    let reload: Reload = Arc::new(reload);
    App {
        layout: context.world.layout().clone(),
        handle: context.handle,
        world: context.world,
        migration_runner: context.migration_runner,
        presence: Arc::default(),
        survey: Arc::default(),
        watching: context.watching,
        repositories: Arc::default(),
        config: context.config,
        reload: context.options.reloads.then_some(reload),
        keys: Keys::default(),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        runs: Arc::new(Semaphore::new(RUNS_MAX)),
        stop: stopper.subscribe(),
        stopper: stopper.clone(),
        about: context.about,
        session: OnceLock::new(),
    }
}

/// Notifies the watch service of every change of the state.
async fn notify_watcher(mut head: watch::Receiver<Seq>, watching: Arc<WatchService>) {
    // Once at the start, for changes before this task subscribed.
    watching.state_changed();
    while head.changed().await.is_ok() {
        watching.state_changed();
    }
}
