//! A recipe that is a folder of SQL files, for databases that SQL alone can migrate.
//!
//! | file | content |
//! |---|---|
//! | `recognise.sql` | one query with one row: `old`, `current`, `newer` or `foreign`, and a reason in an optional second column |
//! | `normalise.sql` | optional; a script for the private copy |
//! | `build.sql` | a script for the new, empty database; the copy is attached as `old` |
//! | `stamp.sql` | a script that marks the new database as being of the new generation |
//! | `verify.sql` | optional; a query; each row is a defect of the new database |
//! | `warnings.sql` | optional; a query; each row is a warning for the user; `old` is attached |
//! | `ready.sql` | optional; a script for every start |
//!
//! The hash of their content is part of the migration's plan, and the engine keeps a copy of them
//! with the migration: that copy is the recipe until the migration ends, even if the folder
//! changes. A script cannot reach another file: it cannot attach, detach or load anything. Every
//! script has a time limit.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use sha2::Digest as _;
use sha2::Sha256;

use crate::recipe::{Built, Recipe, Recognised, Secrets, Work};
use crate::sqlite;
use groundskeeper_core::hex;
use groundskeeper_core::{Code, Fault};
use groundskeeper_system::paths;

/// Size limit of one script, in bytes.
const SCRIPT_BYTES_MAX: u64 = 4 << 20;
/// File names without `.sql`, in the order of use; the hash and [`Folder::built_in`] use this
/// order.
const FILES: [&str; 7] =
    ["recognise", "normalise", "build", "stamp", "verify", "warnings", "ready"];
/// Time limit of `recognise.sql` and `ready.sql`, which run while a caller or a start waits.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// Time limit of every other script, which copies or checks a whole database.
const SCRIPT_LIMIT: Duration = Duration::from_secs(3_600);
/// Limit of rows that are read from `verify.sql` and from `warnings.sql`, since a user reads them.
const LINES_MAX: usize = 200;

/// A recipe made of SQL scripts.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    name: String,
    scripts: [Option<String>; FILES.len()],
    hash: String,
}

impl Folder {
    /// Reads the scripts from a folder.
    ///
    /// # Errors
    /// `invalid_request` naming a required file that is missing; `request_too_large` for a script
    /// beyond 4 MiB; the system's error for a file that cannot be read.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let mut scripts = [const { None }; FILES.len()];
        let mut hash = Sha256::new();
        for (slot, file) in scripts.iter_mut().zip(FILES) {
            *slot = read(&path.join(format!("{file}.sql")))?;
            // The length goes into the hash, so that text cannot move from one file to the next.
            hash.update(format!("{file} {}\n", slot.as_ref().map_or(0, String::len)));
            hash.update(slot.as_deref().unwrap_or_default());
        }
        let hash = hex(&hash.finalize());
        let folder = Self { path: PathBuf::new(), name: String::new(), scripts, hash };
        folder.as_from(path).with_all(["recognise", "build", "stamp"])
    }

    /// Returns this recipe with the path and name of the folder that it was copied from.
    #[must_use]
    pub fn as_from(self, path: &Path) -> Self {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Self { path: path.to_owned(), name, ..self }
    }

    /// Returns a recipe over scripts that are compiled in, in the order of the table above. Its
    /// hash is empty.
    #[must_use]
    pub fn built_in(name: &str, scripts: [Option<&str>; 7]) -> Self {
        let scripts = scripts.map(|text| text.map(str::to_owned));
        Self { path: PathBuf::from(name), name: name.to_owned(), scripts, hash: String::new() }
    }

    fn with_all(self, wanted: [&str; 3]) -> Result<Self, Fault> {
        let missing = wanted.into_iter().find(|file| self.script(file).is_none());
        let Some(file) = missing else { return Ok(self) };
        let message = format!("the recipe {} has no {file}.sql", self.path.display());
        let hint = "add it: a recipe needs recognise.sql, build.sql and stamp.sql";
        Err(Fault::new(Code::InvalidRequest, message, hint))
    }

    /// SHA-256 over all scripts, in hex; empty for built-in scripts.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    fn script(&self, file: &str) -> Option<&str> {
        let at = FILES.iter().position(|name| *name == file)?;
        self.scripts[at].as_deref()
    }

    fn run(&self, file: &str, database: &Connection) -> Result<(), Fault> {
        let Some(script) = self.script(file) else { return Ok(()) };
        // One transaction: a script that fails halfway changes nothing.
        let whole = format!("BEGIN;\n{script}\n;COMMIT;");
        database.execute_batch(&whole).map_err(|e| self.fault(file, &e))
    }

    fn lines(&self, file: &str, database: &Connection) -> Result<Vec<String>, Fault> {
        let Some(query) = self.script(file) else { return Ok(Vec::new()) };
        let ask = || -> rusqlite::Result<Vec<String>> {
            let mut find = database.prepare(query)?;
            let rows = find.query_map([], |row| row.get::<_, String>(0))?;
            rows.take(LINES_MAX).collect()
        };
        ask().map_err(|e| self.fault(file, &e))
    }

    fn fault(&self, file: &str, error: &rusqlite::Error) -> Fault {
        let message = format!("cannot run {file}.sql of recipe {}", self.name);
        if let Some((code, hint)) = sqlite::reason(error) {
            return Fault::new(code, message, hint).caused_by(error);
        }
        let hint = format!("correct it in {}; nothing was changed", self.path.display());
        Fault::new(Code::MigrationFailed, message, hint).caused_by(error)
    }

    /// Opens a connection for scripts to a database. A script reaches no other file, except the one
    /// that is attached as `old`, and is interrupted at the time limit.
    fn confined(
        &self,
        database: &Connection,
        old: Option<&Connection>,
        limit: Duration,
    ) -> Result<Connection, Fault> {
        let fail = |e: rusqlite::Error| self.fault("recognise", &e);
        let path = Path::new(database.path().unwrap_or_default());
        // Only the staging database is opened without syncs: the engine syncs it as a whole later,
        // and builds it anew after a power loss.
        let mut own = if old.is_some() { sqlite::open_private(path)? } else { sqlite::open(path)? };
        if let Some(old) = old {
            let path = old.path().unwrap_or_default();
            own.execute("ATTACH DATABASE ?1 AS old", [path]).map_err(fail)?;
        }
        // Set after `old` is attached, since it denies attaching.
        let guard = |context: AuthContext<'_>| match context.action {
            AuthAction::Attach { .. } | AuthAction::Detach { .. } => Authorization::Deny,
            _ => Authorization::Allow,
        };
        let until = Instant::now() + limit;
        own.authorizer(Some(guard)).map_err(fail)?;
        // SQLite calls back every 100,000 instructions; `true` interrupts the statement.
        own.progress_handler(100_000, Some(move || Instant::now() > until)).map_err(fail)?;
        Ok(own)
    }

    /// Runs `recognise.sql`, which returns the generation and perhaps a reason. The connection is
    /// set to read only, so the script cannot change the database.
    fn ask(&self, database: &Connection) -> Result<(String, Option<String>), Fault> {
        let query = self.script("recognise").unwrap_or_default();
        let answer = |row: &rusqlite::Row<'_>| {
            let reason = if row.as_ref().column_count() > 1 { row.get(1)? } else { None };
            Ok((row.get::<_, String>(0)?, reason))
        };
        let only = database.pragma_update(None, "query_only", true);
        let found = only.and_then(|()| database.query_row(query, [], answer));
        found.map_err(|e| self.fault("recognise", &e))
    }
}

fn read(path: &Path) -> Result<Option<String>, Fault> {
    match path.metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(paths::fault("read", path, &e)),
        Ok(meta) if meta.len() > SCRIPT_BYTES_MAX => {
            let message = format!("{} has {} bytes", path.display(), meta.len());
            let hint = format!("shorten the script to at most {SCRIPT_BYTES_MAX} bytes");
            return Err(Fault::new(Code::RequestTooLarge, message, hint));
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(paths::failed("read", path))
}

impl Recipe for Folder {
    fn files(&self) -> Vec<(String, &str)> {
        let scripts = FILES.iter().zip(&self.scripts);
        scripts.filter_map(|(file, text)| Some((format!("{file}.sql"), text.as_deref()?))).collect()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self) -> &'static str {
        "old"
    }

    fn recognise(&self, database: &Connection) -> Result<Recognised, Fault> {
        let (what, why) = self.ask(&self.confined(database, None, LOOK_LIMIT)?)?;
        let why = why.unwrap_or_else(|| format!("recognise.sql returned {what}"));
        match what.as_str() {
            "old" => Ok(Recognised::Old),
            "current" => Ok(Recognised::Current),
            "newer" => Ok(Recognised::Newer(why)),
            "foreign" => Ok(Recognised::Foreign(why)),
            _ => {
                let message = format!("recognise.sql of recipe {} returned {what:?}", self.name);
                let hint = "make it return old, current, newer or foreign";
                Err(Fault::new(Code::InvalidRequest, message, hint))
            }
        }
    }

    fn normalise(&self, copy: &Connection, _: &Work<'_>) -> Result<Vec<String>, Fault> {
        self.run("normalise", &self.confined(copy, None, SCRIPT_LIMIT)?)?;
        Ok(Vec::new())
    }

    fn build(
        &self,
        copy: &Connection,
        staging: &mut Connection,
        _: &Work<'_>,
    ) -> Result<Built, Fault> {
        let own = self.confined(staging, Some(copy), SCRIPT_LIMIT)?;
        self.run("build", &own)?;
        let warnings = self.lines("warnings", &own)?;
        // Closes the connection before the rows are counted over another one.
        drop(own);
        let path = PathBuf::from(staging.path().unwrap_or_default());
        let rows = sqlite::count_all(staging, &path)?;
        Ok(Built { rows, warnings, report: "{}".to_owned() })
    }

    fn secrets(&self, _: &Connection, _: &Work<'_>) -> Result<Secrets, Fault> {
        Ok(Secrets::default())
    }

    fn stamp(&self, staging: &Connection, _: &Work<'_>) -> Result<(), Fault> {
        self.run("stamp", &self.confined(staging, None, SCRIPT_LIMIT)?)
    }

    fn verify(&self, staging: &Connection) -> Result<(), Fault> {
        let wrong = self.lines("verify", &self.confined(staging, None, SCRIPT_LIMIT)?)?;
        if !wrong.is_empty() {
            let message = format!("verify.sql of recipe {} reported defects", self.name);
            let hint = "correct build.sql or stamp.sql; nothing was changed";
            return Err(Fault::new(Code::MigrationFailed, message, hint).with_evidence(wrong));
        }
        match self.recognise(staging)? {
            Recognised::Current => Ok(()),
            other => {
                let message = format!("recognise.sql returned {other:?} after stamp.sql");
                let hint = "make it return current after stamp.sql; nothing was changed";
                Err(Fault::new(Code::MigrationFailed, message, hint))
            }
        }
    }

    fn ready(&self, database: &Connection, _: &Work<'_>) -> Result<Vec<String>, Fault> {
        self.run("ready", &self.confined(database, None, LOOK_LIMIT)?)?;
        Ok(Vec::new())
    }
}
