//! Secrets beside a database: backed up before they are changed, written once the new database
//! refers to them, and put back when the migration fails.
//!
//! Their values are never logged, shown or used as a name.

use std::path::{Path, PathBuf};

use sha2::Digest as _;
use sha2::Sha256;

use super::files::{Files, with_suffix};
use super::recipe::{Keychain, Secrets};
use crate::content::CONTENT;
use crate::context::Task;
use crate::keychain::absent;
use crate::manifest::{self, KeychainBackup, Manifest, ReadManifest, Stage, manifest_for};
use crate::plain_file;
use groundskeeper_core::hex;
use groundskeeper_core::{Code, Fault, MigrationId, MigrationOutcome};
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
/// Name of the empty file that exists once the keychain was written to.
pub(super) const KEYCHAIN: &str = "keychain";

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
    let copy = crate::copy::open(task)?;
    let secrets = task.with_work(|work| task.recipe.secrets(&copy, work))?;
    drop(copy);
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

fn write_file(task: &Task<'_>, path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let files = task.files();
    let folder = task.runner.folder_of(task.id());
    files.make_dir(&folder).map_err(paths::failed("create", &folder))?;
    let note = folder.join(WRITTEN);
    let digest = hex(&Sha256::digest(bytes));
    check_untouched(task, path, bytes)?;
    // Durable before the new file: without the digest an undo cannot tell a foreign change.
    files
        .write(&note, &with_suffix(&note, ".tmp"), digest.as_bytes())
        .map_err(paths::failed("write", &note))?;
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

/// Notes that the keychain is written to, which an undo cannot reverse.
fn note_keychain(task: &Task<'_>) -> Result<(), Fault> {
    let folder = task.runner.folder_of(task.id());
    task.files().make_dir(&folder).map_err(paths::failed("create", &folder))?;
    let note = folder.join(KEYCHAIN);
    let temporary = with_suffix(&note, ".tmp");
    task.files().write(&note, &temporary, b"").map_err(paths::failed("write", &note))
}

/// Removes what was kept for an undo that cannot happen any more.
pub(super) fn forget(task: &Task<'_>) -> Result<(), Fault> {
    let folder = task.runner.folder_of(task.id());
    for name in [KEPT, WRITTEN, KEYCHAIN, READY, CONTENT] {
        for path in [folder.join(name), folder.join(format!("{name}.tmp"))] {
            task.files().remove(&path).map_err(paths::failed("remove", &path))?;
        }
    }
    paths::remove_dir_if_empty(&folder).map_err(paths::failed("remove", &folder))
}

/// Copies the keychain entries that are overwritten to accounts of this migration, and notes each
/// in the manifest.
fn back_up_keychain(task: &Task<'_>, secrets: &Secrets) -> Result<(), Fault> {
    let keychain = &*task.runner.keychain;
    // Before anything is noted, so that a noted entry proves that there was a keychain.
    if !keychain.is_reachable()? {
        return Err(absent("write a secret"));
    }
    let mut known = known_backups(task)?;
    let mut wanted: Vec<(&str, &str)> =
        secrets.keychain.iter().map(|(s, a, _)| (s.as_str(), a.as_str())).collect();
    wanted.sort_unstable_by(|a, b| a.1.encode_utf16().cmp(b.1.encode_utf16()));
    wanted.dedup();
    for (service, account) in wanted {
        // An entry noted before a kill is right: the account itself may already hold the new value.
        let noted = known.iter().find(|k| k.id == account).cloned();
        let entry = if let Some(entry) = noted {
            entry
        } else {
            let existed = keychain.get(service, account)?.is_some();
            let backup_id = existed.then(|| backup_account(task.id(), account));
            let entry = KeychainBackup { id: account.to_owned(), backup_id, existed };
            // Noted before the copy is made: only noted copies are removed at the end.
            known.push(entry.clone());
            note_backups(task, &known)?;
            entry
        };
        keep_entry(keychain, service, &entry)?;
    }
    Ok(())
}

/// Copies one entry unless it is copied already. No entry is overwritten before all are copied, so
/// an entry without a copy still has its old value.
fn keep_entry(keychain: &dyn Keychain, service: &str, entry: &KeychainBackup) -> Result<(), Fault> {
    let Some(name) = &entry.backup_id else { return Ok(()) };
    if keychain.get(service, name)?.is_some() {
        return Ok(());
    }
    match keychain.get(service, &entry.id)? {
        Some(old) => keychain.set(service, name, &old),
        None => Ok(()),
    }
}

fn note_backups(task: &Task<'_>, known: &[KeychainBackup]) -> Result<(), Fault> {
    let had = task.migration.copy.as_ref().is_some_and(|copy| copy.has_secrets);
    let mut manifest = manifest_for(task, had, Stage::Building);
    manifest.keychain_backups = known.to_vec();
    manifest::write(task.files(), &task.names.manifest, &manifest)
}

/// Returns whether a noted backup can belong to the migration of this name.
pub(super) fn is_own_backup(nonce: &str, entry: &KeychainBackup) -> bool {
    let own = MigrationId::parse(nonce).map(|id| backup_account(&id, &entry.id));
    entry.backup_id.as_ref().is_none_or(|name| own.is_ok_and(|own| own == *name))
}

fn backup_account(id: &MigrationId, account: &str) -> String {
    format!("v1-v2-migration-backup:{id}:{}", hex(&Sha256::digest(account.as_bytes())))
}

/// Returns the keychain entries that this migration noted in its manifest.
pub(super) fn known_backups(task: &Task<'_>) -> Result<Vec<KeychainBackup>, Fault> {
    match manifest::read(&task.names.manifest) {
        ReadManifest::Manifest(manifest) if manifest.nonce == task.id().as_str() => {
            Ok(manifest.keychain_backups)
        }
        ReadManifest::Inaccessible(fault) => Err(fault.transient()),
        ReadManifest::Unreadable(why) => {
            let message = format!("cannot read the manifest {}", task.names.manifest.display());
            let hint = "check the disk for errors: the manifest was complete before";
            Err(Fault::new(Code::MigrationFailed, message, hint).because(why))
        }
        _ => Ok(Vec::new()),
    }
}

/// Puts the old secrets back, in the keychain and in the file. The returned text names entries that
/// may be left in a keychain that cannot be reached now.
pub(super) fn restore(
    files: &Files,
    keychain: &dyn Keychain,
    manifest: &Manifest,
) -> Result<Option<String>, Fault> {
    let restored = restore_keychain(keychain, manifest);
    // Whatever the keychain answers: the old file is at hand.
    restore_file(files, manifest)?;
    restored
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

fn restore_keychain(keychain: &dyn Keychain, manifest: &Manifest) -> Result<Option<String>, Fault> {
    let (service, entries) = (service(), &manifest.keychain_backups);
    if entries.is_empty() || keychain.is_reachable()? {
        entries.iter().try_for_each(|entry| restore_entry(keychain, &service, entry))?;
        return Ok(None);
    }
    if entries.iter().any(|entry| entry.existed) {
        return Err(absent("put the old secrets back into the keychain"));
    }
    let names: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    let names = names.join(", ");
    Ok(Some(format!(
        "new entries of the service `{service}` in a keychain that cannot be reached now: {names}"
    )))
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

fn restore_entry(
    keychain: &dyn Keychain,
    service: &str,
    entry: &KeychainBackup,
) -> Result<(), Fault> {
    if !entry.existed {
        return keychain.delete(service, &entry.id);
    }
    let old = match &entry.backup_id {
        Some(name) => keychain.get(service, name)?,
        None => None,
    };
    // The backup was noted but not made, so the entry itself is unchanged.
    let Some(old) = old else { return Ok(()) };
    // An entry with its old value needs no write, which may be impossible.
    if keychain.get(service, &entry.id)?.as_ref() == Some(&old) {
        return Ok(());
    }
    keychain.set(service, &entry.id, &old)
}

/// Returns the name of the keychain service of the Executor application's entries.
#[must_use]
pub fn service() -> String {
    std::env::var("EXECUTOR_KEYCHAIN_SERVICE_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "executor".to_owned())
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
