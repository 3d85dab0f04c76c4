//! One database: the migrations that the logs know of it, its directory, and why nothing of it may
//! be removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::log::Log;
use super::names::{SetName, Sets, parse, sets};
use super::request::Kind;
use crate::file_names::manifest_for;
use crate::files::with_suffix;
use crate::recipes::Recipes;
use crate::recipes::folder::LABEL;
use groundskeeper_core::{HostPath, Migration, MigrationPhase};
use groundskeeper_system::{
    paths, portable,
    real_dir::{Entry, RealDir},
};

/// Limit of the names in one directory.
const NAMES_MAX: usize = 100_000;
/// First bytes of every SQLite database.
const HEADER: &[u8; 16] = b"SQLite format 3\0";

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
    /// All databases that the logs know.
    others: BTreeSet<HostPath>,
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
        let others = logs.iter().flat_map(|log| &log.migrations);
        let others = others.map(|migration| migration.plan.database.clone()).collect();
        Self { host, path, known, dir, sets, others, busy, labels }
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

    /// Returns whether a name is that of a database that is proven to be ours. Nothing else is a
    /// way back.
    fn is_whole(&self, name: &OsStr) -> bool {
        let Some(dir) = &self.dir else { return false };
        let entry = dir.entry(name).ok().flatten();
        entry.is_some_and(|entry| self.foreign(name, &entry).is_none())
            && is_database(&dir.path().join(name))
    }

    /// Returns what speaks against a file being ours.
    pub(super) fn foreign(&self, name: &OsStr, entry: &Entry) -> Option<String> {
        let name = Path::new(name).display();
        if !entry.is_file {
            return Some(format!("{name} is no regular file"));
        }
        if entry.has_other_names {
            return Some(format!("{name} has more than one name"));
        }
        let owner = entry.owner.filter(|owner| !self.is_own(*owner))?;
        Some(format!("{name} belongs to another user (uid {owner})"))
    }

    /// Returns whether files of a user are this user's. Root works on the databases of others too.
    #[cfg(unix)]
    fn is_own(&self, owner: u32) -> bool {
        let user = rustix::process::geteuid().as_raw();
        let of_database = || self.dir.as_ref()?.entry(self.path.file_name()?).ok()??.owner;
        owner == user || user == 0 && of_database() == Some(owner)
    }

    #[cfg(not(unix))]
    fn is_own(&self, _: u32) -> bool {
        true
    }

    /// Returns why a set is in use, although its name is that of something that is kept.
    pub(super) fn is_used(
        &self,
        set: &SetName,
        files: &BTreeMap<usize, OsString>,
    ) -> Option<String> {
        if set.kind == Kind::Undone {
            let undone =
                self.known(set).is_some_and(|k| k.migration.phase == MigrationPhase::Undone);
            let why = "no log says that the undo that put it aside is complete";
            return (!undone).then(|| why.to_owned());
        }
        let path = self.path.with_file_name(files.get(&0)?);
        if portable::is_same_file(&path, &self.path) {
            return Some(format!("{} leads to it", self.path.display()));
        }
        let is_migrated = self.others.contains(&paths::to_host(&path));
        is_migrated.then(|| "it was migrated itself since".to_owned())
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
    let names = dir.names(NAMES_MAX + 1)?;
    if names.len() > NAMES_MAX {
        // A part of them would tell nothing: the rest of a set may be beyond the limit.
        return Err(io::Error::other(format!("it has more than {NAMES_MAX} files")));
    }
    Ok(Some((dir, names)))
}

/// Returns why a directory is left alone. It is no reason to keep what other databases have.
fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotADirectory => format!("{} is reached through a link", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    }
}

fn is_database(path: &Path) -> bool {
    let mut head = [0; HEADER.len()];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
        && head == *HEADER
}

fn in_progress(known: &[Known<'_>]) -> Option<String> {
    let underway = known.iter().find(|known| !known.migration.is_over())?.migration;
    let what = if underway.is_undoing() { "undo of migration" } else { "migration" };
    Some(format!("the {what} {} is in progress", underway.id))
}
