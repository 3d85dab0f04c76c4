//! The first look: is it a database that the recipe is for, can it be migrated here, and did an
//! earlier attempt leave something that has to be settled first?

use std::path::Path;

use super::recipe::{Recipe, Recognised};
use super::sqlite;
use crate::core::event::SourceState;
use crate::core::{Code, Fault, Outcome};
use crate::migrate::recovery;
use crate::migrate::runner::Task;
use crate::world::fs::paths;

/// Room that is left over on the disk beyond what is going to be written.
const SPARE_BYTES: u64 = 16 << 20;

/// Looks at the database.
pub(super) fn inspect(task: &Task<'_>) -> Result<Outcome, Fault> {
    let path = &task.names.database;
    check_place(path)?;
    task.hold()?;
    let taken = recovery::take_over(task)?;
    if !path.exists() {
        let message = format!("there is no {}", path.display());
        return Err(Fault::new(Code::PathNotFound, message, "check the path"));
    }
    // It may have come to be only now.
    task.hold()?;
    let old = is_old(path, task.recipe)?;
    if old {
        check_space(path)?;
    } else {
        recovery::drop_unreadable(task)?;
    }
    let backup = taken.backup.as_deref().map(paths::to_host).unwrap_or_default();
    let found = SourceState { old, taken_over: taken.stage, backup, warnings: taken.warnings };
    Ok(Outcome::SourceInspected(found))
}

/// Whether a database is of the generation that a recipe starts from. It reads only.
///
/// # Errors
/// `database_newer`, `database_foreign`, `not_a_database`, or what the system says.
pub fn is_old(path: &Path, recipe: &dyn Recipe) -> Result<bool, Fault> {
    check_file(path)?;
    let database = sqlite::open(path)?;
    let name = recipe.name();
    match recipe.recognise(&database)? {
        Recognised::Old => Ok(true),
        Recognised::Current => Ok(false),
        Recognised::Newer(why) => {
            let message = format!("{} is newer than recipe {name} knows", path.display());
            let hint = "use a later version of this program; nothing was changed";
            Err(Fault::new(Code::DatabaseNewer, message, hint).because(why))
        }
        Recognised::Foreign(why) => {
            let message = format!("{} is not a database for recipe {name}", path.display());
            let hint = "check path and recipe; nothing was changed";
            Err(Fault::new(Code::DatabaseForeign, message, hint).because(why))
        }
    }
}

/// The directory is there and can be written to.
fn check_place(path: &Path) -> Result<(), Fault> {
    use rustix::fs::{Access, access};
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let meta = dir.metadata().map_err(paths::failed("find", dir))?;
    if !meta.is_dir() {
        let message = format!("{} is not a directory", dir.display());
        return Err(Fault::new(Code::PathNotFound, message, "check the path"));
    }
    access(dir, Access::WRITE_OK).map_err(|e| {
        let e = std::io::Error::from(e);
        paths::fault("write to", dir, &e)
    })
}

/// A plain file stands there: renaming over a link would replace the link.
fn check_file(path: &Path) -> Result<(), Fault> {
    let meta = path.symlink_metadata().map_err(paths::failed("find", path))?;
    let what = if meta.is_symlink() {
        "a symbolic link"
    } else if meta.is_dir() {
        "a directory"
    } else if !meta.is_file() {
        "not a plain file"
    } else if meta.len() == 0 {
        "empty"
    } else {
        return Ok(());
    };
    let message = format!("{} is {what}", path.display());
    let hint = "name the database file itself; nothing was changed";
    Err(Fault::new(Code::NotADatabase, message, hint))
}

/// Two more copies must fit: the private one and the new one.
fn check_space(path: &Path) -> Result<(), Fault> {
    let size = |suffix: &str| {
        super::files::with_suffix(path, suffix).metadata().map_or(0, |meta| meta.len())
    };
    let source = size("") + size("-wal");
    let needed = source.saturating_mul(2).saturating_add(source / 4).saturating_add(SPARE_BYTES);
    let dir = path.parent().unwrap_or(path);
    let free = rustix::fs::statvfs(dir)
        .map_err(|e| paths::fault("look at the disk of", dir, &e.into()))
        .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))?;
    if free >= needed {
        return Ok(());
    }
    let message = format!(
        "{} MiB are free beside {}, {} are needed",
        free >> 20,
        path.display(),
        needed.div_ceil(1 << 20)
    );
    Err(Fault::new(Code::DiskFull, message, "free some space, then migrate again"))
}
