//! Puts the old database back while the new one is unchanged since its installation.
//!
//! It never deletes the new database and refuses where a write would be lost.

use super::files::with_suffix;
use super::{secrets, sqlite};
use crate::app_lock;
use crate::context::{MigrationRunner, Task};
use crate::replace::Replacement;
use groundskeeper_core::{Code, Fault, Migration, MigrationOutcome};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::paths;

/// Puts the backup into the place of the new database, which is kept under another name, then puts
/// the old secrets back. An undo that was interrupted by a kill continues.
pub(super) fn undo(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    let names = &task.names;
    let returned = !names.backup.exists() && names.undone.exists() && names.database.exists();
    // Once the old database is in its place the undo must finish, so its errors are transient then.
    let _owner = if task.runner.owns(&task.migration.plan.database) {
        None
    } else {
        let owner = app_lock::acquire(task.recipe, &names.database, false);
        if returned { owner.map_err(Fault::transient)? } else { owner? }
    };
    if !returned {
        for path in [&names.backup, &names.database] {
            if !path.exists() {
                return Err(refused(&format!("{} does not exist", path.display())));
            }
        }
        // This does not change while another program has the database open.
        if secrets::kept(task).keychain {
            return Err(refused("the migration replaced secrets in the system's keychain"));
        }
        // Compared under the lock: a write that ended while this waited for the lock is seen.
        let check = || refuse_if_changed(task);
        // The new database gets its second name first, so that the rename does not delete it.
        let replacement = Replacement {
            files: task.files(),
            database: &names.database,
            by: &names.backup,
            keep_as: &names.undone,
            verb: "restore",
            kept: "undo.kept",
        };
        replacement.run(check)?;
    }
    point("undo.returned");
    let secrets = secrets::kept(task);
    if let (Some(old), Some(path)) = (&secrets.old, &names.secrets) {
        let bytes = std::fs::read(old).map_err(paths::failed("read", old))?;
        let temporary = with_suffix(path, ".tmp");
        let written = task.files().write(path, &temporary, &bytes);
        written.map_err(|e| paths::fault("restore", path, &e).transient())?;
    }
    if let (true, Some(path)) = (secrets.made, &names.secrets) {
        task.files().remove(path).map_err(|e| paths::fault("remove", path, &e).transient())?;
    }
    Ok(MigrationOutcome::Returned(paths::to_host(&names.undone)))
}

/// Returns whether a new database with this fingerprint holds only what the migration and the
/// startup steps of this program wrote.
pub(super) fn is_as_installed(
    runner: &MigrationRunner,
    migration: &Migration,
    fingerprint: &str,
) -> bool {
    let noted = std::fs::read_to_string(runner.folder_of(&migration.id).join(secrets::READY));
    migration.installed == fingerprint || noted.is_ok_and(|noted| noted == fingerprint)
}

/// Notes the fingerprint of a new database after the startup steps of this program.
///
/// # Errors
/// The error of the file system.
pub(super) fn note_ready(
    runner: &MigrationRunner,
    migration: &Migration,
    fingerprint: &str,
) -> Result<(), Fault> {
    let folder = runner.folder_of(&migration.id);
    runner.files.make_dir(&folder).map_err(paths::failed("create", &folder))?;
    let note = folder.join(secrets::READY);
    let written = runner.files.write(&note, &with_suffix(&note, ".tmp"), fingerprint.as_bytes());
    written.map_err(paths::failed("write", &note))
}

/// Refuses when the new database or a secret was written to since the installation: an undo would
/// lose that.
fn refuse_if_changed(task: &Task<'_>) -> Result<(), Fault> {
    let now = sqlite::fingerprint(&task.names.database);
    if !is_as_installed(task.runner, task.migration, &now) {
        return Err(refused("the new database was written to after its installation"));
    }
    if secrets::kept(task).changed {
        return Err(refused("the secrets file was changed after the migration"));
    }
    Ok(())
}

fn refused(why: &str) -> Fault {
    let message = format!("cannot restore the old database: {why}");
    let hint = "copy what you need from the backup that `groundskeeper migrate status` names; \
                nothing was changed";
    Fault::new(Code::MigrationConflict, message, hint)
}
