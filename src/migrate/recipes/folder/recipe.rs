//! The recipe: reads the files of a folder and runs each in its step.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sha2::Digest as _;
use sha2::Sha256;

use super::fault::Named;
use super::guard::Rights;
use super::script::{Cause, Failure, Limits, Script, same_encoding};
use super::text;
use crate::recipe::{Built, Recipe, Recognised, Secrets, Stamps, Work};
use crate::{plain_file, sqlite};
use groundskeeper_core::hex;
use groundskeeper_core::{Code, Fault};

/// Middle part of the names of backups that these recipes make.
pub(crate) const LABEL: &str = "old";
/// Size limit of one script, in bytes.
const SCRIPT_BYTES_MAX: u64 = 4 << 20;
/// File names without `.sql`, in the order of use; the hash and [`Folder::built_in`] use this
/// order.
const FILES: [&str; 7] =
    ["recognise", "normalise", "build", "stamp", "verify", "warnings", "ready"];
/// Limit of rows that are read from `verify.sql` and from `warnings.sql`, since a user reads them.
const LINES_MAX: usize = 200;

/// Files that a recipe needs.
const REQUIRED: [&str; 3] = ["recognise", "build", "stamp"];

/// A recipe made of SQL scripts.
#[derive(Debug, Clone)]
pub struct Folder {
    /// `None` for scripts that are compiled in.
    path: Option<PathBuf>,
    name: String,
    scripts: [Option<String>; FILES.len()],
    hash: String,
    limits: Limits,
}

impl Folder {
    /// Reads the scripts from a folder and checks their texts.
    ///
    /// # Errors
    /// `invalid_request` naming a required file that is missing or empty, a file that is no plain
    /// text file, or the line of a comment or string that is not closed; `request_too_large` for a
    /// script beyond 4 MiB; the system's error for a file that cannot be read.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let folder = Self::open_kept(path)?;
        folder.check_texts()?;
        Ok(folder)
    }

    /// Reads the scripts that the engine kept with a migration. Their texts are not checked: an
    /// undo runs none of them, so it also works with one that is refused by now.
    pub(in crate::recipes) fn open_kept(path: &Path) -> Result<Self, Fault> {
        let mut scripts = [const { None }; FILES.len()];
        let mut hash = Sha256::new();
        for (slot, file) in scripts.iter_mut().zip(FILES) {
            let path = path.join(format!("{file}.sql"));
            *slot = plain_file::read_text(&path, SCRIPT_BYTES_MAX, Code::InvalidRequest)?;
            // The length goes into the hash, so that text cannot move from one file to the next.
            hash.update(format!("{file} {}\n", slot.as_ref().map_or(0, String::len)));
            hash.update(slot.as_deref().unwrap_or_default());
        }
        let hash = hex(&hash.finalize());
        let limits = Limits::default();
        let folder = Self { path: None, name: String::new(), scripts, hash, limits };
        let folder = folder.as_from(path);
        let Some(file) = REQUIRED.into_iter().find(|file| folder.script(file).is_none()) else {
            return Ok(folder);
        };
        let message = format!("the recipe {} has no {file}.sql", path.display());
        let hint = "add it: a recipe needs recognise.sql, build.sql and stamp.sql";
        Err(Fault::new(Code::InvalidRequest, message, hint))
    }

    /// Returns this recipe with the path and name of the folder that it was copied from.
    #[must_use]
    pub fn as_from(self, path: &Path) -> Self {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Self { path: Some(path.to_owned()), name, ..self }
    }

    /// Returns a recipe over scripts that are compiled in, in the order of the table above. Its
    /// hash is empty.
    #[must_use]
    pub fn built_in(name: &str, scripts: [Option<&str>; 7]) -> Self {
        let scripts = scripts.map(|text| text.map(str::to_owned));
        let (hash, limits) = (String::new(), Limits::default());
        Self { path: None, name: name.to_owned(), scripts, hash, limits }
    }

    /// Replaces the limits, so that a test reaches them soon.
    #[cfg(test)]
    pub(super) fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// SHA-256 over all scripts, in hex; empty for built-in scripts.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    fn check_texts(&self) -> Result<(), Fault> {
        for (file, text) in FILES.iter().zip(&self.scripts) {
            let Some(text) = text else { continue };
            let flaw = match text::scan(text) {
                Err(flaw) => flaw,
                Ok(scan) if scan.first.is_none() && REQUIRED.contains(file) => {
                    text::Flaw { line: 1, what: "there is no statement in the file".to_owned() }
                }
                Ok(scan) if scan.may_be_empty && *file != "build" => text::Flaw {
                    line: 1,
                    what: "may-be-empty is a setting of build.sql".to_owned(),
                },
                Ok(scan) if !scan.stamps.is_empty() && *file != "stamp" => {
                    text::Flaw { line: 1, what: "stamps is a setting of stamp.sql".to_owned() }
                }
                Ok(_) => continue,
            };
            let cause = Cause::Flaw(flaw.what);
            return Err(self.named(file).fault(&Failure { line: Some(flaw.line), cause }));
        }
        Ok(())
    }

    fn script(&self, file: &str) -> Option<&str> {
        let at = FILES.iter().position(|name| *name == file)?;
        self.scripts[at].as_deref()
    }

    fn named<'a>(&'a self, file: &'a str) -> Named<'a> {
        Named { recipe: &self.name, file, folder: self.path.as_deref() }
    }

    /// Runs a script on a database of a connection. A missing script does nothing.
    fn run(
        &self,
        file: &str,
        databases: Databases<'_>,
        cancelled: Cancelled<'_>,
    ) -> Result<(), Fault> {
        self.with_script(file, databases, cancelled, |script| script.run())
            .map(Option::unwrap_or_default)
    }

    /// Returns the rows of a query as texts; none for a missing query.
    fn lines(
        &self,
        file: &str,
        databases: Databases<'_>,
        cancelled: Cancelled<'_>,
    ) -> Result<Vec<String>, Fault> {
        let rows =
            self.with_script(file, databases, cancelled, |query| query.rows(LINES_MAX, 1))?;
        let first = |row: Vec<Option<String>>| row.into_iter().next().flatten();
        // A row without a text is a finding too.
        let line = |row| first(row).unwrap_or_else(|| "NULL".to_owned());
        Ok(rows.unwrap_or_default().into_iter().map(line).collect())
    }

    fn with_script<T>(
        &self,
        file: &str,
        (database, old): Databases<'_>,
        cancelled: Cancelled<'_>,
        call: impl FnOnce(Script<'_>) -> Result<T, Failure>,
    ) -> Result<Option<T>, Fault> {
        let Some(text) = self.script(file) else { return Ok(None) };
        let rights = match file {
            "recognise" | "verify" | "warnings" => Rights::Query,
            "build" => Rights::Build,
            _ => Rights::Change,
        };
        let limits = self.limits;
        let time = if ["recognise", "ready"].contains(&file) { limits.look } else { limits.script };
        let (database, old) = (path_of(database)?, old.map(path_of).transpose()?);
        let (database, old) = (database.as_path(), old.as_deref());
        let script = Script { text, rights, database, old, time, limits, cancelled };
        call(script).map(Some).map_err(|failure| self.named(file).fault(&failure))
    }

    /// Runs `recognise.sql`, which returns the generation and perhaps a reason.
    fn ask(&self, database: &Connection) -> Result<(String, Option<String>), Fault> {
        let asked = self.with_script("recognise", (database, None), &|| false, |q| q.rows(1, 2))?;
        let Some(row) = asked.unwrap_or_default().pop() else {
            return Err(self.bad_answer("no row"));
        };
        let mut columns = row.into_iter();
        let what = columns.next().flatten().unwrap_or_else(|| "NULL".to_owned());
        Ok((what, columns.next().flatten()))
    }

    fn check(&self, staging: &Connection, cancelled: Cancelled<'_>) -> Result<(), Fault> {
        let wrong = self.lines("verify", (staging, None), cancelled)?;
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

    fn bad_answer(&self, answer: &str) -> Fault {
        let message = format!("recognise.sql of recipe {} returned {answer}", self.name);
        let hint = "make it return one row with old, current, newer or foreign";
        Fault::new(Code::InvalidRequest, message, hint)
    }
}

/// The main database, and the one that is attached as `old`.
type Databases<'a> = (&'a Connection, Option<&'a Connection>);
/// Returns whether a stop was requested.
type Cancelled<'a> = &'a dyn Fn() -> bool;

/// Returns the file of a connection, for a connection that is confined to the script.
fn path_of(database: &Connection) -> Result<PathBuf, Fault> {
    match database.path() {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        // An empty path would open a temporary database in place of this one.
        _ => {
            let message = "the path of the database is not text in UTF-8";
            let hint = "rename the database and its directory; nothing was changed";
            Err(Fault::new(Code::InvalidRequest, message, hint))
        }
    }
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
        LABEL
    }

    fn may_be_empty(&self) -> bool {
        let build = text::scan(self.script("build").unwrap_or_default());
        build.is_ok_and(|scan| scan.may_be_empty)
    }

    /// The tables that `stamp.sql` names. What `ready.sql` writes is no reason to refuse an undo
    /// either.
    fn stamps(&self) -> Option<Stamps> {
        let scan = text::scan(self.script("stamp").unwrap_or_default()).ok()?;
        let has_some = !scan.stamps.is_empty() || self.script("ready").is_some();
        has_some.then_some(Stamps { tables: scan.stamps, columns: Vec::new() })
    }

    fn recognise(&self, database: &Connection) -> Result<Recognised, Fault> {
        let (what, why) = self.ask(database)?;
        let why = why.unwrap_or_else(|| format!("recognise.sql returned {what}"));
        match what.as_str() {
            "old" => Ok(Recognised::Old),
            "current" => Ok(Recognised::Current),
            "newer" => Ok(Recognised::Newer(why)),
            "foreign" => Ok(Recognised::Foreign(why)),
            _ => Err(self.bad_answer(&format!("{what:?}"))),
        }
    }

    fn normalise(&self, copy: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault> {
        self.run("normalise", (copy, None), work.cancelled)?;
        Ok(Vec::new())
    }

    fn build(
        &self,
        copy: &Connection,
        staging: &mut Connection,
        work: &Work<'_>,
    ) -> Result<Built, Fault> {
        let path = path_of(staging)?;
        let shaped = same_encoding(staging, &path_of(copy)?);
        shaped.map_err(|failure| self.named("build").fault(&failure))?;
        let databases: Databases<'_> = (staging, Some(copy));
        self.run("build", databases, work.cancelled)?;
        let warnings = self.lines("warnings", databases, work.cancelled)?;
        let rows = sqlite::count_all(staging, &path)?;
        if rows.is_empty() {
            let cause = Cause::Flaw("the script made no table".to_owned());
            let fault = self.named("build").fault(&Failure { line: None, cause });
            return Err(Fault { code: Code::MigrationFailed, ..fault });
        }
        Ok(Built { rows, warnings, report: "{}".to_owned(), secrets: None })
    }

    fn secrets(&self, _: &Connection, _: &Work<'_>) -> Result<Secrets, Fault> {
        Ok(Secrets::default())
    }

    fn stamp(&self, staging: &Connection, work: &Work<'_>) -> Result<(), Fault> {
        self.run("stamp", (staging, None), work.cancelled)
    }

    fn verify(&self, staging: &Connection) -> Result<(), Fault> {
        self.check(staging, &|| false)
    }

    fn verify_with(&self, staging: &Connection, work: &Work<'_>) -> Result<(), Fault> {
        self.check(staging, work.cancelled)
    }

    fn ready(&self, database: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault> {
        self.run("ready", (database, None), work.cancelled)?;
        Ok(Vec::new())
    }
}
