//! Finds what no record explains in the data directory: worktrees, trash entries, raw copies, lock
//! files and transcripts. Removes nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use groundskeeper_system::own_file::{self, Links};

use crate::core::event::Finding;
use crate::core::{Environment, EnvironmentId};
use crate::world::effects::sweep::task::{
    CLEANED_BEFORE, SettleAction, Task, entries, finding, is_of_clean,
};
use crate::world::fs::data_dir::CLEANED_PREFIX;
use crate::world::fs::{names, paths};

impl Task<'_> {
    /// Finds directories below the managed root that belong to no live environment.
    pub(super) fn managed_root(&self, found: &mut Vec<(Finding, SettleAction)>) {
        let layout = &self.world.layout;
        let adopted = |path: &Path| {
            let mut adopted = self.state.environments().filter(|e| e.adopted && e.is_live());
            adopted.any(|e| paths::borrowed(&e.plan.path).starts_with(path))
        };
        for (name, path) in entries(&layout.worktrees()) {
            if name == ".trash" || adopted(&path) {
                continue;
            }
            let env = EnvironmentId::parse(&name).ok().and_then(|id| self.state.environment(&id));
            if env.is_some_and(Environment::is_live) {
                continue;
            }
            let empty = std::fs::read_dir(&path).is_ok_and(|mut d| d.next().is_none());
            let known = env.is_some();
            let detail = match (known, empty) {
                (true, true) => "the empty directory of a tombstoned environment".to_owned(),
                (true, false) => {
                    "beside a removed worktree; not created by groundskeeper".to_owned()
                }
                (false, _) => {
                    "no record of it; adopt the worktree in it with `groundskeeper adopt`, or \
                     remove it with `git worktree remove`"
                        .to_owned()
                }
            };
            let settle = if known && empty {
                SettleAction::RemoveEmpty(path.clone())
            } else {
                SettleAction::No
            };
            found.push((finding("directory", &path, known && empty, detail), settle));
        }
    }

    /// Finds trash entries that belong to no archive.
    pub(super) fn trash(&self, found: &mut Vec<(Finding, SettleAction)>) {
        let layout = &self.world.layout;
        let explained: BTreeSet<PathBuf> = self
            .state
            .archives()
            .filter_map(|r| paths::from_host(r.trash.as_ref()?).parent().map(Path::to_owned))
            .collect();
        for folder in layout.trashes() {
            for (name, path) in entries(&folder) {
                let working = self.state.environments().any(|e| {
                    e.owed.is_some()
                        && (name == names::folder(e.life())
                            || name == format!(".rollback-{}.{}", e.id, e.incarnation))
                });
                let mut outputs = self.state.outputs();
                let cleaned = outputs.any(|o| layout.cleaned_of(&o.id, o.clean).contains(&path));
                if explained.contains(&path) || working || cleaned {
                    continue;
                }
                let cleaned = is_of_clean(&path);
                let keep = cleaned.then(|| self.keeps(&name, &path)).flatten();
                let temporary = name.starts_with(".rollback-") || cleaned && keep.is_none();
                let empty = std::fs::read_dir(&path).is_ok_and(|mut d| d.next().is_none());
                let ours = temporary || empty;
                let detail = if let Some(why) = keep {
                    format!("moved by a clean, but {why}: inspect it, and remove it manually")
                } else if ours {
                    "left by an interrupted removal".to_owned()
                } else {
                    "no record of it; it may hold work: inspect it, and remove it manually"
                        .to_owned()
                };
                let marks = [CLEANED_PREFIX, CLEANED_BEFORE, ".rollback-"];
                let owner = marks.iter().find_map(|mark| name.strip_prefix(mark)).unwrap_or(&name);
                let owner = owner.rsplit_once('.').map_or(owner, |(id, _)| id).to_owned();
                let settle = match (temporary, empty) {
                    (_, true) => SettleAction::RemoveEmpty(path.clone()),
                    (true, _) => SettleAction::Unlink(path.clone(), owner),
                    _ => SettleAction::No,
                };
                found.push((finding("trash", &path, ours, detail), settle));
            }
        }
    }

    /// Finds raw copies of a rescue that no record explains: they may be
    /// the last copy of some work.
    pub(super) fn copies(&self, found: &mut Vec<(Finding, SettleAction)>) {
        let layout = &self.world.layout;
        let archives = self.state.archives().map(|r| names::folder(r.life()));
        let live = self.state.environments().filter(|e| e.is_live());
        let explained: BTreeSet<String> =
            live.map(|e| names::folder(e.life())).chain(archives).collect();
        for (name, path) in entries(&layout.rescues()) {
            if explained.contains(&name) {
                continue;
            }
            let empty = std::fs::read_dir(&path).is_ok_and(|mut d| d.next().is_none());
            let (settle, detail) = if empty {
                (SettleAction::RemoveEmpty(path.clone()), "left by an interrupted rescue")
            } else {
                (
                    SettleAction::No,
                    "no record of it; it may hold work: inspect it, and remove it manually",
                )
            };
            found.push((finding("copies", &path, empty, detail.to_owned()), settle));
        }
    }

    /// Returns why a trash folder of a clean that no record explains must not be unlinked.
    fn keeps(&self, name: &str, path: &Path) -> Option<String> {
        if let Some(named) = name.strip_prefix(CLEANED_PREFIX) {
            let (id, clean) = named.rsplit_once('.')?;
            let id = EnvironmentId::parse(id).ok();
            let known = id.is_some_and(|id| self.state.environment(&id).is_some());
            // A log that was restored from a backup knows nothing of what
            // happened after the backup.
            let past = clean.parse().is_ok_and(|clean: u64| clean <= self.state.seq().0);
            if !known || !past {
                return Some("this log has no record of that clean".to_owned());
            }
        }
        self.repository_in(path)
    }

    /// Finds lock files that no process holds and no environment needs, and transcripts
    /// of unknown environments.
    pub(super) fn locks_and_transcripts(&self, found: &mut Vec<(Finding, SettleAction)>) {
        let layout = &self.world.layout;
        let needed = |id: &str| {
            EnvironmentId::parse(id).ok().is_some_and(|id| {
                self.state.environment(&id).is_some_and(Environment::is_live)
                    || self.state.archives().any(|r| r.id == id)
                    || self.state.outputs_of(&id).next().is_some()
            })
        };
        for (name, path) in entries(&layout.locks()) {
            let id = name.strip_prefix('.').and_then(|n| Some(n.rsplit_once('.')?.0));
            let id = id.unwrap_or(&name);
            let open = || own_file::open(&path, File::options().read(true), Links::Refused);
            let free = || open().is_ok_and(|file| file.try_lock().is_ok());
            let shared = [".host", ".cleaned"].contains(&name.as_str());
            if !shared && !needed(id) && free() {
                let detail = "no process holds it".to_owned();
                found
                    .push((finding("lock", &path, true, detail), SettleAction::Unlink(path, name)));
            }
        }
        for (name, path) in entries(&layout.transcripts()) {
            let id = name.strip_suffix(".teardown").unwrap_or(&name);
            let id = id.rsplit_once('.').map_or(id, |(id, _)| id);
            let known = EnvironmentId::parse(id).ok();
            let recent = known.is_some_and(|id| self.state.environment(&id).is_some());
            if !recent {
                let detail = "of an unknown environment".to_owned();
                found.push((finding("transcript", &path, false, detail), SettleAction::No));
            }
        }
    }
}
