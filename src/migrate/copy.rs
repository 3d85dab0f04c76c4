//! The private copy of the old database, and its way to the one shape that the recipe reads.
//!
//! The copy is scratch: it is never synced, and no process trusts one that another has made. After a
//! restart it is made again from the old database, which nobody may have changed meanwhile.

use std::path::Path;

use rusqlite::Connection;

use super::source::{self, Course, Source};
use super::{secrets, sqlite};
use crate::core::event::SourceCopy;
use crate::core::{Fault, Outcome};
use crate::failpoint::kill::point;
use crate::migrate::file_names::Names;
use crate::migrate::manifest;
use crate::migrate::manifest::{Mark, Stage};
use crate::migrate::runner::{Scratch, Task};
use crate::world::fs::paths;

/// Copies the database, with what is in its log; its secrets as well.
pub(super) fn copy(task: &Task<'_>) -> Result<Outcome, Fault> {
    task.hold_on()?;
    let names = &task.names;
    let has_secrets = names.secrets.as_deref().is_some_and(Path::exists);
    if !task.migration.plan.dry_run {
        manifest::write(task.files(), &names.mark, &mark_of(task, has_secrets, Stage::Building))?;
        point("migrate.marked");
        secrets::back_up(task)?;
        point("migrate.secrets_kept");
    }
    // Before anything of it is read: a log that is moved into the database would change it.
    let fingerprint = sqlite::fingerprint(&names.database);
    let checksum = fresh_copy(task)?;
    let rows = sqlite::count_all(&sqlite::open_private(&names.copy)?, &names.copy)?;
    let bytes = names.copy.metadata().map_err(paths::failed("read", &names.copy))?.len();
    task.desk.with_held(task.id(), |held| held.copy = Scratch::Fresh);
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

/// Returns the checksum of what it holds.
fn fresh_copy(task: &Task<'_>) -> Result<u32, Fault> {
    let names = &task.names;
    task.files().remove_set(&names.copy).map_err(paths::failed("remove", &names.copy))?;
    // What its owner alone could read stays so.
    sqlite::create_private(&names.copy)?;
    let checksum = copy_of_source(task, &names.copy, &|done, of| {
        task.progress("copy", (done, of), "bytes");
    })?;
    point("migrate.copied");
    Ok(checksum)
}

/// Copies the old database, which is held, into an empty file.
fn copy_of_source(task: &Task<'_>, to: &Path, progress: &dyn Fn(u64, u64)) -> Result<u32, Fault> {
    let plain = task.desk.with_held(task.id(), |held| held.source.as_ref().map(Source::lend));
    let course = Course { progress, cancelled: task.cancelled };
    source::copy(plain.as_deref(), &task.names.database, to, &course)
}

/// Makes a private file and its name durable.
pub(super) fn sync(task: &Task<'_>, path: &Path) -> Result<(), Fault> {
    let files = task.files();
    files.sync(path).and_then(|()| files.sync_dir_of(path)).map_err(paths::failed("sync", path))
}

/// Brings the copy to the shape that the recipe reads.
pub(super) fn normalise(task: &Task<'_>) -> Result<Outcome, Fault> {
    task.hold_on()?;
    let warnings = reshape(task)?;
    Ok(Outcome::SourceNormalised(warnings))
}

/// One that may have been touched is made again: half a replay is nothing to go on from.
fn reshape(task: &Task<'_>) -> Result<Vec<String>, Fault> {
    let path = &task.names.copy;
    let was = task.desk.with_held(task.id(), |held| std::mem::take(&mut held.copy));
    if was != Scratch::Fresh || !path.exists() {
        fresh_copy(task)?;
    }
    let copy = sqlite::open_private(path)?;
    let warnings = task.with_work(|work| task.recipe.normalise(&copy, work))?;
    point("migrate.normalised");
    task.desk.with_held(task.id(), |held| held.copy = Scratch::Ready);
    Ok(warnings)
}

/// Opens the copy in the shape that the recipe reads.
pub(super) fn open(task: &Task<'_>) -> Result<Connection, Fault> {
    let ready = task.desk.with_held(task.id(), |held| held.copy == Scratch::Ready);
    if !ready || !task.names.copy.exists() {
        reshape(task)?;
    }
    sqlite::open_private(&task.names.copy)
}
