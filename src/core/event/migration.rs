//! The phases of a staged migration: an old SQLite database is carried to its next generation.
//!
//! Rows and secrets are never in here; names, numbers and warnings are.

use serde::{Deserialize, Serialize};

use crate::core::event::common::Actor;
use crate::core::fault::Fault;
use crate::core::id::{HostPath, MigrationId, Time};

/// What a migration was asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MigrationPlan {
    /// Name of the recipe; empty when it is a folder of SQL files.
    pub recipe: String,
    /// That folder; empty when the recipe has a name.
    pub folder: HostPath,
    /// SHA-256 over that folder's files, in hex; a changed folder is another recipe.
    pub folder_hash: String,
    /// The database: its real path.
    pub database: HostPath,
    /// The file with its secrets, which need not exist; empty when there is none.
    pub secrets: HostPath,
    /// Who owns the rows where the old database does not say.
    pub tenant: String,
    /// `refuse`, `keep-first` or `rename`.
    pub on_conflict: String,
    /// Whether all is built and verified, and then dropped.
    pub dry_run: bool,
    /// Milliseconds since 1970 that name the backup and stand in the rows.
    pub at_ms: u64,
}

/// What was found before anything was copied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceState {
    /// Whether there is something to migrate.
    pub old: bool,
    /// How far an interrupted migration of the application had come that was settled first:
    /// `building`, `built`, `canonical-moved`, `committed`, `unreadable`, `stranded`; empty: none.
    pub taken_over: String,
    /// The backup that such a migration made; empty when it made none.
    pub backup: HostPath,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// The private copy of the old database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceCopy {
    /// Size of the copy in bytes.
    pub bytes: u64,
    /// Size and time of the source's files: whether they were touched since.
    pub fingerprint: String,
    /// CRC-32C of the copy as it was made: whether what they say was changed since.
    pub checksum: u32,
    /// Rows by table.
    pub rows: Vec<(String, u64)>,
    /// Whether there was a file with secrets.
    pub has_secrets: bool,
}

/// The new database beside the old one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Staging {
    /// Rows by table.
    pub rows: Vec<(String, u64)>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The recipe's numbers, one JSON object.
    pub report: String,
}

macro_rules! migration_events {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name {
                /// Which migration.
                pub migration: MigrationId,
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*
    };
}

migration_events! {
    /// Kind 120: somebody wants a database carried to its next generation.
    MigrationRequested {
        /// How.
        plan: MigrationPlan,
        /// Who asked.
        actor: Actor,
    }
    /// Kind 121: the source was looked at, and what an earlier attempt left was settled.
    SourceInspected {
        /// What was found.
        found: SourceState,
    }
    /// Kind 122: a private copy of the source is on disk.
    SourceCopied {
        /// What was copied.
        copy: SourceCopy,
    }
    /// Kind 123: the copy has the shape that the recipe reads.
    SourceNormalised {
        /// What a person should know.
        warnings: Vec<String>,
    }
    /// Kind 124: the new database is built and on disk, without its stamp.
    StagingBuilt {
        /// What was built.
        staging: Staging,
    }
    /// Kind 125: the secrets that the new database refers to are on disk.
    SecretsWritten {
        /// How many entries were written.
        entries: u64,
    }
    /// Kind 126: the new database is stamped, whole and counted.
    StagingVerified {
        /// Its size in bytes.
        bytes: u64,
        /// Size and time of the file: once it is installed, whether it changed since.
        fingerprint: String,
    }
    /// Kind 127: from here on the new database may be installed.
    FlipBegun {}
    /// Kind 128: the new database is installed.
    Flipped {
        /// Where the old one is.
        backup: HostPath,
    }
    /// Kind 129: it is over, and nothing but database and backup is left.
    MigrationFinished {
        /// What could not be removed.
        leftovers: Vec<String>,
    }
    /// Kind 130: it cannot go on; what was made is removed, the old database stays as it was.
    MigrationFailed {
        /// The step that failed.
        step: String,
        /// Why.
        fault: Fault,
    }
    /// Kind 131: nothing but the old database is left.
    MigrationRolledBack {
        /// What could not be removed.
        leftovers: Vec<String>,
    }
    /// Kind 132: a step failed and is tried again.
    MigrationAttemptFailed {
        /// Which.
        step: String,
        /// Failed attempts so far.
        attempts: u32,
        /// When it is tried again.
        retry_at: Time,
        /// Why it failed.
        fault: Fault,
    }
    /// Kind 133: somebody wants the old database back.
    MigrationUndoRequested {
        /// Who asked.
        actor: Actor,
    }
    /// Kind 134: the old database is back in its place.
    MigrationUndone {
        /// Where the new one is.
        kept: HostPath,
    }
    /// Kind 135: the old database was not put back.
    MigrationUndoRefused {
        /// Why.
        fault: Fault,
    }
}
