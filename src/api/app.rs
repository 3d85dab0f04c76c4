//! What all handlers share: the engine, the places, the clocks and bounds of a request.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};

use crate::api::problem::invalid;
use crate::api::types::SessionView;
use crate::config::Config;
use crate::core::event::Repository;
use crate::core::{Code, Fault, Time};
use crate::engine::{Handle, Watching};
use crate::migrate::MigrationRunner;
use crate::world::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::git::discover::Known;
use crate::world::process::cancel::Cancel;

/// Longest wait that a request may ask for.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// What the handlers share.
pub struct App {
    /// The engine.
    pub handle: Handle,
    /// Where things are.
    pub layout: Layout,
    /// The outside, for questions that change nothing in it.
    pub world: Arc<World>,
    /// Where migrations are worked on.
    pub desk: Arc<MigrationRunner>,
    /// What sees changes of the worktrees.
    pub watching: Arc<Watching>,
    /// Repositories that were asked about before.
    pub repositories: Arc<Known>,
    /// Settings.
    pub config: Config,
    /// Bound on open event streams.
    pub streams: Arc<Semaphore>,
    /// Bound on commands that run for those who are not there.
    pub runs: Arc<Semaphore>,
    /// True once the daemon is stopping.
    pub stop: watch::Receiver<bool>,
    /// Asks the daemon to stop.
    pub stopper: watch::Sender<bool>,
    /// Fixed facts about this daemon.
    pub about: About,
    /// The session with a control server, where there is to be one.
    pub session: OnceLock<watch::Receiver<SessionView>>,
}

/// Fixed facts about a daemon.
#[derive(Debug, Clone)]
pub struct About {
    /// The git it uses.
    pub git: String,
    /// Identity of its log, in hex.
    pub log_id: String,
    /// When it started.
    pub started: Time,
    /// Scheduling of the log writer.
    pub priority: String,
}

pub(super) async fn discover(app: &Arc<App>, repo: &str) -> Result<Repository, Fault> {
    let path = PathBuf::from(repo);
    if !path.is_absolute() {
        return Err(invalid(format!("repo must be an absolute path, not {repo:?}")));
    }
    let known = Arc::clone(&app.repositories);
    blocking(move || {
        let cancel = Cancel::new().map_err(paths::failed("watch a process in", &path))?;
        known.find(&path, &cancel)
    })
    .await
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(Fault::new(Code::Defect, "a task of the API panicked", "please report this").because(e))
    })
}

/// Waits until the published state fulfils a condition.
pub(super) async fn wait_until(
    app: &App,
    seconds: u64,
    mut done: impl FnMut(&crate::core::State) -> bool,
) -> Result<(), Fault> {
    let limit = Duration::from_secs(seconds).min(WAIT_MAX);
    let mut head = app.handle.head();
    let mut stop = app.stop.clone();
    let wait = async {
        loop {
            head.borrow_and_update();
            if app.handle.view(&mut done) {
                return Ok(());
            }
            let moved = tokio::select! {
                moved = head.changed() => moved.is_ok(),
                _ = stop.wait_for(|stop| *stop) => false,
            };
            if !moved {
                let hint = "the operation goes on after the next start";
                return Err(Fault::new(Code::ShuttingDown, "the daemon is shutting down", hint));
            }
        }
    };
    tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| {
        let message = format!("not done after {} seconds", limit.as_secs());
        Err(Fault::new(Code::Timeout, message, "it goes on; look with `groundskeeper show`"))
    })
}

/// The wall clock.
#[must_use]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
