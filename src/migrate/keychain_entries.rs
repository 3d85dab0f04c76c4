//! The entries of a keychain that a migration writes: copied before they are overwritten, noted in
//! the manifest, and put back when the migration fails.
//!
//! Their values are never logged, shown or used as a name.

use sha2::{Digest as _, Sha256};

use crate::context::Task;
use crate::files::with_suffix;
use crate::keychain::absent;
use crate::manifest::{self, KeychainBackup, Manifest, Stage};
use crate::recipe::{Keychain, Secrets};
use groundskeeper_core::{Fault, MigrationId, hex};
use groundskeeper_system::paths;

/// Name of the empty file that exists once the keychain was written to.
pub(super) const KEYCHAIN: &str = "keychain";

/// Notes that the keychain is written to, which an undo cannot reverse.
pub(super) fn note_keychain(task: &Task<'_>) -> Result<(), Fault> {
    let folder = task.runner.folder_of(task.id());
    task.files().make_dir(&folder).map_err(paths::failed("create", &folder))?;
    let note = folder.join(KEYCHAIN);
    let temporary = with_suffix(&note, ".tmp");
    task.files().write(&note, &temporary, b"").map_err(paths::failed("write", &note))
}

/// Copies the keychain entries that are overwritten to accounts of this migration, and notes each
/// in the manifest.
pub(super) fn back_up_keychain(task: &Task<'_>, secrets: &Secrets) -> Result<(), Fault> {
    let keychain = &*task.runner.keychain;
    // Before anything is noted, so that a noted entry proves that there was a keychain.
    if !keychain.is_reachable()? {
        return Err(absent("write a secret"));
    }
    let mut known = manifest::own(task)?.keychain_backups;
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
    let keychain_backups = known.to_vec();
    let manifest = Manifest { keychain_backups, phase: Stage::Building, ..manifest::own(task)? };
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

/// Puts the old entries back. The returned text names entries that may be left in a keychain that
/// cannot be reached now.
pub(super) fn restore_keychain(
    keychain: &dyn Keychain,
    manifest: &Manifest,
) -> Result<Option<String>, Fault> {
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
pub(super) fn service() -> String {
    std::env::var("EXECUTOR_KEYCHAIN_SERVICE_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "executor".to_owned())
}
