//! The private copy of the old database, brought to the one shape that the recipe reads.
//!
//! The copy is scratch: it is never synced, and no process trusts the copy of another process.
//! After a restart it is made again from the old database, which must not have changed since.

use std::path::Path;

use rusqlite::Connection;

use super::source::{self, CopyProgress, Source};
use crate::context::{Scratch, Task};
use crate::warnings;
use groundskeeper_core::{Fault, MigrationOutcome};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::paths;

/// Makes the copy anew. Returns the checksum of its content.
pub(super) fn fresh_copy(task: &Task<'_>) -> Result<u32, Fault> {
    let names = &task.names;
    task.files().remove_set(&names.copy).map_err(paths::failed("remove", &names.copy))?;
    // Private from the start: the copy must not be easier to read than the original.
    task.create_private(&names.copy)?;
    let checksum = copy_of_source(task, &names.copy, &|done, of| {
        task.progress("copy", (done, of), "bytes");
    })?;
    point("migrate.copied");
    Ok(checksum)
}

/// Copies the old database, which this migration holds, into an empty file.
fn copy_of_source(task: &Task<'_>, to: &Path, progress: &dyn Fn(u64, u64)) -> Result<u32, Fault> {
    let plain =
        task.runner.with_held(task.id(), |held| held.source.as_ref().map(Source::shared_file));
    let progress_of_copy = CopyProgress { progress, cancelled: task.cancelled };
    source::copy(plain.as_deref(), &task.names.database, to, &progress_of_copy)
}

/// Performs the step that brings the copy to the shape that the recipe reads.
pub(super) fn normalise(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    task.hold_and_check()?;
    let warnings = warnings::bounded(task, warnings::OF_SOURCE, reshape(task)?)?;
    Ok(MigrationOutcome::SourceNormalised(warnings))
}

/// Opens the copy in the shape that the recipe reads, and makes it anew if this process has not.
pub(super) fn open(task: &Task<'_>) -> Result<Connection, Fault> {
    let ready = task.runner.with_held(task.id(), |held| held.copy == Scratch::Ready);
    if !ready || !task.names.copy.exists() {
        reshape(task)?;
    }
    task.open_private(&task.names.copy)
}

/// Brings a fresh copy to that shape. The state is taken first, so a copy that may have been
/// changed is made anew: a replay that stopped halfway cannot be continued.
fn reshape(task: &Task<'_>) -> Result<Vec<String>, Fault> {
    let path = &task.names.copy;
    let was = task.runner.with_held(task.id(), |held| std::mem::take(&mut held.copy));
    if was != Scratch::Fresh || !path.exists() {
        fresh_copy(task)?;
    }
    let copy = task.open_private(path)?;
    let warnings = task.with_work(|work| task.recipe.normalise(&copy, work))?;
    point("migrate.normalised");
    task.runner.with_held(task.id(), |held| held.copy = Scratch::Ready);
    Ok(warnings)
}
