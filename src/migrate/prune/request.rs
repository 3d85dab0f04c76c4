//! What is asked for, and what comes of it.

use std::path::PathBuf;
use std::time::Duration;

use groundskeeper_core::{HostPath, MigrationId};

/// A request to remove what is old enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneRequest {
    /// Only what belongs to this database.
    pub database: Option<HostPath>,
    /// What is younger is kept.
    pub older_than: Duration,
    /// Whether anything is removed. Otherwise it is only listed.
    pub apply: bool,
}

/// Kind of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An old database.
    Backup,
    /// A new database, or its secrets, that an undo put aside.
    Undone,
    /// What a migration keeps for an undo in its directory: the old secrets and its notes.
    Secrets,
}

impl Kind {
    /// Returns the name that users and scripts see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Undone => "undone",
            Self::Secrets => "secrets",
        }
    }
}

/// One thing that is kept, with all its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Its kind.
    pub kind: Kind,
    /// Its first file, or the directory of kept secrets.
    pub path: PathBuf,
    /// The database that it belongs to.
    pub database: HostPath,
    /// The migration that made it.
    pub migration: MigrationId,
    /// Bytes in all its files.
    pub bytes: u64,
    /// When it came to be what it is, in milliseconds since 1970.
    pub since_ms: u64,
    /// How long ago that was.
    pub age: Duration,
    /// Why it is kept; `None` when it can be removed.
    pub kept: Option<String>,
    /// Whether it was removed.
    pub removed: bool,
}

/// What was found, and what was removed of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Everything that is kept, by database and time.
    pub items: Vec<Pruned>,
}
