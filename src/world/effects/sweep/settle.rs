//! Settles one finding of a sweep, under the lock of the environment that it belongs to. Checks
//! again whatever may have changed since the finding.

use std::path::Path;

use crate::core::event::LeftoverArchived;
use crate::core::{Code, EnvironmentId, Fault};
use crate::world::effects::sweep::task::{SettleAction, Task, is_of_clean};
use crate::world::fs::lock_file::{self, LockFile};
use crate::world::fs::{paths, removal, remove_tree};
use crate::world::git::command::Git;
use crate::world::git::heads::Heads;
use crate::world::git::marker::Marker;
use crate::world::git::ref_changes::Change;
use crate::world::git::{locks, registration};

impl Task<'_> {
    /// Settles a finding, and returns the archive that it leads to, if it leads to one.
    pub(super) fn settle(&self, settle: &SettleAction) -> Result<Option<LeftoverArchived>, Fault> {
        if let SettleAction::Archive(leftover) = settle {
            return self.archive(leftover).map(Some);
        }
        self.remove(settle).map(|()| None)
    }

    fn remove(&self, settle: &SettleAction) -> Result<(), Fault> {
        match settle {
            SettleAction::No | SettleAction::Archive(_) => Ok(()),
            SettleAction::RemoveLock(path) => {
                lock_file::remove_if_free(path).map(drop).map_err(paths::failed("remove", path))
            }
            // The finding may be stale by now: a folder that is in use again is not empty.
            SettleAction::RemoveEmpty(path) => {
                // A provision or a removal that has just made the folder is about to fill it.
                let _held = self.owner_of(path).map(|id| self.hold(id.as_str())).transpose()?;
                paths::remove_dir_if_empty(path).map_err(paths::failed("remove", path))
            }
            SettleAction::Unlink(path, lock) => {
                let _held = self.hold(lock)?;
                match path.symlink_metadata() {
                    Ok(found) if found.is_dir() => {
                        removal::no_mounts(path)?;
                        // Checked again under the lock: the finding may be stale, and
                        // a repository may be work.
                        let keep = is_of_clean(path).then(|| self.repository_in(path)).flatten();
                        if let Some(why) = keep {
                            let message = format!("{} {why}", path.display());
                            let hint = "inspect it, and delete it manually if it is not needed";
                            return Err(Fault::new(Code::NotOurs, message, hint));
                        }
                        remove_tree::tree(path, &mut |_| self.cancel.check().map_err(Fault::from))?;
                        Ok(())
                    }
                    Ok(_) => Ok(removal::remove_ours_file(path)?),
                    Err(_) => Ok(()),
                }
            }
            SettleAction::End(id, process) => self.end(id, *process),
            SettleAction::DropRef(common, path) => {
                let name = path.strip_prefix(common).unwrap_or(path).to_string_lossy();
                let git = Git::exact(common, None, None, self.cancel);
                Ok(Change::of(&git, common, &name).delete(None)?)
            }
            SettleAction::HoldRescues(common) => self.hold_rescues(common),
            SettleAction::DropLock(lock) => {
                locks::drop_if_dead(lock);
                Ok(())
            }
            SettleAction::Unregister(admin) => {
                // Gone or no longer ours: another process was faster.
                let Some(marker) = Marker::read(admin)? else { return Ok(()) };
                let _held = self.hold(&marker.environment)?;
                self.holds_nothing(admin)?;
                Ok(registration::archive_stranded(admin)?)
            }
        }
    }

    /// Returns the environment for which a folder of the data directory is named.
    fn owner_of(&self, path: &Path) -> Option<EnvironmentId> {
        let layout = &self.world.layout;
        let below = |root: &Path| {
            let name = path.strip_prefix(root).ok()?.components().next()?;
            Some(name.as_os_str().to_str()?.to_owned())
        };
        let mut kept = layout.trashes().into_iter().chain([layout.rescues()]);
        let kept = kept.find_map(|root| below(&root));
        let kept = kept.as_deref().and_then(|name| Some(name.rsplit_once('.')?.0.to_owned()));
        EnvironmentId::parse(&kept.or_else(|| below(&layout.worktrees()))?).ok()
    }

    /// Refuses while a registration alone holds commits: git keeps them only as long as it sees the
    /// registration.
    fn holds_nothing(&self, admin: &Path) -> Result<(), Fault> {
        let common = admin.parent().and_then(Path::parent).unwrap_or(admin);
        let git = Git::exact(common, None, None, self.cancel);
        let alone = Heads::read(admin).held_by_no_ref(&git)?;
        let Some(commit) = alone.first() else { return Ok(()) };
        let message =
            format!("{} alone holds {} commits, such as {commit}", admin.display(), alone.len());
        let hint = format!(
            "run `git --git-dir='{}' branch kept-{} {commit}` to keep it, then sweep again",
            common.display(),
            commit.get(..10).unwrap_or(commit)
        );
        Err(Fault::new(Code::UnsafeToRemove, message, hint))
    }

    /// Takes the lock of an environment, so that no running effect works on it while
    /// a part of it is settled.
    pub(super) fn hold(&self, lock: &str) -> Result<LockFile, Fault> {
        LockFile::try_take(&self.world.layout.locks().join(lock))?.ok_or_else(|| {
            let message = format!("{lock} is in use by another operation");
            let hint = "run `groundskeeper sweep` again when that operation has ended";
            Fault::new(Code::EnvironmentBusy, message, hint)
        })
    }
}
