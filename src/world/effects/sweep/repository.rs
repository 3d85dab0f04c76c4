//! Finds what we left in a repository: registrations, half-made administrative directories,
//! temporary refs, and locks of git. Removes nothing.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::core::event::Finding;
use crate::core::{Environment, EnvironmentId};
use crate::failpoint::guard;
use crate::world::effects::sweep::task::{DEAD_LOCK, SettleAction, Task, entries, finding};
use crate::world::fs::{names, paths};
use crate::world::git::locks;
use crate::world::git::marker::{Admin, Marker};

/// Minimum age of a git lock before it is reported.
pub(super) const LOCK_AGE: Duration = Duration::from_secs(10);

impl Task<'_> {
    /// Returns every repository that any record names.
    pub(super) fn repositories(&self) -> BTreeSet<PathBuf> {
        let live = self.state.environments().map(|e| &e.plan);
        let plans = live.chain(self.state.archives().map(|r| &r.plan));
        plans.map(|plan| paths::from_host(&plan.repository.common_dir)).collect()
    }

    /// Finds registrations and half-made administrative directories that carry our marker.
    pub(super) fn repository(&self, common: &Path, found: &mut Vec<(Finding, SettleAction)>) {
        for (_, path) in entries(&common.join("worktrees")) {
            let Some(marker) = self.marker(&path) else { continue };
            let (env, over) = self.incarnation(&marker);
            let id = EnvironmentId::parse(&marker.environment).ok();
            let archive = id.and_then(|id| self.state.archive_of(&id, marker.incarnation));
            let has_place = is_to_be_archived(&marker, found);
            if has_place || archive.is_some_and(|r| r.owed.is_some() || r.restoring.is_some()) {
                // It goes with its directory; or a step of its archive is owed, or a restore uses
                // it.
                continue;
            }
            if env.is_none() {
                let detail = unknown_life(&path, &marker);
                found.push((finding("registration", &path, false, detail), SettleAction::No));
            } else if over {
                let detail =
                    format!("of {}.{}, which ended", marker.environment, marker.incarnation);
                let settle = SettleAction::Unregister(path.clone());
                found.push((finding("registration", &path, true, detail), settle));
            }
        }
        self.staging(common, found);
    }

    /// Finds administrative directories that an interrupted operation left in our own folder.
    fn staging(&self, common: &Path, found: &mut Vec<(Finding, SettleAction)>) {
        let kept = self.kept_for_restores();
        let restores = self.state.archives().any(|r| r.restoring.is_some());
        let folder = common.join("groundskeeper");
        for (name, path) in entries(&folder) {
            let Some(marker) = self.marker(&path) else { continue };
            let (env, over) = self.incarnation(&marker);
            if env.is_none() || !over || kept.contains(&path) || is_to_be_archived(&marker, found) {
                continue;
            }
            let id = &marker.environment;
            // What was about to be deleted holds nothing, and neither does what git never saw,
            // unless it comes from a restore. Anything else is kept as long as the trash.
            let is_used = path.join("logs/HEAD").symlink_metadata().is_ok();
            let is_empty = name.ends_with(".gone") || name.ends_with(".new") && !is_used;
            let is_half = name.ends_with(".new") || name.ends_with(".gone");
            let detail = match () {
                () if is_half && restores => continue,
                () if is_empty => format!("incomplete, of {id}"),
                () if !self.is_past_retention(&path) => continue,
                () if is_half => format!("incomplete, of {id}"),
                () if name.ends_with(".removed") => {
                    format!("kept for a restore of {id}, which is no longer possible")
                }
                () => continue,
            };
            let settle = SettleAction::Unlink(path.clone(), id.clone());
            found.push((finding("staging", &path, true, detail), settle));
        }
        if folder.is_dir() && entries(&folder).is_empty() {
            let detail = "empty, and used by no environment".to_owned();
            let settle = SettleAction::RemoveEmpty(folder.clone());
            found.push((finding("staging", &folder, true, detail), settle));
        }
    }

    /// Returns whether a file was last changed, or a directory was put where it is, longer ago than
    /// the trash keeps anything.
    pub(super) fn is_past_retention(&self, path: &Path) -> bool {
        let Ok(found) = path.symlink_metadata() else { return false };
        // A rename changes only this time, and it cannot be set back.
        let changed = Duration::from_secs(found.ctime().try_into().unwrap_or(u64::MAX));
        let age = clock::since_epoch().saturating_sub(changed);
        age.as_secs() >= self.state.retention().trash_seconds
    }

    /// Finds temporary refs of ours whose incarnation no longer needs them.
    pub(super) fn refs(&self, common: &Path, found: &mut Vec<(Finding, SettleAction)>) {
        for folder in names::PASSING {
            for (id, folder) in entries(&common.join(folder)) {
                for (tag, path) in entries(&folder) {
                    if self.is_left(&id, &tag) {
                        let detail = format!("left behind for {id}");
                        let settle = SettleAction::DropRef(common.to_owned(), path.clone());
                        found.push((finding("ref", &path, true, detail), settle));
                    }
                }
            }
        }
        for top in ["", "logs/"] {
            for kind in names::KINDS {
                for (id, folder) in entries(&common.join(format!("{top}{kind}"))) {
                    let plain = folder.symlink_metadata().is_ok_and(|m| m.is_dir());
                    if plain && entries(&folder).is_empty() && !self.is_at_work(&id) {
                        let detail = "an empty folder of refs".to_owned();
                        let settle = SettleAction::RemoveEmpty(folder.clone());
                        found.push((finding("staging", &folder, true, detail), settle));
                    }
                }
            }
        }
    }

    /// Returns whether a step of any life of an environment is owed or running. It writes its refs
    /// in folders of that name, or has just deleted one and removes the folder next.
    fn is_at_work(&self, id: &str) -> bool {
        let Ok(id) = EnvironmentId::parse(id) else { return false };
        let owed = |a: &crate::core::ArchivedIncarnation| {
            a.id == id && (a.owed.is_some() || a.restoring.is_some())
        };
        self.state.environment(&id).is_some_and(|e| e.owed.is_some())
            || self.state.archives().any(owed)
    }

    /// Returns whether a ref is named for an incarnation of this log that no longer needs it.
    fn is_left(&self, id: &str, tag: &str) -> bool {
        let mut parts = tag.splitn(3, '-');
        let number = parts.next().and_then(|n| n.parse::<u32>().ok());
        let log = parts.next().unwrap_or_default();
        let (Some(incarnation), Some(nonce)) = (number, parts.next()) else { return false };
        let Ok(id) = EnvironmentId::parse(id) else { return false };
        let busy = |e: &Environment| e.incarnation == incarnation && e.owed.is_some();
        !log.is_empty()
            && self.world.log_id.starts_with(log)
            && self.knows(&id, incarnation, Some(nonce))
            && self.state.archive_of(&id, incarnation).is_none()
            && !self.state.environment(&id).is_some_and(busy)
    }

    /// Returns the put-away registrations that a restore may still need.
    fn kept_for_restores(&self) -> BTreeSet<PathBuf> {
        let kept = self.state.archives().filter(|r| r.trash.is_some() || r.restoring.is_some());
        let admin = |r: &crate::core::ArchivedIncarnation| {
            let common = &r.plan.repository.common_dir;
            Admin::at(&self.world.log_id, common, r.life()).removed
        };
        kept.map(admin).collect()
    }

    /// Returns the marker of an administrative directory, if it is of this log.
    fn marker(&self, admin: &Path) -> Option<Marker> {
        let marker = Marker::read(admin).ok().flatten()?;
        (marker.log == self.world.log_id || !guard::stands("log")).then_some(marker)
    }

    /// Returns the environment that a marker names, and whether the marker's incarnation ended.
    fn incarnation(&self, marker: &Marker) -> (Option<Cow<'_, Environment>>, bool) {
        let id = EnvironmentId::parse(&marker.environment).ok();
        let knows = |id: &EnvironmentId| {
            self.knows(id, marker.incarnation, marker.nonce.as_deref()) || !guard::stands("life")
        };
        let env = id.filter(knows).and_then(|id| self.life(&id));
        let over = env.as_ref().is_some_and(|e| {
            e.incarnation > marker.incarnation
                || (e.incarnation == marker.incarnation && !e.is_live())
        });
        (env, over)
    }
}

/// Returns whether the directory of a marker's incarnation was found: the two are archived
/// together.
fn is_to_be_archived(marker: &Marker, found: &[(Finding, SettleAction)]) -> bool {
    found.iter().any(|(_, settle)| match settle {
        SettleAction::Archive(leftover) => {
            leftover.id.as_str() == marker.environment && leftover.incarnation == marker.incarnation
        }
        _ => false,
    })
}

/// Finds git's own lock files that are old enough to be reported, with their live holder if there
/// is one. Only a lock that names a dead daemon is ours to remove.
pub(super) fn locks_of_git(common: &Path, found: &mut Vec<(Finding, SettleAction)>) {
    for standing in locks::in_repository(common) {
        if standing.is_ours_and_dead {
            let detail = "left by a daemon that was killed".to_owned();
            let settle = SettleAction::DropLock(standing.path.clone());
            found.push((finding(DEAD_LOCK, &standing.path, true, detail), settle));
        } else if standing.age >= LOCK_AGE {
            let detail = format!("{}; {}", standing.line(), standing.hint());
            found.push((finding("lock of git", &standing.path, false, detail), SettleAction::No));
        }
    }
}

/// Describes a worktree whose marker has this log's id, but an incarnation that the log does not
/// know: the log was restored from a backup, or is not the one that created it.
fn unknown_life(admin: &Path, marker: &Marker) -> String {
    let pointer = std::fs::read(admin.join("gitdir")).unwrap_or_default();
    let place = paths::from_bytes(pointer.trim_ascii_end());
    let place = place.parent().filter(|place| place.exists());
    let what = match place {
        Some(place) => format!("run `groundskeeper adopt '{}'` to adopt it", place.display()),
        None => "its directory does not exist".to_owned(),
    };
    format!("of {}.{}, which is not in the log; {what}", marker.environment, marker.incarnation)
}
