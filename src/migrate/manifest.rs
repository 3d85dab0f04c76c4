//! The manifest: a small JSON file beside a database that is being migrated.
//!
//! A migration follows the log. The manifest serves programs that do not have that log: the
//! application, whose own migration keeps the same file in the same form and would settle ours by
//! it, and this program when its data directory is lost. The manifest never holds a secret.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::context::Task;
use crate::file_names::Names;
use crate::files::{Files, with_suffix};
use crate::plain_file;
use groundskeeper_core::{Code, Fault};
use groundskeeper_system::paths;

/// Phase of a migration, as the manifest records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The new database is not complete; everything that was made can be dropped.
    Building,
    /// The new database is complete and stands beside the old one.
    Built,
    /// The old database may have been renamed to its backup.
    CanonicalMoved,
    /// The new database is installed under the database's name.
    Committed,
}

impl Stage {
    /// Returns the name that the manifest uses for the phase.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Built => "built",
            Self::CanonicalMoved => "canonical-moved",
            Self::Committed => "committed",
        }
    }
}

/// A keychain entry that the migration replaces or creates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeychainBackup {
    /// Account of the entry that is written.
    pub id: String,
    /// Account that keeps the old value; `None` when there was no old value.
    pub backup_id: Option<String>,
    /// Whether the entry existed before the migration.
    pub existed: bool,
}

/// What this program wrote to the file with secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthWritten {
    /// SHA-256 of the new content in hexadecimal, noted before it is written; `None` before that.
    pub sha256: Option<String>,
}

/// Content of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of the format, always 1; another version is unreadable.
    pub version: u32,
    /// Path of the database that is migrated.
    pub source: PathBuf,
    /// Path of the private copy of the old database.
    pub normalized_source: PathBuf,
    /// Path of the new database until it is installed.
    pub staging: PathBuf,
    /// Path of the old database after the flip.
    pub backup: PathBuf,
    /// Path of the file with secrets; empty when the plan has none.
    pub auth_path: PathBuf,
    /// Path of the copy of the old secrets; `None` when there was no such file.
    pub auth_backup: Option<PathBuf>,
    /// Whether the file with secrets existed before the migration.
    pub auth_existed: bool,
    /// What was written to the file with secrets. The application's own manifests do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_written: Option<AuthWritten>,
    /// Keychain entries that the migration writes, noted before each of them is backed up.
    #[serde(default)]
    pub keychain_backups: Vec<KeychainBackup>,
    /// Name of the migration, which its files carry too: eight hexadecimal digits.
    pub nonce: String,
    /// Phase that the migration has reached.
    pub phase: Stage,
}

/// Result of reading a manifest.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadManifest {
    /// No file at this path.
    Nothing,
    /// A manifest of version 1.
    Manifest(Box<Manifest>),
    /// A file that is no manifest; the text gives the reason.
    Unreadable(String),
    /// There is something that cannot be read now, so its content is unknown.
    Inaccessible(Fault),
}

/// Largest part of a manifest that is read, in bytes.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// Reads the manifest at this path.
#[must_use]
pub fn read(path: &Path) -> ReadManifest {
    let text = match plain_file::read(path, MANIFEST_BYTES_MAX, Code::Io) {
        Ok(Some(text)) => text,
        Ok(None) => return ReadManifest::Nothing,
        Err(fault) => return ReadManifest::Inaccessible(fault),
    };
    match serde_json::from_slice::<Manifest>(&text) {
        Ok(manifest) if manifest.version == 1 => ReadManifest::Manifest(Box::new(manifest)),
        Ok(manifest) => {
            ReadManifest::Unreadable(format!("unsupported version {}", manifest.version))
        }
        Err(e) => ReadManifest::Unreadable(e.to_string()),
    }
}

/// Writes the manifest at this path durably, whole or not at all. It belongs to the owner of the
/// database, whose application reads and removes it.
///
/// # Errors
/// The error of the file system.
pub fn write(files: &Files, path: &Path, manifest: &Manifest) -> Result<(), Fault> {
    let mut text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    text.push(b'\n');
    let temporary = with_suffix(path, &format!(".tmp-{}", manifest.nonce));
    let owner = [&manifest.source, &manifest.backup, &manifest.staging];
    match owner.into_iter().find(|database| database.exists()) {
        Some(database) => files.write_owned_like(database, path, &temporary, &text),
        None => files.write(path, &temporary, &text).map_err(paths::failed("write", path)),
    }
}

/// Removes temporary files that a kill left while a manifest was written, of any migration. The
/// caller holds the database, so no process writes a manifest now.
///
/// # Errors
/// The error of the file system.
pub fn drop_temporary(files: &Files, path: &Path) -> Result<(), Fault> {
    let prefix = path.file_name().map(|n| format!("{}.tmp-", n.to_string_lossy()));
    let entries = path.parent().and_then(|dir| std::fs::read_dir(dir).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if prefix.as_deref().and_then(|p| name.strip_prefix(p)).is_some_and(is_nonce) {
            files.remove(&entry.path()).map_err(paths::failed("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Returns whether a part of a file name can be the name of a migration.
#[must_use]
pub fn is_nonce(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Removes the manifest at this path durably, with the migration's temporary file.
///
/// # Errors
/// The error of the file system.
pub fn remove(files: &Files, path: &Path, nonce: &str) -> Result<(), Fault> {
    let temporary = with_suffix(path, &format!(".tmp-{nonce}"));
    files
        .remove(&temporary)
        .and_then(|()| files.remove(path))
        .and_then(|()| files.sync_dir_of(path))
        .map_err(paths::failed("remove", path))
}

/// Returns the manifest of this migration on disk; where there is none, the first one, with which
/// nothing is written yet.
///
/// # Errors
/// When there is one that cannot be read: what it names would be lost.
pub(super) fn own(task: &Task<'_>) -> Result<Manifest, Fault> {
    match read(&task.names.manifest) {
        ReadManifest::Manifest(manifest) if manifest.nonce == task.id().as_str() => Ok(*manifest),
        ReadManifest::Inaccessible(fault) => Err(fault.transient()),
        ReadManifest::Unreadable(why) => {
            let message = format!("cannot read the manifest {}", task.names.manifest.display());
            let hint = "check the disk for errors: the manifest was complete before";
            Err(Fault::new(Code::MigrationFailed, message, hint).because(why))
        }
        _ => {
            let had = task.migration.copy.as_ref().is_some_and(|copy| copy.has_secrets);
            Ok(manifest_for(task, had))
        }
    }
}

/// Returns the first manifest of a migration.
pub(super) fn manifest_for(task: &Task<'_>, auth_existed: bool) -> Manifest {
    let Names { database, copy, staging, backup, secrets, secrets_backup, .. } = &task.names;
    Manifest {
        version: 1,
        source: database.clone(),
        normalized_source: copy.clone(),
        staging: staging.clone(),
        backup: backup.clone(),
        auth_path: secrets.clone().unwrap_or_default(),
        auth_backup: secrets_backup.clone().filter(|_| auth_existed),
        auth_existed,
        auth_written: Some(AuthWritten::default()),
        keychain_backups: Vec::new(),
        nonce: task.id().to_string(),
        phase: Stage::Building,
    }
}
