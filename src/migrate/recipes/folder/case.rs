//! A folder of SQL files and an old database, for tests of the whole engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::Folder;
use super::script::Limits;
use crate::http::NoNetwork;
use crate::keychain::NoKeychain;
use crate::recipes::Recipes;
use crate::request::MigrationRequest;
use crate::standalone::{Control, Place};
use crate::{MigrationRunner, sqlite, standalone};
use groundskeeper_core::event::Actor;
use groundskeeper_core::{Command, Ended, Fault, MigrationStep, Settlement};

pub(super) const RECOGNISE: &str =
    "SELECT iif(user_version < 2, 'old', 'current') FROM pragma_user_version";
pub(super) const BUILD: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO item SELECT id, name FROM old.item;";
const STAMP: &str = "PRAGMA user_version = 2";

/// Migrates the database of a case, perhaps in another process.
pub(crate) fn migrate_in(root: &Path, auth: Option<PathBuf>) -> Result<bool, Fault> {
    let (database, recipe) = (root.join("data/app.db"), root.join("recipe").display().to_string());
    let request = MigrationRequest { database, recipe, auth, ..MigrationRequest::default() };
    let (keychain, home) = (Box::new(NoKeychain), root.join("home"));
    let runner = MigrationRunner::new(&home, Recipes::default(), Box::new(NoNetwork), keychain);
    let place = Place::within(&home);
    let report = standalone::run(&place, &runner, &request, &Control::default())?.into_result()?;
    Ok(report.migration.is_some_and(|migration| migration.backup.is_some()))
}

/// A folder of SQL files, and an old database with three rows.
pub(crate) struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    /// Returns the directory with everything.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn new() -> Self {
        let case = Self { dir: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir(case.folder()).expect("a folder");
        for (file, text) in [("recognise", RECOGNISE), ("build", BUILD), ("stamp", STAMP)] {
            case.write(file, text);
        }
        case.fill(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
             INSERT INTO item (name) VALUES ('a'), ('b'), ('c');",
        );
        case
    }

    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        let case = Self::new();
        for (file, text) in files {
            case.write(file, text);
        }
        case
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.dir.path().join("recipe")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.path().join("data/app.db")
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder().join(format!("{file}.sql")), text).expect("written");
    }

    /// Makes the old database anew.
    pub(crate) fn fill(&self, sql: &str) {
        let data = self.dir.path().join("data");
        drop(std::fs::remove_dir_all(&data));
        std::fs::create_dir(&data).expect("a folder");
        let database = Connection::open(self.database()).expect("made");
        database.execute_batch(sql).expect("filled");
    }

    fn runner(&self, recipes: Recipes) -> MigrationRunner {
        let home = self.dir.path().join("home");
        MigrationRunner::new(&home, recipes, Box::new(NoNetwork), Box::new(NoKeychain))
    }

    /// Migrates. Returns whether the database was replaced.
    pub(crate) fn migrate(&self) -> Result<bool, Fault> {
        self.migrate_with(None)
    }

    /// Migrates with a file of secrets.
    pub(crate) fn migrate_with(&self, auth: Option<PathBuf>) -> Result<bool, Fault> {
        migrate_in(self.dir.path(), auth)
    }

    /// Migrates with other limits, and a stop request for one step. Returns the fault of that step.
    pub(super) fn fault_of(
        &self,
        step: MigrationStep,
        limits: Limits,
        cancelled: &dyn Fn() -> bool,
    ) -> Fault {
        let folder = Folder::open(&self.folder()).expect("read").with_limits(limits);
        let recipes = Recipes::new(vec![Arc::new(folder)]);
        let recipe = "recipe".to_owned();
        let request =
            MigrationRequest { database: self.database(), recipe, ..MigrationRequest::default() };
        let plan = request.plan(&recipes).expect("a plan");
        let (runner, id) = (self.runner(recipes), standalone::new_id().expect("random"));
        let place = Place::within(&self.dir.path().join("home"));
        let mut alone = standalone::Standalone::open(&place).expect("a log");
        let actor = Actor::default();
        alone.submit(Command::Migrate { migration: id.clone(), plan, actor }).expect("begun");
        loop {
            let migration = alone.state().migration(&id).cloned().expect("known");
            let owed = migration.owed.clone().expect("not over");
            let stop = || owed.step == step && cancelled();
            let result = runner.perform(&migration, owed.step, &stop);
            if owed.step == step {
                return result.expect_err("it cannot succeed");
            }
            let ended = Ended { entered: owed.entered, result };
            let settled = Command::Settle(Settlement::Migration(id.clone(), ended));
            alone.submit(settled).expect("settled");
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.database()).expect("read")
    }

    /// Checks that the migration is refused and nothing has changed. Returns the fault.
    pub(crate) fn refused(&self) -> Fault {
        let before = self.bytes();
        let fault = self.migrate().expect_err("it must be refused");
        assert_eq!(self.bytes(), before, "{fault}");
        assert_eq!(crate::sample::listing(&self.dir.path().join("data")), ["app.db"], "{fault}");
        assert!(crate::sample::helps_user(&fault), "{fault}: {}", fault.hint);
        fault
    }

    pub(super) fn new_rows(&self, query: &str) -> Vec<String> {
        let database = sqlite::open(&self.database()).expect("opened");
        let mut ask = database.prepare(query).expect("prepared");
        let rows = ask.query_map([], |row| row.get(0)).expect("asked");
        rows.collect::<Result<_, _>>().expect("read")
    }
}
