//! Finds what no record explains in the data directory: worktrees, trash entries, raw copies, lock
//! files and transcripts. Removes nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use groundskeeper_system::own_file::{self, Links};

use crate::core::EnvironmentId;
use crate::core::event::Finding;
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
            let env = EnvironmentId::parse(&name).ok().and_then(|id| self.life(&id));
            if env.as_ref().is_some_and(|env| env.is_live()) {
                continue;
            }
            let known = env.is_some();
            let proven = env.map(|env| self.leftovers_in(&env.id, &path));
            let (proven, others) = proven.unwrap_or_default();
            let is_proven = !proven.is_empty();
            for leftover in proven {
                let detail = format!(
                    "of {}.{}, which ended; its place is the trash, where `groundskeeper restore \
                     {}` finds it",
                    leftover.id, leftover.incarnation, leftover.id
                );
                let found_at = leftover.path.clone();
                let settle = SettleAction::Archive(Box::new(leftover));
                found.push((finding("directory", &found_at, true, detail), settle));
            }
            if is_proven && others.is_empty() {
                continue;
            }
            // A provision that was given up right after it made its directory leaves both empty.
            let empty = others.iter().all(|inside| is_empty_dir(inside)) && is_dir(&path);
            for inside in others.iter().filter(|_| known && empty) {
                let detail = "the empty directory of a tombstoned environment".to_owned();
                let settle = SettleAction::RemoveEmpty(inside.clone());
                found.push((finding("directory", inside, true, detail), settle));
            }
            let detail = match (known, empty) {
                (true, true) => "the empty directory of a tombstoned environment".to_owned(),
                (true, false) => "of a removed environment; nothing proves that groundskeeper \
                                  created it: inspect it, and remove it manually"
                    .to_owned(),
                (false, _) => {
                    "no record of it; adopt the worktree in it with `groundskeeper adopt PATH`, or \
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
                    (e.owed.is_some() || e.is_live())
                        && (name == names::folder(e.life())
                            || name == format!(".rollback-{}.{}", e.id, e.incarnation))
                });
                let mut outputs = self.state.outputs();
                let cleaned = outputs.any(|o| layout.cleaned_of(&o.id, o.clean).contains(&path));
                if explained.contains(&path) || working || cleaned {
                    continue;
                }
                if let Some(leftover) = self.leftover_in_trash(&name, &path) {
                    let detail = "of an incarnation that ended; no record of it in the trash";
                    let finding = finding("trash", &path, true, detail.to_owned());
                    found.push((finding, SettleAction::Archive(Box::new(leftover))));
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
            let known = id.is_some_and(|id| self.life(&id).is_some());
            // A log that was restored from a backup knows nothing of what
            // happened after the backup.
            let past = clean.parse().is_ok_and(|clean: u64| clean <= self.state.seq().0);
            if !known || !past {
                return Some("this log has no record of that clean".to_owned());
            }
        }
        self.repository_in(path)
    }

    /// Finds lock files that no process holds, which earlier versions left, and transcripts
    /// of unknown environments.
    pub(super) fn locks_and_transcripts(&self, found: &mut Vec<(Finding, SettleAction)>) {
        let layout = &self.world.layout;
        for (_, path) in entries(&layout.locks()) {
            let open = own_file::open(&path, File::options().read(true), Links::Refused);
            // Its holder may have released it just now, and unlinks it next.
            let is_free = open.is_ok_and(|file| file.try_lock().is_ok());
            if is_free && path.symlink_metadata().is_ok() {
                let detail = "no process holds it".to_owned();
                let settle = SettleAction::RemoveLock(path.clone());
                found.push((finding("lock", &path, true, detail), settle));
            }
        }
        self.transcripts(found);
    }

    /// Finds transcripts of ended incarnations that are older than the trash keeps anything, whose
    /// last lines the log has; and those of unknown environments.
    fn transcripts(&self, found: &mut Vec<(Finding, SettleAction)>) {
        for (name, path) in entries(&self.world.layout.transcripts()) {
            let life = name.strip_suffix(".teardown").unwrap_or(&name);
            let (id, number) = life.rsplit_once('.').unwrap_or((life, ""));
            let id = EnvironmentId::parse(id).ok();
            let Some(env) = id.and_then(|id| self.life(&id)) else {
                let detail = "of an unknown environment".to_owned();
                found.push((finding("transcript", &path, false, detail), SettleAction::No));
                continue;
            };
            let is_over = number.parse().is_ok_and(|number: u32| {
                number < env.incarnation || number == env.incarnation && !env.is_live()
            });
            if is_over && self.is_past_retention(&path) {
                let detail = format!("of an ended incarnation of {}", env.id);
                let settle = SettleAction::Unlink(path.clone(), env.id.to_string());
                found.push((finding("transcript", &path, true, detail), settle));
            }
        }
    }
}

fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

fn is_empty_dir(path: &Path) -> bool {
    is_dir(path) && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
