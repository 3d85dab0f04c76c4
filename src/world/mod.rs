//! The outside: git, files and processes. The only code that touches them.
//!
//! [`World::perform`] does what one owed effect asks for: look, act, prove, and report the
//! evidence. Every effect converges: done again after any interruption it ends in the same place.
//! It never decides what should happen, never appends to the log, and removes nothing that
//! `marker.rs` has not proven ours.

pub mod caller;
pub mod cancel;
pub mod discover;
pub mod exec;
pub mod git;
pub mod ground;
pub mod hook;
pub mod include;
pub mod inspect;
pub mod layout;
pub mod marker;
pub mod paths;
pub mod process;
pub mod questions;
pub mod status;
pub mod watch;

mod add;
mod attributes;
mod base;
mod beneath;
mod checkout;
mod clean;
mod collect;
mod conflicts;
mod fetch;
mod glance;
mod heads;
mod hidden;
mod included;
mod index;
mod inner;
mod inner_rescue;
mod late;
mod link;
mod locks;
mod merged;
mod modules;
mod names;
mod nested;
mod others;
mod outputs;
mod raw;
mod reach;
mod redact;
mod ref_changes;
mod ref_files;
mod refs;
mod registration;
mod remains;
mod removal;
mod rescue;
mod rescuer;
mod restore;
mod rollback;
mod runs;
mod side;
mod size;
mod sweep;
mod teardown;
mod unlink;

use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::core::effect::Effect;
use crate::core::{Code, Environment, EnvironmentId, Fault, Note, Outcome, Step, Subject, Target};
use cancel::Cancel;
use layout::Layout;
pub use locks::Standing;
use process::cgroup::Cgroups;
use process::scope::Scope;
pub use raw::names as copies_in;
use watch::Hub;

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
    layout: Layout,
    log_id: String,
    /// Groups of processes, where the system has them.
    cgroups: Cgroups,
    /// Held from counting what only one branch has to deleting it: two removals at once must not
    /// each rely on the other's branch.
    branches: Mutex<()>,
    /// Names of directories that tools rebuild.
    rebuildable: Vec<String>,
    /// What worktrees looked like when somebody asked.
    book: status::Book,
    /// What is watched, once something can be.
    hub: OnceLock<Arc<Hub>>,
}

/// One effect being performed.
struct Task<'a> {
    world: &'a World,
    env: &'a Environment,
    trusted: &'a [String],
    lock: &'a File,
    cancel: &'a Cancel,
    reporter: &'a dyn Reporter,
}

impl World {
    /// The world of a data directory whose log has this id.
    #[must_use]
    pub fn new(layout: Layout, log_id: [u8; 16]) -> Self {
        let log_id = crate::record::hex(&log_id);
        let cgroups = Cgroups::find(&log_id);
        let rebuildable = inspect::REBUILDABLE.map(str::to_owned).to_vec();
        let branches = Mutex::new(());
        let book = status::Book::default();
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
    pub fn book(&self) -> &status::Book {
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
            builder.create(&folder).map_err(paths::failed("create", &folder))?;
        }
        // Whoever had a file there is gone: this daemon owns the directory.
        removal::empty(&layout.scratch())
    }

    /// Performs one effect. Waits first for children that an earlier daemon left behind for the
    /// same environment. A panic is a fault of this effect and of nothing else.
    ///
    /// # Errors
    /// The fault that it ended with; whether to try again is for the core to decide.
    pub fn perform(
        &self,
        effect: &Effect,
        cancel: &Cancel,
        reporter: &dyn Reporter,
    ) -> Result<Outcome, Fault> {
        let lock = self.lock(&effect.id.subject, cancel)?;
        let work = || match &effect.target {
            Target::Environment(env, trusted) => {
                if !env.is_served() {
                    // Before anything is done to it: the gate keeps it from being watched again.
                    self.unwatch(&env.id);
                }
                let task = Task { world: self, env, trusted, lock: &lock, cancel, reporter };
                task.perform(effect.step)
            }
            Target::Remains(remains) => {
                let lost = remains::Task { world: self, remains, lock: &lock, cancel };
                lost.perform(effect.step)
            }
            Target::Output(output) => {
                outputs::Task { world: self, output, cancel }.perform(effect.step)
            }
            Target::Migration(_) => Err(misdirected(effect.step, "the file system of worktrees")),
            Target::Host(state) => sweep::Task { world: self, state, cancel }.perform(),
        };
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            let message = format!("{} panicked: {text}", effect.step.as_str());
            Err(Fault::new(Code::Defect, message, "please report this"))
        })
    }

    fn unwatch(&self, id: &EnvironmentId) {
        if let Some(hub) = self.hub.get() {
            hub.release(id);
        }
        self.book.forget(id);
    }

    #[expect(clippy::disallowed_methods, reason = "a file lock cannot be awaited with a bound")]
    fn lock(&self, subject: &Subject, cancel: &Cancel) -> Result<File, Fault> {
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
                Err(TryLockError::Error(e)) => return Err(paths::fault("lock", &path, &e)),
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
    open.map_err(paths::failed("open", path))
}

fn misdirected(step: Step, what: &str) -> Fault {
    let message = format!("{} is not for {what}", step.as_str());
    Fault::new(Code::Defect, message, "please report this")
}

impl Task<'_> {
    fn perform(&self, step: Step) -> Result<Outcome, Fault> {
        match step {
            Step::ResolveBase => base::resolve(self),
            Step::AddWorktree => add::add(self),
            Step::ApplyRescue => rescue::apply(self),
            Step::Restore => restore::restore(self),
            Step::CopyIncluded => include::copy(self),
            Step::RunSetup => hook::run(self),
            Step::RollBack => rollback::roll_back(self),
            Step::RefreshIndex => teardown::refresh_index(self),
            Step::Clean => clean::clean(self),
            Step::UndoClean => outputs::undo(self),
            Step::Inspect => inspect::inspect(self),
            Step::RunTeardown => hook::run_teardown(self),
            Step::EndProcesses => self.end_processes(),
            Step::Rescue => rescue::rescue(self),
            Step::MoveToTrash => teardown::move_to_trash(self),
            Step::Unregister => teardown::unregister(self),
            Step::SettleBranch => teardown::settle_branch(self),
            other => Err(misdirected(other, "an environment")),
        }
    }

    /// Ends what lives in the environment. What does not end is named, and holds up nothing.
    fn end_processes(&self) -> Result<Outcome, Fault> {
        let env = self.env();
        let options = env.teardown.as_ref().map(|t| t.options.clone()).unwrap_or_default();
        let grace = Duration::from_millis(options.grace_ms);
        let scope = Scope::of(env, &self.world.cgroups);
        process::end::end(&scope, grace, self.cancel).map(Outcome::Ended)
    }

    fn env(&self) -> &Environment {
        self.env
    }

    /// How often this step has failed before.
    fn attempts(&self) -> u32 {
        self.env.owed.as_ref().map_or(0, |owed| owed.attempts)
    }

    fn layout(&self) -> &Layout {
        &self.world.layout
    }

    fn log_id(&self) -> &str {
        &self.world.log_id
    }
}
