//! What one kind of database needs to be carried to its next generation: the recipe.
//!
//! A recipe knows schemas and rows. It never names a file, never renames, syncs, locks or retries,
//! never writes a secret and never decides when something is done: all of that is the engine's, so
//! that every recipe is killed and resumed in the same way. Each method may be called again after
//! a kill, on fresh copies, and must then come to the same rows.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::core::{Code, Fault};
use crate::migrate::sqlite;
use crate::world::fs::paths;

/// One way from a generation to the next.
pub trait Recipe: Send + Sync {
    /// The name that people ask for and that the log keeps.
    fn name(&self) -> &str;

    /// Middle part of the backup's name: `<database>.<label>-<milliseconds>-<nonce>`.
    fn label(&self) -> &str;

    /// What a database is. It reads only; the database may be in use.
    ///
    /// # Errors
    /// `sqlite_failed` when it cannot be read.
    fn recognise(&self, database: &Connection) -> Result<Recognised, Fault>;

    /// Brings a copy of the old database to the one shape that [`Recipe::build`] reads. The copy is
    /// this migration's own; the original is not at hand. Returns what a person should know.
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

    /// The secrets that the new database refers to, for the engine to write beside it.
    ///
    /// # Errors
    /// `migration_failed` when they cannot be read.
    fn secrets(&self, copy: &Connection, work: &Work<'_>) -> Result<Secrets, Fault>;

    /// Marks a built database as being of the new generation; twice is as good as once.
    ///
    /// # Errors
    /// `migration_failed` when it cannot be written.
    fn stamp(&self, staging: &Connection, work: &Work<'_>) -> Result<(), Fault>;

    /// What of it is not built in, as files: names and content. The engine keeps them for as long
    /// as the migration may go on or be undone.
    fn files(&self) -> Vec<(String, &str)> {
        Vec::new()
    }

    /// What else has to hold of a stamped database; counts and integrity are the engine's.
    ///
    /// # Errors
    /// `migration_failed`, saying what does not hold.
    fn verify(&self, staging: &Connection) -> Result<(), Fault>;

    /// What readiness means: the small steps that an installed database still gets at every start.
    /// Returns the names of those that were done now.
    ///
    /// # Errors
    /// `migration_failed`, naming the step; it is not marked as done.
    fn ready(&self, database: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault>;

    /// Name of the lock file of the application, beside the database, so that both never run at
    /// once; none when it has no such thing.
    fn owner_lock(&self) -> Option<&str> {
        None
    }

    /// Name of the file beside the database in which the application's own migration keeps how far
    /// it came; none when it has no such thing.
    fn journal(&self) -> Option<&str> {
        None
    }
}

/// What a database is, for one recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognised {
    /// The generation that the recipe starts from.
    Old,
    /// The generation that it leads to, or one that it need not touch.
    Current,
    /// A later generation; the text says how that is known.
    Newer(String),
    /// Not a database of this application; the text says why.
    Foreign(String),
}

/// What a recipe works with, besides the two databases.
pub struct Work<'a> {
    /// Who owns the rows in the new database, where the old one did not say.
    pub tenant: &'a str,
    /// What happens to rows that cannot both be kept as they are.
    pub conflicts: OnConflict,
    /// The secrets as the old generation has them: this file's content, none without such a file.
    /// Read it whenever it is needed; it is never the file that is being written.
    pub secrets: Option<&'a Path>,
    /// The time that is written into rows, in milliseconds since 1970.
    pub now_ms: i64,
    /// The way to servers that describe themselves.
    pub network: &'a dyn Network,
    /// The system's keychain.
    pub keychain: &'a dyn Keychain,
    /// Called now and then: what is being done, and rows done of it so far.
    pub progress: &'a dyn Fn(&str, u64),
    /// Whether somebody asked to stop; looked at between rows.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// What happens to rows that cannot both be kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Nothing is changed; the rows are named.
    #[default]
    Refuse,
    /// The first stays, the others stay in the backup; each is named.
    KeepFirst,
    /// The others get a name of their own; each is named.
    Rename,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Built {
    /// Rows that were written, by table, all tables.
    pub rows: Vec<(String, u64)>,
    /// What a person should know, in order.
    pub warnings: Vec<String>,
    /// Numbers about it, as one JSON object.
    pub report: String,
}

/// Stands in a recipe's warnings for the place where the engine keeps the old file with secrets.
pub const KEPT_SECRETS: &str = "<the old secrets file>";

/// Secrets that stand beside a new database.
#[derive(Default)]
pub struct Secrets {
    /// The new content of the file that [`Work::secrets`] was; none leaves the file alone.
    pub file: Option<Vec<u8>>,
    /// Keychain entries to be written: service, account, value.
    pub keychain: Vec<(String, String, String)>,
}

impl fmt::Debug for Secrets {
    /// Says how many there are and never what they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets {{ file: {}, keychain: {} }}", self.file.is_some(), self.keychain.len())
    }
}

/// The way to servers that describe themselves. Best effort: no answer is never a failure.
pub trait Network {
    /// The body of a successful answer to a `GET` that asks for JSON, at most 1 MiB of it.
    fn get(&self, url: &str, limit: Duration) -> Option<Vec<u8>>;
}

/// A place for secrets that belongs to the system.
pub trait Keychain {
    /// The value of an entry; none when there is no such entry or no keychain at all.
    ///
    /// # Errors
    /// `keychain_failed` when there is one and it does not answer.
    fn get(&self, service: &str, account: &str) -> Result<Option<String>, Fault>;

    /// Makes or replaces an entry.
    ///
    /// # Errors
    /// `keychain_failed`.
    fn set(&self, service: &str, account: &str, value: &str) -> Result<(), Fault>;

    /// Removes an entry; one that is not there is removed.
    ///
    /// # Errors
    /// `keychain_failed`.
    fn delete(&self, service: &str, account: &str) -> Result<(), Fault>;
}

/// Whether a database is of the generation that a recipe starts from. It reads only.
///
/// # Errors
/// `database_newer`, `database_foreign`, `not_a_database`, or what the system says.
pub fn is_old(path: &Path, recipe: &dyn Recipe) -> Result<bool, Fault> {
    check_file(path)?;
    let database = sqlite::open(path)?;
    let name = recipe.name();
    match recipe.recognise(&database)? {
        Recognised::Old => Ok(true),
        Recognised::Current => Ok(false),
        Recognised::Newer(why) => {
            let message = format!("{} is newer than recipe {name} knows", path.display());
            let hint = "use a later version of this program; nothing was changed";
            Err(Fault::new(Code::DatabaseNewer, message, hint).because(why))
        }
        Recognised::Foreign(why) => {
            let message = format!("{} is not a database for recipe {name}", path.display());
            let hint = "check path and recipe; nothing was changed";
            Err(Fault::new(Code::DatabaseForeign, message, hint).because(why))
        }
    }
}

/// A plain file stands there: renaming over a link would replace the link.
pub(super) fn check_file(path: &Path) -> Result<(), Fault> {
    let meta = path.symlink_metadata().map_err(paths::failed("find", path))?;
    let what = if meta.is_symlink() {
        "a symbolic link"
    } else if meta.is_dir() {
        "a directory"
    } else if !meta.is_file() {
        "not a plain file"
    } else if meta.len() == 0 {
        "empty"
    } else {
        return Ok(());
    };
    let message = format!("{} is {what}", path.display());
    let hint = "name the database file itself; nothing was changed";
    Err(Fault::new(Code::NotADatabase, message, hint))
}
