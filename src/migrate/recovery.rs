//! Settles the interrupted migration of another program: the application's own, or one of this
//! program whose log is lost.
//!
//! The manifest beside the database names the phase and paths that were valid when it was written.
//! A directory may have been moved since. So only file names are trusted, and only those that carry
//! the manifest's own nonce, and the files are searched beside the database. A state that cannot be
//! settled with certainty is refused, and the refusal names the backup: an empty database is never
//! started while an old one lies beside it.

use std::path::{Path, PathBuf};

use crate::context::Task;
use crate::files::with_suffix;
use crate::manifest::{self, Manifest, ReadManifest, Stage, is_nonce};
use crate::{flip, keychain_entries, secrets};
use groundskeeper_core::{Code, Fault};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::{paths, portable};

/// Result of settling an earlier migration.
#[derive(Debug, Default)]
pub(super) struct TakenOver {
    /// Phase that the other migration had reached, or `unreadable` or `stranded` where no manifest
    /// names it; none where there was no other migration.
    pub(super) stage: Option<String>,
    /// Backup that the other migration made, if it still exists.
    pub(super) backup: Option<PathBuf>,
    /// Warnings for the user.
    pub(super) warnings: Vec<String>,
}

/// Settles the interrupted migration that lies beside a database, if there is one.
pub(super) fn take_over(task: &Task<'_>) -> Result<TakenOver, Fault> {
    let names = &task.names;
    let found = manifest::read(&names.manifest);
    let gone =
        !names.database.exists() && !beside(&names.database, task.recipe.label()).1.is_empty();
    // A rehearsal changes nothing, and settling does.
    if (found != ReadManifest::Nothing || gone) && task.migration.plan.dry_run {
        let message =
            format!("an earlier migration of {} was interrupted", names.database.display());
        let hint = "migrate without --dry-run first; this settles the earlier migration";
        return Err(Fault::new(Code::MigrationFailed, message, hint));
    }
    if !task.migration.plan.dry_run {
        manifest::drop_temporary(task.files(), &names.manifest)?;
    }
    match found {
        ReadManifest::Nothing => stranded(task),
        ReadManifest::Manifest(manifest)
            if manifest.source.file_name() != names.database.file_name() =>
        {
            let message = format!(
                "a migration of {} was interrupted in the same directory",
                manifest.source.file_name().unwrap_or_default().display()
            );
            let hint = "migrate that database first; otherwise its manifest would be lost";
            Err(Fault::new(Code::MigrationFailed, message, hint))
        }
        ReadManifest::Manifest(manifest) => match relocated(task, &manifest) {
            Some(here) => {
                let moved = !is_same_place(&here.source, &manifest.source);
                settle(task, &here, moved)
            }
            None => {
                unreadable(task, "its file names are not those of a migration of this database")
            }
        },
        ReadManifest::Unreadable(why) => unreadable(task, &why),
        // It may name secrets that have to be put back. Overwriting it would lose them.
        ReadManifest::Inaccessible(fault) => Err(fault),
    }
}

/// Returns the manifest with the current paths of its files; `None` when it does not belong to a
/// migration of this database.
fn relocated(task: &Task<'_>, manifest: &Manifest) -> Option<Manifest> {
    let database = &task.names.database;
    let nonce = manifest.nonce.as_str();
    let backup = manifest.backup.file_name()?.to_str()?;
    let prefix = format!("{}.{}-", database.file_name()?.to_str()?, task.recipe.label());
    let stamp = backup.strip_prefix(&prefix)?.strip_suffix(&format!("-{nonce}"))?;
    let is_stamp = !stamp.is_empty() && stamp.bytes().all(|b| b.is_ascii_digit());
    if !is_nonce(nonce) || !is_stamp {
        return None;
    }
    let mut here = Manifest {
        source: database.clone(),
        normalized_source: with_suffix(database, &format!(".source-{nonce}")),
        staging: with_suffix(database, &format!(".building-{nonce}")),
        backup: database.with_file_name(backup),
        ..manifest.clone()
    };
    // Only backups that carry the manifest's own nonce belong to it.
    here.keychain_backups.retain(|entry| keychain_entries::is_own_backup(nonce, entry));
    locate_secrets(task, manifest, &mut here);
    Some(here)
}

/// Finds the secrets: at the path in the request, at the path after a move of both directories, or
/// at the recorded path unless this is a copy of a directory that still exists. Where none is
/// certain, the secrets are left alone: there is then neither a backup nor a file to remove.
fn locate_secrets(task: &Task<'_>, manifest: &Manifest, here: &mut Manifest) {
    let recorded = manifest.auth_path.clone();
    let moved = moved_with(&manifest.source, &here.source, &recorded);
    let asked = task.names.secrets.clone();
    let is_copy = !is_same_place(&manifest.source, &here.source) && manifest.source.exists();
    let last = (!is_copy).then(|| recorded.clone());
    let named = |path: &PathBuf| {
        !recorded.as_os_str().is_empty() && path.file_name() == recorded.file_name()
    };
    let backup_of = |path: &Path| with_suffix(path, &format!(".v1-v2-{}", manifest.nonce));
    let places = [asked.clone(), moved.clone(), last.clone()];
    let kept = places.into_iter().flatten().filter(&named).find(|path| backup_of(path).exists());
    // A file that did not exist before may be removed only if the request names it, and so does the
    // recorded or the moved path.
    let sure = asked.filter(|path| Some(path) == last.as_ref() || Some(path) == moved.as_ref());
    here.auth_existed = manifest.auth_existed || kept.is_some() || sure.is_none();
    here.auth_path = kept.or(sure).unwrap_or_default();
    let known = manifest.auth_backup.is_some() && !here.auth_path.as_os_str().is_empty();
    here.auth_backup = known.then(|| backup_of(&here.auth_path));
}

/// Returns whether two paths lead to one place, also through links or in another spelling.
fn is_same_place(a: &Path, b: &Path) -> bool {
    let dirs = a.parent().zip(b.parent());
    let same = dirs.is_some_and(|(a, b)| portable::is_same_file(a, b));
    a == b || same && a.file_name() == b.file_name()
}

/// Returns the path of a neighbour after a file and its neighbour were moved together.
fn moved_with(from: &Path, to: &Path, neighbour: &Path) -> Option<PathBuf> {
    for (ups, ancestor) in from.ancestors().enumerate() {
        if let Ok(rest) = neighbour.strip_prefix(ancestor) {
            return Some(to.ancestors().nth(ups)?.join(rest));
        }
    }
    None
}

fn settle(task: &Task<'_>, manifest: &Manifest, moved: bool) -> Result<TakenOver, Fault> {
    let stage = manifest.phase.as_str();
    tracing::info!(stage, nonce = %manifest.nonce, "settling an interrupted migration");
    let mut taken = TakenOver { stage: Some(stage.to_owned()), ..TakenOver::default() };
    if moved {
        taken.warnings.push(format!(
            "An interrupted migration was taken over from another directory; it is settled in {}.",
            manifest.source.parent().unwrap_or(&manifest.source).display()
        ));
    }
    match manifest.phase {
        Stage::Building => roll_back(task, manifest, &mut taken)?,
        // Once it is installed, what was written is in the new one.
        Stage::Built if manifest.staging.exists() && was_written_since(task, manifest)? => {
            taken.warnings.push(format!(
                "{} or its secrets were written to after an interrupted migration, which was \
                 rolled back.",
                manifest.source.display()
            ));
            roll_back(task, manifest, &mut taken)?;
        }
        Stage::Built | Stage::CanonicalMoved => finish(task, manifest, &mut taken)?,
        // The recorded phase is ignored: without a database nothing was installed here.
        Stage::Committed if !manifest.source.exists() => finish(task, manifest, &mut taken)?,
        Stage::Committed => {
            taken.backup = Some(manifest.backup.clone()).filter(|path| path.exists());
            clean(task, manifest)?;
        }
    }
    Ok(taken)
}

/// Returns whether the old database, its log, or the secrets were written to after the new one was
/// complete. To install the new one would then lose a write, or leave old secrets beside it. A
/// copied directory may answer yes for no reason, which costs a second migration.
fn was_written_since(task: &Task<'_>, manifest: &Manifest) -> Result<bool, Fault> {
    let written = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    let log = with_suffix(&manifest.source, "-wal");
    let log = log.metadata().is_ok_and(|meta| meta.len() > 0).then(|| written(&log)).flatten();
    // The manifest is written last, while no other program can write to the database.
    let is_later = |done| written(&manifest.source).max(log).is_some_and(|last| last > done);
    let database = written(&task.names.manifest).is_some_and(is_later);
    Ok(database || secrets::is_foreign(manifest)?)
}

/// Returns to the old database. Nothing of the new one counts yet.
fn roll_back(task: &Task<'_>, manifest: &Manifest, taken: &mut TakenOver) -> Result<(), Fault> {
    flip::drop_private_copy(task.files(), manifest)?;
    flip::reset_to_building(task.files(), &task.names.manifest, manifest)?;
    flip::unlink_backup(task.files(), &manifest.source, &manifest.backup)?;
    flip::drop_copies(task.files(), manifest)?;
    point("takeover.dropped");
    let left = secrets::restore(task.files(), &*task.runner.keychain, manifest)?;
    let left = left.file.into_iter().chain(left.keychain);
    taken.warnings.extend(left.map(|left| format!("An interrupted migration left {left}.")));
    secrets::clean(task.files(), &*task.runner.keychain, manifest)?;
    // Last: after a kill at any earlier point the manifest leads back here.
    manifest::remove(task.files(), &task.names.manifest, &manifest.nonce)
}

fn clean(task: &Task<'_>, manifest: &Manifest) -> Result<(), Fault> {
    flip::drop_copies(task.files(), manifest)?;
    secrets::clean(task.files(), &*task.runner.keychain, manifest)?;
    manifest::remove(task.files(), &task.names.manifest, &manifest.nonce)
}

/// Installs the new database, which was complete, unless it is installed already; then cleans up.
fn finish(task: &Task<'_>, manifest: &Manifest, taken: &mut TakenOver) -> Result<(), Fault> {
    let (database, staging, backup) = (&manifest.source, &manifest.staging, &manifest.backup);
    if staging.exists() {
        if flip::is_whole(staging, task.recipe) {
            // This process's own connection would block the exclusive lock that `install` takes.
            task.runner.with_held(task.id(), |held| held.source = None);
            flip::install(task.files(), database, staging, backup, None)?;
        } else {
            return fall_back(task, manifest, taken);
        }
    } else if !database.exists() || crate::recipe::is_old(database, task.recipe)? {
        return fall_back(task, manifest, taken);
    }
    taken.backup = Some(backup.clone()).filter(|path| path.exists());
    point("takeover.installed");
    clean(task, manifest)
}

/// Returns to the old database because the new one is missing or incomplete.
fn fall_back(task: &Task<'_>, manifest: &Manifest, taken: &mut TakenOver) -> Result<(), Fault> {
    let (database, backup) = (&manifest.source, &manifest.backup);
    if !database.exists() && !backup.exists() {
        return Err(refused(task, "neither the old nor the new database exists"));
    }
    taken.warnings.push(format!(
        "The incomplete new database of an interrupted migration was removed; {} is the old one.",
        database.display()
    ));
    roll_back(task, manifest, taken)
}

/// Settles a database without a manifest. If the database is missing and backups lie beside it, the
/// only complete new database that has a backup is installed; every other case is refused.
fn stranded(task: &Task<'_>) -> Result<TakenOver, Fault> {
    let database = &task.names.database;
    if database.exists() {
        return Ok(TakenOver::default());
    }
    let (staged, backups) = beside(database, task.recipe.label());
    if backups.is_empty() {
        return Ok(TakenOver::default());
    }
    let whole: Vec<&PathBuf> =
        staged.iter().filter(|path| flip::is_whole(path, task.recipe)).collect();
    let [staging] = whole[..] else {
        return Err(refused(task, "the database is missing, and only backups of it were found"));
    };
    let nonce = staging.to_string_lossy().rsplit('-').next().unwrap_or_default().to_owned();
    let backup = backups.iter().find(|path| path.to_string_lossy().ends_with(&nonce));
    let Some(backup) = backup else {
        return Err(refused(
            task,
            "the database is missing, and no backup belongs to its new database",
        ));
    };
    flip::install(task.files(), database, staging, backup, None)?;
    let copy = with_suffix(database, &format!(".source-{nonce}"));
    task.files().remove_set(&copy).map_err(paths::failed("remove", &copy))?;
    let warning = format!(
        "{} was missing; the new database beside it, from an interrupted migration, was installed.",
        database.display()
    );
    Ok(TakenOver {
        stage: Some("stranded".to_owned()),
        backup: Some(backup.clone()),
        warnings: vec![warning],
    })
}

/// Returns the new databases and the backups that lie beside a database, each sorted by name.
pub(super) fn beside(database: &Path, label: &str) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let base = database.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let entries = database.parent().and_then(|dir| std::fs::read_dir(dir).ok());
    let (staging, backup) = (format!("{base}.building-"), format!("{base}.{label}-"));
    let (mut staged, mut backups) = (Vec::new(), Vec::new());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(&staging).is_some_and(is_nonce) {
            staged.push(entry.path());
        } else if let Some((at, nonce)) =
            name.strip_prefix(&backup).and_then(|rest| rest.split_once('-'))
            && at.bytes().all(|b| b.is_ascii_digit())
            && is_nonce(nonce)
        {
            backups.push(entry.path());
        }
    }
    staged.sort();
    backups.sort();
    (staged, backups)
}

fn unreadable(task: &Task<'_>, why: &str) -> Result<TakenOver, Fault> {
    if !task.names.database.exists() {
        return Err(refused(task, "its manifest cannot be read").because(why));
    }
    Ok(TakenOver { stage: Some("unreadable".to_owned()), ..TakenOver::default() })
}

/// Removes an unreadable manifest. The caller has found that nothing is left to settle.
pub(super) fn drop_unreadable(task: &Task<'_>) -> Result<(), Fault> {
    let path = &task.names.manifest;
    if matches!(manifest::read(path), ReadManifest::Unreadable(_)) && !task.migration.plan.dry_run {
        task.files().remove(path).map_err(paths::failed("remove", path))?;
    }
    Ok(())
}

fn refused(task: &Task<'_>, why: &str) -> Fault {
    let database = &task.names.database;
    let message =
        format!("cannot settle the interrupted migration of {}: {why}", database.display());
    let (staged, backups) = beside(database, task.recipe.label());
    let newest = backups.iter().max_by_key(|path| path.metadata().and_then(|m| m.modified()).ok());
    let hint = match newest {
        Some(backup) => format!(
            "restore the old database with `mv {} {}`, then migrate again",
            paths::as_argument(backup),
            paths::as_argument(database)
        ),
        None => "restore a copy of the database to this path; nothing was changed".to_owned(),
    };
    let lies = |path: &PathBuf| format!("found {}", path.display());
    Fault::new(Code::MigrationFailed, message, hint)
        .with_evidence(backups.iter().chain(&staged).map(lies))
}
