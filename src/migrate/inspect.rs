//! The inspection, the first step: whether the database suits the recipe, whether it can be
//! migrated here, and whether an earlier attempt has to be settled first.
//!
//! It never copies or builds a database.

use std::path::Path;

use crate::context::Task;
use crate::files::{SUFFIXES, with_suffix};
use crate::recipe::{check_kind, is_old};
use crate::{access, plain_file, recovery};
use groundskeeper_core::event::SourceState;
use groundskeeper_core::{Code, Fault, MigrationOutcome};
use groundskeeper_system::{paths, portable, proc};

/// Space that stays free on the disk beyond what the migration writes, in bytes.
const SPARE_BYTES: u64 = 16 << 20;

/// Inspects the database.
pub(super) fn inspect(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    let path = &task.names.database;
    check_place(path)?;
    check_files(task)?;
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
        check_mounts(path)?;
        access::check_owner(path, &task.names.staging)?;
        check_space(path)?;
    } else {
        recovery::drop_unreadable(task)?;
    }
    let backup = taken.backup.as_deref().map(paths::to_host);
    let found = SourceState { old, taken_over: taken.stage, backup, warnings: taken.warnings };
    Ok(MigrationOutcome::SourceInspected(found))
}

/// Checks that the directory exists.
fn check_place(path: &Path) -> Result<(), Fault> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let meta = dir.metadata().map_err(paths::failed("find", dir))?;
    if !meta.is_dir() {
        let message = format!("{} is not a directory", dir.display());
        return Err(Fault::new(Code::PathNotFound, message, "pass the path of a database file"));
    }
    Ok(())
}

/// Checks that the files of the migration are plain files, as far as they exist, and that the
/// database can be written. Opening a FIFO would wait, and replacing a device is never meant.
fn check_files(task: &Task<'_>) -> Result<(), Fault> {
    let names = &task.names;
    names.check_length()?;
    for path in [Some(&names.database), names.secrets.as_ref()].into_iter().flatten() {
        access::check_replaceable(path)?;
    }
    let lock = task.recipe.owner_lock().map(|name| names.database.with_file_name(name));
    for path in [Some(&names.manifest), names.secrets.as_ref(), lock.as_ref()].into_iter().flatten()
    {
        plain_file::check(path, Code::Io)?;
    }
    if !paths::exists(&names.database).map_err(paths::failed("find", &names.database))? {
        // An interrupted migration may still install it.
        return access::check_writable_dir(&names.database);
    }
    check_kind(&names.database)?;
    access::check_writable(&names.database)
}

/// Checks that no file of the database is a mount of its own, as a container has when a single file
/// is passed into it. A rename onto such a file is impossible.
fn check_mounts(database: &Path) -> Result<(), Fault> {
    let Some(mounts) = mounts()? else { return Ok(()) };
    let mut files = SUFFIXES.iter().map(|suffix| with_suffix(database, suffix));
    let Some(found) = files.find(|path| is_mounted(&mounts, path)) else { return Ok(()) };
    let dir = database.parent().unwrap_or(database).display();
    let message =
        format!("{} is mounted as a single file, which no rename can replace", found.display());
    let hint = format!(
        "mount its directory {dir} in place of the file, or migrate where the file really is"
    );
    Err(Fault::new(Code::MigrationFailed, message, hint))
}

/// Returns the mounts of this process; `None` where the system mounts directories alone.
fn mounts() -> Result<Option<Vec<u8>>, Fault> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    Ok(Some(proc::mounts()?))
}

/// Returns whether a path is a mount point in the form of `/proc/self/mountinfo`.
fn is_mounted(mounts: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    mounts.split(|byte| *byte == b'\n').any(|line| {
        let point = line.split(|byte| *byte == b' ').nth(4);
        point.is_some_and(|point| unescaped(point) == path)
    })
}

/// Replaces the escapes of a mount point, `\040` for a space, by their bytes.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((&byte, behind)) = rest.split_first() {
        let code = behind
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    bytes
}

/// Checks that two more copies fit on the disk: the private copy and the new database.
fn check_space(path: &Path) -> Result<(), Fault> {
    let size = |suffix: &str| with_suffix(path, suffix).metadata().map_or(0, |meta| meta.len());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_file_is_found_in_list() {
        let mounts = b"36 35 98:0 / / rw shared:1 - ext4 /dev/a rw\n\
            37 36 98:0 /a /srv/data rw - ext4 /dev/a rw\n\
            38 36 98:0 /b /srv/my\\040data/app.db rw - ext4 /dev/a rw\n\
            39 36 98:0 /c /srv/back\\134slash rw - ext4 /dev/a rw\n";
        for path in ["/srv/data", "/srv/my data/app.db", "/srv/back\\slash"] {
            assert!(is_mounted(mounts, Path::new(path)), "{path}");
        }
        for path in ["/srv/data/app.db", "/srv/my", "/srv/my data/app.db-wal", "/b"] {
            assert!(!is_mounted(mounts, Path::new(path)), "{path}");
        }
        assert!(!is_mounted(b"", Path::new("/a")));
    }
}
