//! What is done with the remains of an incarnation: measure, unlink for good, let go of a rescue.
//!
//! The only place where work that was kept is deleted. It happens because the log says so, to a
//! directory whose path, device and inode the log knows, slowly, and it can be interrupted
//! anywhere.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::core::event::{Rescue, Size};
use crate::core::model::archive::LOSE;
use crate::core::{Code, Fault, Outcome, Step};
use crate::failpoint::guard;
use crate::failpoint::kill::point;
use crate::world::effects::archive_context::Task;
use crate::world::effects::context::World;
use crate::world::effects::{late_writes, raw_copies, rescuer};
use crate::world::fs::names::Names;
use crate::world::fs::{disk_usage, paths, remove_tree};
use crate::world::git::command::{self, Git};
use crate::world::git::ref_changes::Change;
use crate::world::git::{marker, refs, registration};
use crate::world::process::cancel::Cancel;
use crate::world::process::scope::{Scope, Ties};
use crate::world::process::subprocess;

/// Entries after which a long walk lets others have their turn.
const BREATH_EVERY: u64 = 16;
/// Longest that one turn of others takes.
const BREATH_MAX: Duration = Duration::from_millis(50);

impl Task<'_> {
    pub(in crate::world) fn perform(&self, step: Step) -> Result<Outcome, Fault> {
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
        registration::put_away_over(&self.admin(), &self.world.log_id, self.remains.life())?;
        let path = paths::from_host(trash);
        if !paths::exists(&path).map_err(paths::failed("look at", &path))? {
            return nothing();
        }
        if self.remains.owed.as_ref().is_some_and(|owed| owed.attempts > 0) {
            // What was in the way is there still, more often than not: the tree can wait.
            self.repository_answers()?;
        }
        let mut pace = Pace::new(self.cancel);
        let measured = disk_usage::measure(&path, &mut |_| pace.breathe())?;
        let late =
            if self.remains.unseen || late_writes::is_possible(self.remains.looked_at, &measured) {
                late_writes::rescue(self, &path)?
            } else {
                None
            };
        Ok(Outcome::Measured(measured.size, late))
    }

    fn repository_answers(&self) -> Result<(), Fault> {
        let common = paths::from_host(&self.remains.plan.repository.common_dir);
        // One that is gone is no obstacle where nothing was written last, which only a look tells.
        if self.remains.looked_at.is_none() || !self.remains.unseen && !common.exists() {
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
        let git = Git::exact(&common, None, Some(self.lock), self.cancel);
        // A commit that somebody has pruned already cannot be held; that is not worth a retry.
        let _held = Change::of(&git, &common, &self.names().trash()).create(&remains.head)?;
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
            crate::world::fs::removal::no_mounts(&path)?;
            if self.remains.purge != LOSE
                && guard::stands("purge")
                && let Some(again) = self.saved_elsewhere(&path)?
            {
                return Ok(Outcome::RescuedAgain(again));
            }
            point("purge.proven");
            let mut pace = Pace::new(self.cancel);
            count = remove_tree::tree(&path, &mut |_| {
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

    /// Makes sure that what was saved of it is there before the last copy goes: the refs at their
    /// commits, with all objects, and the copies. What is not there any more is saved anew from the
    /// trash; then that is told first.
    ///
    /// # Errors
    /// When the repository is not there: nobody can tell then what is saved.
    fn saved_elsewhere(&self, trash: &Path) -> Result<Option<Rescue>, Fault> {
        let remains = self.remains;
        let common = paths::from_host(&remains.plan.repository.common_dir);
        let there = paths::exists(&common).map_err(paths::failed("look at", &common))?;
        let git = Git::exact(&common, None, Some(self.lock), self.cancel).within(command::LONG);
        let holds = |reference: &str, commit: &str| -> Result<bool, Fault> {
            let at = rescuer::commit_of(&git, reference)?;
            Ok(at.as_deref() == Some(commit) && rescuer::is_whole(&git, commit).is_ok())
        };
        let mut saved = there;
        if let Some(rescue) = remains.rescue.as_ref().filter(|_| there) {
            saved &= rescue.commit.is_empty() || holds(&rescue.reference, &rescue.commit)?;
            saved &= rescue.raw.as_ref().is_none_or(raw_copies::is_whole);
            for nested in rescue.nested.iter().filter(|n| !n.commit.is_empty()) {
                saved &= holds(&nested.reference, &nested.commit)?;
            }
        }
        if saved && self.rests_on_head(&git)? {
            let name = format!("{}^{{tree}}", remains.head);
            saved &= rescuer::commit_of(&git, &name)?.is_some();
        }
        if saved { Ok(None) } else { late_writes::rescue_again(self, trash) }
    }

    /// Whether what was saved is not whole without the commit that HEAD was at. Where that one is
    /// gone for good (its repository is another one now), a rescue holds all files without it.
    fn rests_on_head(&self, git: &Git<'_>) -> Result<bool, Fault> {
        let head = &self.remains.head;
        let Some(rescue) = &self.remains.rescue else { return Ok(!head.is_empty()) };
        if rescue.commit.is_empty() {
            return Ok(false);
        }
        let first = rescuer::commit_of(git, &format!("{}^1", rescue.commit))?;
        Ok(first.as_deref() == Some(head.as_str()))
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
        let (log, life) = (&self.world.log_id, self.remains.life());
        let is_it = |inode| marker::is_worktree_of(path, log, life, found.1, inode);
        match &self.remains.worktree {
            Some(w) if !is_it(w.inode) => refuse("another directory stands in its place"),
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
        registration::put_away_over(&self.admin(), &self.world.log_id, self.remains.life())?;
        registration::forget(&self.admin())?;
        let home = self.world.layout.copies_of(self.remains.life());
        let known = self.remains.rescue.as_ref().and_then(|rescue| rescue.raw.as_ref());
        // What an attempt left that was never told of.
        raw_copies::forget_unknown(&home, known, self.cancel)?;
        self.keep_commits(&common, &self.names().trash())?;
        let git = Git::exact(&common, None, Some(self.lock), self.cancel);
        let_go_of_head(&git, &common, self.names(), &self.remains.head)
    }

    /// What was reachable elsewhere when the branch went may not be any more: then it is held by
    /// a rescue ref, which nothing but a request takes away.
    fn keep_commits(&self, common: &Path, held: &str) -> Result<(), Fault> {
        if !refs::exists(common, held) {
            return Ok(());
        }
        let git = Git::exact(common, None, Some(self.lock), self.cancel);
        let exclude = format!("--exclude={held}");
        match git.line(["rev-list", "--count", held, "--not", &exclude, "--all"]) {
            Ok(only) if only == "0" => return Ok(()),
            Err(fault) if self.cancel.is_cancelled() => return Err(fault),
            // A bad ref anywhere stops git from telling: then it is held.
            Ok(_) | Err(_) => {}
        }
        let reference = self.names().rescued_head();
        let made = Change::of(&git, common, &reference).create(&self.remains.head)?;
        if made {
            return Ok(());
        }
        let message = format!("the commit {} cannot be held", self.remains.head);
        Err(Fault::new(Code::GitFailed, message, "run `git fsck` in the repository").transient())
    }

    fn names(&self) -> Names<'_> {
        Names::of(&self.world.log_id, self.remains.life())
    }

    pub(in crate::world) fn admin(&self) -> marker::Admin {
        let (remains, world) = (self.remains, self.world);
        marker::Admin::at(&world.log_id, &remains.plan.repository.common_dir, remains.life())
    }

    fn drop_rescue(&self) -> Result<Outcome, Fault> {
        let common = paths::from_host(&self.remains.plan.repository.common_dir);
        let there = paths::exists(&common).map_err(paths::failed("look at", &common))?;
        if let Some(rescue) = self.remains.rescue.as_ref().filter(|_| there) {
            self.drop_ref(&common, &rescue.reference, &rescue.commit)?;
            for nested in &rescue.nested {
                self.drop_ref(&common, &nested.reference, &nested.commit)?;
            }
        }
        point("rescue.dropped");
        raw_copies::forget(&self.world.layout.copies_of(self.remains.life()), self.cancel)?;
        Ok(Outcome::RescueDropped)
    }

    /// A ref goes at the commit that it was made at; where the name is of this life and no other,
    /// it goes with what a later look has put there.
    fn drop_ref(&self, common: &Path, reference: &str, commit: &str) -> Result<(), Fault> {
        let git = Git::exact(common, None, Some(self.lock), self.cancel);
        let found = if reference.is_empty() { None } else { rescuer::commit_of(&git, reference)? };
        let Some(at) = found else { return Ok(()) };
        let own = self.remains.nonce.is_some() && reference.starts_with(&self.names().rescue());
        if at != commit && !own {
            let message = format!("{reference} is not what was rescued here");
            let hint = format!("look at it; `git update-ref -d {reference}` deletes it");
            return Err(Fault::new(Code::NotOurs, message, hint));
        }
        Change::of(&git, common, reference).delete(Some(&at))
    }
}

/// Deletes the ref that holds the HEAD of what was in the trash. By the name that earlier versions
/// gave, which another log may give as well, only where it is at that commit.
pub(in crate::world) fn let_go_of_head(
    git: &Git<'_>,
    common: &Path,
    names: Names<'_>,
    head: &str,
) -> Result<(), Fault> {
    for reference in std::iter::once(names.trash()).chain(names.earlier_trash()) {
        let at = refs::tip(common, &reference);
        if let Some(at) = at.filter(|at| *at == head || reference == names.trash()) {
            Change::of(git, common, &reference).delete(Some(&at))?;
        }
    }
    Ok(())
}

/// The pace of long work in the background: it takes no more than a third of the time, so that the
/// daemon's own commits do not wait behind it.
pub(in crate::world) struct Pace<'a> {
    cancel: &'a Cancel,
    since: Instant,
    count: u64,
}

impl<'a> Pace<'a> {
    pub(in crate::world) fn new(cancel: &'a Cancel) -> Self {
        Self { cancel, since: Instant::now(), count: 0 }
    }

    /// # Errors
    /// When it is cancelled.
    pub(in crate::world) fn breathe(&mut self) -> Result<(), Fault> {
        self.count += 1;
        if self.count.is_multiple_of(BREATH_EVERY) {
            // Woken early by a request to stop.
            let pause = (self.since.elapsed() * 2).min(BREATH_MAX);
            drop(subprocess::poll_all(&[self.cancel.as_fd()], pause));
            self.cancel.check()?;
            self.since = Instant::now();
        }
        Ok(())
    }
}

/// Where a worktree goes: the trash, or, when that is on another file system, a hidden folder
/// beside the worktrees themselves.
pub(in crate::world) fn move_to_trash(
    world: &World,
    worktree: &Path,
    folder: &Path,
) -> Result<PathBuf, Fault> {
    let name = worktree.file_name().unwrap_or_default();
    let moved = crate::world::fs::removal::move_into(worktree, folder);
    let Err(fault) = moved else { return Ok(folder.join(name)) };
    let elsewhere = crate::world::fs::removal::is_elsewhere(&fault);
    let near = world.layout.trashes().pop().filter(|_| elsewhere);
    let Some(near) = near else { return Err(fault) };
    drop(paths::remove_dir_if_empty(folder));
    let folder = near.join(folder.file_name().unwrap_or_default());
    crate::world::fs::removal::move_into(worktree, &folder)?;
    Ok(folder.join(name))
}
