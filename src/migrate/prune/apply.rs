//! Removes what may be removed, under the locks of its migrations.

use std::path::PathBuf;

use super::candidate::Found;
use super::database::{self, Database};
use super::list::list;
use super::log::{self, Log};
use super::request::{Kind, PruneReport, PruneRequest};
use super::secrets;
use crate::context::{EffectLock, MigrationRunner};
use crate::runner;
use groundskeeper_core::{Code, Fault, HostPath, Migration};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::paths;

/// Lists what migrations keep, and with [`PruneRequest::apply`] removes what may be removed. The
/// log that `own` returns is read again under the locks, and logs beside databases are read too.
///
/// # Errors
/// `already_running` or `journal_failed` for a log that cannot be read; the error of the file
/// system. What was removed before stays so, and a repeated call continues.
pub fn prune(
    runner: &MigrationRunner,
    own: &dyn Fn() -> Log,
    request: &PruneRequest,
) -> Result<PruneReport, Fault> {
    let mut logs = vec![own()];
    logs.extend(log::beside(&logs[0], request)?);
    let locks = if request.apply { lock_all(runner, &logs, request)? } else { Vec::new() };
    let busy = locks.iter().filter_map(|(database, lock)| lock.is_none().then_some(database));
    let busy = busy.cloned().collect();
    logs[0] = own();
    logs[0].busy = busy;
    let mut report = PruneReport::default();
    let databases = database::all(&logs, runner.recipes(), request.database.as_ref());
    if let (Some(host), true) = (&request.database, databases.is_empty()) {
        let message = format!("there is no migration of {host}");
        let hint = "run `groundskeeper migrate status` to list migrations";
        return Err(Fault::new(Code::MigrationNotFound, message, hint));
    }
    for database in databases {
        let found = list(&database, request)?;
        for mut found in found {
            if request.apply && found.item.kept.is_none() {
                remove(runner, &database, &found)?;
                found.item.removed = true;
            }
            report.items.push(found.item);
        }
    }
    for (_, lock) in &locks {
        // While it is held, so that no other process takes a lock of a file that is gone.
        if let Some((_, path)) = lock {
            drop(std::fs::remove_file(path));
        }
    }
    Ok(report)
}

/// A lock of a migration of a database, with its file; `None` when another process has it.
type Locked = (HostPath, Option<(EffectLock, PathBuf)>);

/// Takes the lock of every migration of the databases, so that no step of one runs meanwhile.
fn lock_all(
    runner: &MigrationRunner,
    logs: &[Log],
    request: &PruneRequest,
) -> Result<Vec<Locked>, Fault> {
    let mut locks = Vec::new();
    for log in logs {
        let wanted =
            |m: &&Migration| request.database.as_ref().is_none_or(|only| *only == m.plan.database);
        for migration in log.migrations.iter().filter(wanted) {
            let lock = match runner::lock(&runner.files, &log.home, &migration.id) {
                Ok(lock) => Some((lock, runner::lock_file(&log.home, &migration.id))),
                Err(fault) if fault.code == Code::DatabaseInUse => None,
                Err(fault) => return Err(fault),
            };
            locks.push((migration.plan.database.clone(), lock));
        }
    }
    Ok(locks)
}

fn remove(runner: &MigrationRunner, database: &Database<'_>, found: &Found) -> Result<(), Fault> {
    let (files, item) = (&runner.files, &found.item);
    if item.kind == Kind::Backup {
        // A migration that took this backup over has another name.
        let of_backup = |known: &&database::Known<'_>| {
            known.migration.id == item.migration
                || database
                    .backup_of(known.migration)
                    .is_some_and(|b| b.migration == item.migration)
        };
        for known in database.known.iter().filter(of_backup) {
            secrets::note(files, known.home, &known.migration.id)?;
        }
        point("prune.noted");
    }
    // The database itself is the first: what is left after a kill is no half of a backup.
    for name in &found.names {
        let path = found.dir.path().join(name);
        files.remove_in(&found.dir, name).map_err(paths::failed("remove", &path))?;
        files.sync_dir_of(&path).map_err(paths::failed("sync", &path))?;
        point("prune.removed_one");
    }
    if item.kind == Kind::Secrets {
        let folder = found.dir.path();
        paths::remove_dir_if_empty(folder).map_err(paths::failed("remove", folder))?;
    }
    Ok(())
}
