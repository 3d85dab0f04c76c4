//! The world around one data directory, and what an effect that is performed works with: its
//! environment, its lock, and ways to be stopped and to report. Nothing is decided here.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::core::{Code, Environment, EnvironmentId, Fault, Note, Step, Subject};
use crate::world::fs::data_dir::Layout;
use crate::world::git::registration::Owner;
use crate::world::process::cancel::Cancel;
use crate::world::process::cgroup::Cgroups;
use crate::world::watch::tracker::Hub;

/// How long an effect waits for children of an earlier daemon to end.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// What a running effect tells before it has ended.
pub trait Reporter: Sync {
    /// Makes a fact durable. False when the effect is not owed any more: it must stop.
    fn note(&self, note: Note) -> bool;
    /// Shows one line of a hook's output; it need not be kept.
    fn output(&self, line: &str);
}

/// The world around one data directory.
#[derive(Debug)]
pub struct World {
    pub(in crate::world) layout: Layout,
    pub(in crate::world) log_id: String,
    /// Groups of processes, where the system has them.
    pub(in crate::world) cgroups: Cgroups,
    /// Held from counting what only one branch has to deleting it: two removals at once must not
    /// each rely on the other's branch.
    pub(in crate::world) branches: Mutex<()>,
    /// Names of directories that tools rebuild.
    pub(in crate::world) rebuildable: Vec<String>,
    /// What worktrees looked like when somebody asked.
    pub(in crate::world) book: crate::world::status::cache::Book,
    /// What is watched, once something can be.
    pub(in crate::world) hub: OnceLock<Arc<Hub>>,
}

/// One effect being performed.
pub(in crate::world) struct Task<'a> {
    pub(in crate::world) world: &'a World,
    pub(in crate::world) env: &'a Environment,
    pub(in crate::world) trusted: &'a [String],
    pub(in crate::world) lock: &'a File,
    pub(in crate::world) cancel: &'a Cancel,
    pub(in crate::world) reporter: &'a dyn Reporter,
}

impl World {
    /// The world of a data directory whose log has this id.
    #[must_use]
    pub fn new(layout: Layout, log_id: [u8; 16]) -> Self {
        let log_id = crate::format::hex(&log_id);
        let cgroups = Cgroups::find(&log_id);
        let rebuildable = crate::world::effects::context::REBUILDABLE.map(str::to_owned).to_vec();
        let branches = Mutex::new(());
        let book = crate::world::status::cache::Book::default();
        Self { layout, log_id, cgroups, branches, rebuildable, book, hub: OnceLock::new() }
    }

    /// Adds names to the list of directories that tools rebuild.
    #[must_use]
    pub fn with_rebuildable(mut self, names: &[String]) -> Self {
        self.rebuildable.extend(names.iter().cloned());
        self
    }

    /// Names of directories that tools rebuild.
    #[must_use]
    pub fn rebuildable(&self) -> &[String] {
        &self.rebuildable
    }

    /// Lets worktrees be watched by this hub. The first one counts.
    pub fn watch_by(&self, hub: Arc<Hub>) {
        drop(self.hub.set(hub));
    }

    /// What is watched; none before anything can be.
    #[must_use]
    pub fn hub(&self) -> Option<&Arc<Hub>> {
        self.hub.get()
    }

    /// What worktrees looked like when somebody asked.
    #[must_use]
    pub fn book(&self) -> &crate::world::status::cache::Book {
        &self.book
    }

    /// The groups of processes of this data directory's environments.
    #[must_use]
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// Identity of the log, in hex.
    #[must_use]
    pub fn log_id(&self) -> &str {
        &self.log_id
    }

    /// Where things are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes the folders of the data directory, readable by their owner only.
    ///
    /// # Errors
    /// What the system says.
    pub fn prepare(layout: &Layout) -> Result<(), Fault> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let folders = [
            layout.locks(),
            layout.transcripts(),
            layout.worktrees(),
            layout.trash(),
            layout.scratch(),
            layout.rescues(),
        ];
        for folder in folders {
            builder.create(&folder).map_err(crate::world::fs::paths::failed("create", &folder))?;
        }
        // Whoever had a file there is gone: this daemon owns the directory.
        crate::world::fs::removal::empty(&layout.scratch())
    }

    pub(super) fn unwatch(&self, id: &EnvironmentId) {
        if let Some(hub) = self.hub.get() {
            hub.release(id);
        }
        self.book.forget(id);
    }

    #[expect(clippy::disallowed_methods, reason = "a file lock cannot be awaited with a bound")]
    pub(super) fn lock(&self, subject: &Subject, cancel: &Cancel) -> Result<File, Fault> {
        let path = match subject {
            Subject::Environment(id) => self.layout.lock_of(id),
            Subject::Remains(id, incarnation) => self.layout.lock_of_remains(id, *incarnation),
            Subject::Output(..) => self.layout.lock_of_outputs(),
            Subject::Host | Subject::Migration(_) => self.layout.lock_of_host(),
        };
        let mut file = reopen(&path)?;
        let until = Instant::now() + LOCK_LIMIT;
        loop {
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(file),
                // A sweep took the file away that nobody held: the lock is on the one there now.
                Ok(()) => file = reopen(&path)?,
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    cancel.check()?;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    let message = "a process of an earlier daemon still works on this environment";
                    let hint = format!("`fuser {}` names it", path.display());
                    let fault = Fault::new(Code::EnvironmentBusy, message, hint);
                    return Err(fault.transient());
                }
                Err(TryLockError::Error(e)) => {
                    return Err(crate::world::fs::paths::fault("lock", &path, &e));
                }
            }
        }
    }
}

/// Whether an open file is the one of this name.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (open, there) = (file.metadata(), path.metadata());
    open.is_ok_and(|a| there.is_ok_and(|b| (a.dev(), a.ino()) == (b.dev(), b.ino())))
}

fn reopen(path: &Path) -> Result<File, Fault> {
    let open = File::options().create(true).truncate(false).write(true).read(true).open(path);
    open.map_err(crate::world::fs::paths::failed("open", path))
}

impl Task<'_> {
    pub(in crate::world) fn env(&self) -> &Environment {
        self.env
    }

    /// Whose its registration is.
    pub(in crate::world) fn owner(&self) -> Owner<'_> {
        Owner { log: self.log_id(), life: self.env().life() }
    }

    /// How often this step has failed before.
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

/// Ignored directories that tools rebuild: their loss costs time, not work.
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

pub(in crate::world) fn misdirected(step: Step, what: &str) -> Fault {
    let message = format!("{} is not for {what}", step.as_str());
    Fault::new(Code::Defect, message, "please report this")
}
