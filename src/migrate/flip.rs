//! The flip, and what comes after it either way.
//!
//! The old database gets the backup as its second name, then one rename puts the new one in its
//! place: at no instant is there no database, or half of one. For as long as the staging file
//! exists, the new database is not installed; that one fact tells every later look how far it came.

use std::path::Path;

use super::files::{Files, with_suffix};
use super::recipe::Recipe;
use super::{secrets, sqlite};
use crate::core::{Code, Fault, Outcome};
use crate::failpoint::kill::point;
use crate::migrate::context::Task;
use crate::migrate::manifest::{self, Found, Mark};
use crate::world::fs::paths;

/// Installs the new database.
pub(super) fn flip(task: &Task<'_>) -> Result<Outcome, Fault> {
    let names = &task.names;
    if names.staging.exists() {
        task.hold_on()?;
        let since = sqlite::fingerprint(&names.database);
        // The lock that keeps writers out would be in its own way.
        task.desk.with_held(task.id(), |held| held.source = None);
        install(task.files(), &names.database, &names.staging, &names.backup, Some(&since))?;
    } else if !is_installed(task)? {
        let message = format!("{} is gone, and so is the database", names.staging.display());
        let hint = format!("the old database may be {}", names.backup.display());
        return Err(Fault::new(Code::PathNotFound, message, hint));
    }
    Ok(flipped(task))
}

fn flipped(task: &Task<'_>) -> Outcome {
    let backup = paths::to_host(&task.names.backup);
    Outcome::Flipped(backup)
}

/// Whether the new database is in its place.
fn is_installed(task: &Task<'_>) -> Result<bool, Fault> {
    let names = &task.names;
    if names.staging.exists() || !names.database.exists() || !names.backup.exists() {
        return Ok(false);
    }
    crate::migrate::recipe::is_old(&names.database, task.recipe).map(|old| !old)
}

/// Puts a whole new database into the place of an old one, which keeps the name of the backup.
/// Done again after any interruption it ends in the same place.
pub(super) fn install(
    files: &Files,
    database: &Path,
    staging: &Path,
    backup: &Path,
    since: Option<&str>,
) -> Result<(), Fault> {
    if database.exists() {
        // Held until the rename is done; closing it touches nothing but the old file.
        let alone = sqlite::hold_alone(database, since)?;
        // What was moved into it must be on the disk before its log is gone.
        files.sync_open(alone.file(), database).map_err(paths::failed("sync", database))?;
        drop_sidecars(files, database)?;
        if !backup.exists() {
            second_name(files, database, backup)?;
        }
        point("flip.backed_up");
        put(files, staging, database)?;
        drop(alone);
    } else {
        put(files, staging, database)?;
    }
    point("flip.installed");
    Ok(())
}

fn put(files: &Files, staging: &Path, database: &Path) -> Result<(), Fault> {
    drop_sidecars(files, database)?;
    files.rename(staging, database).map_err(paths::failed("install", database))
}

/// Where a file system has no second names, the first one is changed: then there is no database for
/// the moment between two renames, and the staging file says which one is next.
fn second_name(files: &Files, database: &Path, backup: &Path) -> Result<(), Fault> {
    if let Err(e) = files.link(database, backup) {
        tracing::info!(error = %e, "no second names here; the old database is renamed");
        return files.rename(database, backup).map_err(paths::failed("keep", backup));
    }
    files.sync_dir_of(backup).map_err(paths::failed("sync", backup))
}

/// What belongs to a database that has just been settled into its one file.
fn drop_sidecars(files: &Files, database: &Path) -> Result<(), Fault> {
    for suffix in ["-wal", "-shm", "-journal"] {
        let path = with_suffix(database, suffix);
        files.remove(&path).map_err(paths::failed("remove", &path))?;
    }
    Ok(())
}

/// Drops copies and backups of secrets; database and backup stay.
pub(super) fn clean_up(task: &Task<'_>) -> Result<Outcome, Fault> {
    task.own_if_free()?;
    let mark = own_mark(task);
    clean(task.files(), &mark, task)?;
    Ok(Outcome::CleanedUp(Vec::new()))
}

fn clean(files: &Files, mark: &Mark, task: &Task<'_>) -> Result<(), Fault> {
    drop_copies(files, mark)?;
    point("migrate.copies_gone");
    secrets::clean(files, &*task.desk.keychain, mark)?;
    point("migrate.secrets_settled");
    // Somebody else's, who began anew meanwhile, is not ours to remove.
    match manifest::read(&task.names.mark) {
        Found::Mark(other) if other.nonce != mark.nonce => Ok(()),
        _ => manifest::remove(files, &task.names.mark, &mark.nonce),
    }
}

/// Removes the private copy and what is left of the new database beside it.
pub(super) fn drop_copies(files: &Files, mark: &Mark) -> Result<(), Fault> {
    for set in [&mark.normalized_source, &mark.staging] {
        files.remove_set(set).map_err(paths::failed("remove", set))?;
    }
    files.sync_dir_of(&mark.source).map_err(paths::failed("sync", &mark.source))
}

/// The mark on disk if it is this migration's, otherwise one that names the same files.
fn own_mark(task: &Task<'_>) -> Mark {
    match manifest::read(&task.names.mark) {
        Found::Mark(mark) if mark.nonce == task.id().as_str() => *mark,
        _ => {
            let had = task.migration.copy.as_ref().is_some_and(|copy| copy.has_secrets);
            crate::migrate::manifest::mark_of(task, had, manifest::Stage::Building)
        }
    }
}

/// Removes all that was made; the old database stays. When it finds the new one installed, it has
/// come too late, and says so.
pub(super) fn drop_staging(task: &Task<'_>) -> Result<Outcome, Fault> {
    let on_disk = manifest::read(&task.names.mark);
    let ours = matches!(&on_disk, Found::Mark(mark) if mark.nonce == task.id().as_str());
    if ours {
        task.own_if_free()?;
    }
    if ours && is_installed(task)? {
        return Ok(flipped(task));
    }
    let files = task.files();
    let mark = own_mark(task);
    let mut left = None;
    if ours {
        call_off(files, &task.names.mark, &mark)?;
        // First of all there is a database in its place.
        unlink_backup(files, &mark.source, &mark.backup)?;
        left = secrets::take_back(task, &mark)?;
        point("migrate.secrets_restored");
        clean(files, &mark, task)?;
    } else {
        // Nothing but private copies was made, if anything was.
        drop_copies(files, &mark)?;
        let temporary = with_suffix(&task.names.mark, &format!(".tmp-{}", task.id()));
        files.remove(&temporary).map_err(paths::failed("remove", &temporary))?;
    }
    if left.is_none() {
        secrets::forget(task)?;
    }
    Ok(Outcome::CleanedUp(left.into_iter().collect()))
}

/// Says beside the database that the new one is not wanted any more, before anything of it is taken
/// back: whoever goes on from here must not install it with old secrets.
pub(super) fn call_off(files: &Files, path: &Path, mark: &Mark) -> Result<(), Fault> {
    if mark.phase == manifest::Stage::Building {
        return Ok(());
    }
    manifest::write(files, path, &Mark { phase: manifest::Stage::Building, ..mark.clone() })
}

/// A flip that did not come to its rename may have given the old database its second name, or have
/// taken its first.
pub(super) fn unlink_backup(files: &Files, database: &Path, backup: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt as _;
    let same =
        |a: &std::fs::Metadata, b: &std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (database.metadata(), backup.metadata()) {
        (Ok(a), Ok(b)) if same(&a, &b) => {
            files.remove(backup).map_err(paths::failed("remove", backup))?;
            files.sync_dir_of(backup).map_err(paths::failed("sync", backup))
        }
        (Err(_), Ok(_)) => {
            files.rename(backup, database).map_err(paths::failed("put back", database))
        }
        _ => Ok(()),
    }
}

/// A whole database of the new generation stands at this path.
pub(super) fn is_whole(path: &Path, recipe: &dyn Recipe) -> bool {
    let whole = || {
        if crate::migrate::recipe::is_old(path, recipe)? {
            let message = format!("{} is of the old generation", path.display());
            return Err(Fault::new(Code::MigrationFailed, message, "migrate again"));
        }
        let database = sqlite::open(path)?;
        sqlite::check(&database, path)?;
        recipe.verify(&database)
    };
    whole().inspect_err(|fault| tracing::info!(%fault, "not a whole new database")).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::{Arc, Mutex};

    use rusqlite::Connection;

    use super::super::files::{Call, Probe};
    use super::*;

    /// Notes at which calls no process had a lock on a file.
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

    #[test]
    fn nobody_can_write_to_the_old_database_between_the_last_look_and_the_flip() {
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
            // What comes after the rename is about a name that the old database has no more.
            let open = std::mem::take(&mut *guard.open.lock().expect("whole"));
            assert_eq!(open, [], "{mode}");
        }
    }
}
