//! The names of a migration's files: all beside the database, all with the migration's own name.

use std::path::{Path, PathBuf};

use crate::core::Migration;
use crate::migrate::files::with_suffix;
use crate::migrate::recipe::Recipe;
use crate::world::fs::paths;

/// Where a migration's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The database.
    pub database: PathBuf,
    /// The private copy of the old one.
    pub copy: PathBuf,
    /// The new one, while it is built.
    pub staging: PathBuf,
    /// The old one, once the new one is installed.
    pub backup: PathBuf,
    /// The new one, once the old one was put back.
    pub undone: PathBuf,
    /// How far the migration came, for whoever finds these files without a log.
    pub mark: PathBuf,
    /// The file with secrets, if there may be one.
    pub secrets: Option<PathBuf>,
    /// Its old content, until the new database is installed.
    pub secrets_backup: Option<PathBuf>,
}

impl Names {
    /// The names of one migration.
    #[must_use]
    pub fn of(migration: &Migration, recipe: &dyn Recipe) -> Self {
        let database = paths::from_host(&migration.plan.database);
        let (id, at, label) = (&migration.id, migration.plan.at_ms, recipe.label());
        let beside = |text: String| with_suffix(&database, &text);
        let secrets = Some(paths::from_host(&migration.plan.secrets));
        let secrets = secrets.filter(|path| !path.as_os_str().is_empty());
        Self {
            copy: beside(format!(".source-{id}")),
            staging: beside(format!(".building-{id}")),
            backup: beside(format!(".{label}-{at}-{id}")),
            undone: beside(format!(".undone-{at}-{id}")),
            mark: mark_of(&database, recipe),
            secrets_backup: secrets.as_deref().map(|s| with_suffix(s, &format!(".v1-v2-{id}"))),
            secrets,
            database,
        }
    }
}

/// Where the mark of a database is.
#[must_use]
pub fn mark_of(database: &Path, recipe: &dyn Recipe) -> PathBuf {
    match recipe.journal() {
        Some(name) => database.with_file_name(name),
        None => with_suffix(database, ".migration.json"),
    }
}
