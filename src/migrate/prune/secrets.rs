//! What is kept for an undo in the directories of migrations. It stays with its backup.

use std::collections::BTreeMap;
use std::path::Path;

use super::candidate::{Candidate, Found, found};
use super::database::{Database, Known};
use super::names::SetName;
use super::request::{Kind, PruneRequest};
use crate::content::CONTENT;
use crate::files::{Files, with_suffix};
use crate::keychain_entries::KEYCHAIN;
use crate::secrets::{KEPT, READY, RESTORED, WRITTEN};
use crate::warnings::{OF_BUILD, OF_SOURCE};
use groundskeeper_core::{Fault, MigrationId, Time};
use groundskeeper_system::{clock, paths, real_dir::RealDir};

/// Name of the note in a migration's directory that its backup was pruned.
pub(crate) const PRUNED: &str = "pruned";

/// Lists the kept secrets of a database, after its backups are listed.
///
/// # Errors
/// When a directory or file cannot be inspected.
pub(super) fn list(
    database: &Database<'_>,
    request: &PruneRequest,
    all: &mut Vec<Found>,
) -> Result<(), Fault> {
    // Migrations that no log remembers are known by their backups.
    let homes: Vec<&Path> = database.known.iter().map(|known| known.home).collect();
    let mut wanted: BTreeMap<(&Path, &MigrationId), Option<Known<'_>>> = BTreeMap::new();
    for known in &database.known {
        wanted.insert((known.home, &known.migration.id), Some(*known));
    }
    for set in database.sets.keys().filter(|set| database.known(set).is_none()) {
        for home in &homes {
            wanted.entry((home, &set.migration)).or_insert(None);
        }
    }
    for ((home, id), known) in wanted {
        if let Some(found) = one(database, home, id, known, request, all)? {
            all.push(found);
        }
    }
    Ok(())
}

fn one(
    database: &Database<'_>,
    home: &Path,
    id: &MigrationId,
    known: Option<Known<'_>>,
    request: &PruneRequest,
    all: &[Found],
) -> Result<Option<Found>, Fault> {
    let home = &paths::real(home).unwrap_or_else(|_| home.to_owned());
    let folder = home.join(id.as_str());
    let dir = match RealDir::open(&folder) {
        Ok(Some(dir)) => dir,
        Ok(None) => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
        Err(e) => return Err(paths::fault("open", &folder, &e)),
    };
    let names = [KEPT, WRITTEN, KEYCHAIN, READY, CONTENT, RESTORED, OF_SOURCE, OF_BUILD];
    let names = names.iter().flat_map(|name| [(*name).into(), format!("{name}.tmp").into()]);
    let own = known.and_then(|known| database.backup_of(known.migration));
    let is_backup = |found: &&Found| {
        let item = &found.item;
        let same =
            own.as_ref().map_or(&item.migration == id, |own| own.migration == item.migration);
        item.kind == Kind::Backup && same
    };
    let backup = all.iter().find(is_backup);
    let kept = match (backup, known) {
        (Some(found), _) if found.item.kept.is_some() => {
            Some(format!("they belong to {}, which is kept", found.item.path.display()))
        }
        // Unless it was pruned: it may have been moved, and may come back.
        (None, Some(known)) if known.migration.has_migrated() && !folder.join(PRUNED).exists() => {
            Some("their backup is not there".to_owned())
        }
        _ => None,
    };
    // With the backup they are as old as that; otherwise since the migration ended.
    let since = backup.map(|found| Time(found.item.since_ms.saturating_mul(1_000_000)));
    let since = since.or_else(|| known.map(|known| known.migration.changed_at));
    let at_ms = known.map_or(0, |known| known.migration.plan.at_ms);
    let set = SetName { at_ms, migration: id.clone(), kind: Kind::Secrets };
    let kind = Kind::Secrets;
    let candidate = Candidate { kind, dir, names: names.collect(), set: &set, since, kept };
    found(database, candidate, request)
}

/// Notes durably that the backup of a migration is pruned now.
///
/// # Errors
/// The error of the file system.
pub(super) fn note(files: &Files, home: &Path, id: &MigrationId) -> Result<(), Fault> {
    let folder = home.join(id.as_str());
    files.make_dir(&folder).map_err(paths::failed("create", &folder))?;
    let note = folder.join(PRUNED);
    let text = (clock::now().0 / 1_000_000_000).to_string();
    let written = files.write(&note, &with_suffix(&note, ".tmp"), text.as_bytes());
    match written {
        // To remove it makes the room that this has not.
        Err(e) if e.kind() == std::io::ErrorKind::StorageFull => Ok(()),
        written => written.map_err(paths::failed("write", &note)),
    }
}
