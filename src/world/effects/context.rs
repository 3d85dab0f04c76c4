//! The world around one data directory, and the context of one running effect: its environment, its
//! lock, and the means to cancel it and to report. Decides nothing.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use groundskeeper_system::own_file;

use crate::core::{Code, Environment, EnvironmentId, Fault, Note, Subject};
use crate::world::effects::former_lives::FormerLives;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::lock_file::LockFile;
use crate::world::git::registration::Owner;
use crate::world::process::cancel::Cancel;
use crate::world::process::cgroup::Cgroups;
use crate::world::watch::tracker::WatchTracker;

/// Longest wait for an effect's lock, which children of an earlier daemon may still hold.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Receives what a running effect reports before it ends.
pub trait Reporter: Sync {
    /// Makes a fact durable. Returns false if the effect is no longer owed; it must then stop.
    fn note(&self, note: Note) -> bool;
    /// Forwards one line of a hook's output; it need not be stored.
    fn output(&self, line: &str);
}

/// The world around one data directory: its files, its processes, and the repositories it uses.
#[derive(Debug)]
pub struct World {
    pub(in crate::world) layout: Layout,
    /// Identity of the log, in hex.
    pub(in crate::world) log_id: String,
    /// Control groups of the environments, where the system has them.
    pub(in crate::world) cgroups: Cgroups,
    /// Held from counting the commits that only one branch has until that branch is deleted.
    /// Otherwise two concurrent removals could each rely on the other's branch.
    pub(in crate::world) branches: Mutex<()>,
    /// Names of the directories that tools rebuild.
    pub(in crate::world) rebuildable: Vec<String>,
    /// Status cache: the last known status of each worktree that was queried.
    pub(in crate::world) status_cache: crate::world::status::cache::StatusCache,
    /// The watch tracker; unset until watching is possible.
    pub(in crate::world) watch_tracker: OnceLock<Arc<WatchTracker>>,
    /// Lives that the state has forgotten; unset where none can be looked up.
    pub(in crate::world) former_lives: OnceLock<Arc<dyn FormerLives>>,
}

/// One effect on an environment, while it is performed.
pub(in crate::world) struct Task<'a> {
    pub(in crate::world) world: &'a World,
    pub(in crate::world) env: &'a Environment,
    /// Hashes of the hooks that the user trusts.
    pub(in crate::world) trusted: &'a [String],
    /// The open lock file of the environment. Child processes inherit it, so a successor of
    /// this daemon waits for them.
    pub(in crate::world) lock: &'a File,
    pub(in crate::world) cancel: &'a Cancel,
    pub(in crate::world) reporter: &'a dyn Reporter,
}

impl World {
    /// Creates the world of the data directory whose log has this id.
    #[must_use]
    pub fn new(layout: Layout, log_id: [u8; 16]) -> Self {
        let log_id = crate::format::hex(&log_id);
        let cgroups = Cgroups::find(&log_id);
        let rebuildable = crate::world::effects::context::REBUILDABLE.map(str::to_owned).to_vec();
        let branches = Mutex::new(());
        let status_cache = crate::world::status::cache::StatusCache::default();
        Self {
            layout,
            log_id,
            cgroups,
            branches,
            rebuildable,
            status_cache,
            watch_tracker: OnceLock::new(),
            former_lives: OnceLock::new(),
        }
    }

    /// Adds names to the list of directories that tools rebuild.
    #[must_use]
    pub fn with_rebuildable(mut self, names: &[String]) -> Self {
        self.rebuildable.extend(names.iter().cloned());
        self
    }

    /// Returns the names of the directories that tools rebuild.
    #[must_use]
    pub fn rebuildable(&self) -> &[String] {
        &self.rebuildable
    }

    /// Sets the tracker that watches worktrees. Only the first call has an effect.
    pub fn set_watch_tracker(&self, watch_tracker: Arc<WatchTracker>) {
        drop(self.watch_tracker.set(watch_tracker));
    }

    /// Sets where lives are found that the state has forgotten. Only the first call has an effect.
    pub fn set_former_lives(&self, former_lives: Arc<dyn FormerLives>) {
        drop(self.former_lives.set(former_lives));
    }

    /// Returns the watch tracker; none before watching is possible.
    #[must_use]
    pub fn watch_tracker(&self) -> Option<&Arc<WatchTracker>> {
        self.watch_tracker.get()
    }

    /// Returns the status cache.
    #[must_use]
    pub fn status_cache(&self) -> &crate::world::status::cache::StatusCache {
        &self.status_cache
    }

    /// Returns the control groups of this data directory's environments.
    #[must_use]
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// Returns the identity of the log, in hex.
    #[must_use]
    pub fn log_id(&self) -> &str {
        &self.log_id
    }

    /// Returns the layout of the data directory.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Creates the folders of the data directory with mode 0700 and empties the scratch folder.
    ///
    /// # Errors
    /// I/O errors, as faults that name the folder.
    pub fn prepare(layout: &Layout) -> Result<(), Fault> {
        for folder in layout.folders() {
            let kept = own_file::keep_folder(&folder);
            kept.map_err(crate::world::fs::paths::failed("create", &folder))?;
        }
        // Any earlier user of these files has ended: this daemon owns the data directory. What
        // stays disturbs no effect, so it does not keep the daemon from its work.
        if let Err(error) = crate::world::fs::removal::empty(&layout.scratch()) {
            tracing::warn!(%error, "cannot remove the temporary files of an earlier daemon");
        }
        Ok(())
    }

    /// Makes the folders of a running daemon again that were removed, or that it was denied. What
    /// cannot be made is reported by the effect that needs it. The data directory itself is not
    /// made again: without it there is nothing to serve.
    fn keep_folders(&self) {
        if !self.layout.root().is_dir() {
            return;
        }
        for folder in self.layout.folders() {
            if let Err(error) = own_file::keep_folder(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "cannot make the folder again");
            }
        }
    }

    /// Stops watching an environment and drops its cached status.
    pub(super) fn unwatch(&self, id: &EnvironmentId) {
        if let Some(watch_tracker) = self.watch_tracker.get() {
            watch_tracker.release(id);
        }
        self.status_cache.forget(id);
    }

    /// Takes the lock of an effect's subject. Waits up to [`LOCK_LIMIT`], because children of an
    /// earlier daemon inherit its locks; after that the fault is transient.
    pub(super) fn lock(&self, subject: &Subject, cancel: &Cancel) -> Result<LockFile, Fault> {
        let path = match subject {
            Subject::Environment(id) => self.layout.lock_of(id),
            Subject::Archive(id, incarnation) => self.layout.lock_of_archive(id, *incarnation),
            Subject::Output(..) => self.layout.lock_of_outputs(),
            Subject::Host | Subject::Migration(_) => self.layout.lock_of_host(),
        };
        self.lock_at(&path, cancel)
    }

    /// Takes the lock of everything that changes a ref which holds many rescues. Waits like
    /// [`World::lock`].
    pub(super) fn lock_folds(&self, cancel: &Cancel) -> Result<LockFile, Fault> {
        self.lock_at(&self.layout.lock_of_folds(), cancel)
    }

    /// Takes the lock of everything that packs objects of rescues. Waits like [`World::lock`].
    pub(super) fn lock_packs(&self, cancel: &Cancel) -> Result<LockFile, Fault> {
        self.lock_at(&self.layout.lock_of_packs(), cancel)
    }

    #[expect(clippy::disallowed_methods, reason = "a file lock cannot be awaited with a bound")]
    fn lock_at(&self, path: &Path, cancel: &Cancel) -> Result<LockFile, Fault> {
        self.keep_folders();
        let until = Instant::now() + LOCK_LIMIT;
        loop {
            if let Some(lock) = LockFile::try_take(path)? {
                return Ok(lock);
            }
            if Instant::now() >= until {
                let message = "a process of an earlier daemon is still working on this environment";
                let hint = format!("run `fuser '{}'` to find it, and end it", path.display());
                return Err(Fault::new(Code::EnvironmentBusy, message, hint).transient());
            }
            cancel.check()?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Task<'_> {
    pub(in crate::world) fn env(&self) -> &Environment {
        self.env
    }

    /// The owner of the registration: this log and the environment's incarnation.
    pub(in crate::world) fn owner(&self) -> Owner<'_> {
        Owner { log: self.log_id(), life: self.env().life() }
    }

    /// Returns how many attempts at this step have failed before.
    pub(in crate::world) fn attempts(&self) -> u32 {
        self.env.owed.as_ref().map_or(0, |owed| owed.attempts)
    }

    pub(in crate::world) fn layout(&self) -> &Layout {
        &self.world.layout
    }

    pub(in crate::world) fn log_id(&self) -> &str {
        &self.world.log_id
    }
}

/// Names of ignored directories that tools rebuild: losing them costs time, not work.
pub const REBUILDABLE: [&str; 18] = [
    "target",
    "node_modules",
    ".venv",
    "venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    ".gradle",
    ".next",
    ".nuxt",
    ".turbo",
    ".parcel-cache",
    ".cache",
    "dist",
    "build",
    "coverage",
];
