//! Secrets beside a database: backed up before they are changed, written once the new database
//! refers to them, and put back when the migration fails.
//!
//! Their values are never logged, shown or used as a name.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::content::CONTENT;
use crate::context::Task;
use crate::file_names::UNDONE;
use crate::files::{Files, with_suffix};
use crate::keychain_entries::{
    KEYCHAIN, back_up_keychain, note_keychain, restore_keychain, service,
};
use crate::manifest::{self, AuthWritten, Manifest};
use crate::plain_file;
use crate::recipe::{Keychain, Secrets};
use crate::warnings::{OF_BUILD, OF_SOURCE};
use groundskeeper_core::{Code, Fault, MigrationOutcome, hex};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::paths;

/// Largest file with secrets, in bytes.
const SECRETS_BYTES_MAX: u64 = 64 << 20;
/// Name of the old file with secrets in a migration's directory.
pub(super) const KEPT: &str = "secrets";
/// Name of the file beside it that holds the digest of the new secrets as they were written.
pub(super) const WRITTEN: &str = "written";
/// Name of the file with the fingerprint of the new database after the startup steps of this
/// program.
pub(super) const READY: &str = "ready";
/// Name of the empty file that exists once an undo has put the old secrets back.
pub(super) const RESTORED: &str = "restored";

/// Copies the file with secrets before anything changes it: beside the original for a roll-back,
/// and into the migration's own directory for an undo.
pub(super) fn back_up(task: &Task<'_>) -> Result<(), Fault> {
    let (Some(secrets), Some(backup)) = (&task.names.secrets, &task.names.secrets_backup) else {
        return Ok(());
    };
    // After a kill the first copy is the right one: the file itself may already be the new one.
    if backup.exists() || !secrets.exists() {
        return Ok(());
    }
    let bytes = plain_file::read(secrets, SECRETS_BYTES_MAX, Code::Io)?.unwrap_or_default();
    let files = task.files();
    let folder = task.runner.folder_of(task.id());
    files.make_dir(&folder).map_err(paths::failed("create", &folder))?;
    // The copy beside the secrets is the last: its presence means that both are complete.
    let kept = folder.join(KEPT);
    files
        .write(&kept, &with_suffix(&kept, ".tmp"), &bytes)
        .map_err(paths::failed("write", &kept))?;
    // A roll-back renames this copy into the place of the secrets, so it is as they are.
    files.write_like(secrets, backup, &with_suffix(backup, ".tmp"), &bytes)
}

/// Writes the secrets that the new database refers to. Repeated after a kill, it writes the same.
pub(super) fn write(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    task.hold_and_check()?;
    let secrets = wanted(task)?;
    if !secrets.keychain.is_empty() {
        back_up_keychain(task, &secrets)?;
        point("migrate.keychain_kept");
        note_keychain(task)?;
        for (service, account, value) in &secrets.keychain {
            task.runner.keychain.set(service, account, value)?;
        }
        point("migrate.keychain_written");
    }
    let entries = secrets.keychain.len() + usize::from(secrets.file.is_some());
    if let (Some(bytes), Some(path)) = (&secrets.file, &task.names.secrets) {
        write_file(task, path, bytes)?;
    }
    point("migrate.secrets_written");
    Ok(MigrationOutcome::SecretsWritten(entries as u64))
}

/// Returns what is to be written. The build has planned it: planning reads the whole old database.
fn wanted(task: &Task<'_>) -> Result<Secrets, Fault> {
    if let Some(planned) = task.runner.with_held(task.id(), |held| held.secrets.take()) {
        return Ok(planned);
    }
    let copy = crate::copy::open(task)?;
    task.with_work(|work| task.recipe.secrets(&copy, work))
}

fn write_file(task: &Task<'_>, path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let files = task.files();
    let folder = task.runner.folder_of(task.id());
    files.make_dir(&folder).map_err(paths::failed("create", &folder))?;
    let note = folder.join(WRITTEN);
    let digest = hex(&Sha256::digest(bytes));
    check_untouched(task, path, bytes)?;
    // Durable before the new file: without the digest an undo cannot tell a foreign change, and
    // nor can a program without the log.
    files
        .write(&note, &with_suffix(&note, ".tmp"), digest.as_bytes())
        .map_err(paths::failed("write", &note))?;
    let auth_written = Some(AuthWritten { sha256: Some(digest) });
    let manifest = Manifest { auth_written, ..manifest::own(task)? };
    manifest::write(files, &task.names.manifest, &manifest)?;
    if let Some(dir) = path.parent() {
        files.make_dir(dir).map_err(paths::failed("create", dir))?;
    }
    let temporary = with_suffix(path, ".tmp");
    let like = task.names.secrets_backup.as_deref().filter(|backup| backup.exists());
    match like {
        Some(like) => files.write_like(like, path, &temporary, bytes),
        None => files.write(path, &temporary, bytes).map_err(paths::failed("write", path)),
    }
}

/// Refuses when another program changed the file since it was copied. The file may belong to more
/// than one database, so a foreign change is never overwritten.
fn check_untouched(task: &Task<'_>, path: &Path, new: &[u8]) -> Result<(), Fault> {
    let now = plain_file::read(path, SECRETS_BYTES_MAX, Code::DatabaseInUse)?;
    let old = task.names.secrets_backup.as_deref().and_then(|backup| std::fs::read(backup).ok());
    if now.is_none() || now == old || now.as_deref() == Some(new) {
        return Ok(());
    }
    let message = format!("{} was changed while its database was being migrated", path.display());
    let hint = "end the program that writes to it, then migrate again; nothing was lost";
    Err(Fault::new(Code::DatabaseInUse, message, hint))
}

/// Removes what was kept for an undo that cannot happen any more.
pub(super) fn forget(task: &Task<'_>) -> Result<(), Fault> {
    let folder = task.runner.folder_of(task.id());
    for name in [KEPT, WRITTEN, KEYCHAIN, READY, CONTENT, OF_SOURCE, OF_BUILD] {
        for path in [folder.join(name), folder.join(format!("{name}.tmp"))] {
            task.files().remove(&path).map_err(paths::failed("remove", &path))?;
        }
    }
    paths::remove_dir_if_empty(&folder).map_err(paths::failed("remove", &folder))
}

/// Puts the old secrets back, in the keychain and in the file, for a program that knows of the
/// migration by its manifest alone.
pub(super) fn restore(
    files: &Files,
    keychain: &dyn Keychain,
    manifest: &Manifest,
) -> Result<Left, Fault> {
    let restored = restore_keychain(keychain, manifest);
    // Whatever the keychain answers: the old file is at hand.
    let file = if is_foreign(manifest)? {
        Some(keep_old(files, manifest)?)
    } else {
        restore_file(files, manifest)?;
        None
    };
    Ok(Left { file, keychain: restored? })
}

/// Returns whether another program wrote the file with secrets after the migration began, by the
/// note of what this program wrote. The application's own manifests have no such note; it puts the
/// old file back in any case, and so does its successor.
pub(super) fn is_foreign(manifest: &Manifest) -> Result<bool, Fault> {
    let Some(written) = &manifest.auth_written else { return Ok(false) };
    if manifest.auth_path.as_os_str().is_empty() {
        return Ok(false);
    }
    let read = |path: &Path| plain_file::read(path, SECRETS_BYTES_MAX, Code::Io);
    let Some(now) = read(&manifest.auth_path)? else { return Ok(false) };
    if written.sha256.as_ref() == Some(&hex(&Sha256::digest(&now))) {
        return Ok(false);
    }
    let old = manifest.auth_backup.as_deref().map(read).transpose()?.flatten();
    Ok(old != Some(now))
}

/// Leaves a foreign file in its place, and the old one beside it under the name of what was put
/// aside. Returns what is left, for the user.
fn keep_old(files: &Files, manifest: &Manifest) -> Result<String, Fault> {
    let path = &manifest.auth_path;
    let left = format!("{} as another program wrote it since", path.display());
    let at = manifest.backup.to_string_lossy().rsplit('-').nth(1).unwrap_or_default().to_owned();
    let aside = with_suffix(path, &format!(".{UNDONE}-{at}-{}", manifest.nonce));
    if let Some(backup) = manifest.auth_backup.as_deref().filter(|backup| backup.exists()) {
        files.rename(backup, &aside).map_err(paths::failed("put aside", backup))?;
        files.sync_dir_of(path).map_err(paths::failed("sync", path))?;
    }
    // After a kill it may have been put aside before.
    Ok(if aside.exists() { format!("{left}; old file: {}", aside.display()) } else { left })
}

/// What a roll-back could not take back, for the user.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The file, which another program changed; the old one is kept.
    pub(super) file: Option<String>,
    /// Entries of a keychain that cannot be reached now.
    pub(super) keychain: Option<String>,
}

/// Puts back what this migration wrote. The file may belong to more than one database: a foreign
/// change stays, the old file is kept, and the returned text names its path. A keychain that cannot
/// be reached keeps nothing but its own entries from being put back.
pub(super) fn take_back(task: &Task<'_>, manifest: &Manifest) -> Result<Left, Fault> {
    let restored = restore_keychain(&*task.runner.keychain, manifest);
    let file = take_back_file(task, manifest)?;
    Ok(Left { file, keychain: restored? })
}

fn take_back_file(task: &Task<'_>, manifest: &Manifest) -> Result<Option<String>, Fault> {
    let folder = task.runner.folder_of(task.id());
    let written = std::fs::read_to_string(folder.join(WRITTEN)).ok();
    let now = plain_file::read(&manifest.auth_path, SECRETS_BYTES_MAX, Code::Io)?;
    let digest = now.as_deref().map(|bytes| hex(&Sha256::digest(bytes)));
    let old = std::fs::read(folder.join(KEPT)).ok();
    if now.is_none() || digest == written {
        restore_file(task.files(), manifest)?;
    } else if now != old && written.is_some() {
        let (path, kept) = (manifest.auth_path.display(), folder.join(KEPT));
        let kept = if old.is_some() { kept.display().to_string() } else { "none".to_owned() };
        let left = format!("{path}, which was changed during the migration; old file: {kept}");
        return Ok(Some(left));
    }
    Ok(None)
}

fn restore_file(files: &Files, manifest: &Manifest) -> Result<(), Fault> {
    if manifest.auth_path.as_os_str().is_empty() {
        return Ok(());
    }
    let path = &manifest.auth_path;
    match manifest.auth_backup.as_deref().filter(|backup| backup.exists()) {
        Some(backup) => {
            if let Some(dir) = path.parent() {
                files.make_dir(dir).map_err(paths::failed("create", dir))?;
            }
            // Renamed and not copied: on a full disk the old secrets must come back all the same.
            files.rename(backup, path).map_err(paths::failed("restore", path))
        }
        // There was no file before, so this one belongs to the migration.
        None if !manifest.auth_existed => {
            files.remove(path).map_err(paths::failed("remove", path))?;
            files.sync_dir_of(path).map_err(paths::failed("sync", path))
        }
        // The file was not copied yet, so nothing has changed it.
        None => Ok(()),
    }
}

/// Removes the backups of the secrets. The secrets are synced again first: afterwards only the
/// migration's own directory still has the old values.
pub(super) fn clean(
    files: &Files,
    keychain: &dyn Keychain,
    manifest: &Manifest,
) -> Result<(), Fault> {
    let service = service();
    for name in manifest.keychain_backups.iter().filter_map(|entry| entry.backup_id.as_deref()) {
        keychain.delete(&service, name)?;
    }
    let path = &manifest.auth_path;
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    files.sync(path).and_then(|()| files.sync_dir_of(path)).map_err(paths::failed("sync", path))?;
    let restore = with_suffix(path, &format!(".restore-{}.tmp", manifest.nonce));
    let mut gone = vec![restore, with_suffix(path, ".tmp")];
    gone.extend(manifest.auth_backup.clone());
    // Temporary files of the backup itself, which a kill during its writing leaves.
    gone.extend(manifest.auth_backup.as_deref().map(|backup| with_suffix(backup, ".tmp")));
    for path in gone {
        files.remove(&path).map_err(paths::failed("remove", &path))?;
    }
    files.sync_dir_of(path).map_err(paths::failed("sync", path))
}

/// The old secrets that are kept for an undo, and whether the new ones changed since.
pub(super) struct Kept {
    /// Path of the old file; `None` when there was no such file or none was written.
    pub(super) old: Option<PathBuf>,
    /// Whether the file did not exist before and is unchanged, so that the migration owns it.
    pub(super) made: bool,
    /// Whether the new file differs from what was written, or is missing.
    pub(super) changed: bool,
    /// Whether the keychain was written to.
    pub(super) keychain: bool,
}

/// Returns whether two files with secrets have the same content.
pub(super) fn have_same_content(a: &Path, b: &Path) -> bool {
    let read = |path| plain_file::read(path, SECRETS_BYTES_MAX, Code::Io).ok().flatten();
    read(a).is_some_and(|bytes| Some(bytes) == read(b))
}

/// Returns whether it is noted what a migration wrote: without that, an undo cannot put anything
/// back.
pub(super) fn is_noted(task: &Task<'_>) -> bool {
    task.runner.folder_of(task.id()).join(WRITTEN).exists()
}

/// Returns what an undo would put back.
pub(super) fn kept(task: &Task<'_>) -> Kept {
    let folder = task.runner.folder_of(task.id());
    let keychain = folder.join(KEYCHAIN).exists();
    let nothing = Kept { old: None, made: false, changed: false, keychain };
    let (Ok(written), Some(path)) =
        (std::fs::read_to_string(folder.join(WRITTEN)), &task.names.secrets)
    else {
        return nothing;
    };
    let old = Some(folder.join(KEPT)).filter(|path| path.exists());
    let now = std::fs::read(path).ok().map(|bytes| hex(&Sha256::digest(&bytes)));
    let changed = now != Some(written);
    Kept { made: old.is_none() && !changed, old, changed, keychain }
}
