//! Undo by the real program after the new database was written to.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::Value;

use crate::migrate::{Place, TENANT, migrate, set_up_case};
use crate::support::{Daemon, Harness, wait_for};

const CASE: &str = "01-openapi-file-basic";

/// A migrated database of a case, and what it was before.
pub(crate) struct Migrated {
    pub(crate) harness: Harness,
    pub(crate) place: Place,
    old: (Vec<u8>, Vec<u8>),
}

impl Migrated {
    pub(crate) fn new(case: &str) -> Self {
        Self::of_tenant(case, TENANT)
    }

    pub(crate) fn of_tenant(case: &str, tenant: &str) -> Self {
        let harness = Harness::new();
        // A hint must work when it is pasted, also for such a name.
        let place = set_up_case(&harness, case, "it's one");
        let old = files(&place);
        let this = Self { harness, place, old };
        let args = migrate(&this.place, tenant);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let done = this.command(&args).output().expect("runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        this
    }

    pub(crate) fn database(&self) -> String {
        self.place.database().to_str().expect("text").to_owned()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.harness.command(args);
        command.env("GROUNDSKEEPER_KEYCHAIN_FILE", self.place.data.join("keyring.json"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Writes to the new database as its application does: the row stays in the log, as after a
    /// crash. The secrets are changed too.
    fn write(&self) {
        let db = Connection::open(self.place.database()).expect("opened");
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("set");
        db.execute_batch("UPDATE integration SET name = 'mine'").expect("written");
        drop(db);
        let log = format!("{}-wal", self.database());
        assert!(Path::new(&log).metadata().is_ok_and(|log| log.len() > 0), "it is in the log");
        std::fs::write(&self.place.auth, "{\"mine\":\"secret\"}").expect("written");
    }

    pub(crate) fn undo(&self, more: &[&str]) -> (i32, Value) {
        let database = self.database();
        let args: Vec<&str> =
            ["migrate", "undo", &database].into_iter().chain(more.iter().copied()).collect();
        self.harness.gk(&args)
    }

    /// Checks that the old database and its secrets are back.
    pub(crate) fn check_old(&self, context: &str) {
        assert_eq!(files(&self.place), self.old, "{context}");
        self.place.check_clean(context);
    }

    /// Checks that the old database and its secrets are back, and that the new ones are kept with
    /// all that was written to them.
    fn check_undone(&self, context: &str) {
        self.check_old(context);
        let status = self.harness.ok(&["migrate", "status", &self.database()]);
        assert_eq!(status[0]["phase"], "undone", "{context}: {status:#}");
        assert!(status[0]["error"].is_null(), "{context}: an earlier refusal: {status:#}");
        let kept = status[0]["kept"].as_array().expect("files").iter();
        let kept: Vec<PathBuf> = kept.map(|path| path.as_str().expect("text").into()).collect();
        let [database, secrets] = &kept[..] else { panic!("{context}: {kept:?}") };
        assert!(!PathBuf::from(format!("{}-wal", database.display())).exists(), "{context}");
        let db = Connection::open(database).expect("opened");
        let query = "SELECT count(*) FROM integration WHERE name = 'mine'";
        let rows: i64 = db.query_row(query, [], |row| row.get(0)).expect("read");
        assert!(rows > 0, "{context}: the write is kept");
        let text = std::fs::read_to_string(secrets).expect("kept");
        assert_eq!(text, "{\"mine\":\"secret\"}", "{context}");
    }
}

fn files(place: &Place) -> (Vec<u8>, Vec<u8>) {
    // A case may have no secrets.
    (std::fs::read(place.database()).expect("read"), std::fs::read(&place.auth).unwrap_or_default())
}

/// Runs the command that a hint names, as a shell does when it is pasted.
pub(crate) fn paste(migrated: &Migrated, hint: &str) -> (i32, String) {
    let command = hint.split('`').nth(1).expect("a command");
    let program = "groundskeeper() { \"$PROGRAM\" --data-dir \"$DATA\" \"$@\"; }\n";
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{program}{command}"));
    shell.env("PROGRAM", env!("CARGO_BIN_EXE_groundskeeper")).env("DATA", migrated.harness.data());
    let output = shell.output().expect("a shell");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// The refusal names the command that puts the new database aside, and that one says its name.
#[test]
fn written_database_is_put_aside_on_request() {
    let migrated = Migrated::new(CASE);
    migrated.write();
    let written = files(&migrated.place);
    let (code, refused) = migrated.undo(&[]);
    assert_eq!((code, &refused["error"]["code"]), (1, &Value::from("migration_conflict")));
    assert_eq!(files(&migrated.place).1, written.1, "nothing was changed");
    let hint = refused["error"]["hint"].as_str().expect("a hint");
    assert!(hint.contains("groundskeeper migrate undo --keep-new"), "{hint}");
    let (code, text) = paste(&migrated, hint);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("the new one is kept as") && text.contains(".undone-"), "{text}");
    assert!(text.contains("the new secrets are kept as"), "{text}");
    migrated.check_undone("put aside");
    migrated.harness.check_log();
}

/// The request is in the log: an undo without the flag goes on as it was asked for.
#[test]
fn killed_undo_that_keeps_new_database_is_continued() {
    for point in ["undo.kept", "undo.returned", "undo.secrets_kept", "migrate.performed"] {
        let migrated = Migrated::new(CASE);
        migrated.write();
        let mut killed = migrated.command(&["migrate", "undo", "--keep-new"]);
        killed.arg(migrated.database()).env("GROUNDSKEEPER_KILL_AT", point);
        assert!(!killed.status().expect("runs").success(), "{point}");
        let (code, undone) = migrated.undo(&[]);
        assert_eq!(code, 0, "{point}: {undone:#}");
        migrated.check_undone(point);
        migrated.harness.check_log();
    }
}

/// What is written to the secrets between a kill and the undo that goes on is kept: in its place
/// once the old secrets are back, else aside.
#[test]
fn secrets_written_after_killed_undo_are_kept() {
    for (point, stays) in [("undo.returned", false), ("migrate.performed", true)] {
        let migrated = Migrated::new(CASE);
        let mut killed = migrated.command(&["migrate", "undo"]);
        killed.arg(migrated.database()).env("GROUNDSKEEPER_KILL_AT", point);
        assert!(!killed.status().expect("runs").success(), "{point}");
        let renewed = b"{\"renewed\":\"secret\"}";
        std::fs::write(&migrated.place.auth, renewed).expect("written");
        let (code, undone) = migrated.undo(&[]);
        assert_eq!(code, 0, "{point}: {undone:#}");
        let now = std::fs::read(&migrated.place.auth).expect("read");
        assert_eq!(now == renewed, stays, "{point}");
        let entries = std::fs::read_dir(migrated.place.auth.parent().expect("a folder"));
        let mut files = entries.expect("listed").flatten().map(|entry| entry.path());
        let is_kept = |path: PathBuf| std::fs::read(path).is_ok_and(|text| text == renewed);
        assert!(files.any(is_kept), "{point}: it is lost");
    }
}

/// A killed daemon that starts again goes on without a request.
#[test]
fn daemon_puts_written_database_aside() {
    let migrated = Migrated::new(CASE);
    migrated.write();
    let armed = [("GROUNDSKEEPER_KILL_AT", "undo.kept")];
    let mut daemon = Daemon::start_with(&migrated.harness, &armed);
    let (code, refused) = migrated.undo(&["--no-autostart"]);
    assert_eq!((code, &refused["error"]["code"]), (1, &Value::from("migration_conflict")));
    migrated.undo(&["--keep-new", "--no-autostart"]);
    wait_for("the end of a killed daemon", || daemon.is_dead());
    let daemon = Daemon::start(&migrated.harness);
    wait_for("the end of the undo", || {
        migrated.harness.ok(&["migrate", "status"])[0]["over"] == true
    });
    migrated.check_undone("by a daemon");
    daemon.terminate();
}

/// The old secrets of a keychain are gone, so there is nothing that would fit the old database.
#[test]
fn replaced_keychain_refuses_in_any_case() {
    let migrated = Migrated::new("25-keychain-fake");
    for more in [&[][..], &["--keep-new"]] {
        let (code, refused) = migrated.undo(more);
        assert_eq!((code, &refused["error"]["code"]), (1, &Value::from("migration_conflict")));
        let hint = refused["error"]["hint"].as_str().expect("a hint");
        assert!(!hint.contains("--keep-new"), "it would be refused as well: {hint}");
    }
}
