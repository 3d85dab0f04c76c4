//! What is done with the remains of an incarnation: measure, unlink for good, let go of a rescue.
//!
//! The only place where work that was kept is deleted. It happens because the log says so, to a
//! directory whose path, device and inode the log knows, slowly, and it can be interrupted anywhere.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cancel::Cancel;
use super::git::Git;
use super::process::scope::{Scope, Ties};
use super::{World, exec, late, marker, paths, refs, registration, rescue, size, unlink};
use crate::core::event::Size;
use crate::core::{Code, Fault, Outcome, Remains, Step};
use crate::killpoint::point;

/// Entries after which a long walk lets others have their turn.
const BREATH_EVERY: u64 = 16;
/// Longest that one turn of others takes.
const BREATH_MAX: Duration = Duration::from_millis(50);

/// Work on the remains of one incarnation.
pub(super) struct Task<'a> {
    pub(super) world: &'a World,
    pub(super) remains: &'a Remains,
    pub(super) lock: &'a File,
    pub(super) cancel: &'a Cancel,
}

impl Task<'_> {
    pub(super) fn perform(&self, step: Step) -> Result<Outcome, Fault> {
        match step {
            Step::Measure => self.measure(),
            Step::Purge => self.purge(),
            Step::DropRescue => self.drop_rescue(),
            other => {
                let message = format!("{} is not for remains", other.as_str());
                Err(Fault::new(Code::Defect, message, "please report this"))
            }
        }
    }

    fn measure(&self) -> Result<Outcome, Fault> {
        let nothing = || Ok(Outcome::Measured(Size::default(), None));
        let Some(trash) = &self.remains.trash else { return nothing() };
        self.hold_head()?;
        registration::put_away_hidden(&self.admin())?;
        let path = paths::from_host(trash);
        if !paths::exists(&path).map_err(paths::failed("look at", &path))? {
            return nothing();
        }
        if self.remains.owed.as_ref().is_some_and(|owed| owed.attempts > 0) {
            // What was in the way is there still, more often than not: the tree can wait.
            self.repository_answers()?;
        }
        let mut pace = Pace::new(self.cancel);
        let measured = size::measure(&path, &mut |_| pace.breathe())?;
        let late = if late::is_possible(self.remains.looked_at, &measured) {
            late::rescue(self, &path)?
        } else {
            None
        };
        Ok(Outcome::Measured(measured.size, late))
    }

    fn repository_answers(&self) -> Result<(), Fault> {
        let common = paths::from_host(&self.remains.plan.repository.common_dir);
        // One that is gone is no obstacle where nothing was written last, which only a look tells.
        if self.remains.looked_at.is_none() || !common.exists() {
            return Ok(());
        }
        let git = Git::exact(&common, None, Some(self.lock), self.cancel);
        git.line(["rev-parse", "--git-dir"]).map(drop)
    }

    /// Holds the commit that a restore will need, whatever became of the branch: who deleted it may
    /// have been killed before they could say so, and one that was kept may be deleted later.
    fn hold_head(&self) -> Result<(), Fault> {
        let remains = self.remains;
        let common = paths::from_host(&remains.plan.repository.common_dir);
        if remains.head.is_empty() || !common.exists() {
            return Ok(());
        }
        let reference = trash_reference(&remains.id, remains.incarnation);
        let git = Git::exact(&common, None, Some(self.lock), self.cancel);
        refs::break_stale(&common, &reference);
        // A commit that somebody has pruned already cannot be held; that is not worth a retry.
        let _held = git.run(["update-ref", &reference, &remains.head])?;
        point("branch.held");
        Ok(())
    }

    fn purge(&self) -> Result<Outcome, Fault> {
        let Some(trash) = &self.remains.trash else { return Ok(Outcome::Purged(0)) };
        let path = paths::from_host(trash);
        let mut count = 0;
        if let Some(found) = marker::identity(&path)? {
            self.prove(&path, found)?;
            self.nobody_is_inside(&path)?;
            super::removal::no_mounts(&path)?;
            point("purge.proven");
            let mut pace = Pace::new(self.cancel);
            count = unlink::tree(&path, &mut |_| {
                point("purge.unlinked_one");
                pace.breathe()
            })?;
        }
        if let Some(folder) = path.parent() {
            paths::remove_dir_if_empty(folder).map_err(paths::failed("remove", folder))?;
        }
        point("purge.unlinked");
        self.forget_registration()?;
        Ok(Outcome::Purged(count))
    }

    /// The path is in the trash, by its real name, and is the very directory that was moved there.
    fn prove(&self, path: &Path, found: (u64, u64)) -> Result<(), Fault> {
        let refuse = |why: &str| {
            let message = format!("{} is not what was moved there", path.display());
            let hint = "nothing was touched; remove it by hand if it may go";
            Err(Fault::new(Code::NotOurs, message, hint).because(why))
        };
        let real = path.canonicalize().map_err(paths::failed("find", path))?;
        let folder = real.parent().and_then(Path::parent);
        let inside =
            self.world.layout.trashes().into_iter().any(|trash| {
                trash.canonicalize().is_ok_and(|trash| Some(trash.as_path()) == folder)
            });
        if real != path || !inside {
            return refuse("its real path is not in the trash");
        }
        match &self.remains.worktree {
            Some(w) if w.inode != found.1 => refuse("another directory stands in its place"),
            _ => Ok(()),
        }
    }

    /// Processes that survived their teardown, or came later: the unlink waits for them.
    fn nobody_is_inside(&self, path: &Path) -> Result<(), Fault> {
        let scope = Scope {
            id: &self.remains.id,
            incarnation: self.remains.incarnation,
            roots: vec![path.to_owned()],
            recorded: Vec::new(),
            asker: 0,
            with_bystanders: false,
            ties: Ties::All,
            requests: Vec::new(),
            cgroups: &self.world.cgroups,
        };
        let found = scope.look();
        if found.inside.is_empty() {
            return Ok(());
        }
        let message = format!("processes still work in {}", path.display());
        let lines = found.inside.iter().map(|p| format!("{} {} ({})", p.pid, p.name, p.why));
        let fault = Fault::new(Code::EnvironmentBusy, message, "end them; it is tried again");
        Err(fault.with_evidence(lines).transient())
    }

    /// What was kept for a restore, and the ref that held its HEAD.
    fn forget_registration(&self) -> Result<(), Fault> {
        let common = paths::from_host(&self.remains.plan.repository.common_dir);
        if !paths::exists(&common).map_err(paths::failed("look at", &common))? {
            return Ok(());
        }
        registration::put_away_hidden(&self.admin())?;
        registration::forget(&self.admin())?;
        let reference = trash_reference(&self.remains.id, self.remains.incarnation);
        self.keep_commits(&common, &reference)?;
        self.delete(&common, &reference)
    }

    /// What was reachable elsewhere when the branch went may not be any more: then it is held by
    /// a rescue ref, which nothing but a request takes away.
    fn keep_commits(&self, common: &Path, held: &str) -> Result<(), Fault> {
        if !refs::exists(common, held) {
            return Ok(());
        }
        let git = Git::exact(common, None, Some(self.lock), self.cancel);
        let exclude = format!("--exclude={held}");
        let only = git.line(["rev-list", "--count", held, "--not", &exclude, "--all"])?;
        if only == "0" {
            return Ok(());
        }
        let name = rescue::reference(&self.remains.id, self.remains.incarnation);
        let name = format!("{name}-head");
        refs::break_stale(common, &name);
        git.output(["update-ref", "-m", "groundskeeper: rescued", &name, held]).map(drop)
    }

    pub(super) fn admin(&self) -> marker::Admin {
        let (remains, world) = (self.remains, self.world);
        let common = &remains.plan.repository.common_dir;
        marker::Admin::at(&world.log_id, common, &remains.id, remains.incarnation)
    }

    fn drop_rescue(&self) -> Result<Outcome, Fault> {
        let common = paths::from_host(&self.remains.plan.repository.common_dir);
        if paths::exists(&common).map_err(paths::failed("look at", &common))? {
            let name = rescue::reference(&self.remains.id, self.remains.incarnation);
            self.delete(&common, &name)?;
        }
        point("rescue.dropped");
        Ok(Outcome::RescueDropped)
    }

    fn delete(&self, common: &Path, reference: &str) -> Result<(), Fault> {
        if !refs::exists(common, reference) {
            return Ok(());
        }
        let git = Git::exact(common, None, Some(self.lock), self.cancel);
        refs::delete(&git, common, reference, None)
    }
}

/// The ref that holds the HEAD of a worktree while it is in the trash.
pub(super) fn trash_reference(id: &crate::core::EnvironmentId, incarnation: u32) -> String {
    format!("refs/groundskeeper/trash/{id}/{incarnation}")
}

/// The pace of long work in the background: it takes no more than a third of the time, so that the
/// daemon's own commits do not wait behind it.
pub(super) struct Pace<'a> {
    cancel: &'a Cancel,
    since: Instant,
    count: u64,
}

impl<'a> Pace<'a> {
    pub(super) fn new(cancel: &'a Cancel) -> Self {
        Self { cancel, since: Instant::now(), count: 0 }
    }

    /// # Errors
    /// When it is cancelled.
    pub(super) fn breathe(&mut self) -> Result<(), Fault> {
        self.count += 1;
        if self.count.is_multiple_of(BREATH_EVERY) {
            // Woken early by a request to stop.
            let pause = (self.since.elapsed() * 2).min(BREATH_MAX);
            drop(exec::poll_all(&[self.cancel.as_fd()], pause));
            self.cancel.check()?;
            self.since = Instant::now();
        }
        Ok(())
    }
}

/// Where a worktree goes: the trash, or, when that is on another file system, a hidden folder
/// beside the worktrees themselves.
pub(super) fn move_to_trash(
    world: &World,
    worktree: &Path,
    folder: &Path,
) -> Result<PathBuf, Fault> {
    let name = worktree.file_name().unwrap_or_default();
    let moved = super::removal::move_into(worktree, folder);
    let Err(fault) = moved else { return Ok(folder.join(name)) };
    let elsewhere = super::removal::is_elsewhere(&fault);
    let near = world.layout.trashes().pop().filter(|_| elsewhere);
    let Some(near) = near else { return Err(fault) };
    drop(paths::remove_dir_if_empty(folder));
    let folder = near.join(folder.file_name().unwrap_or_default());
    super::removal::move_into(worktree, &folder)?;
    Ok(folder.join(name))
}
