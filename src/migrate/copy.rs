//! The private copy of the old database, and its way to the one shape that the recipe reads.

use super::desk::Task;
use super::mark::{self, Mark, Stage};
use super::names::Names;
use super::{secrets, sqlite};
use crate::core::event::SourceCopy;
use crate::core::{Fault, Outcome};
use crate::killpoint::point;
use crate::world::paths;

/// Copies the database, with what is in its log; its secrets as well.
pub(super) fn copy(task: &Task<'_>) -> Result<Outcome, Fault> {
    task.hold_on()?;
    let names = &task.names;
    let has_secrets = names.secrets.as_deref().is_some_and(std::path::Path::exists);
    if !task.migration.plan.dry_run {
        mark::write(task.files(), &names.mark, &mark_of(task, has_secrets, Stage::Building))?;
        point("migrate.marked");
        secrets::back_up(task)?;
        point("migrate.secrets_kept");
    }
    // Before anything of it is read: a log that is moved into the database would change it.
    let fingerprint = sqlite::fingerprint(&names.database);
    fresh_copy(task)?;
    let checksum = sqlite::checksum(&names.copy)?;
    let copy = sqlite::open_private(&names.copy)?;
    let rows = sqlite::count_all(&copy, &names.copy)?;
    drop(copy);
    sync(task, &names.copy)?;
    let bytes = names.copy.metadata().map_err(paths::failed("read", &names.copy))?.len();
    task.desk.with_held(task.id(), |held| held.fresh_copy = true);
    Ok(Outcome::SourceCopied(SourceCopy { bytes, fingerprint, checksum, rows, has_secrets }))
}

/// What the mark says of a migration.
pub(super) fn mark_of(task: &Task<'_>, auth_existed: bool, phase: Stage) -> Mark {
    let Names { database, copy, staging, backup, secrets, secrets_backup, .. } = &task.names;
    Mark {
        version: 1,
        source: database.clone(),
        normalized_source: copy.clone(),
        staging: staging.clone(),
        backup: backup.clone(),
        auth_path: secrets.clone().unwrap_or_default(),
        auth_backup: secrets_backup.clone().filter(|_| auth_existed),
        auth_existed,
        keychain_backups: Vec::new(),
        nonce: task.id().to_string(),
        phase,
    }
}

fn fresh_copy(task: &Task<'_>) -> Result<(), Fault> {
    let names = &task.names;
    task.files().remove_set(&names.copy).map_err(paths::failed("remove", &names.copy))?;
    // What its owner alone could read stays so.
    sqlite::create_private(&names.copy)?;
    let progress = |done, of| task.progress("copy", done, of);
    sqlite::copy(&names.database, &names.copy, &progress, task.cancelled)?;
    point("migrate.copied");
    Ok(())
}

/// Makes a private file and its name durable.
pub(super) fn sync(task: &Task<'_>, path: &std::path::Path) -> Result<(), Fault> {
    let files = task.files();
    files.sync(path).and_then(|()| files.sync_dir_of(path)).map_err(paths::failed("sync", path))
}

/// Brings the copy to the shape that the recipe reads. One that may have been touched is made
/// again: half a replay is nothing to go on from.
pub(super) fn normalise(task: &Task<'_>) -> Result<Outcome, Fault> {
    task.hold_on()?;
    let fresh = task.desk.with_held(task.id(), |held| std::mem::take(&mut held.fresh_copy));
    if !fresh || !task.names.copy.exists() {
        fresh_copy(task)?;
    }
    let path = &task.names.copy;
    let copy = sqlite::open_private(path)?;
    let warnings = task.with_work(|work| task.recipe.normalise(&copy, work))?;
    point("migrate.normalised");
    drop(copy);
    sync(task, path)?;
    Ok(Outcome::SourceNormalised(warnings))
}
