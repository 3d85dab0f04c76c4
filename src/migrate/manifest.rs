//! The mark: a small JSON file beside a database that is being migrated.
//!
//! The log is what a migration goes by. The mark is for those who do not have that log: the
//! application itself, whose own migration keeps the same file in the same form and would settle
//! ours by it, and this program when its data directory is lost. It never holds a secret.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::Fault;
use crate::migrate::context::Task;
use crate::migrate::file_names::Names;
use crate::migrate::files::{Files, with_suffix};
use crate::world::fs::paths;

/// How far a migration came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The new database is not whole; what was made can be dropped.
    Building,
    /// The new database is whole and waits beside the old one.
    Built,
    /// The old database may have left its place.
    CanonicalMoved,
    /// The new database is installed.
    Committed,
}

impl Stage {
    /// The name that the file has.
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

/// A keychain entry that is overwritten or made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeychainBackup {
    /// The account of the entry.
    pub id: String,
    /// The account that its old value is kept under.
    pub backup_id: Option<String>,
    /// Whether there was one.
    pub existed: bool,
}

/// The mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Always 1.
    pub version: u32,
    /// The database.
    pub source: PathBuf,
    /// The private copy of the old one.
    pub normalized_source: PathBuf,
    /// The new one.
    pub staging: PathBuf,
    /// Where the old one goes.
    pub backup: PathBuf,
    /// The file with secrets.
    pub auth_path: PathBuf,
    /// Its old content.
    pub auth_backup: Option<PathBuf>,
    /// Whether there was one.
    pub auth_existed: bool,
    /// Keychain entries.
    #[serde(default)]
    pub keychain_backups: Vec<KeychainBackup>,
    /// The migration's name.
    pub nonce: String,
    /// How far it came.
    pub phase: Stage,
}

/// What was found in the place of a mark.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A mark.
    Mark(Box<Mark>),
    /// Something that is none; the text says why.
    Unreadable(String),
}

/// Largest mark that is read, in bytes.
const MARK_BYTES_MAX: u64 = 16 << 20;

/// Reads the mark of a database.
#[must_use]
pub fn read(path: &Path) -> Found {
    use std::io::Read as _;
    let mut text = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MARK_BYTES_MAX).read_to_end(&mut text));
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Found::Nothing,
        Err(e) => return Found::Unreadable(e.to_string()),
        Ok(_) => {}
    }
    match serde_json::from_slice::<Mark>(&text) {
        Ok(mark) if mark.version == 1 => Found::Mark(Box::new(mark)),
        Ok(mark) => Found::Unreadable(format!("it has version {}", mark.version)),
        Err(e) => Found::Unreadable(e.to_string()),
    }
}

/// Writes the mark of a database, durably.
///
/// # Errors
/// What the system says.
pub fn write(files: &Files, path: &Path, mark: &Mark) -> Result<(), Fault> {
    let mut text = serde_json::to_vec_pretty(mark).unwrap_or_default();
    text.push(b'\n');
    let temporary = with_suffix(path, &format!(".tmp-{}", mark.nonce));
    files.write(path, &temporary, &text).map_err(paths::failed("write", path))
}

/// Removes what a kill left of the writing of a mark, whoever's it was. The caller holds the
/// database, so nobody writes one now.
///
/// # Errors
/// What the system says.
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

/// Whether a part of a file's name can be a migration's.
#[must_use]
pub fn is_nonce(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Removes the mark of a database, durably.
///
/// # Errors
/// What the system says.
pub fn remove(files: &Files, path: &Path, nonce: &str) -> Result<(), Fault> {
    let temporary = with_suffix(path, &format!(".tmp-{nonce}"));
    files
        .remove(&temporary)
        .and_then(|()| files.remove(path))
        .and_then(|()| files.sync_dir_of(path))
        .map_err(paths::failed("remove", path))
}

/// What the mark says of a migration.
pub(super) fn mark_of(task: &Task<'_>, auth_existed: bool, phase: Stage) -> Mark {
    let Names { database, copy, staging, backup, secrets, secrets_backup, .. } = &task.names;
    Mark {
        version: 1,
        source: database.clone(),
        normalized_source: copy.clone(),
        staging: staging.clone(),
        backup: backup.clone(),
        auth_path: secrets.clone().unwrap_or_default(),
        auth_backup: secrets_backup.clone().filter(|_| auth_existed),
        auth_existed,
        keychain_backups: Vec::new(),
        nonce: task.id().to_string(),
        phase,
    }
}
