//! One database: the migrations that the logs know of it, its directory, and why nothing of it may
//! be removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::log::Log;
use super::names::{SetName, Sets, parse, sets};
use crate::file_names::manifest_for;
use crate::files::with_suffix;
use crate::recipes::Recipes;
use crate::recipes::folder::LABEL;
use groundskeeper_core::{Fault, HostPath, Migration};
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
///
/// # Errors
/// When a directory cannot be read.
pub(super) fn all<'a>(
    logs: &'a [Log],
    recipes: &Recipes,
    only: Option<&HostPath>,
) -> Result<Vec<Database<'a>>, Fault> {
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
    fn new(
        host: &'a HostPath,
        known: Vec<Known<'a>>,
        recipes: &Recipes,
        logs: &[Log],
    ) -> Result<Self, Fault> {
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
        let (dir, linked) = match RealDir::open(parent) {
            Ok(dir) => (dir, None),
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
                (None, Some(format!("{} is reached through a link", parent.display())))
            }
            Err(e) => return Err(paths::fault("open", parent, &e)),
        };
        let names = dir.as_ref().map_or(Ok(Vec::new()), |dir| dir.names(NAMES_MAX));
        let names = names.map_err(paths::failed("list", parent))?;
        let sets = sets(path.file_name().unwrap_or_default(), &labels, names);
        let busy = linked.or_else(|| in_progress(&known)).or_else(|| {
            let found = manifests.iter().find(|path| path.symlink_metadata().is_ok())?;
            Some(format!("a migration was interrupted: {} is there", found.display()))
        });
        let busy = busy.or_else(|| {
            let busy = logs.iter().any(|log| log.busy.contains(host));
            busy.then(|| "another process has the log beside it".to_owned())
        });
        Ok(Self { host, path, known, dir, sets, busy, labels })
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

    /// Returns whether a backup is the newest of its database, or one that an undo puts back.
    pub(super) fn is_way_back(&self, set: &SetName) -> bool {
        let backups = self
            .sets
            .iter()
            .filter(|(other, files)| other.kind == set.kind && files.contains_key(&0));
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

fn in_progress(known: &[Known<'_>]) -> Option<String> {
    let underway = known.iter().find(|known| !known.migration.is_over())?.migration;
    let what = if underway.is_undoing() { "undo of migration" } else { "migration" };
    Some(format!("the {what} {} is in progress", underway.id))
}
