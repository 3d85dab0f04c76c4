//! State that all use cases share: the engine, the directories, and the clock and bounds of a
//! request. It submits no command.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

pub use crate::clock::now;
use crate::config::Config;
use crate::core::event::Repository;
use crate::core::{Code, Fault, Time};
use crate::engine::{Handle, WatchService};
use crate::migrate::MigrationRunner;
use crate::service::blocking::blocking;
use crate::service::keys::Keys;
use crate::service::requests::invalid;
use crate::service::types::daemon::SessionView;
use crate::world::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::git::discover::RepositoryCache;
use crate::world::presence::Presence;
use crate::world::process::cancel::Cancel;
use crate::world::survey::Survey;

/// Upper bound of the wait that a request may ask for; a longer one is cut to it.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// State that every use case can use.
pub struct App {
    /// Access to the engine: submits commands and reads the published state.
    pub handle: Handle,
    /// Paths inside the data directory.
    pub layout: Layout,
    /// Access to git, files and processes for queries. Use cases change only two things with it:
    /// the links of a moved worktree, and the cgroup of a launched process.
    pub world: Arc<World>,
    /// Runs migrations and knows their progress.
    pub migration_runner: Arc<MigrationRunner>,
    /// What was last seen of each worktree.
    pub presence: Arc<Presence>,
    /// Brings the statuses of many worktrees up to date.
    pub survey: Arc<Survey>,
    /// Watches worktrees and publishes their changes.
    pub watching: Arc<WatchService>,
    /// Cache of the repositories that earlier requests named.
    pub repositories: Arc<RepositoryCache>,
    /// Configuration of this daemon.
    pub config: Config,
    /// Starts the daemon again, or says why it will not; none if it cannot be done.
    pub reload: Option<Reload>,
    /// What idempotency keys were used for.
    pub keys: Keys,
    /// Permits for open streams of events and of the log.
    pub streams: Arc<Semaphore>,
    /// Permits for commands that the daemon itself runs.
    pub runs: Arc<Semaphore>,
    /// Becomes true when the daemon starts to stop, and stays true.
    pub stop: watch::Receiver<bool>,
    /// Sender side of `stop`; used to request a shutdown.
    pub stopper: watch::Sender<bool>,
    /// Facts about this daemon that do not change while it runs.
    pub about: About,
    /// State of the session with a control server; unset when none is configured.
    pub session: OnceLock<watch::Receiver<SessionView>>,
}

/// A request to start again with the settings as they are now.
pub type Reload = Arc<dyn Fn() -> Result<(), Fault> + Send + Sync>;

/// Facts about a daemon that do not change while it runs.
#[derive(Debug, Clone)]
pub struct About {
    /// Version of the git that the daemon uses.
    pub git: String,
    /// Identity of the log, in hex.
    pub log_id: String,
    /// Wall-clock time of the start.
    pub started: Time,
    /// Scheduling class of the thread that writes the log.
    pub priority: String,
}

pub(crate) async fn discover(app: &Arc<App>, repo: &str) -> Result<Repository, Fault> {
    let path = PathBuf::from(repo);
    if !path.is_absolute() {
        return Err(invalid(format!("repo must be an absolute path, not {repo:?}")));
    }
    let known = Arc::clone(&app.repositories);
    blocking(move || {
        let cancel = Cancel::new().map_err(paths::failed("watch a process in", &path))?;
        Ok(known.find(&path, &cancel)?)
    })
    .await
}

/// Waits until the published state fulfils a condition, at most [`WAIT_MAX`]; for 0 seconds not at
/// all. Fails with
/// `Code::Timeout` after the wait, and with `Code::ShuttingDown` when the daemon stops first.
pub(crate) async fn wait_until(
    app: &App,
    seconds: u64,
    mut done: impl FnMut(&crate::core::State) -> bool,
) -> Result<(), Fault> {
    // The answer says how far it is.
    if seconds == 0 {
        return Ok(());
    }
    let limit = Duration::from_secs(seconds).min(WAIT_MAX);
    let mut head = app.handle.head();
    let mut stop = app.stop.clone();
    let wait = async {
        loop {
            // Marked as seen before the state is read: a record in between wakes `changed` below.
            head.borrow_and_update();
            if app.handle.view(&mut done) {
                return Ok(());
            }
            let moved = tokio::select! {
                moved = head.changed() => moved.is_ok(),
                _ = stop.wait_for(|stop| *stop) => false,
            };
            if !moved {
                let hint = "repeat the request after the next start; the operation continues then";
                return Err(Fault::new(Code::ShuttingDown, "the daemon is shutting down", hint));
            }
        }
    };
    tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| {
        let message = format!("the operation is not done after {} seconds", limit.as_secs());
        let hint = "check with `groundskeeper ls`; the operation continues";
        Err(Fault::new(Code::Timeout, message, hint))
    })
}
