//! Queries about environments outside of any effect: evidence, processes, sizes, and what can be
//! adopted. Reads only, except that [`World::add_to_cgroup`] adds a process to a control group.
//! Takes no lock, neither git's nor ours.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::core::effect::Taken;
use crate::core::empty_is_none::non_empty;
use crate::core::event::{CheckoutMethod, Plan, ProcessSeen, Size, Worktree};
use crate::core::{Code, Environment, Fault, HostPath, Inspection, Note, Phase, destroyed};
use crate::world::effects::context::{Reporter, Task, World};
use crate::world::effects::{clean, inspect};
use crate::world::fs::{disk_usage, paths};
use crate::world::git::command::{self, Git};
use crate::world::git::locks::{self, ExistingLock};
use crate::world::git::marker::{self, Marker};
use crate::world::git::{discover, refs, registration};
use crate::world::process::cancel::Cancel;
use crate::world::process::scope::{Scope, ScopeProcesses};
use crate::world::process::table;
use crate::world::status::answer;
use crate::world::status::types::Status;

/// Disk usage of an environment's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The whole directory, rebuildable parts included.
    pub total: Size,
    /// The part that tools can rebuild.
    pub rebuildable: Size,
}

/// A foreign worktree: one that groundskeeper did not create, or no longer has on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Where it is, its repository and its branch, as an adoption would record them.
    pub plan: Plan,
    /// The commit that its HEAD is at, if there is one.
    pub head: Option<String>,
    /// Its administrative directory, device and inode.
    pub worktree: Worktree,
}

/// A reporter for queries, which have no effect to report for: it refuses notes and drops output.
struct NullReporter;

impl Reporter for NullReporter {
    fn note(&self, _: Note) -> bool {
        false
    }

    fn output(&self, _: &str) {}
}

impl World {
    /// Inspects a worktree: whether a removal would take work away, and which.
    ///
    /// # Errors
    /// When git or the file system cannot answer; unknown never counts as safe.
    pub fn inspect_work(&self, env: &Environment, cancel: &Cancel) -> Result<Inspection, Fault> {
        self.ask(env, cancel, inspect::inspect_worktree)
    }

    /// Returns what a clean would move to the trash, and what it would leave. Changes nothing.
    ///
    /// # Errors
    /// Those of a clean.
    pub fn preview_clean(&self, env: &Environment, cancel: &Cancel) -> Result<Taken, Fault> {
        self.ask(env, cancel, clean::preview)
    }

    /// Asks what a step would find. A query runs beside effects and must not wait for one, so a
    /// harmless file stands in for the lock.
    fn ask<R>(
        &self,
        env: &Environment,
        cancel: &Cancel,
        question: fn(&Task<'_>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let null = Path::new("/dev/null");
        let lock = File::open(null).map_err(paths::failed("open", null))?;
        let task =
            Task { world: self, env, trusted: &[], lock: &lock, cancel, reporter: &NullReporter };
        question(&task)
    }

    /// Returns when all changes made so far in watched worktrees are known. Where the tracker
    /// cannot confirm that, the cached status of the worktree is invalidated.
    pub fn catch_up(&self) {
        if let Some(watch_tracker) = self.watch_tracker() {
            for key in watch_tracker.sync() {
                self.status_cache.record_change(&key.0, None);
            }
        }
    }

    /// Returns the status of an environment, from the cache while the cached entry is still valid.
    ///
    /// # Errors
    /// When the environment is tombstoned, or its worktree cannot be read.
    pub fn status(&self, env: &Environment, cancel: &Cancel) -> Result<Arc<Status>, Fault> {
        if env.phase == Phase::Tombstoned {
            return Err(destroyed(&env.id));
        }
        self.status_cache.get_or_compute(&env.id, env.incarnation, |question| {
            answer::answer(env, question, cancel)
        })
    }

    /// Returns the changes in an environment as a patch of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// When the worktree cannot be read.
    pub fn patch(
        &self,
        env: &Environment,
        against: crate::world::status::patch::Against,
        bytes_max: usize,
        cancel: &Cancel,
    ) -> Result<crate::world::status::patch::Patch, Fault> {
        crate::world::status::patch::patch(env, against, bytes_max, cancel)
    }

    /// Returns git's lock files in the given repositories, the oldest first.
    #[must_use]
    pub fn locks_of_git(&self, repositories: &BTreeSet<HostPath>) -> Vec<ExistingLock> {
        let all =
            repositories.iter().flat_map(|common| locks::in_repository(paths::borrowed(common)));
        let mut all: Vec<ExistingLock> = all.collect();
        all.sort_by_key(|existing| std::cmp::Reverse(existing.age));
        all
    }

    /// Returns whether a branch can be checked out at `commit`: `Some(true)` if it is
    /// there already, `Some(false)` if it does not exist, `None` if it is at another
    /// commit or checked out elsewhere.
    #[must_use]
    pub fn is_free(&self, plan: &Plan, branch: &str, commit: &str) -> Option<bool> {
        let common = paths::from_host(&plan.repository.common_dir);
        let reference = format!("refs/heads/{branch}");
        if registration::checked_out(&common, &reference).is_some() {
            return None;
        }
        if !refs::exists(&common, &reference) {
            return Some(false);
        }
        (refs::tip(&common, &reference).as_deref() == Some(commit)).then_some(true)
    }

    /// Returns the processes that belong to an environment, and those that merely use it.
    ///
    /// # Errors
    /// When `/proc` does not show processes.
    pub fn processes(&self, env: &Environment, requester: u32) -> Result<ScopeProcesses, Fault> {
        Ok(Scope { requester, ..Scope::of(env, &self.cgroups) }.scan()?)
    }

    /// Adds a process that is about to run for an environment to its control
    /// group, where there is one.
    ///
    /// # Errors
    /// When the process has ended, belongs to another user, or was not started by `requester`.
    pub fn add_to_cgroup(
        &self,
        env: &Environment,
        pid: u32,
        requester: u32,
    ) -> Result<ProcessSeen, Fault> {
        use std::os::unix::fs::MetadataExt as _;
        let place = Path::new("/proc").join(pid.to_string());
        let found = place.metadata().map_err(paths::failed("find process", &place))?;
        let all = table::all()?;
        let me = rustix::process::geteuid().as_raw();
        // A pid alone may by now name another process: it must be a descendant of the requester.
        let from_requester =
            requester != 0 && pid != requester && table::ancestors(&all, pid).contains(&requester);
        let process = all.get(&pid).filter(|_| (found.uid() == me || me == 0) && from_requester);
        let Some(process) = process.cloned() else {
            let message = format!("process {pid} has ended, or the caller did not start it");
            let hint = "start the process again, then repeat the request";
            return Err(Fault::new(Code::InvalidRequest, message, hint));
        };
        // Without control groups, the environment variable and the recorded
        // pid identify the process.
        if let Err(e) = self.cgroups.add(&env.id, env.incarnation, pid) {
            tracing::debug!(error = %e, pid, "cannot put a command into a control group");
        }
        let (started, name) = (process.started, process.name);
        Ok(ProcessSeen { pid, started, name, why: "started".to_owned() })
    }

    /// Returns how much space an environment takes, and how much of it tools would rebuild.
    ///
    /// # Errors
    /// When its directory cannot be read, or `cancel` is set.
    pub fn usage(&self, env: &Environment, cancel: &Cancel) -> Result<Usage, Fault> {
        let target = paths::from_host(&env.plan.path);
        let mut each = |count: u64| {
            if count.is_multiple_of(256) { cancel.check().map_err(Fault::from) } else { Ok(()) }
        };
        let total = disk_usage::of(&target, &mut each)?;
        let mut rebuildable = Size::default();
        let git = Git::at(&target, None, cancel).within(command::LONG);
        for path in clean::rebuildable(self, &git)? {
            let part = disk_usage::of(&target.join(path), &mut each)?;
            rebuildable.entries += part.entries;
            rebuildable.apparent += part.apparent;
            rebuildable.allocated += part.allocated;
        }
        Ok(Usage { total, rebuildable })
    }

    /// Inspects a worktree (or a main clone) that groundskeeper did not create.
    ///
    /// `is_lost` returns whether a marker of a worktree at this path is of an incarnation that
    /// neither this log nor another one knows any more.
    ///
    /// # Errors
    /// When there is no worktree at `path`, or it is managed by a groundskeeper.
    pub fn foreign(
        &self,
        path: &Path,
        is_lost: &dyn Fn(&Marker, &Path) -> bool,
        cancel: &Cancel,
    ) -> Result<Foreign, Fault> {
        let repository = discover::discover(path, cancel)?;
        let Some(top) = repository.source.as_ref().map(paths::from_host) else {
            let message = format!("{} has no working tree", path.display());
            return Err(Fault::new(Code::NotGitRepo, message, "name the path of a worktree"));
        };
        let git = Git::at(&top, None, cancel);
        let admin = git.line(["rev-parse", "--absolute-git-dir"])?;
        let marker = Marker::read(Path::new(&admin))?;
        let root = self.layout.root();
        // It may be adopted where it is, even inside the data directory.
        let lost = marker.as_ref().is_some_and(|marker| is_lost(marker, &top));
        if !lost && (top.starts_with(root) || root.starts_with(&top)) {
            let message = format!("{} is in the data directory, or contains it", top.display());
            let hint = "move it out with `git worktree move`, then run `groundskeeper adopt PATH`";
            return Err(Fault::new(Code::InvalidRequest, message, hint));
        }
        if marker.is_some() && !lost {
            let message = format!("{} was created by a groundskeeper daemon", top.display());
            let hint = "manage it with the daemon that created it";
            return Err(Fault::new(Code::NotOurs, message, hint));
        }
        let text = |args: &[&str]| -> Result<Option<String>, Fault> {
            let found = git.run(args)?;
            let text = String::from_utf8_lossy(&found.stdout).trim_end().to_owned();
            Ok(found.status.success().then_some(text).and_then(non_empty))
        };
        let head = text(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])?;
        let branch = text(&["symbolic-ref", "--quiet", "--short", "HEAD"])?.unwrap_or_default();
        let gone = || paths::fault("find", &top, &std::io::ErrorKind::NotFound.into());
        let found = marker::identity(&top)?.ok_or_else(gone)?;
        let worktree = Worktree {
            admin_dir: paths::to_host(Path::new(&admin)),
            device: found.device,
            inode: found.inode,
            checkout: CheckoutMethod::Adopted,
            ..Worktree::default()
        };
        let path = paths::to_host(&top);
        let plan = Plan { repository, path, branch, reuse_branch: true, ..Plan::default() };
        Ok(Foreign { plan, head, worktree })
    }
}
