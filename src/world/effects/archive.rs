//! Effects on the archive of an incarnation: measure, unlink for good, drop a rescue.
//!
//! The only place where kept work is deleted. It is deleted only because the log records that
//! decision, only in a directory that is proven to be the one that was moved there, at a limited
//! pace, and interruptible at any point.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::core::event::{PurgeReason, Rescue, Size, is_folded};
use crate::core::{ArchiveOutcome, ArchiveStep as Step, Code, Fault};
use crate::failpoint::guard;
use crate::failpoint::kill::point;
use crate::world::effects::archive_context::Task;
use crate::world::effects::context::World;
use crate::world::effects::{late_writes, raw_folders, raw_list, rescuer};
use crate::world::fs;
use crate::world::fs::file_id::FileId;
use crate::world::fs::names::Names;
use crate::world::fs::{disk_usage, paths, remove_tree};
use crate::world::git::command::{self, Git};
use crate::world::git::ref_changes::Change;
use crate::world::git::{marker, ownership, refs, registration};
use crate::world::process::cancel::Cancel;
use crate::world::process::scope::{Scope, Ties};
use crate::world::process::subprocess;

/// Entries after which a long walk pauses, so that other I/O is served.
const THROTTLE_EVERY: u64 = 16;
/// Longest single pause.
const THROTTLE_MAX: Duration = Duration::from_millis(50);

impl Task<'_> {
    /// Performs the step that the archive is owed.
    pub(in crate::world) fn perform(&self, step: Step) -> Result<ArchiveOutcome, Fault> {
        match step {
            Step::Measure => self.measure(),
            Step::Purge => self.purge(),
            Step::DropRescue => self.drop_rescue(),
            Step::FoldRescues => self.fold_rescues(),
        }
    }

    fn measure(&self) -> Result<ArchiveOutcome, Fault> {
        let nothing = || Ok(ArchiveOutcome::Measured(Size::default(), None));
        let Some(trash) = &self.archive.trash else { return nothing() };
        self.hold_head()?;
        registration::archive_ended(&self.admin(), &self.world.log_id, self.archive.life())?;
        let path = paths::from_host(trash);
        if !paths::exists(&path).map_err(paths::failed("inspect", &path))? {
            return nothing();
        }
        if self.archive.owed.as_ref().is_some_and(|owed| owed.attempts > 0) {
            // The obstacle of the last attempt most likely persists; asking the repository costs
            // less than walking the tree.
            self.repository_answers()?;
        }
        let mut throttle = Throttle::new(self.cancel);
        let measured = disk_usage::measure(&path, &mut |_| throttle.throttle())?;
        let late =
            // Writers that use its old path cannot reach the tree any more: no
            // later inspection is needed.
            if self.archive.unseen || late_writes::is_possible(self.archive.looked_at, &measured) {
                late_writes::rescue(self, &path)?
            } else {
                None
            };
        Ok(ArchiveOutcome::Measured(measured.size, late))
    }

    fn repository_answers(&self) -> Result<(), Fault> {
        let common = paths::from_host(&self.archive.plan.repository.common_dir);
        // Without any late write a missing repository is no obstacle, and only
        // the walk finds that out.
        if self.archive.looked_at.is_none() || !self.archive.unseen && !common.exists() {
            return Ok(());
        }
        let git = Git::exact(&common, None, Some(self.lock), self.cancel);
        git.line(["rev-parse", "--git-dir"])?;
        Ok(())
    }

    /// Holds the commit that a restore will need, whatever happened to the branch: the
    /// daemon may have been killed after deleting it and before recording that, and a kept
    /// branch may be deleted later.
    fn hold_head(&self) -> Result<(), Fault> {
        let archive = self.archive;
        let common = paths::from_host(&archive.plan.repository.common_dir);
        let Some(head) = archive.head.as_ref().filter(|_| common.exists()) else { return Ok(()) };
        let git = Git::exact(&common, None, Some(self.lock), self.cancel);
        // A commit that was pruned already cannot be held; a retry would not help.
        let _held = Change::of(&git, &common, &self.names().trash()).create(head)?;
        point("branch.held");
        Ok(())
    }

    fn purge(&self) -> Result<ArchiveOutcome, Fault> {
        let Some(trash) = &self.archive.trash else { return Ok(ArchiveOutcome::Purged(0)) };
        let path = paths::from_host(trash);
        let mut count = 0;
        // Absent after an interrupted purge: then only the registration is left to forget.
        if let Some(found) = marker::identity(&path)? {
            self.prove(&path, found)?;
            self.refuse_if_in_use(&path)?;
            crate::world::fs::removal::no_mounts(&path)?;
            // Unlinking loses the last copy, so the rescue is proven whole first, unless
            // the user chose to lose it.
            if self.archive.purge != Some(PurgeReason::Lose)
                && guard::stands("purge")
                && let Some(again) = self.saved_elsewhere(&path)?
            {
                return Ok(ArchiveOutcome::RescuedAgain(again));
            }
            point("purge.proven");
            // Entries go one by one: after a crash the next attempt continues with what is left.
            let mut throttle = Throttle::new(self.cancel);
            count = remove_tree::tree(&path, &mut |_| {
                point("purge.unlinked_one");
                throttle.throttle()
            })?;
        }
        if let Some(folder) = path.parent() {
            paths::remove_dir_if_empty(folder).map_err(paths::failed("remove", folder))?;
        }
        point("purge.unlinked");
        self.forget_registration()?;
        Ok(ArchiveOutcome::Purged(count))
    }

    /// Ensures that everything the rescue saved still exists before the last copy is unlinked: the
    /// refs at their commits, with all objects, and the raw copies. Returns none if so, or if the
    /// trash holds nothing to save. Otherwise makes a new rescue from the trash and returns it, to
    /// be recorded before anything is unlinked.
    ///
    /// # Errors
    /// When the repository is missing: what is saved can then not be verified.
    fn saved_elsewhere(&self, trash: &Path) -> Result<Option<Rescue>, Fault> {
        let archive = self.archive;
        let common = paths::from_host(&archive.plan.repository.common_dir);
        let there = paths::exists(&common).map_err(paths::failed("inspect", &common))?;
        let git = Git::exact(&common, None, Some(self.lock), self.cancel).within(command::LONG);
        let holds = |reference: &Option<String>, commit: &Option<String>| -> Result<bool, Fault> {
            let Some(commit) = commit.as_deref() else { return Ok(true) };
            let Some(reference) = reference else { return Ok(false) };
            let at = rescuer::commit_of(&git, reference)?;
            // A fold may have taken it since this archive was copied from the state.
            let held = at.as_deref() == Some(commit) || self.is_in_fold(&git, &common, commit);
            Ok(held && rescuer::is_whole(&git, commit).is_ok())
        };
        let mut saved = there;
        if let Some(rescue) = archive.rescue.as_ref().filter(|_| there) {
            saved &= holds(&rescue.reference, &rescue.commit)?;
            saved &= rescue.raw.as_ref().is_none_or(raw_list::is_whole);
            for nested in &rescue.nested {
                saved &= holds(&nested.reference, &nested.commit)?;
            }
        }
        if saved && let Some(head) = self.needed_head(&git)? {
            saved &= rescuer::commit_of(&git, &format!("{head}^{{tree}}"))?.is_some();
        }
        if saved { Ok(None) } else { late_writes::rescue_again(self, trash) }
    }

    /// Returns the commit of HEAD if the saved work depends on it. Where that commit is gone for
    /// good (the repository was replaced by another one), a rescue holds all files without it.
    fn needed_head(&self, git: &Git<'_>) -> Result<Option<&str>, Fault> {
        let head = self.archive.head.as_deref();
        let Some(rescue) = &self.archive.rescue else { return Ok(head) };
        let Some(commit) = &rescue.commit else { return Ok(None) };
        let first = rescuer::commit_of(git, &format!("{commit}^1"))?;
        Ok(head.filter(|head| first.as_deref() == Some(head)))
    }

    /// Proves that the path is in the trash, by its real path, and is the
    /// very directory moved there.
    fn prove(&self, path: &Path, found: FileId) -> Result<(), Fault> {
        let refuse = |why: &str| {
            let message =
                format!("{} is not the directory that was moved to the trash", path.display());
            let hint =
                "inspect it, and delete it manually if it is not needed; nothing was changed";
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
        let (log, life) = (&self.world.log_id, self.archive.life());
        let is_it = |inode| ownership::is_worktree_of(path, log, life, found.inode, inode);
        match &self.archive.worktree {
            Some(w) if !is_it(w.inode) => refuse("another directory is at its path"),
            _ => Ok(()),
        }
    }

    /// Refuses while processes use the directory, because they survived the teardown or came later;
    /// the fault is transient, so the unlink waits for them.
    fn refuse_if_in_use(&self, path: &Path) -> Result<(), Fault> {
        let scope = Scope {
            id: &self.archive.id,
            incarnation: self.archive.incarnation,
            roots: vec![path.to_owned()],
            recorded: Vec::new(),
            requester: 0,
            with_bystanders: false,
            ties: Ties::All,
            requests: Vec::new(),
            cgroups: &self.world.cgroups,
        };
        let found = scope.scan().map_err(crate::world::process::error::Error::from)?;
        if found.inside.is_empty() {
            return Ok(());
        }
        let message = format!("{} is still used by processes", path.display());
        let lines = found.inside.iter().map(|p| format!("{} {} ({})", p.pid, p.name, p.why));
        let fault = Fault::new(Code::EnvironmentBusy, message, "end them; the step is retried");
        Err(fault.with_evidence(lines).transient())
    }

    /// Deletes what was kept for a restore, and the ref that held its HEAD.
    fn forget_registration(&self) -> Result<(), Fault> {
        let common = paths::from_host(&self.archive.plan.repository.common_dir);
        if !paths::exists(&common).map_err(paths::failed("inspect", &common))? {
            return Ok(());
        }
        registration::archive_ended(&self.admin(), &self.world.log_id, self.archive.life())?;
        registration::forget(&self.admin())?;
        let copies_dir = self.world.layout.copies_of(self.archive.life());
        let known = self.archive.rescue.as_ref().and_then(|rescue| rescue.raw.as_ref());
        // Copies of an attempt that was never recorded.
        raw_folders::forget_unknown(&copies_dir, known, self.cancel)?;
        // The rescue ref must exist before the ref that held HEAD is deleted.
        self.keep_commits(&common, &self.names().trash())?;
        let git = Git::exact(&common, None, Some(self.lock), self.cancel);
        release_head(&git, &common, self.names(), self.archive.head.as_deref())
    }

    /// Commits that were reachable elsewhere when the branch was deleted may no longer be. A rescue
    /// ref then holds them, which only a request deletes.
    fn keep_commits(&self, common: &Path, held: &str) -> Result<(), Fault> {
        if !refs::exists(common, held) {
            return Ok(());
        }
        let git = Git::exact(common, None, Some(self.lock), self.cancel);
        let exclude = format!("--exclude={held}");
        match git.line(["rev-list", "--count", held, "--not", &exclude, "--all"]) {
            Ok(only) if only == "0" => return Ok(()),
            Err(error) if self.cancel.is_cancelled() => return Err(error.into()),
            // One broken ref anywhere makes git fail; unknown then counts
            // as "held by nothing else".
            Ok(_) | Err(_) => {}
        }
        let reference = self.names().rescued_head();
        let head = self.archive.head.as_deref();
        if let Some(head) = head
            && Change::of(&git, common, &reference).create(head)?
        {
            return Ok(());
        }
        let shown = head.unwrap_or("at HEAD, which is not recorded");
        let message = format!("cannot create a ref that holds the commit {shown}");
        Err(Fault::new(Code::GitFailed, message, "run `git fsck` in the repository").transient())
    }

    fn names(&self) -> Names<'_> {
        Names::of(&self.world.log_id, self.archive.life())
    }

    pub(in crate::world) fn admin(&self) -> marker::Admin {
        let (archive, world) = (self.archive, self.world);
        marker::Admin::at(&world.log_id, &archive.plan.repository.common_dir, archive.life())
    }

    /// Deletes the rescue refs and the raw copies of the incarnation.
    fn drop_rescue(&self) -> Result<ArchiveOutcome, Fault> {
        let common = paths::from_host(&self.archive.plan.repository.common_dir);
        let there = paths::exists(&common).map_err(paths::failed("inspect", &common))?;
        if let Some(rescue) = self.archive.rescue.as_ref().filter(|_| there) {
            let (names, (own, commit)) = (self.names(), (&rescue.reference, &rescue.commit));
            self.drop_ref(&common, own.as_deref(), commit.as_deref(), &names.rescue())?;
            for nested in &rescue.nested {
                let name = names.nested(nested.path.as_bytes());
                let (reference, commit) = (nested.reference.as_deref(), nested.commit.as_deref());
                self.drop_ref(&common, reference, commit, &name)?;
            }
            self.drop_from_fold(&common)?;
        }
        point("rescue.dropped");
        raw_folders::forget(&self.world.layout.copies_of(self.archive.life()), self.cancel)?;
        Ok(ArchiveOutcome::RescueDropped)
    }

    /// Deletes a ref at the commit that was recorded for it. If the name is unique to this
    /// incarnation, it is deleted even at another commit, which a later inspection put there.
    fn drop_ref(
        &self,
        common: &Path,
        reference: Option<&str>,
        commit: Option<&str>,
        own_name: &str,
    ) -> Result<(), Fault> {
        let Some(reference) = reference else { return Ok(()) };
        // A later inspection may have made the ref again that was folded.
        let reference = if is_folded(reference) { own_name } else { reference };
        let git = Git::exact(common, None, Some(self.lock), self.cancel);
        let Some(at) = rescuer::commit_of(&git, reference)? else { return Ok(()) };
        let own = self.archive.nonce.is_some() && reference.starts_with(&self.names().rescue());
        if commit != Some(at.as_str()) && !own {
            let message = format!("{reference} does not point to the rescued commit");
            let hint = format!(
                "inspect it with `git show {reference}`; `git update-ref -d {reference}` deletes it"
            );
            return Err(Fault::new(Code::NotOurs, message, hint));
        }
        Ok(Change::of(&git, common, reference).delete(Some(&at))?)
    }
}

/// Deletes the ref that held the HEAD of a trash entry. Another log may have created a ref under
/// the name that earlier versions used, so that one is deleted only at the expected commit.
pub(in crate::world) fn release_head(
    git: &Git<'_>,
    common: &Path,
    names: Names<'_>,
    head: Option<&str>,
) -> Result<(), Fault> {
    for reference in std::iter::once(names.trash()).chain(names.earlier_trash()) {
        let at = refs::tip(common, &reference);
        if let Some(at) = at.filter(|at| Some(at.as_str()) == head || reference == names.trash()) {
            Change::of(git, common, &reference).delete(Some(&at))?;
        }
    }
    Ok(())
}

/// Paces long background work: sleeps twice as long as it works, at most 50 ms at a time, so that
/// the daemon's own commits do not wait behind it.
pub(in crate::world) struct Throttle<'a> {
    cancel: &'a Cancel,
    since: Instant,
    count: u64,
}

impl<'a> Throttle<'a> {
    pub(in crate::world) fn new(cancel: &'a Cancel) -> Self {
        Self { cancel, since: Instant::now(), count: 0 }
    }

    /// Counts one entry and pauses after every 16th.
    ///
    /// # Errors
    /// When it is cancelled.
    pub(in crate::world) fn throttle(&mut self) -> Result<(), Fault> {
        self.count += 1;
        if self.count.is_multiple_of(THROTTLE_EVERY) {
            // Waiting on the cancellation's descriptor ends the pause early.
            let pause = (self.since.elapsed() * 2).min(THROTTLE_MAX);
            drop(subprocess::poll_all(&[self.cancel.as_fd()], pause));
            self.cancel.check()?;
            self.since = Instant::now();
        }
        Ok(())
    }
}

/// Moves a worktree to the trash, or, if that is on another file system, to the hidden trash folder
/// beside the worktrees. Returns the new path.
pub(in crate::world) fn move_to_trash(
    world: &World,
    worktree: &Path,
    folder: &Path,
) -> Result<PathBuf, Fault> {
    let name = worktree.file_name().unwrap_or_default();
    let moved = crate::world::fs::removal::move_into(worktree, folder);
    let Err(error) = moved else { return Ok(folder.join(name)) };
    let elsewhere = matches!(error, fs::Error::CrossDevice { .. });
    let near = world.layout.trashes().pop().filter(|_| elsewhere);
    let Some(near) = near else { return Err(error.into()) };
    drop(paths::remove_dir_if_empty(folder));
    let folder = near.join(folder.file_name().unwrap_or_default());
    crate::world::fs::removal::move_into(worktree, &folder)?;
    Ok(folder.join(name))
}
