//! Lists what is kept of a database, with the reason of everything that must stay.

use super::candidate::{Candidate, Found, found};
use super::database::{Database, Known};
use super::names::SetName;
use super::request::{Kind, PruneRequest};
use super::secrets;
use crate::file_names::undone;
use crate::files::with_suffix;
use groundskeeper_core::{Fault, MigrationPhase, Time};
use groundskeeper_system::paths;
use groundskeeper_system::real_dir::RealDir;

/// Lists what is kept of a database: its backups first, then what was put aside, then secrets.
///
/// # Errors
/// When a file cannot be inspected.
pub(super) fn list(database: &Database<'_>, request: &PruneRequest) -> Result<Vec<Found>, Fault> {
    let mut all = Vec::new();
    let mut sets: Vec<_> = database.sets.iter().collect();
    sets.sort_by_key(|(set, _)| (set.kind, set.at_ms));
    for (set, files) in sets {
        let Some(dir) = reopened(database.dir.as_ref())? else { continue };
        let known = database.known(set);
        let way_back = set.kind == Kind::Backup && database.is_way_back(set);
        let way_back = (way_back && files.contains_key(&0))
            .then(|| "the newest backup is the last way back".to_owned());
        let kept = way_back.or_else(|| database.is_used(set, files));
        let names = files.values().cloned().collect();
        let since = since(set, known);
        let candidate = Candidate { kind: set.kind, dir, names, set, since, kept };
        all.extend(found(database, candidate, request)?);
    }
    for known in &database.known {
        all.extend(secrets_aside(database, *known, request)?);
    }
    secrets::list(database, request, &mut all)?;
    Ok(all)
}

/// Opens a directory once more, since each entry of the list has its own.
fn reopened(dir: Option<&RealDir>) -> Result<Option<RealDir>, Fault> {
    let Some(dir) = dir else { return Ok(None) };
    RealDir::open(dir.path()).map_err(paths::failed("open", dir.path()))
}

/// Returns since when a set is what its name says.
fn since(set: &SetName, known: Option<Known<'_>>) -> Option<Time> {
    match set.kind {
        Kind::Undone => {
            let undone = known.filter(|one| one.migration.phase == MigrationPhase::Undone);
            undone.map(|one| one.migration.changed_at)
        }
        Kind::Backup | Kind::Secrets => Some(Time(set.at_ms.saturating_mul(1_000_000))),
    }
}

/// Returns the secrets of the new database that an undo put aside beside the file of secrets.
fn secrets_aside(
    database: &Database<'_>,
    Known { migration, .. }: Known<'_>,
    request: &PruneRequest,
) -> Result<Option<Found>, Fault> {
    let Some(secrets) = &migration.plan.secrets else { return Ok(None) };
    let path = with_suffix(paths::borrowed(secrets), &undone(migration));
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let Ok(Some(dir)) = RealDir::open(parent) else { return Ok(None) };
    let (at_ms, id) = (migration.plan.at_ms, migration.id.clone());
    let set = SetName { at_ms, migration: id, kind: Kind::Undone };
    let over = migration.phase == MigrationPhase::Undone;
    let kept =
        (!over).then(|| format!("migration {} is {}", migration.id, migration.phase.as_str()));
    let (since, names) = (Some(migration.changed_at), vec![name.to_owned()]);
    found(database, Candidate { kind: Kind::Undone, dir, names, set: &set, since, kept }, request)
}
