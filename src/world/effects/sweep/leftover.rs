//! Directories of ended incarnations: proves that one is managed, and ends its removal by a move to
//! the trash, from which it can be restored.
//!
//! Proven means: the log knows the incarnation by its nonce and records that it ended; its marker
//! is in the repository, and the directory points to it; and the directory's real path is in the
//! data directory. Nothing here unlinks a directory.

use std::path::{Path, PathBuf};

use crate::core::event::{CheckoutMethod, LeftoverArchived, Worktree};
use crate::core::{Code, EnvironmentId, Fault};
use crate::failpoint::kill::point;
use crate::world::effects::archive::move_to_trash;
use crate::world::effects::sweep::task::{Leftover, Task, entries};
use crate::world::fs::file_id::FileId;
use crate::world::fs::{names, paths, removal};
use crate::world::git::heads::Heads;
use crate::world::git::marker::{self, Admin, Marker};
use crate::world::git::{ownership, refs, registration};

impl Task<'_> {
    /// Returns the ended incarnation of this id that a directory is proven to belong to.
    pub(super) fn leftover(&self, id: &EnvironmentId, path: &Path) -> Option<Leftover> {
        let ended = self.ended_lives(id, path);
        ended.into_iter().find(|leftover| self.is_proven(leftover).is_some())
    }

    /// Returns the ended incarnations of an id that have no directory in the trash and with which
    /// no operation is in progress.
    fn ended_lives(&self, id: &EnvironmentId, path: &Path) -> Vec<Leftover> {
        let archived = |n| self.state.archive_of(id, n);
        let env = self.life(id).filter(|e| !e.is_live() && !e.adopted);
        let present = env.filter(|e| archived(e.incarnation).is_none()).map(|e| Leftover {
            id: id.clone(),
            incarnation: e.incarnation,
            nonce: e.nonce.clone(),
            plan: e.plan.clone(),
            head: e.teardown.as_ref().and_then(|t| t.head.clone()).or_else(|| {
                let start = e.start().filter(|start| !start.is_empty());
                start.map(str::to_owned)
            }),
            path: path.to_owned(),
        });
        let left = self.state.archives().filter(|a| {
            a.id == *id && a.trash.is_none() && a.owed.is_none() && a.restoring.is_none()
        });
        let left = left.map(|a| Leftover {
            id: id.clone(),
            incarnation: a.incarnation,
            nonce: a.nonce.clone(),
            plan: a.plan.clone(),
            head: a.head.clone(),
            path: path.to_owned(),
        });
        present.into_iter().chain(left).collect()
    }

    /// Returns the identity of the directory if marker, pointer and real path prove it.
    fn is_proven(&self, leftover: &Leftover) -> Option<FileId> {
        let path = &leftover.path;
        let found = marker::identity(path).ok().flatten()?;
        if path.canonicalize().ok()? != *path {
            return None;
        }
        let (log, life) = (&self.world.log_id, leftover.life());
        let admin = Admin::at(log, &leftover.plan.repository.common_dir, life);
        let markers = [&admin.published, &admin.removed, &admin.staged];
        let markers = markers.into_iter();
        let mut markers = markers.filter_map(|dir| Marker::read(dir).ok().flatten());
        let is_marked = markers.any(|marker| marker.is_of(log, life));
        (is_marked && ownership::points_to(path, log, life)).then_some(found)
    }

    /// Ends the removal of a directory: its registration leaves git's folder, and the directory is
    /// renamed to the trash, if it is not there already. Every step can be repeated: until the
    /// archive is recorded, the next sweep finds the directory where this one left it.
    pub(super) fn archive(&self, leftover: &Leftover) -> Result<LeftoverArchived, Fault> {
        let _held = self.hold(leftover.id.as_str())?;
        let layout = &self.world.layout;
        // Proven again under the lock: the finding may be stale.
        let Some(found) = self.is_proven(leftover) else {
            let message = format!("{} has changed since it was found", leftover.path.display());
            let hint = "run `groundskeeper sweep` again";
            return Err(Fault::new(Code::NotOurs, message, hint));
        };
        removal::no_mounts(&leftover.path)?;
        let life = leftover.life();
        let admin = Admin::at(&self.world.log_id, &leftover.plan.repository.common_dir, life);
        registration::archive_ended(&admin, &self.world.log_id, life)?;
        registration::archive_staged(&admin)?;
        point("sweep.unregistered");
        let mut trash = leftover.path.clone();
        if !layout.trashes().iter().any(|folder| leftover.path.starts_with(folder)) {
            trash = move_to_trash(self.world, &leftover.path, &layout.trash_of(life))?;
            for dir in trash.ancestors().skip(1).take(2) {
                groundskeeper_system::portable::sync_dir(dir)
                    .map_err(paths::failed("sync", dir))?;
            }
            let place = layout.place_of(&leftover.id);
            paths::remove_dir_if_empty(&place).map_err(paths::failed("remove", &place))?;
        }
        point("sweep.trashed");
        Ok(record(leftover, &admin, &trash, found))
    }

    /// Finds the entries of a folder of the trash or of the managed root that are directories of
    /// ended incarnations; the second list has everything else in it.
    pub(super) fn leftovers_in(
        &self,
        id: &EnvironmentId,
        folder: &Path,
    ) -> (Vec<Leftover>, Vec<PathBuf>) {
        let (mut proven, mut others) = (Vec::new(), Vec::new());
        for (_, path) in entries(folder) {
            match self.leftover(id, &path) {
                Some(leftover) => proven.push(leftover),
                None => others.push(path),
            }
        }
        (proven, others)
    }

    /// Returns the ended incarnation whose directory lies in a folder of the trash.
    pub(super) fn leftover_in_trash(&self, name: &str, folder: &Path) -> Option<Leftover> {
        let id = EnvironmentId::parse(name.rsplit_once('.')?.0).ok()?;
        let (proven, _) = self.leftovers_in(&id, folder);
        proven.into_iter().find(|leftover| names::folder(leftover.life()) == name)
    }
}

/// Returns the record of a directory that is in the trash, with what its registration tells.
fn record(leftover: &Leftover, admin: &Admin, trash: &Path, found: FileId) -> LeftoverArchived {
    let common = paths::from_host(&leftover.plan.repository.common_dir);
    let heads = Heads::read(&admin.removed);
    let branch = heads.branch.or_else(|| {
        let detached = heads.detached.is_some();
        (!detached).then(|| leftover.plan.branch.clone())
    });
    let tip = branch.as_ref().and_then(|b| refs::tip(&common, &format!("refs/heads/{b}")));
    let head = tip.or(heads.detached).or_else(|| leftover.head.clone());
    let worktree = Worktree {
        admin_dir: paths::to_host(&admin.published),
        device: found.device,
        inode: found.inode,
        checkout: CheckoutMethod::Restored,
        racy: true,
        ..Worktree::default()
    };
    LeftoverArchived {
        environment: leftover.id.clone(),
        incarnation: leftover.incarnation,
        nonce: leftover.nonce.clone(),
        plan: leftover.plan.clone(),
        trash: paths::to_host(trash),
        worktree,
        head,
        branch,
    }
}
