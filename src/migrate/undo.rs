//! Puts the old database back while the new one is unchanged since its installation.
//!
//! It never deletes the new database and refuses where a write would be lost, unless the request
//! says that the new database may be put aside with everything that was written to it.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::files::with_suffix;
use super::{content, prune, secrets, sqlite};
use crate::app_lock;
use crate::context::{MigrationRunner, Task};
use crate::file_names::Names;
use crate::replace::{Replacement, drop_sidecars};
use groundskeeper_core::{Code, Fault, Migration, MigrationOutcome, MigrationPhase};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::{paths, portable};

/// Puts the backup into the place of the new database, which is kept under another name, then puts
/// the old secrets back. An undo that was interrupted by a kill continues.
pub(super) fn undo(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    let names = &task.names;
    let returned = is_returned(names);
    // Once the old database is in its place the undo must finish, so its errors are transient then.
    let late = |fault: Fault| if is_returned(names) { fault.transient() } else { fault };
    let _owner = if task.runner.owns(&task.migration.plan.database) {
        None
    } else {
        app_lock::acquire(task.recipe, &names.database, false).map_err(late)?
    };
    // What is written to the secrets after their return is the old application's.
    let restored = task.runner.folder_of(task.id()).join(secrets::RESTORED);
    if returned && restored.exists() {
        return Ok(MigrationOutcome::Returned(paths::to_host(&names.undone)));
    }
    let old_secrets = prepare_secrets(task).map_err(late)?;
    if !returned && let Err(fault) = put_back(task) {
        if !is_returned(names) {
            drop_prepared(task, old_secrets.as_deref());
            drop_second_name(task);
        }
        return Err(late(fault));
    }
    point("undo.returned");
    put_new_secrets_aside(task).map_err(Fault::transient)?;
    point("undo.secrets_kept");
    if let (Some(prepared), Some(path)) = (&old_secrets, &names.secrets) {
        let restored = task.files().rename(prepared, path);
        restored.map_err(|e| paths::fault("restore", path, &e).transient())?;
    }
    if let (true, Some(path)) = (secrets::kept(task).made, &names.secrets) {
        task.files().remove(path).map_err(|e| paths::fault("remove", path, &e).transient())?;
    }
    // It spares a later write if this process is killed now. A full disk is no reason to fail.
    let noted = task.files().write(&restored, &with_suffix(&restored, ".tmp"), b"");
    if let Err(error) = noted {
        tracing::warn!(%error, path = %restored.display(), "cannot note that the secrets are back");
    }
    Ok(MigrationOutcome::Returned(paths::to_host(&names.undone)))
}

/// Removes the second name of a database that stays where it is.
fn drop_second_name(task: &Task<'_>) {
    let names = &task.names;
    if portable::is_same_file(&names.database, &names.undone)
        && let Err(error) = task.files().remove(&names.undone)
    {
        tracing::warn!(%error, path = %names.undone.display(), "cannot remove a second name");
    }
}

/// Returns whether the old database is back in its place, and the new one beside it.
fn is_returned(names: &Names) -> bool {
    !names.backup.exists()
        && names.undone.exists()
        && names.database.exists()
        && !portable::is_same_file(&names.database, &names.undone)
}

fn put_back(task: &Task<'_>) -> Result<(), Fault> {
    let names = &task.names;
    if !names.database.exists() && names.backup.exists() && names.undone.exists() {
        // Where there are no hard links, a kill between two renames leaves no database.
        drop_sidecars(task.files(), &names.database)?;
        let put = task.files().rename(&names.backup, &names.database);
        return put.map_err(|e| paths::fault("restore", &names.database, &e).transient());
    }
    for path in [&names.backup, &names.database] {
        if !path.exists() {
            return Err(gone(task, path));
        }
    }
    // This does not change while another program has the database open.
    if secrets::kept(task).keychain {
        return Err(refused("the migration replaced secrets in the system's keychain"));
    }
    if task.migration.secrets > 0 && !secrets::is_noted(task) {
        return Err(refused("the old secrets of this database are not kept any more"));
    }
    // The new database gets its second name first, so that the rename does not delete it.
    let replacement = Replacement {
        files: task.files(),
        database: &names.database,
        by: &names.backup,
        keep_as: &names.undone,
        verb: "restore",
        kept: "undo.kept",
    };
    // Compared under the lock: a write that ended while this waited for the lock is seen.
    replacement.run(|held| refuse_if_changed(task, held))
}

/// Returns whether the new database and its secrets are put aside even if they were written to.
fn keeps_new(task: &Task<'_>) -> bool {
    task.migration.phase == MigrationPhase::UndoingKeepNew
}

/// Gives the secrets a second name if they were changed since the migration, so that the rename of
/// the old ones does not delete them. It needs no space, since the undo must finish by now.
fn put_new_secrets_aside(task: &Task<'_>) -> Result<(), Fault> {
    let (kept, names) = (secrets::kept(task), &task.names);
    let (Some(path), Some(aside)) = (&names.secrets, &names.secrets_undone) else { return Ok(()) };
    // A plain undo comes here only if they were changed after its database was back.
    if !kept.changed || !path.exists() {
        return Ok(());
    }
    // After a kill the old secrets may be back already.
    let is_old = |old: &PathBuf| secrets::have_same_content(old, path);
    if portable::is_same_file(path, aside) || kept.old.as_ref().is_some_and(is_old) {
        return Ok(());
    }
    let files = task.files();
    let aside = &free_name(aside);
    if kept.old.is_none() || files.link(path, aside).is_err() {
        return files.rename(path, aside).map_err(paths::failed("put aside", path));
    }
    files.sync_dir_of(aside).map_err(paths::failed("sync", aside))
}

/// Returns a path at which there is no file. Another one may be there from before a kill.
fn free_name(path: &Path) -> PathBuf {
    let more = (2..100).map(|n| with_suffix(path, &format!(".{n}")));
    let mut all = std::iter::once(path.to_owned()).chain(more);
    all.find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| with_suffix(path, ".100"))
}

/// Writes the old secrets beside the present ones, so that nothing but a rename is left to do when
/// the old database is in its place. Returns the path; `None` when there are none to put back.
fn prepare_secrets(task: &Task<'_>) -> Result<Option<PathBuf>, Fault> {
    let (Some(old), Some(path)) = (secrets::kept(task).old, &task.names.secrets) else {
        return Ok(None);
    };
    let bytes = std::fs::read(&old).map_err(paths::failed("read", &old))?;
    let prepared = with_suffix(path, ".tmp");
    if path.exists() {
        task.files().prepare_like(path, &prepared, &bytes)?;
    } else {
        // A file that is gone belonged to the owner of the database alone.
        task.files().prepare_private(&task.names.database, &prepared, &bytes)?;
    }
    Ok(Some(prepared))
}

fn drop_prepared(task: &Task<'_>, prepared: Option<&Path>) {
    if let Some(path) = prepared
        && let Err(e) = task.files().remove(path)
    {
        tracing::warn!(error = %e, path = %path.display(), "cannot remove the prepared secrets");
    }
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
fn refuse_if_changed(task: &Task<'_>, held: &Connection) -> Result<(), Fault> {
    if keeps_new(task) {
        return Ok(());
    }
    let now = sqlite::fingerprint(&task.names.database);
    let is_as_installed = is_as_installed(task.runner, task.migration, &now);
    let why = if !is_as_installed && !content::is_only_stamped(task, held)? {
        "the new database was written to after its installation"
    } else if secrets::kept(task).changed {
        "the secrets file was changed after the migration"
    } else {
        return Ok(());
    };
    let database = paths::as_argument(&task.names.database);
    let hint = format!(
        "run `groundskeeper migrate undo --keep-new {database}` to keep the new one under another \
         name; nothing was changed"
    );
    Err(Fault { hint, ..refused(why) })
}

/// Returns the fault for a database that an undo needs and that is not there.
fn gone(task: &Task<'_>, path: &Path) -> Fault {
    let note = task.runner.folder_of(task.id()).join(prune::PRUNED);
    if *path != task.names.backup || !note.exists() {
        return refused(&format!("{} does not exist", path.display()));
    }
    let hint = format!(
        "run `groundskeeper migrate prune --older-than 0s {}` to list what is kept of this \
         database; an undo needs a copy of the backup at that path; nothing was changed",
        paths::as_argument(&task.names.database)
    );
    let why = format!("its backup {} was pruned", path.display());
    Fault { hint, ..refused(&why) }
}

fn refused(why: &str) -> Fault {
    let message = format!("cannot restore the old database: {why}");
    let hint = "copy what you need from the backup that `groundskeeper migrate status` names; \
                nothing was changed";
    Fault::new(Code::MigrationConflict, message, hint)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::files::{Call, Files, Probe};
    use crate::request::MigrationRequest;
    use crate::sample::Harness;
    use crate::standalone::{Control, Place, run, undo};
    use groundskeeper_core::MigrationPhase;

    /// A file system without hard links, and a rename that fails when it is armed.
    #[derive(Default)]
    struct NoLinks {
        armed: AtomicBool,
    }

    impl Probe for NoLinks {
        fn before(&self, call: Call, path: &Path) -> io::Result<()> {
            let is_database = path.file_name().is_some_and(|name| name == "data.db");
            let fails = call == Call::Rename && is_database && self.armed.load(Ordering::Relaxed);
            let error =
                if fails { io::ErrorKind::PermissionDenied } else { io::ErrorKind::Unsupported };
            if fails || call == Call::Link { Err(error.into()) } else { Ok(()) }
        }

        fn after(&self, _: Call, _: &Path) {}
    }

    /// Without hard links there is no database between the two renames of an undo.
    #[test]
    fn undo_between_two_renames_is_finished() {
        let harness = Harness::new();
        harness.without_keychain();
        let probe = Arc::new(NoLinks::default());
        let runner = harness.runner(Files::probed(probe.clone()));
        let place = Place::within(&harness.dir.join("kept"));
        let (database, auth) = (harness.database(), Some(harness.auth()));
        let recipe = "sample".to_owned();
        let request = MigrationRequest { database, recipe, auth, ..MigrationRequest::default() };
        let old = std::fs::read(harness.auth()).expect("secrets");
        let report = run(&place, &runner, &request, &Control::default()).expect("a report");
        assert!(report.migration.is_some_and(|migration| migration.has_migrated()));

        probe.armed.store(true, Ordering::Relaxed);
        undo(&place, &runner, &request.database, false, &Control::default())
            .expect_err("it cannot rename");
        assert!(!request.database.exists(), "the case that is tested");
        probe.armed.store(false, Ordering::Relaxed);
        let undone = undo(&place, &runner, &request.database, false, &Control::default());
        assert_eq!(undone.expect("undone").phase, MigrationPhase::Undone);
        assert!(request.database.exists());
        assert_eq!(std::fs::read(harness.auth()).expect("secrets"), old);
    }
}
