//! Settles one finding of a sweep, under the lock of the environment that it belongs to. Checks
//! again whatever may have changed since the finding.

use std::fs::File;

use groundskeeper_system::own_file::{self, Links};

use crate::core::{Code, Fault};
use crate::world::effects::sweep::task::{SettleAction, Task, is_of_clean};
use crate::world::fs::{paths, removal, remove_tree};
use crate::world::git::command::Git;
use crate::world::git::marker::Marker;
use crate::world::git::ref_changes::Change;
use crate::world::git::{locks, registration};

impl Task<'_> {
    pub(super) fn settle(&self, settle: &SettleAction) -> Result<(), Fault> {
        match settle {
            SettleAction::No => Ok(()),
            // The finding may be stale by now: a folder that is in use again is not empty.
            SettleAction::RemoveEmpty(path) => {
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
            SettleAction::DropLock(lock) => {
                locks::drop_if_dead(lock);
                Ok(())
            }
            SettleAction::Unregister(admin) => {
                // Gone or no longer ours: another process was faster.
                let Some(marker) = Marker::read(admin)? else { return Ok(()) };
                let _held = self.hold(&marker.environment)?;
                Ok(registration::archive_stranded(admin)?)
            }
        }
    }

    /// Takes the lock of an environment, so that no running effect works on it while
    /// a part of it is settled.
    fn hold(&self, lock: &str) -> Result<File, Fault> {
        let path = self.world.layout.locks().join(lock);
        let there = path.exists();
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let open = own_file::open(&path, &options, Links::Refused);
        let file = open.map_err(paths::failed("open", &path))?;
        let made_for_this = !there;
        let locked = file.try_lock();
        if made_for_this {
            // A file that was created only for this lock is unlinked at once. The lock stays on the
            // open file; a later effect takes one on a file of its own.
            drop(paths::remove_file_if_any(&path));
        }
        locked.map(|()| file).map_err(|e| {
            let message = format!("{lock} is in use by another operation");
            let hint = "run `groundskeeper sweep` again when that operation has ended";
            Fault::new(Code::EnvironmentBusy, message, hint).because(e)
        })
    }
}
