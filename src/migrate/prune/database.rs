//! One database: the migrations that the logs know of it, its directory, and why nothing of it may
//! be removed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::log::Log;
use super::names::{SetName, Sets, parse, sets};
use crate::file_names::manifest_for;
use crate::files::with_suffix;
use crate::recipes::Recipes;
use crate::recipes::folder::LABEL;
use groundskeeper_core::{HostPath, Migration};
use groundskeeper_system::{paths, real_dir::RealDir};

/// Limit of the names in one directory.
const NAMES_MAX: usize = 100_000;

/// A migration and the directory of its log for what an undo needs.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) home: &'a Path,
    pub(super) migration: &'a Migration,
}

/// One database.
pub(super) struct Database<'a> {
    pub(super) host: &'a HostPath,
    pub(super) path: PathBuf,
    /// Its migrations in all logs.
    pub(super) known: Vec<Known<'a>>,
    /// Its directory; `None` when that is missing or not reached without a link.
    pub(super) dir: Option<RealDir>,
    /// Its backups, and what was put aside.
    pub(super) sets: Sets,
    /// Why nothing of it may be removed.
    pub(super) busy: Option<String>,
    labels: Vec<String>,
}

/// Returns the databases that the logs name; with `only` at most that one.
pub(super) fn all<'a>(
    logs: &'a [Log],
    recipes: &Recipes,
    only: Option<&HostPath>,
) -> Vec<Database<'a>> {
    let mut by_path: BTreeMap<&HostPath, Vec<Known<'a>>> = BTreeMap::new();
    for log in logs {
        for migration in &log.migrations {
            let known = Known { home: &log.home, migration };
            by_path.entry(&migration.plan.database).or_default().push(known);
        }
    }
    let wanted = by_path.into_iter().filter(|(host, _)| only.is_none_or(|only| only == *host));
    wanted.map(|(host, known)| Database::new(host, known, recipes, logs)).collect()
}

impl<'a> Database<'a> {
    fn new(host: &'a HostPath, known: Vec<Known<'a>>, recipes: &Recipes, logs: &[Log]) -> Self {
        let path = paths::from_host(host);
        let (mut labels, mut manifests) = (Vec::new(), Vec::new());
        for one in &known {
            let plan = &one.migration.plan;
            if plan.folder.is_some() {
                labels.push(LABEL.to_owned());
                manifests.push(with_suffix(&path, ".migration.json"));
            } else if let Ok(recipe) = recipes.named(plan.recipe.as_deref().unwrap_or_default()) {
                labels.push(recipe.label().to_owned());
                manifests.push(manifest_for(&path, &*recipe));
            }
        }
        labels.sort();
        labels.dedup();
        let parent = path.parent().unwrap_or(Path::new("/"));
        let (dir, names, unread) = match read(parent) {
            Ok(Some((dir, names))) => (Some(dir), names, None),
            Ok(None) => (None, Vec::new(), None),
            Err(e) => (None, Vec::new(), Some(unreadable(parent, &e))),
        };
        let sets = sets(path.file_name().unwrap_or_default(), &labels, names);
        let busy = unread.or_else(|| in_progress(&known)).or_else(|| {
            let found = manifests.iter().find(|path| path.symlink_metadata().is_ok())?;
            Some(format!("a migration was interrupted: {} is there", found.display()))
        });
        let busy = busy.or_else(|| {
            let busy = logs.iter().any(|log| log.busy.contains(host));
            busy.then(|| "another process has the log beside it".to_owned())
        });
        Self { host, path, known, dir, sets, busy, labels }
    }

    /// Returns the migration of a name, if a log knows it.
    pub(super) fn known(&self, set: &SetName) -> Option<Known<'a>> {
        self.known.iter().find(|known| known.migration.id == set.migration).copied()
    }

    /// Returns the backup that a migration made or found, by its name.
    pub(super) fn backup_of(&self, migration: &Migration) -> Option<SetName> {
        let backup = paths::from_host(migration.backup.as_ref()?);
        let name = backup.file_name()?;
        let (set, _) = parse(self.path.file_name()?, &self.labels, name)?;
        (backup.parent() == self.path.parent()).then_some(set)
    }

    /// Returns whether a name is that of a plain file. Nothing else is a way back.
    fn is_whole(&self, name: &OsStr) -> bool {
        let entry = self.dir.as_ref().and_then(|dir| dir.entry(name).ok().flatten());
        entry.is_some_and(|entry| entry.is_file && entry.bytes > 0)
    }

    /// Returns whether a backup is the newest of its database, or one that an undo puts back.
    pub(super) fn is_way_back(&self, set: &SetName) -> bool {
        let backups = self.sets.iter().filter(|(other, files)| {
            other.kind == set.kind && files.get(&0).is_some_and(|name| self.is_whole(name))
        });
        if backups.map(|(other, _)| other).max() == Some(set) {
            return true;
        }
        let mut homes: BTreeMap<&Path, &Migration> = BTreeMap::new();
        for known in self.known.iter().filter(|known| known.migration.has_migrated()) {
            let last = homes.entry(known.home).or_insert(known.migration);
            if known.migration.seq > last.seq {
                *last = known.migration;
            }
        }
        homes.into_values().any(|last| self.backup_of(last).as_ref() == Some(set))
    }
}

/// Opens a directory and lists it; `None` when there is none.
fn read(path: &Path) -> io::Result<Option<(RealDir, Vec<OsString>)>> {
    let Some(dir) = RealDir::open(path)? else { return Ok(None) };
    let names = dir.names(NAMES_MAX)?;
    Ok(Some((dir, names)))
}

/// Returns why a directory is left alone. It is no reason to keep what other databases have.
fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotADirectory => format!("{} is reached through a link", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    }
}

fn in_progress(known: &[Known<'_>]) -> Option<String> {
    let underway = known.iter().find(|known| !known.migration.is_over())?.migration;
    let what = if underway.is_undoing() { "undo of migration" } else { "migration" };
    Some(format!("the {what} {} is in progress", underway.id))
}
