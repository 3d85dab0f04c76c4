//! A small recipe that uses every feature of recipes, and a bench for tests of the engine.

#![allow(clippy::expect_used, reason = "test code: a failed expectation ends the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;

use super::files::Files;
use super::recipe::{Built, Keychain, Network, Recipe, Recognised, Secrets, Work};
use super::recipes::Recipes;
use super::recipes::folder::Folder;
use super::{MigrationRunner, app_lock, sqlite};
use groundskeeper_core::event::{Actor, MigrationPlan};
use groundskeeper_core::{
    Code, Command, Ended, Fault, Migration, MigrationId, MigrationPhase, Record, Settlement, State,
    Time,
};
use groundskeeper_system::paths;

const RECOGNISE: &str = "SELECT CASE
    WHEN (SELECT count(*) FROM sqlite_master WHERE name = 'item') = 0 THEN 'foreign'
    WHEN (SELECT count(*) FROM sqlite_master WHERE name = 'stamp') = 1 THEN 'current'
    ELSE 'old' END";
const BUILD: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, more TEXT);
    INSERT INTO item SELECT id, upper(name), 'more' FROM old.item ORDER BY id;";

/// Recipe that makes the names of items longer and replaces one secret.
pub(super) struct Sample(Folder);

impl Sample {
    pub(super) fn new() -> Self {
        let stamp = "CREATE TABLE IF NOT EXISTS stamp (done INTEGER)";
        let normalise = "UPDATE item SET name = name || '!'";
        let scripts =
            [Some(RECOGNISE), Some(normalise), Some(BUILD), Some(stamp), None, None, None];
        Self(Folder::built_in("sample", scripts))
    }
}

/// Returns the table with the sample alone.
fn recipes() -> Recipes {
    Recipes::new(vec![Arc::new(Sample::new())])
}

impl Recipe for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }
    fn label(&self) -> &'static str {
        "v1-v2"
    }
    fn recognise(&self, database: &Connection) -> Result<Recognised, Fault> {
        self.0.recognise(database)
    }
    fn normalise(&self, copy: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault> {
        self.0.normalise(copy, work)
    }
    fn build(
        &self,
        copy: &Connection,
        to: &mut Connection,
        work: &Work<'_>,
    ) -> Result<Built, Fault> {
        self.0.build(copy, to, work)
    }
    fn secrets(&self, _: &Connection, work: &Work<'_>) -> Result<Secrets, Fault> {
        let Some(path) = work.secrets else { return Ok(Secrets::default()) };
        let old = std::fs::read_to_string(path).map_err(paths::failed("read", path))?;
        if work.keychain.get("executor", "kept")?.is_none() {
            let file = Some(format!("v2 {old}").into_bytes());
            return Ok(Secrets { file, keychain: Vec::new() });
        }
        let entry = |id: &str| ("executor".to_owned(), id.to_owned(), format!("new {old}"));
        let keychain = vec![entry("kept"), entry("made")];
        Ok(Secrets { file: Some(format!("v2 {old}").into_bytes()), keychain })
    }
    fn stamp(&self, staging: &Connection, work: &Work<'_>) -> Result<(), Fault> {
        self.0.stamp(staging, work)
    }
    fn verify(&self, staging: &Connection) -> Result<(), Fault> {
        self.0.verify(staging)
    }
    fn ready(&self, database: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault> {
        self.0.ready(database, work)
    }
    fn owner_lock(&self) -> Option<&str> {
        Some("data.db.owner-lock")
    }
    fn journal(&self) -> Option<&str> {
        Some("data.db.v1-v2-migration.json")
    }
}

struct Offline;

impl Network for Offline {
    fn get(&self, _: &str, _: Duration) -> Option<Vec<u8>> {
        None
    }
}

/// Keychain that outlives runners, as the system's keychain outlives processes.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) values: Mutex<BTreeMap<String, String>>,
    /// Whether the keychain is away, as in a session without one.
    pub(super) away: AtomicBool,
}

impl Entries {
    fn reach(&self) -> Result<std::sync::MutexGuard<'_, BTreeMap<String, String>>, Fault> {
        if self.away.load(Ordering::Relaxed) {
            return Err(crate::keychain::absent("use the keychain"));
        }
        Ok(self.values.lock().expect("alone"))
    }
}

impl Keychain for &'static Entries {
    fn get(&self, service: &str, account: &str) -> Result<Option<String>, Fault> {
        assert_eq!(service, "executor");
        // As the system's: where there is none, nothing is found.
        Ok(self.reach().ok().and_then(|values| values.get(account).cloned()))
    }
    fn set(&self, _: &str, account: &str, value: &str) -> Result<(), Fault> {
        self.reach()?.insert(account.to_owned(), value.to_owned());
        Ok(())
    }
    fn delete(&self, _: &str, account: &str) -> Result<(), Fault> {
        self.reach()?.remove(account);
        Ok(())
    }
    fn is_reachable(&self) -> Result<bool, Fault> {
        Ok(self.reach().is_ok())
    }
}

const ROWS: u32 = 300;

/// A directory with an old database, and a log in memory that outlives runners.
pub(super) struct Harness {
    _root: tempfile::TempDir,
    pub(super) dir: PathBuf,
    state: State,
    now: Time,
    pub(super) keychain: &'static Entries,
}

impl Harness {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let dir = root.path().canonicalize().expect("real");
        for folder in ["data", "secrets", "home"] {
            std::fs::create_dir(dir.join(folder)).expect("a folder");
        }
        let keychain: &'static Entries = Box::leak(Box::default());
        let harness = Self { _root: root, dir, state: State::default(), now: Time(1), keychain };
        harness.fill();
        harness
    }

    /// Makes an old database whose rows are still in its log, as after a crash.
    fn fill(&self) {
        let made = self.dir.join("made.db");
        let database = Connection::open(&made).expect("made");
        let sql = format!(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
             INSERT INTO item SELECT value, 'n' || value FROM
                (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c
                 WHERE value < {ROWS}) SELECT value FROM c);"
        );
        database.execute_batch(&sql).expect("filled");
        for suffix in ["", "-wal"] {
            let from = super::files::with_suffix(&made, suffix);
            let to = super::files::with_suffix(&self.database(), suffix);
            std::fs::copy(from, to).expect("copied");
        }
        drop(database);
        for suffix in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(super::files::with_suffix(&made, suffix)));
        }
        std::fs::write(self.auth(), "secret").expect("written");
        (&self.keychain).set("executor", "kept", "old value").expect("set");
    }

    pub(super) fn database(&self) -> PathBuf {
        self.dir.join("data/data.db")
    }

    pub(super) fn auth(&self) -> PathBuf {
        self.dir.join("secrets/auth.json")
    }

    pub(super) fn runner(&self, files: Files) -> MigrationRunner {
        let home = self.dir.join("home");
        MigrationRunner::new(&home, recipes(), Box::new(Offline), Box::new(self.keychain))
            .with_files(files)
    }

    /// Requests a migration; the log may have been lost before.
    pub(super) fn request(&mut self, id: &str) -> MigrationId {
        let id = MigrationId::parse(id).expect("a name");
        let plan = MigrationPlan {
            recipe: Some("sample".into()),
            database: paths::to_host(&self.database()),
            secrets: Some(paths::to_host(&self.auth())),
            at_ms: 1_795_168_144_950,
            on_conflict: "refuse".into(),
            ..MigrationPlan::default()
        };
        let (migration, actor) = (id.clone(), Actor::default());
        self.command(Command::Migrate { migration, plan, actor });
        id
    }

    /// Removes the keychain entry, so that the recipe changes the secrets in the file only.
    pub(super) fn without_keychain(&self) {
        (&self.keychain).delete("executor", "kept").expect("deleted");
    }

    pub(super) fn lose_log(&mut self) {
        self.state = State::default();
    }

    pub(super) fn command(&mut self, command: Command) {
        let events = self.state.decide(self.now, command).expect("granted");
        for event in events {
            let seq = self.state.seq().next();
            self.state.apply(&Record { seq, at: self.now, boot: 1, event });
        }
    }

    pub(super) fn migration(&self, id: &MigrationId) -> Migration {
        self.state.migration(id).cloned().expect("known")
    }

    /// Performs the owed steps until none is owed or `gone` reports that the machine is off.
    pub(super) fn run(
        &mut self,
        runner: &MigrationRunner,
        id: &MigrationId,
        gone: &dyn Fn() -> bool,
    ) {
        loop {
            let migration = self.migration(id);
            let Some(owed) = migration.owed.clone() else { return };
            self.now = self.now.max(owed.not_before);
            let result = runner.perform(&migration, owed.step, &|| false);
            if gone() {
                return;
            }
            let ended = Ended { entered: owed.entered, result };
            self.command(Command::Settle(Settlement::Migration(id.clone(), ended)));
        }
    }

    /// Returns whether the database is the new one; panics when either one is incomplete.
    pub(super) fn is_new(&self) -> bool {
        let database = sqlite::open(&self.database()).expect("there is a database");
        sqlite::check(&database, &self.database()).expect("whole");
        let sum = "SELECT count(*), sum(id), sum(length(name)) FROM item";
        let numbers = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (rows, ids, letters): (u32, u32, u32) =
            database.query_row(sum, [], numbers).expect("read");
        assert_eq!((rows, ids), (ROWS, ROWS * (ROWS + 1) / 2), "every row");
        let first: String =
            database.query_row("SELECT name FROM item WHERE id = 7", [], |r| r.get(0)).expect("7");
        match first.as_str() {
            "n7" => false,
            "N7!" => {
                assert!(letters > ROWS);
                true
            }
            other => panic!("{other} is half a migration"),
        }
    }

    /// Checks, after the end, that database, secrets and keychain are of the same generation and
    /// that nothing else is left.
    pub(super) fn check_end(&self, context: &str) {
        let new = self.is_new();
        let secret = std::fs::read_to_string(self.auth()).expect("secrets");
        assert_eq!(secret, if new { "v2 secret" } else { "secret" }, "{context}");
        let entries = self.keychain.values.lock().expect("alone").clone();
        let wanted: Vec<(&str, &str)> = if new {
            vec![("kept", "new secret"), ("made", "new secret")]
        } else {
            vec![("kept", "old value")]
        };
        let found: Vec<(&str, &str)> =
            entries.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, wanted, "{context}");
        let allowed = |name: &str| {
            name.starts_with("data.db.v1-v2-1") && new
                || ["data.db", "data.db-wal", "data.db-shm", "data.db.owner-lock", "auth.json"]
                    .contains(&name)
        };
        let mut backups = 0;
        for folder in ["data", "secrets"] {
            for entry in std::fs::read_dir(self.dir.join(folder)).expect("read").flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                assert!(allowed(&name), "{context}: {name} is left");
                backups += u32::from(name.starts_with("data.db.v1-v2-"));
            }
        }
        assert_eq!(backups, u32::from(new), "{context}: backups");
        // Only what an undo needs stays in the runner's directory. An unlocked lock file has no
        // meaning.
        for entry in std::fs::read_dir(self.dir.join("home")).expect("read").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let fine = new && entry.path().is_dir() || name.ends_with(".lock");
            assert!(fine, "{context}: {name} is left");
        }
    }

    /// Checks that the application can take its lock.
    pub(super) fn assert_unlocked(&self, context: &str) {
        let taken = app_lock::acquire(&Sample::new(), &self.database(), false);
        assert!(taken.is_ok_and(|owner| owner.is_some()), "{context}: the lock is kept");
    }

    pub(super) fn assert_over(&self, id: &MigrationId, context: &str) {
        let migration = self.migration(id);
        let new = self.is_new();
        let phase = migration.phase;
        let fits = match phase {
            MigrationPhase::Finished => new,
            MigrationPhase::Failed => !new,
            _ => false,
        };
        assert!(fits, "{context}: {phase:?}, new: {new}, {:?}", migration.fault);
    }
}

/// Returns whether a fault helps the user; one that does not is a defect.
pub(super) fn helps_user(fault: &Fault) -> bool {
    let text = format!("{fault} {}", fault.hint).to_lowercase();
    fault.code != Code::Defect && !text.contains("unknown error") && !fault.hint.is_empty()
}

/// Returns the sorted names of a directory's entries.
pub(super) fn listing(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("read").flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
