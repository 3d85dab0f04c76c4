//! The outside: git, files and processes. The only code that touches them.
//!
//! [`World::perform`] does what one owed effect asks for: look, act, prove, and report the
//! evidence. Every effect converges: done again after any interruption it ends in the same place.
//! It never decides what should happen, never appends to the log, and removes nothing that
//! `marker.rs` has not proven ours.

pub mod cancel;
pub mod discover;
pub mod exec;
pub mod git;
pub mod hook;
pub mod include;
pub mod inspect;
pub mod layout;
pub mod marker;
pub mod paths;

mod add;
mod attributes;
mod base;
mod checkout;
mod index;
mod registration;
mod removal;
mod rollback;
mod teardown;

use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use crate::core::effect::Effect;
use crate::core::event::Base;
use crate::core::{Code, Environment, Fault, Note, Outcome, Step};
use cancel::Cancel;
use layout::Layout;

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
    /// How many worktrees are being filled right now.
    adding: AtomicUsize,
}

/// One effect being performed.
struct Task<'a> {
    world: &'a World,
    effect: &'a Effect,
    lock: &'a File,
    cancel: &'a Cancel,
    reporter: &'a dyn Reporter,
}

impl World {
    /// The world of a data directory whose log has this id.
    #[must_use]
    pub fn new(layout: Layout, log_id: [u8; 16]) -> Self {
        Self { layout, log_id: crate::record::hex(&log_id), adding: AtomicUsize::new(0) }
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
        let folders = [layout.locks(), layout.transcripts(), layout.worktrees(), layout.trash()];
        for folder in folders {
            builder.create(&folder).map_err(paths::failed("create", &folder))?;
        }
        Ok(())
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
        let lock = self.lock(effect, cancel)?;
        let task = Task { world: self, effect, lock: &lock, cancel, reporter };
        catch_unwind(AssertUnwindSafe(|| task.perform())).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            let message = format!("{} panicked: {text}", effect.step.as_str());
            Err(Fault::new(Code::Defect, message, "please report this"))
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a file lock cannot be awaited with a bound")]
    fn lock(&self, effect: &Effect, cancel: &Cancel) -> Result<File, Fault> {
        let path = self.layout.lock_of(&effect.id.environment);
        let open = File::options().create(true).truncate(false).write(true).read(true).open(&path);
        let file = open.map_err(paths::failed("open", &path))?;
        let until = Instant::now() + LOCK_LIMIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
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

impl Task<'_> {
    fn perform(&self) -> Result<Outcome, Fault> {
        match self.effect.step {
            Step::ResolveBase => base::resolve(self),
            Step::AddWorktree => add::add(self),
            Step::CopyIncluded => include::copy(self),
            Step::RunSetup => hook::run(self),
            Step::RollBack => rollback::roll_back(self),
            Step::RefreshIndex => teardown::refresh_index(self),
            Step::Inspect => inspect::inspect(self),
            Step::MoveToTrash => teardown::move_to_trash(self),
            Step::Unregister => teardown::unregister(self),
            Step::SettleBranch => teardown::settle_branch(self),
        }
    }

    fn env(&self) -> &Environment {
        &self.effect.environment
    }

    fn layout(&self) -> &Layout {
        &self.world.layout
    }

    fn log_id(&self) -> &str {
        &self.world.log_id
    }

    fn base(&self) -> Result<&Base, Fault> {
        self.env().base.as_ref().ok_or_else(|| {
            Fault::new(Code::Defect, "the base is not resolved", "please report this")
        })
    }
}
