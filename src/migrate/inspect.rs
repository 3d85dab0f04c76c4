//! The inspection, the first step: whether the database suits the recipe, whether it can be
//! migrated here, and whether an earlier attempt has to be settled first.
//!
//! It never copies or builds a database.

use std::path::Path;

use crate::context::Task;
use crate::recipe::is_old;
use crate::recovery;
use groundskeeper_core::event::SourceState;
use groundskeeper_core::{Code, Fault, MigrationOutcome};
use groundskeeper_system::{paths, portable};

/// Space that stays free on the disk beyond what the migration writes, in bytes.
const SPARE_BYTES: u64 = 16 << 20;

/// Inspects the database.
pub(super) fn inspect(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    let path = &task.names.database;
    check_place(path)?;
    // Held first: a running migration of the application must not be settled as an interrupted one.
    task.hold()?;
    let taken = recovery::take_over(task)?;
    if !path.exists() {
        let message = format!("{} does not exist", path.display());
        return Err(Fault::new(Code::PathNotFound, message, "pass the path of a database file"));
    }
    // Settling an earlier attempt may have created or replaced the file just now.
    task.hold()?;
    let old = is_old(path, task.recipe)?;
    if old {
        check_space(path)?;
    } else {
        recovery::drop_unreadable(task)?;
    }
    let backup = taken.backup.as_deref().map(paths::to_host);
    let found = SourceState { old, taken_over: taken.stage, backup, warnings: taken.warnings };
    Ok(MigrationOutcome::SourceInspected(found))
}

/// Checks that the directory exists and is writable.
fn check_place(path: &Path) -> Result<(), Fault> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let meta = dir.metadata().map_err(paths::failed("find", dir))?;
    if !meta.is_dir() {
        let message = format!("{} is not a directory", dir.display());
        return Err(Fault::new(Code::PathNotFound, message, "pass the path of a database file"));
    }
    portable::check_writable(dir).map_err(paths::failed("write to", dir))
}

/// Checks that two more copies fit on the disk: the private copy and the new database.
fn check_space(path: &Path) -> Result<(), Fault> {
    let size = |suffix: &str| {
        super::files::with_suffix(path, suffix).metadata().map_or(0, |meta| meta.len())
    };
    let source = size("") + size("-wal");
    let needed = source.saturating_mul(2).saturating_add(source / 4).saturating_add(SPARE_BYTES);
    let dir = path.parent().unwrap_or(path);
    let free = portable::free_bytes(dir).map_err(paths::failed("read the free space of", dir))?;
    if free >= needed {
        return Ok(());
    }
    let message = format!(
        "the disk is too full for a migration: {} MiB are free beside {}, {} MiB are needed",
        free >> 20,
        path.display(),
        needed.div_ceil(1 << 20)
    );
    Err(Fault::new(Code::DiskFull, message, "free space on this disk, then migrate again"))
}
