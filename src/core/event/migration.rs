//! Events of a staged migration: an old SQLite database is carried to its next generation.
//!
//! They never contain rows or secrets, only names, numbers and warnings.

use serde::{Deserialize, Serialize};

use crate::empty_is_none;
use crate::event::common::Actor;
use crate::event::names::ConflictPolicy;
use crate::fault::Fault;
use crate::id::{HostPath, MigrationId, Time};

/// The plan of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MigrationPlan {
    /// Name of the recipe; none where the recipe is a folder of SQL files.
    #[serde(with = "empty_is_none")]
    pub recipe: Option<String>,
    /// That folder; none where the recipe has a name.
    #[serde(with = "empty_is_none")]
    pub folder: Option<HostPath>,
    /// SHA-256 over that folder's files, in hex; a changed folder is another recipe.
    #[serde(with = "empty_is_none")]
    pub folder_hash: Option<String>,
    /// Real path of the database.
    pub database: HostPath,
    /// The file with its secrets, which need not exist; none where the database needs none.
    #[serde(with = "empty_is_none")]
    pub secrets: Option<HostPath>,
    /// Owner of the rows where the old database names none.
    pub tenant: String,
    /// Policy for conflicting rows.
    pub on_conflict: ConflictPolicy,
    /// Whether this is a rehearsal: everything is built and verified, and then removed.
    pub dry_run: bool,
    /// Milliseconds since 1970, used in the backup's name and in the rows.
    pub at_ms: u64,
}

/// State of the source before anything was copied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceState {
    /// Whether there is an old database to migrate.
    pub old: bool,
    /// Phase of an interrupted migration by the application itself, which was settled first:
    /// `building`, `built`, `canonical-moved`, `committed`, `unreadable`, `stranded`.
    #[serde(with = "empty_is_none")]
    pub taken_over: Option<String>,
    /// The backup that such a migration made, if it made one.
    #[serde(with = "empty_is_none")]
    pub backup: Option<HostPath>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// The private copy of the old database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceCopy {
    /// Size of the copy in bytes.
    pub bytes: u64,
    /// Size and time of the source's files, to notice that they were written to since.
    pub fingerprint: String,
    /// CRC-32C of the copy as it was made, to notice that the source's content changed since.
    pub checksum: u32,
    /// Row counts by table name.
    pub rows: Vec<(String, u64)>,
    /// Whether there was a file with secrets.
    pub has_secrets: bool,
}

/// The new database beside the old one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Staging {
    /// Row counts by table name.
    pub rows: Vec<(String, u64)>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// The recipe's numbers, as one JSON object.
    pub report: String,
}

macro_rules! migration_events {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name {
                /// The migration's id.
                pub migration: MigrationId,
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*
    };
}

migration_events! {
    /// Kind 120: a user wants a database carried to its next generation.
    MigrationRequested {
        /// The plan of the migration.
        plan: MigrationPlan,
        /// The actor of the request.
        actor: Actor,
    }
    /// Kind 121: the source was inspected, and the files of an earlier attempt were settled.
    SourceInspected {
        /// State of the source.
        found: SourceState,
    }
    /// Kind 122: a private copy of the source is on disk.
    SourceCopied {
        /// Facts about the private copy.
        copy: SourceCopy,
    }
    /// Kind 123: the copy has the shape that the recipe reads.
    SourceNormalised {
        /// Warnings for the user.
        warnings: Vec<String>,
    }
    /// Kind 124: the new database is built and on disk, without its stamp.
    StagingBuilt {
        /// The new database.
        staging: Staging,
    }
    /// Kind 125: the secrets that the new database refers to are on disk.
    SecretsWritten {
        /// Number of entries that were written.
        entries: u64,
    }
    /// Kind 126: the new database is stamped, whole and counted.
    StagingVerified {
        /// Its size in bytes.
        bytes: u64,
        /// Size and time of the file, to notice changes once it is installed.
        fingerprint: String,
    }
    /// Kind 127: from here on the new database may be installed.
    FlipBegun {}
    /// Kind 128: the new database is installed.
    Flipped {
        /// Path of the old database.
        backup: HostPath,
    }
    /// Kind 129: the migration ended; only database and backup are left.
    MigrationFinished {
        /// Files that could not be removed.
        leftovers: Vec<String>,
    }
    /// Kind 130: the migration cannot go on; its files are removed, the old database is unchanged.
    MigrationFailed {
        /// Name of the step that failed.
        step: String,
        /// Why the step failed.
        fault: Fault,
    }
    /// Kind 131: only the old database is left.
    MigrationRolledBack {
        /// Files that could not be removed.
        leftovers: Vec<String>,
    }
    /// Kind 132: a step failed and will be retried.
    MigrationAttemptFailed {
        /// Name of the step.
        step: String,
        /// Failed attempts so far.
        attempts: u32,
        /// When it is retried.
        retry_at: Time,
        /// Why the attempt failed.
        fault: Fault,
    }
    /// Kind 133: a user wants the old database back.
    MigrationUndoRequested {
        /// The actor of the request.
        actor: Actor,
        /// Whether a new database that was written to since may be put aside (since version 2).
        keep_new: bool,
    }
    /// Kind 134: the old database is back in its place.
    MigrationUndone {
        /// Path of the new database.
        kept: HostPath,
    }
    /// Kind 135: the old database was not put back.
    MigrationUndoRefused {
        /// Why it was not.
        fault: Fault,
    }
}
