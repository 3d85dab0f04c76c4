//! The recipe: what one kind of database needs to be carried to its next generation.
//!
//! A recipe knows schemas and rows, and the names that its application gives to files. It never
//! renames, syncs, locks or retries, never writes a secret and never decides when a step runs. The
//! engine does all of that, so that every recipe is killed and resumed in the same way. Each method
//! may be called again after a kill, on fresh copies, and must then produce the same rows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use crate::files::{SUFFIXES, with_suffix};
use crate::{plain_file, sqlite};
use groundskeeper_core::{Code, Fault};
use groundskeeper_system::{misplaced, paths};

/// One way from a generation to the next.
pub trait Recipe: Send + Sync {
    /// Returns the name that a request uses and that the log records.
    fn name(&self) -> &str;

    /// Returns the middle part of the backup's name: `<database>.<label>-<milliseconds>-<nonce>`.
    fn label(&self) -> &str;

    /// Returns what a database is. It only reads; the database may be in use.
    ///
    /// # Errors
    /// `sqlite_failed` when it cannot be read.
    fn recognise(&self, database: &Connection) -> Result<Recognised, Fault>;

    /// Brings a copy of the old database to the one shape that [`Recipe::build`] reads. The copy
    /// belongs to this migration; the original is not accessible. Returns warnings for the user.
    ///
    /// # Errors
    /// `migration_failed`, naming table and row where there is one.
    fn normalise(&self, copy: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault>;

    /// Builds the new database, without its stamp, into an empty file and commits it.
    ///
    /// # Errors
    /// `migration_failed` or `migration_conflict`, naming table and rows where there are any.
    fn build(
        &self,
        copy: &Connection,
        staging: &mut Connection,
        work: &Work<'_>,
    ) -> Result<Built, Fault>;

    /// Returns the secrets that the new database refers to. The engine writes them beside it.
    ///
    /// # Errors
    /// `migration_failed` when they cannot be read.
    fn secrets(&self, copy: &Connection, work: &Work<'_>) -> Result<Secrets, Fault>;

    /// Marks a built database as being of the new generation. It is idempotent.
    ///
    /// # Errors
    /// `migration_failed` when it cannot be written.
    fn stamp(&self, staging: &Connection, work: &Work<'_>) -> Result<(), Fault>;

    /// Returns the files of a recipe that is not built in: names and content. The engine keeps them
    /// for as long as the migration may continue or be undone.
    fn files(&self) -> Vec<(String, &str)> {
        Vec::new()
    }

    /// Checks further conditions of a stamped database; the engine checks counts and integrity.
    ///
    /// # Errors
    /// `migration_failed`, naming the condition that does not hold.
    fn verify(&self, staging: &Connection) -> Result<(), Fault>;

    /// Like [`Recipe::verify`], for a recipe whose checks may take long: they end when
    /// [`Work::cancelled`] reports a stop.
    ///
    /// # Errors
    /// As [`Recipe::verify`]; `cancelled`.
    fn verify_with(&self, staging: &Connection, work: &Work<'_>) -> Result<(), Fault> {
        let _ = work;
        self.verify(staging)
    }

    /// Returns whether the new database may be without rows although the old one has some. A recipe
    /// that plans each row, and reports the rows in [`Built`], knows it. One that cannot tell
    /// returns `false`, and such a result is refused.
    fn may_be_empty(&self) -> bool {
        true
    }

    /// Performs the small steps that an installed database still needs at every start. Returns the
    /// names of the steps that were done now.
    ///
    /// # Errors
    /// `migration_failed`, naming the step; that step is not marked as done.
    fn ready(&self, database: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault>;

    /// Returns what the application writes to a new database on its own when it first opens it.
    /// Such a stamp alone does not stand in the way of an undo; any other write does. `None` when
    /// it is not known: then the database must be as it was installed.
    fn stamps(&self) -> Option<Stamps> {
        None
    }

    /// Returns the file in which the application keeps its secrets, for a request that names none.
    fn default_secrets(&self) -> Option<PathBuf> {
        None
    }

    /// Returns the tenant that the application derives from a working directory, for a request that
    /// names none.
    fn default_tenant(&self, cwd: &Path) -> Option<String> {
        let _ = cwd;
        None
    }

    /// Returns the name of the application's lock file beside the database, which keeps application
    /// and migration from running at once; `None` when the application has none.
    fn owner_lock(&self) -> Option<&str> {
        None
    }

    /// Returns the name of the file beside the database in which the application's own migration
    /// records its phase; `None` when the application has no such file.
    fn journal(&self) -> Option<&str> {
        None
    }
}

/// What a database is, from the point of view of one recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognised {
    /// The generation that the recipe starts from.
    Old,
    /// The generation that the recipe leads to, or one that it need not change.
    Current,
    /// A later generation; the text gives the evidence.
    Newer(String),
    /// Not a database of this application; the text gives the reason.
    Foreign(String),
}

/// What an application writes to a new database on its own, apart from what [`Recipe::ready`] does
/// as well. It is compared by content with what was installed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamps {
    /// Tables to which it may add rows, or which it may make. Rows that were installed must still
    /// be there.
    pub tables: Vec<String>,
    /// Columns that hold no content, such as a random row id: table and column.
    pub columns: Vec<(String, String)>,
}

/// What a recipe works with, besides the two databases.
pub struct Work<'a> {
    /// Owner of rows in the new database where the old one named no owner.
    pub tenant: &'a str,
    /// Policy for rows that cannot all be kept unchanged.
    pub conflicts: OnConflict,
    /// File with the secrets in the form of the old generation; `None` when there is no such file.
    /// A recipe may read it at any time: the engine never writes this file during the migration.
    pub secrets: Option<&'a Path>,
    /// Time that is written into rows, in milliseconds since 1970.
    pub now_ms: i64,
    /// Access to servers that describe themselves.
    pub network: &'a dyn Network,
    /// Access to the system's keychain.
    pub keychain: &'a dyn Keychain,
    /// Reports progress now and then: name of the activity or table, rows done so far.
    pub progress: &'a dyn Fn(&str, u64),
    /// Returns whether a stop was requested; a recipe checks it between rows.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// Policy for rows that cannot all be kept unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Change nothing and fail, naming the rows.
    #[default]
    Refuse,
    /// Keep the first row. The other rows stay in the backup only, and each is named.
    KeepFirst,
    /// Give the other rows a new name. Each is named.
    Rename,
}

/// Result of [`Recipe::build`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Built {
    /// Rows that were written, for every table.
    pub rows: Vec<(String, u64)>,
    /// Warnings for the user, in order.
    pub warnings: Vec<String>,
    /// Figures about the build, as one JSON object.
    pub report: String,
    /// What [`Recipe::secrets`] would return, when the build has it at hand. The engine then does
    /// not ask again, unless another process continues the migration.
    pub secrets: Option<Secrets>,
}

/// Placeholder in a recipe's warnings for the path at which the engine keeps the old secrets.
pub const KEPT_SECRETS: &str = "<the old secrets file>";

/// Secrets that the new database refers to.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secrets {
    /// New content of the file that [`Work::secrets`] was; `None` leaves the file unchanged.
    pub file: Option<Vec<u8>>,
    /// Keychain entries to write: service, account, value.
    pub keychain: Vec<(String, String, String)>,
}

impl fmt::Debug for Secrets {
    /// Prints how many secrets there are and never their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets {{ file: {}, keychain: {} }}", self.file.is_some(), self.keychain.len())
    }
}

/// A network that several threads use.
pub type SharedNetwork = Arc<dyn Network + Send + Sync>;

/// Access to servers that describe themselves. Best effort: a missing response is never a failure.
pub trait Network {
    /// Returns the body of a successful response to a `GET` that accepts JSON, at most 1 MiB;
    /// `None` in every other case, also when `limit` expires.
    fn get(&self, url: &str, limit: Duration) -> Option<Vec<u8>>;

    /// Returns whether the name of a server can be resolved. A request to another server is not
    /// worth its time.
    fn resolves(&self, url: &str, limit: Duration) -> bool {
        let _ = (url, limit);
        true
    }

    /// Returns this network for threads that outlive a call; `None` when requests have to be made
    /// one after another by the caller's thread.
    fn shared(&self) -> Option<SharedNetwork> {
        None
    }
}

/// A store for secrets that the system provides.
pub trait Keychain {
    /// Returns the value of an entry; `None` when there is no such entry or no keychain at all.
    ///
    /// # Errors
    /// `keychain_failed` when there is a keychain and it does not answer.
    fn get(&self, service: &str, account: &str) -> Result<Option<String>, Fault>;

    /// Creates or replaces an entry.
    ///
    /// # Errors
    /// `keychain_failed` when the entry cannot be written.
    fn set(&self, service: &str, account: &str, value: &str) -> Result<(), Fault>;

    /// Removes an entry. A missing entry is a success.
    ///
    /// # Errors
    /// `keychain_failed` when the entry cannot be removed, also because there is no keychain now:
    /// an entry that was written earlier may still be in it.
    fn delete(&self, service: &str, account: &str) -> Result<(), Fault>;

    /// Returns whether there is a keychain now. Without one [`Self::get`] finds nothing, which says
    /// nothing about entries that were written when there was one.
    ///
    /// # Errors
    /// `keychain_failed` when there is a keychain and it does not answer.
    fn is_reachable(&self) -> Result<bool, Fault> {
        Ok(true)
    }
}

/// Returns whether a database is of the generation that a recipe starts from. It only reads.
///
/// # Errors
/// `database_newer`, `database_foreign`, `not_a_database`, or the error of the system.
pub fn is_old(path: &Path, recipe: &dyn Recipe) -> Result<bool, Fault> {
    check_file(path)?;
    let database = sqlite::open(path)?;
    let name = recipe.name();
    match recipe.recognise(&database)? {
        Recognised::Old => Ok(true),
        Recognised::Current => Ok(false),
        Recognised::Newer(why) => {
            let message = format!("{} is newer than recipe {name} supports", path.display());
            let hint = "use a later version of the recipe, which for a built-in one is a later \
                        version of the program; nothing was changed";
            Err(Fault::new(Code::DatabaseNewer, message, hint).because(why))
        }
        Recognised::Foreign(why) => {
            let message = format!("{} is not a database for recipe {name}", path.display());
            let hint = "check the path and the recipe; nothing was changed";
            Err(Fault::new(Code::DatabaseForeign, message, hint).because(why))
        }
    }
}

/// Checks that a non-empty plain file is at this path, besides [`check_kind`].
pub(super) fn check_file(path: &Path) -> Result<(), Fault> {
    check_kind(path)?;
    let found = path.symlink_metadata().map_err(paths::failed("find", path))?;
    if found.len() > 0 {
        return Ok(());
    }
    let message = format!("{} is empty", path.display());
    let hint = "pass the path of a database that holds tables; nothing was changed";
    Err(Fault::new(Code::NotADatabase, message, hint))
}

/// Checks that a plain file is at this path, and plain files or none are its sidecars. A link is
/// refused because a rename onto it would replace the link and not its target.
pub(super) fn check_kind(path: &Path) -> Result<(), Fault> {
    let found = path.symlink_metadata().map_err(paths::failed("find", path))?;
    if found.is_file() {
        let mut sidecars = SUFFIXES.iter().filter(|suffix| !suffix.is_empty());
        return sidecars.try_for_each(|suffix| {
            plain_file::check(&with_suffix(path, suffix), Code::NotADatabase).map(drop)
        });
    }
    let target = path.canonicalize().ok().filter(|target| found.is_symlink() && target.is_file());
    let hint = match target {
        Some(target) => format!("pass {}, where the link leads", target.display()),
        None => "pass the path of the database file".to_owned(),
    };
    let message = format!("{} is {}", path.display(), misplaced::kind(found.file_type()));
    Err(Fault::new(Code::NotADatabase, message, format!("{hint}; nothing was changed")))
}
