//! The flip: installs the new database, then cleans up or rolls back.
//!
//! The backup becomes a second name of the old database. Then one rename puts the new database in
//! its place, so a complete database is there at every instant. While the staging file exists the
//! new database is not installed; every later inspection relies on that one fact.

use std::path::Path;

use super::files::{Files, with_suffix};
use super::recipe::Recipe;
use super::replace::{Replacement, drop_sidecars};
use super::{secrets, sqlite};
use crate::context::Task;
use crate::manifest::{self, Manifest, ReadManifest};
use groundskeeper_core::{Code, Fault, MigrationOutcome};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::{paths, portable};

/// Installs the new database. A repeated call after the flip reports it again.
pub(super) fn flip(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    let names = &task.names;
    if names.staging.exists() {
        task.hold_and_check()?;
        let since = sqlite::fingerprint(&names.database);
        // Released because this process's own connection would block the exclusive lock. `install`
        // compares the fingerprint under that lock, so a write in between is detected.
        task.runner.with_held(task.id(), |held| held.source = None);
        install(task.files(), &names.database, &names.staging, &names.backup, Some(&since))?;
    } else if !is_installed(task)? {
        let staging = names.staging.display();
        let message = format!(
            "cannot install the new database: {staging} is missing and no new database is installed"
        );
        let hint = format!("inspect {}: it may be the old database", names.backup.display());
        return Err(Fault::new(Code::PathNotFound, message, hint));
    }
    Ok(MigrationOutcome::Flipped(paths::to_host(&names.backup)))
}

/// Returns whether the new database is in its place.
fn is_installed(task: &Task<'_>) -> Result<bool, Fault> {
    let names = &task.names;
    if names.staging.exists() || !names.database.exists() || !names.backup.exists() {
        return Ok(false);
    }
    crate::recipe::is_old(&names.database, task.recipe).map(|old| !old)
}

/// Puts a complete new database into the place of an old one, which keeps the backup's name. It can
/// be repeated after any interruption with the same result. With `since`, the old database must
/// still have that fingerprint.
pub(super) fn install(
    files: &Files,
    database: &Path,
    staging: &Path,
    backup: &Path,
    since: Option<&str>,
) -> Result<(), Fault> {
    if database.exists() {
        let replacement = Replacement {
            files,
            database,
            by: staging,
            keep_as: backup,
            verb: "install",
            kept: "flip.backed_up",
        };
        replacement.run(|_| match since {
            Some(since) if since != sqlite::fingerprint(database) => Err(sqlite::changed(database)),
            _ => Ok(()),
        })?;
    } else {
        drop_sidecars(files, database)?;
        files.rename(staging, database).map_err(paths::failed("install", database))?;
    }
    point("flip.installed");
    Ok(())
}

/// Drops the private copies and the backups of secrets. The database and its backup stay.
pub(super) fn clean_up(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    let manifest = own_manifest(task);
    // First and without a lock, as its name is only known to this migration: on a full disk this is
    // where the space for the rest comes from.
    drop_private_copy(task.files(), &manifest)?;
    task.own_if_free()?;
    clean(task.files(), &manifest, task)?;
    Ok(MigrationOutcome::CleanedUp(Vec::new()))
}

fn clean(files: &Files, manifest: &Manifest, task: &Task<'_>) -> Result<(), Fault> {
    drop_copies(files, manifest)?;
    point("migrate.copies_gone");
    secrets::clean(files, &*task.runner.keychain, manifest)?;
    point("migrate.secrets_settled");
    // Another migration may have started since; its manifest is not ours to remove.
    match manifest::read(&task.names.manifest) {
        ReadManifest::Manifest(other) if other.nonce != manifest.nonce => Ok(()),
        _ => manifest::remove(files, &task.names.manifest, &manifest.nonce),
    }
}

/// Removes the private copy, which no process trusts but the one that made it.
pub(super) fn drop_private_copy(files: &Files, manifest: &Manifest) -> Result<(), Fault> {
    let copy = &manifest.normalized_source;
    files.remove_set(copy).map_err(paths::failed("remove", copy))
}

/// Removes the private copy and the rest of the new database beside the old one.
pub(super) fn drop_copies(files: &Files, manifest: &Manifest) -> Result<(), Fault> {
    for set in [&manifest.normalized_source, &manifest.staging] {
        files.remove_set(set).map_err(paths::failed("remove", set))?;
    }
    files.sync_dir_of(&manifest.source).map_err(paths::failed("sync", &manifest.source))
}

/// Returns the manifest on disk if it is this migration's, otherwise one that names the same files.
fn own_manifest(task: &Task<'_>) -> Manifest {
    match manifest::read(&task.names.manifest) {
        ReadManifest::Manifest(manifest) if manifest.nonce == task.id().as_str() => *manifest,
        _ => {
            let had = task.migration.copy.as_ref().is_some_and(|copy| copy.has_secrets);
            manifest::manifest_for(task, had)
        }
    }
}

/// Removes everything that was made; the old database stays. If the new database is already
/// installed, the roll-back is too late and reports the flip.
pub(super) fn drop_staging(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    let on_disk = manifest::read(&task.names.manifest);
    let ours = matches!(&on_disk, ReadManifest::Manifest(manifest) if manifest.nonce == task.id().as_str());
    let files = task.files();
    let manifest = own_manifest(task);
    if ours {
        // First and without a lock, as its name is only known to this migration: on a full disk
        // this is where the space for the rest comes from.
        let dropped = drop_private_copy(files, &manifest);
        task.own_if_free()?;
        // Whatever fails: an installed database is never called rolled back.
        if is_installed(task)? {
            return Ok(MigrationOutcome::TooLate(paths::to_host(&task.names.backup)));
        }
        dropped?;
    }
    let mut left = secrets::Left::default();
    if ours {
        reset_to_building(files, &task.names.manifest, &manifest)?;
        // Put back first, so that there is a database in its place whatever fails afterwards.
        unlink_backup(files, &manifest.source, &manifest.backup)?;
        left = secrets::take_back(task, &manifest)?;
        point("migrate.secrets_restored");
        clean(files, &manifest, task)?;
    } else {
        // Without this migration's manifest, private copies are the most that was made.
        drop_copies(files, &manifest)?;
        let temporary = with_suffix(&task.names.manifest, &format!(".tmp-{}", task.id()));
        files.remove(&temporary).map_err(paths::failed("remove", &temporary))?;
    }
    if left.file.is_none() {
        secrets::forget(task)?;
    }
    let left = left.file.into_iter().chain(left.keychain);
    Ok(MigrationOutcome::StagingDropped(left.collect()))
}

/// Sets the manifest back to `building` before anything is taken back: a program that continues
/// from here must not install the new database with the old secrets.
pub(super) fn reset_to_building(
    files: &Files,
    path: &Path,
    manifest: &Manifest,
) -> Result<(), Fault> {
    if manifest.phase == manifest::Stage::Building {
        return Ok(());
    }
    manifest::write(files, path, &Manifest { phase: manifest::Stage::Building, ..manifest.clone() })
}

/// Undoes a flip that stopped before its rename: removes the backup if it is a second name of the
/// database, or renames it back if the database has no other name.
pub(super) fn unlink_backup(files: &Files, database: &Path, backup: &Path) -> Result<(), Fault> {
    match (database.exists(), backup.exists()) {
        (true, true) if portable::is_same_file(database, backup) => {
            files.remove(backup).map_err(paths::failed("remove", backup))?;
            files.sync_dir_of(backup).map_err(paths::failed("sync", backup))
        }
        (false, true) => files.rename(backup, database).map_err(paths::failed("restore", database)),
        _ => Ok(()),
    }
}

/// Returns whether a complete database of the new generation is at this path.
pub(super) fn is_whole(path: &Path, recipe: &dyn Recipe) -> bool {
    let whole = || {
        if crate::recipe::is_old(path, recipe)? {
            let message = format!("{} is of the old generation", path.display());
            return Err(Fault::new(Code::MigrationFailed, message, "migrate again"));
        }
        let database = sqlite::open(path)?;
        sqlite::check(&database, path)?;
        recipe.verify(&database)
    };
    whole().inspect_err(|fault| tracing::info!(%fault, "the new database is not complete")).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::{Arc, Mutex};

    use rusqlite::Connection;

    use super::super::files::{Call, Probe};
    use super::*;

    /// Notes the calls at whose start no process had a write lock on a file.
    struct Guard {
        inode: u64,
        open: Mutex<Vec<Call>>,
    }

    impl Probe for Guard {
        fn before(&self, call: Call, _: &Path) -> io::Result<()> {
            let locks = std::fs::read_to_string("/proc/locks")?;
            let file = format!(":{} ", self.inode);
            if !locks.lines().any(|line| line.contains(" WRITE ") && line.contains(&file)) {
                self.open.lock().expect("whole").push(call);
            }
            Ok(())
        }

        fn after(&self, _: Call, _: &Path) {}
    }

    /// Every file system call of the installation runs under the lock on the old database.
    #[test]
    fn flip_excludes_writers_until_rename() {
        for mode in ["DELETE", "WAL"] {
            let dir = tempfile::tempdir().expect("a folder");
            let [old, new, backup] = ["old", "new", "backup"].map(|name| dir.path().join(name));
            for path in [&old, &new] {
                let text = format!("PRAGMA journal_mode = {mode}; CREATE TABLE t (a);");
                Connection::open(path).expect("made").execute_batch(&text).expect("written");
            }
            let inode = old.metadata().expect("there").ino();
            let guard = Arc::new(Guard { inode, open: Mutex::default() });
            let files = Files::probed(guard.clone());
            let since = sqlite::fingerprint(&old);
            install(&files, &old, &new, &backup, Some(&since)).expect("installed");
            assert_eq!(backup.metadata().expect("kept").ino(), inode);
            // Each call of `install`, up to the rename and its sync, was made under the lock.
            let open = std::mem::take(&mut *guard.open.lock().expect("whole"));
            assert_eq!(open, [], "{mode}");
        }
    }
}
