//! The names of a migration's files.
//!
//! The copies, the new database and the backup are beside the database and carry the migration's
//! name. The manifest is beside the database too; the backup of the secrets is beside the secrets.

use std::path::{Path, PathBuf};

use crate::files::with_suffix;
use crate::recipe::Recipe;
use groundskeeper_core::{Code, Fault, Migration};
use groundskeeper_system::paths;

/// Paths of a migration's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Path of the database; the flip replaces the file and keeps the name.
    pub database: PathBuf,
    /// Private copy of the old database.
    pub copy: PathBuf,
    /// New database until it is installed. While it exists, the new database is not installed.
    pub staging: PathBuf,
    /// Old database after the new one is installed.
    pub backup: PathBuf,
    /// New database after an undo put the old one back.
    pub undone: PathBuf,
    /// Manifest, which names the phase for a program that finds these files without a log.
    pub manifest: PathBuf,
    /// File with secrets; `None` when the plan names none.
    pub secrets: Option<PathBuf>,
    /// Old content of the file with secrets, kept until the migration is cleaned up.
    pub secrets_backup: Option<PathBuf>,
    /// Secrets of the new database that an undo kept, since they were changed after the migration.
    pub secrets_undone: Option<PathBuf>,
}

impl Names {
    /// Returns the paths of one migration.
    #[must_use]
    pub fn of(migration: &Migration, recipe: &dyn Recipe) -> Self {
        let database = paths::from_host(&migration.plan.database);
        let (id, at, label) = (&migration.id, migration.plan.at_ms, recipe.label());
        let beside = |text: String| with_suffix(&database, &text);
        let secrets = migration.plan.secrets.as_ref().map(paths::from_host);
        Self {
            copy: beside(format!(".source-{id}")),
            staging: beside(format!(".building-{id}")),
            backup: beside(format!(".{label}-{at}-{id}")),
            undone: beside(undone(migration)),
            manifest: manifest_for(&database, recipe),
            secrets_backup: secrets.as_deref().map(|s| with_suffix(s, &format!(".v1-v2-{id}"))),
            secrets_undone: secrets.as_deref().map(|s| with_suffix(s, &undone(migration))),
            secrets,
            database,
        }
    }
}

/// Returns what an undo of a migration appends to the names of the files that it puts aside.
#[must_use]
pub fn undone(migration: &Migration) -> String {
    format!(".{UNDONE}-{}-{}", migration.plan.at_ms, migration.id)
}

/// Middle part of the name of a file that an undo put aside.
pub(super) const UNDONE: &str = "undone";

/// Longest name of a file, in bytes; every common file system has this limit.
const NAME_BYTES_MAX: usize = 255;

impl Names {
    /// Checks that the names of all files fit into the limit of the file system, before any of them
    /// is made.
    ///
    /// # Errors
    /// `invalid_request` naming the file whose name is too long.
    pub(super) fn check_length(&self) -> Result<(), Fault> {
        let temporary = |path: &Path| with_suffix(path, ".tmp-12345678");
        let database = [&self.copy, &self.staging, &self.backup, &self.undone];
        let database = database.map(|path| with_suffix(path, "-journal"));
        let secrets = self.secrets_backup.iter().chain(&self.secrets_undone);
        let secrets = secrets.map(|path| temporary(path));
        let longest = database.into_iter().chain([temporary(&self.manifest)]).chain(secrets);
        let bytes = |path: &Path| path.file_name().map_or(0, std::ffi::OsStr::len);
        let Some(longest) = longest.max_by_key(|path| bytes(path)) else { return Ok(()) };
        let Some(over) = bytes(&longest).checked_sub(NAME_BYTES_MAX).filter(|over| *over > 0)
        else {
            return Ok(());
        };
        let message = format!(
            "the name of {} is too long: files of the migration get longer ones beside it",
            self.database.display()
        );
        let hint = format!("give it, or its file of secrets, a name that is {over} bytes shorter");
        Err(Fault::new(Code::InvalidRequest, message, hint))
    }
}

/// Returns the path of a database's manifest.
#[must_use]
pub fn manifest_for(database: &Path, recipe: &dyn Recipe) -> PathBuf {
    match recipe.journal() {
        Some(name) => database.with_file_name(name),
        None => with_suffix(database, ".migration.json"),
    }
}
