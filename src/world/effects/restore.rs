//! Restores a directory from the trash as a new incarnation: files, index, registration, lock
//! and branch as they were.
//!
//! The directory is renamed back, and the administrative directory, kept since the removal, is
//! published again under the new incarnation's name. Other processes never see an incomplete
//! worktree. Every step can be repeated; [`undo`] returns to the trash what was taken, at whatever
//! point the restore stopped.

use std::path::{Path, PathBuf};

use crate::core::event::{CheckoutMethod, RestoreFrom, Worktree};
use crate::core::{Code, Environment, EnvironmentOutcome, Fault, Life, RolledBackTo};
use crate::failpoint::kill::point;
use crate::world::effects::context::Task;
use crate::world::effects::{add_worktree, archive, raw_folders, repair_admin};
use crate::world::fs::file_id::FileId;
use crate::world::fs::names::Names;
use crate::world::fs::{paths, removal};
use crate::world::git::command::Git;
use crate::world::git::index::format::Hash;
use crate::world::git::marker::{self, Admin, Marker};
use crate::world::git::ownership;
use crate::world::git::ref_changes::{Change, Made};
use crate::world::git::{refs, registration, submodules};

/// One restore, with the paths and the administrative directories of both incarnations.
struct Restore<'a> {
    task: &'a Task<'a>,
    from: RestoreFrom,
    trash: PathBuf,
    target: PathBuf,
    common: PathBuf,
    old: Admin,
    new: Admin,
}

impl<'a> Restore<'a> {
    fn of(task: &'a Task<'a>) -> Self {
        let env = task.env();
        let from = env.restore.clone().unwrap_or_default();
        let common = &env.plan.repository.common_dir;
        Self {
            task,
            trash: paths::from_host(&from.trash.clone().unwrap_or_default()),
            target: paths::from_host(&env.plan.path),
            old: Admin::at(task.log_id(), common, life_of(env, &from)),
            new: Admin::of(task.log_id(), env),
            common: paths::from_host(common),
            from,
        }
    }

    fn git(&self) -> Git<'_> {
        Git::exact(&self.common, None, Some(self.task.lock), self.task.cancel)
    }
}

/// The incarnation that is restored.
fn life_of<'a>(env: &'a Environment, from: &'a RestoreFrom) -> Life<'a> {
    Life { id: &env.id, incarnation: from.incarnation, nonce: from.nonce.as_ref() }
}

/// Performs [`EnvironmentStep::Restore`](crate::core::EnvironmentStep::Restore).
pub(in crate::world) fn restore(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let restore = Restore::of(task);
    if !paths::exists(&restore.common).map_err(paths::failed("inspect", &restore.common))? {
        let message = format!("the repository {} does not exist", restore.common.display());
        let hint =
            format!("restore the repository first; the files are in {}", restore.trash.display());
        return Err(Fault::new(Code::PathNotFound, message, hint));
    }
    let identity = restore.identity()?;
    if !restore.is_published(identity)? {
        restore.stage()?;
        point("restore.staged");
        restore.branch()?;
        point("restore.branched");
        restore.bring_back(identity)?;
        point("restore.moved");
        // git sees the worktree only from here on, when branch, files and pointer are in place.
        registration::publish(&restore.new)?;
        point("restore.published");
    }
    restore.finish(identity)
}

impl Restore<'_> {
    /// Returns the identity of the directory, in the trash or already moved
    /// back by an earlier attempt.
    fn identity(&self) -> Result<FileId, Fault> {
        let (there, back) = (marker::identity(&self.trash)?, marker::identity(&self.target)?);
        match (there, back) {
            (Some(_), Some(_)) => {
                let message = format!(
                    "{} exists and was not created by groundskeeper",
                    self.target.display()
                );
                let id = &self.task.env().id;
                let hint = format!("move it away, then run `groundskeeper restore {id}`");
                Err(Fault::new(Code::PathExists, message, hint))
            }
            (Some(found), None) | (None, Some(found)) => Ok(found),
            (None, None) => {
                let message = format!("{} is no longer in the trash", self.trash.display());
                let hint =
                    "run `groundskeeper rescue ls` to see whether a rescue ref holds its work";
                Err(Fault::new(Code::PathNotFound, message, hint))
            }
        }
    }

    fn is_published(&self, identity: FileId) -> Result<bool, Fault> {
        let marker = Marker::read(&self.new.published)?;
        Ok(marker.is_some_and(|m| {
            m.is_of(self.task.log_id(), self.task.env().life()) && m.inode == identity.inode
        }))
    }

    /// Prepares the administrative directory aside; only the branch is missing then.
    fn stage(&self) -> Result<(), Fault> {
        let staged = &self.new.staged;
        // A teardown leaves this to the first measurement of the trash entry,
        // which may not have run yet.
        registration::archive_ended(
            &self.old,
            self.task.log_id(),
            life_of(self.task.env(), &self.from),
        )?;
        let removed = &self.old.removed;
        if !paths::exists(staged).map_err(paths::failed("inspect", staged))?
            && paths::exists(removed).map_err(paths::failed("inspect", removed))?
        {
            removal::rename(removed, staged)?;
        } else if staged.join("HEAD").symlink_metadata().is_err() {
            self.stage_anew()?;
        }
        let plan = &self.task.env().plan;
        let hash = Hash::named(&plan.repository.object_format);
        let (branch, head) = (plan.branch.as_str(), self.from.head.as_deref());
        repair_admin::repair(&self.git(), staged, &self.common, (branch, head), hash)?;
        let put = |name: &str, text: &[u8]| {
            let path = staged.join(name);
            std::fs::write(&path, text).map_err(paths::failed("write", &path))
        };
        let pointer = self.target.join(".git");
        put("gitdir", &crate::world::git::registration::with_newline(&pointer))?;
        put("locked", crate::world::git::registration::lock_reason(self.task.env()).as_bytes())?;
        Ok(removal::remove_ours_file(&staged.join("gitdir.removed"))?)
    }

    /// Builds a new administrative directory: the kept one is gone. Its index is made where damage
    /// is mended.
    fn stage_anew(&self) -> Result<(), Fault> {
        let staged = &self.new.staged;
        std::fs::create_dir_all(staged).map_err(paths::failed("create", staged))?;
        // HEAD last: a directory that has it is complete.
        let head = format!("ref: refs/heads/{}\n", self.task.env().plan.branch);
        for (name, text) in [("commondir", "../..\n"), ("HEAD.new", head.as_str())] {
            let path = staged.join(name);
            std::fs::write(&path, text).map_err(paths::failed("write", &path))?;
        }
        paths::rename(staged.join("HEAD.new"), staged.join("HEAD"))
            .map_err(paths::failed("write", staged))
    }

    /// Creates the branch that HEAD names, at its former commit; under another name if that one is
    /// at another commit or in use by now.
    fn branch(&self) -> Result<(), Fault> {
        let head = self.new.staged.join("HEAD");
        let text = refs::head_text(&self.new.staged).map_err(paths::failed("read", &head))?;
        // A branch of the user's whose name is not UTF-8: it existed before, and no code of ours
        // deletes it.
        let Ok(text) = String::from_utf8(text) else { return Ok(()) };
        let Some(reference) = text.trim_end().strip_prefix("ref: ") else { return Ok(()) };
        let Some(commit) = &self.from.head else { return Ok(()) };
        if self.make_branch(reference, commit)? {
            return Ok(());
        }
        let env = self.task.env();
        let other = format!("{reference}-restored-{}", env.incarnation);
        if !self.make_branch(&other, commit)? {
            let message = format!("neither {reference} nor {other} can be checked out");
            return Err(Fault::new(Code::BranchExists, message, "delete or rename one of them"));
        }
        self.put_head(&format!("ref: {other}\n"))
    }

    /// Replaces HEAD atomically.
    fn put_head(&self, text: &str) -> Result<(), Fault> {
        let head = self.new.staged.join("HEAD");
        let fresh = self.new.staged.join("HEAD.new");
        std::fs::write(&fresh, text).map_err(paths::failed("write", &fresh))?;
        paths::rename(&fresh, &head).map_err(paths::failed("write", &head))
    }

    /// Returns whether a branch is at HEAD's former commit, or could be created there.
    fn make_branch(&self, reference: &str, commit: &str) -> Result<bool, Fault> {
        if registration::checked_out(&self.common, reference).is_some() {
            return Ok(false);
        }
        let git = self.git();
        if refs::exists(&self.common, reference) {
            let at = git.run(["rev-parse", "--verify", "--quiet", reference])?;
            return Ok(at.stdout.trim_ascii_end() == commit.as_bytes());
        }
        let attempts = self.task.attempts();
        let change = Change { attempts, ..Change::of(&git, &self.common, reference) };
        let signature = add_worktree::signature(self.task);
        let made = change.create_branch(commit, &signature, "groundskeeper: restored")?;
        Ok(made == Made::Yes)
    }

    /// Deletes the branch that this restore created, unless it was moved since. Returns a line
    /// about the branch if a lock that will never be released is in the way.
    fn take_branch_back(&self) -> Result<Option<String>, Fault> {
        let mut places = [&self.new.published, &self.new.staged].into_iter();
        let text = places.find_map(|dir| refs::head_text(dir).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let Some(reference) = text.trim_end().strip_prefix("ref: ") else { return Ok(None) };
        let (git, common) = (self.git(), &self.common);
        let attempts = self.task.attempts();
        let change = Change { attempts, ..Change::of(&git, common, reference) };
        change.forget_unmade(&add_worktree::signature(self.task))?;
        let ours = refs::signed_by(common, reference) == Some(add_worktree::signature(self.task));
        let tip = refs::tip(common, reference).filter(|tip| Some(tip) == self.from.head.as_ref());
        match tip {
            Some(tip) if ours && registration::checked_out(common, reference).is_none() => {
                Ok(change.delete_unless_locked(&tip)?)
            }
            _ => Ok(None),
        }
    }

    /// Renames the directory back, and points it to the future registration.
    fn bring_back(&self, identity: FileId) -> Result<(), Fault> {
        // The commit that was checked out first is unchanged by the restore.
        let before = Marker::read(&self.new.staged).ok().flatten();
        let (commit, tree) = before.map(|m| (m.commit, m.tree)).unwrap_or_default();
        let marker = Marker::new(self.task.log_id(), self.task.env(), identity);
        // Before the rename: from then on only this marker proves that the
        // directory at the target is ours.
        Marker { commit, tree, ..marker }.replace(&self.new.staged)?;
        if paths::exists(&self.trash).map_err(paths::failed("inspect", &self.trash))? {
            let place = self.target.parent().unwrap_or(&self.target);
            std::fs::create_dir_all(place).map_err(paths::failed("create", place))?;
            removal::no_mounts(&self.trash)?;
            removal::rename(&self.trash, &self.target)?;
        }
        self.point_to(&self.new.published)
    }

    /// A trash entry points to the incarnation that it belongs to, also after an undone restore.
    fn point_back(&self) -> Result<(), Fault> {
        let text = std::fs::read(self.trash.join(".git")).unwrap_or_default();
        let mut new = b"gitdir: ".to_vec();
        new.extend(crate::world::git::registration::with_newline(&self.new.published));
        if text == new { self.point(&self.trash, &self.old.published) } else { Ok(()) }
    }

    fn point_to(&self, admin: &Path) -> Result<(), Fault> {
        self.point(&self.target, admin)
    }

    /// Replaces a worktree's pointer atomically.
    #[expect(clippy::unused_self, reason = "reads like the other steps")]
    fn point(&self, worktree: &Path, admin: &Path) -> Result<(), Fault> {
        let pointer = worktree.join(".git");
        let fresh = worktree.join(".git.gk-new");
        let mut text = b"gitdir: ".to_vec();
        text.extend(crate::world::git::registration::with_newline(admin));
        std::fs::write(&fresh, text).map_err(paths::failed("write", &fresh))?;
        paths::rename(&fresh, &pointer).map_err(paths::failed("write", &pointer))
    }

    fn finish(&self, identity: FileId) -> Result<EnvironmentOutcome, Fault> {
        let env = self.task.env();
        if let Some(folder) = self.trash.parent() {
            paths::remove_dir_if_empty(folder).map_err(paths::failed("remove", folder))?;
        }
        let names = Names::of(self.task.log_id(), life_of(env, &self.from));
        match archive::release_head(&self.git(), &self.common, names, self.from.head.as_deref()) {
            // The ref is harmless; a sweep removes it once the lock is gone.
            Err(fault) if fault.code == Code::RepositoryLocked && !fault.transient => {
                tracing::warn!(%fault, environment = %env.id, "a rescue ref is left behind");
            }
            released => released?,
        }
        // Copies of an unfinished attempt to rescue it again, which no record names.
        let copies_dir = self.task.layout().copies_of(life_of(env, &self.from));
        let known = self.from.saved.as_ref().and_then(|saved| saved.raw.as_ref());
        raw_folders::forget_unknown(&copies_dir, known, self.task.cancel)?;
        let hash = Hash::named(&env.plan.repository.object_format);
        submodules::repoint(&self.target, &self.new.published, hash, &env.id)?;
        let head = refs::head_text(&self.new.published).unwrap_or_default();
        let head = String::from_utf8_lossy(&head).into_owned();
        let branch = head.trim_end().strip_prefix("ref: refs/heads/").unwrap_or_default();
        let branch = if branch.is_empty() { &env.plan.branch } else { branch }.to_owned();
        let worktree = Worktree {
            admin_dir: paths::to_host(&self.new.published),
            device: identity.device,
            inode: identity.inode,
            checkout: CheckoutMethod::Restored,
            checkout_reason: Some(format!(
                "from the trash of incarnation {}",
                self.from.incarnation
            )),
            // It may have gone to the trash before its index was refreshed.
            racy: true,
            ..Worktree::default()
        };
        Ok(EnvironmentOutcome::Restored(worktree, branch))
    }
}

/// Puts back what a restore took, so that the incarnation can be restored another time.
pub(in crate::world) fn undo(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let restore = Restore::of(task);
    let (old, new) = (&restore.old, &restore.new);
    // While the trash entry exists, a directory at the target is not the
    // one that was taken from it.
    let taken = marker::identity(&restore.trash)?.is_none();
    if taken && let Some(found) = marker::identity(&restore.target)? {
        let mut markers = [&new.published, &new.staged].into_iter();
        let marker = markers.find_map(|dir| Marker::read(dir).ok().flatten());
        let root = task.layout().worktrees();
        // If the restore was killed in between, the directory still points to the old incarnation.
        let before = life_of(task.env(), &restore.from);
        let proof = ownership::Proof { root: &root, log: task.log_id(), env: task.env() };
        proof.admits(&restore.target, found, marker.as_ref(), Some(before))?;
        removal::no_mounts(&restore.target)?;
        let folder = restore.trash.parent().unwrap_or(&restore.trash);
        std::fs::create_dir_all(folder).map_err(paths::failed("create", folder))?;
        removal::rename(&restore.target, &restore.trash)?;
    }
    point("restore.put_back");
    restore.point_back()?;
    let place = task.layout().place_of(&task.env().id);
    paths::remove_dir_if_empty(&place).map_err(paths::failed("remove", &place))?;
    registration::hide(&task.owner(), new)?;
    let left: Vec<String> = restore.take_branch_back()?.into_iter().collect();
    for taken in [&new.published, &new.staged] {
        if paths::exists(taken).map_err(paths::failed("inspect", taken))?
            && !paths::exists(&old.removed).map_err(paths::failed("inspect", &old.removed))?
        {
            std::fs::create_dir_all(&old.folder).map_err(paths::failed("create", &old.folder))?;
            // The directory belongs to the old incarnation again, and its
            // marker must name that one.
            if let Some(marker) = Marker::read(taken)? {
                let incarnation = restore.from.incarnation;
                let nonce = restore.from.nonce.as_ref().map(ToString::to_string);
                Marker { incarnation, nonce, ..marker }.replace(taken)?;
            }
            removal::rename(taken, &old.removed)?;
        }
    }
    Ok(EnvironmentOutcome::RolledBack(RolledBackTo { left, ..RolledBackTo::default() }))
}
