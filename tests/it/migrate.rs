//! Migrations by the real program: every recorded case, the state after kills of the application,
//! rehearsals, undo, and all refusals.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;
use serde_json::Value;

use crate::recorded_rows::{differences, fixtures, recorded};
use crate::support::{Daemon, Harness, wait_for};

pub(crate) const TENANT: &str = "workspace-1a2b3c4d";

/// Directories of one case, as the application has them.
pub(crate) struct Place {
    pub(crate) data: PathBuf,
    pub(crate) auth: PathBuf,
}

impl Place {
    pub(crate) fn database(&self) -> PathBuf {
        self.data.join("data.db")
    }

    /// Lists the files beside the database and its secrets, without SQLite's own files.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        for dir in [Some(self.data.as_path()), self.auth.parent()].into_iter().flatten() {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            names.extend(entries.map(|e| e.file_name().to_string_lossy().into_owned()));
        }
        // A `-shm` or `-wal` file without its database is a leftover and is listed.
        let of_database = |n: &str| {
            let base = ["-shm", "-wal"].iter().find_map(|suffix| n.strip_suffix(suffix));
            base.is_some_and(|base| names.iter().any(|name| name == base))
        };
        let kept = names.iter().filter(|n| !of_database(n) && !n.contains("owner-lock"));
        let mut names: Vec<String> = kept.cloned().collect();
        names.sort();
        names
    }

    /// Checks that no temporary file of a migration remains.
    pub(crate) fn check_clean(&self, context: &str) {
        for name in self.files() {
            let fine = ["data.db", "auth.json", "keyring.json"].contains(&name.as_str())
                || name.starts_with("data.db.v1-v2-1")
                || name.starts_with("data.db.undone-")
                || name.starts_with("auth.json.undone-")
                || name == "data.db.migration";
            assert!(fine, "{context}: {name} is left");
        }
    }
}

/// Copies the input of a recorded case into a new directory.
pub(crate) fn set_up_case(harness: &Harness, case: &str, name: &str) -> Place {
    let from = fixtures().join("cases").join(case).join("v1");
    let (data, secrets) =
        (harness.path(format!("{name}/data")), harness.path(format!("{name}/xdg")));
    for dir in [&data, &secrets] {
        std::fs::create_dir_all(dir).expect("a folder");
    }
    for entry in std::fs::read_dir(&from).expect("a case").flatten() {
        let file = entry.file_name();
        let to = if file == "auth.json" { &secrets } else { &data };
        std::fs::copy(entry.path(), to.join(&file)).expect("copied");
    }
    Place { data, auth: secrets.join("auth.json") }
}

pub(crate) fn migrate<'a>(place: &'a Place, tenant: &'a str) -> Vec<String> {
    let path = |path: &Path| path.to_str().expect("text").to_owned();
    let words = ["migrate", "--recipe", "executor", "--tenant", tenant, "--auth"];
    let mut all: Vec<String> = words.iter().map(ToString::to_string).collect();
    all.extend([path(&place.auth), path(&place.database())]);
    all
}

fn run(harness: &Harness, args: &[String], more: &[&str]) -> (i32, Value) {
    let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
    harness.gk(&args)
}

pub(crate) fn cases() -> Vec<String> {
    let entries = std::fs::read_dir(fixtures().join("cases")).expect("cases").flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(names.len() >= 28, "only {} cases", names.len());
    names
}

/// Starts a daemon whose keychain is a file.
fn start_with_keychain(harness: &Harness, file: &Path) -> Daemon {
    let file = file.to_str().expect("text");
    Daemon::start_with(harness, &[("GROUNDSKEEPER_KEYCHAIN_FILE", file)])
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

#[test]
fn every_recorded_case_matches() {
    let harness = Harness::new();
    let mut seen = 0;
    for case in cases() {
        let folder = fixtures().join("cases").join(&case);
        let result = recorded(&folder.join("result.json"));
        let tenant = result["tenant"].as_str().expect("a tenant");
        let place = set_up_case(&harness, &case, &case);
        let before = (read(&place.database()), read(&place.auth));
        // Each case has its own keychain file; in the failing case it cannot be written.
        let daemon = start_with_keychain(&harness, &place.data.join("keyring.json"));
        if case.starts_with("97") {
            // The directory takes the name of the temporary file that is written first.
            std::fs::create_dir(place.data.join("keyring.json.tmp")).expect("made");
        }
        let (code, out) = run(&harness, &migrate(&place, tenant), &[]);
        daemon.terminate();
        drop(std::fs::remove_dir(place.data.join("keyring.json.tmp")));
        let context = format!("{case}: {out:#}");
        place.check_clean(&context);
        if result["ok"] == true {
            assert_eq!((code, &out["migrated"]), (0, &result["migrated"]), "{context}");
        } else {
            assert!(code == 1 || code == 2, "{context}");
            assert!(out["error"]["hint"].as_str().is_some_and(|h| !h.is_empty()), "{context}");
            assert_eq!((read(&place.database()), read(&place.auth)), before, "{context}");
        }
        if folder.join("v2.json").exists() {
            let wrong = differences(&place.database(), &recorded(&folder.join("v2.json")));
            assert!(wrong.is_empty(), "{case}: {wrong:#?}");
            let auth = folder.join("v2/auth.json");
            assert!(!auth.exists() || read(&auth) == read(&place.auth), "{case}: secrets");
            let backup = PathBuf::from(out["backup"].as_str().expect("a backup"));
            assert_eq!(old_rows(&backup), old_rows(&folder.join("v1/data.db")), "{case}: backup");
            seen += 1;
        }
    }
    assert!(seen >= 18, "only {seen} were migrated");
}

/// Counts the rows of every table of an old database, which a migration must not change.
fn old_rows(path: &Path) -> Vec<(String, u64)> {
    let dir = tempfile::tempdir().expect("a folder");
    let copy = dir.path().join("copy.db");
    for suffix in ["", "-wal"] {
        let from = PathBuf::from(format!("{}{suffix}", path.display()));
        if from.exists() {
            std::fs::copy(&from, format!("{}{suffix}", copy.display())).expect("copied");
        }
    }
    let db = Connection::open(&copy).expect("opened");
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let mut find = db.prepare(names).expect("prepared");
    let names: Vec<String> =
        find.query_map([], |row| row.get(0)).expect("asked").flatten().collect();
    let count = |name: &String| {
        let query = format!("SELECT count(*) FROM \"{name}\"");
        db.query_row(&query, [], |row| row.get::<_, i64>(0)).expect("counted") as u64
    };
    names.iter().map(|name| (name.clone(), count(name))).collect()
}

/// Unpacks the recorded state that the application left when it was killed at a point.
fn set_up_crash(harness: &Harness, point: &str, name: &str, root: Option<&Path>) -> Place {
    let place = harness.path(name);
    std::fs::create_dir_all(&place).expect("a folder");
    let archive = fixtures().join(format!("crash/{point}.state.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(&place);
    assert!(tar.status().expect("tar").success());
    let mark = place.join("data/data.db.v1-v2-migration.json");
    let root = root.unwrap_or(&place).to_str().expect("text");
    let text = std::fs::read_to_string(&mark).expect("a mark").replace("@ROOT@", root);
    std::fs::write(&mark, text).expect("written");
    Place { data: place.join("data"), auth: place.join("xdg/executor/auth.json") }
}

fn check_taken_over(place: &Place, context: &str) {
    let wanted = recorded(&fixtures().join("crash/uninterrupted.v2.json"));
    let wrong = differences(&place.database(), &wanted);
    assert!(wrong.is_empty(), "{context}: {wrong:#?}");
    let auth = read(&fixtures().join("crash/uninterrupted.auth.json"));
    assert_eq!(read(&place.auth), auth, "{context}");
    place.check_clean(context);
    let backups = place.files().iter().filter(|n| n.starts_with("data.db.v1-v2-")).count();
    assert_eq!(backups, 1, "{context}");
}

const CRASHES: [&str; 4] = ["journal-written", "staging-built", "built", "canonical-moved"];

/// The application's files may have moved since.
#[test]
fn interrupted_application_migration_is_taken_over() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    for point in CRASHES {
        for moved in [false, true] {
            let root = moved.then(|| harness.path("where-it-was"));
            let place = set_up_crash(&harness, point, &format!("{point}-{moved}"), root.as_deref());
            let (code, out) = run(&harness, &migrate(&place, TENANT), &[]);
            assert_eq!(code, 0, "{point}, moved: {moved}: {out:#}");
            check_taken_over(&place, &format!("{point}, moved: {moved}"));
            // The program has released the owner lock.
            assert_eq!(run(&harness, &migrate(&place, TENANT), &[]).1["phase"], "current");
            Connection::open(place.data.join("data.db.owner-lock"))
                .expect("opened")
                .execute_batch("BEGIN EXCLUSIVE")
                .expect("free");
        }
    }
}

/// Depending on what is left, the migration takes over, starts again, or refuses and names a
/// backup.
#[test]
fn lost_manifest_never_starts_empty() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    // The manifest is missing after the move: the new database lies there, whole.
    let place = set_up_crash(&harness, "canonical-moved", "stranded", None);
    std::fs::remove_file(place.data.join("data.db.v1-v2-migration.json")).expect("removed");
    let (code, out) = run(&harness, &migrate(&place, TENANT), &[]);
    assert_eq!((code, &out["taken_over"]), (0, &Value::from("stranded")), "{out:#}");
    let wanted = recorded(&fixtures().join("crash/uninterrupted.v2.json"));
    assert!(differences(&place.database(), &wanted).is_empty());
    // An unreadable manifest beside a database: the migration starts from the beginning.
    let place = set_up_crash(&harness, "journal-written", "unreadable", None);
    std::fs::write(place.data.join("data.db.v1-v2-migration.json"), "{").expect("written");
    let (code, out) = run(&harness, &migrate(&place, TENANT), &[]);
    assert_eq!((code, &out["migrated"]), (0, &Value::from(true)), "{out:#}");
    assert!(differences(&place.database(), &wanted).is_empty());
    // An unreadable manifest without a database: refused, and the backup is named.
    let place = set_up_crash(&harness, "canonical-moved", "refused", None);
    std::fs::write(place.data.join("data.db.v1-v2-migration.json"), "{").expect("written");
    let before = place.files();
    let (code, out) = run(&harness, &migrate(&place, TENANT), &[]);
    assert_eq!(code, 2, "{out:#}");
    let hint = out["error"]["hint"].as_str().expect("a hint");
    assert!(hint.contains("data.db.v1-v2-"), "{hint}");
    assert_eq!(place.files(), before, "nothing was touched");
}

#[test]
fn dry_run_reports_and_changes_nothing() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let place = set_up_case(&harness, "02-plugin-mix", "mix");
    let before = (read(&place.database()), read(&place.auth), place.files());
    let (code, out) = run(&harness, &migrate(&place, TENANT), &["--dry-run"]);
    assert_eq!((code, &out["phase"]), (0, &Value::from("rehearsed")), "{out:#}");
    assert_eq!(out["migrated"], false);
    assert!(out["warnings"].as_array().is_some_and(|w| !w.is_empty()));
    let tables = out["tables"].as_array().expect("tables");
    let tool = tables.iter().find(|t| t["table"] == "tool").expect("tools");
    assert_eq!((&tool["before"], &tool["after"]), (&Value::from(11), &Value::from(9)));
    assert_eq!((read(&place.database()), read(&place.auth), place.files()), before);
    let beside = std::fs::read_dir(&place.data).expect("read").count();
    assert_eq!(beside, 1, "no SQLite side file is left");
}

/// A write by the application prevents the undo.
#[test]
fn migration_can_be_undone_and_repeated() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let place = set_up_case(&harness, "01-openapi-file-basic", "one");
    let before = (old_rows(&place.database()), read(&place.auth));
    let database = place.database();
    let database = database.to_str().expect("text");
    assert_eq!(run(&harness, &migrate(&place, TENANT), &[]).0, 0);
    let status = harness.ok(&["migrate", "status", database]);
    assert_eq!(status[0]["phase"], "finished", "{status:#}");
    let undone = harness.ok(&["migrate", "undo", database]);
    assert_eq!(undone["phase"], "undone");
    assert_eq!((old_rows(&place.database()), read(&place.auth)), before);
    assert_eq!(harness.refused(&["migrate", "undo", database]).0, 3);
    // A second migration works. A write by the application then prevents the undo.
    assert_eq!(run(&harness, &migrate(&place, TENANT), &[]).1["migrated"], true);
    let db = Connection::open(place.database()).expect("opened");
    db.execute_batch("UPDATE integration SET name = 'mine'").expect("written");
    drop(db);
    let (code, error) = harness.refused(&["migrate", "undo", database]);
    assert_eq!((code, &error["code"]), (1, &Value::from("migration_conflict")));
    assert!(place.files().iter().any(|n| n.starts_with("data.db.v1-v2-")), "the backup stays");
}

#[test]
fn unmigratable_databases_are_refused_by_name() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let place = set_up_case(&harness, "01-openapi-file-basic", "one");
    let other = |name: &str| Place { data: harness.path(name), auth: place.auth.clone() };
    let make = |name: &str| {
        let place = other(name);
        std::fs::create_dir_all(&place.data).expect("a folder");
        place
    };
    let code = |place: &Place| {
        let (code, out) = run(&harness, &migrate(place, TENANT), &[]);
        let text = out.to_string().to_lowercase();
        assert!(!text.contains("unknown error"), "{text}");
        let names = text.contains("data.db")
            || text.contains(&place.data.to_str().expect("text").to_lowercase());
        assert!(names, "{text}");
        (code, out["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let expect = |place: &Place, wanted: (i32, &str)| {
        let (exit, error) = code(place);
        assert_eq!((exit, error.as_str()), wanted);
    };
    expect(&other("nowhere"), (3, "path_not_found"));
    expect(&make("missing"), (3, "path_not_found"));
    let text = make("text");
    std::fs::write(text.database(), "not a database, but long enough to be one".repeat(99))
        .expect("written");
    expect(&text, (1, "not_a_database"));
    let folder = make("folder");
    std::fs::create_dir(folder.database()).expect("a folder");
    expect(&folder, (1, "not_a_database"));
    let link = make("link");
    std::os::unix::fs::symlink(place.database(), link.database()).expect("linked");
    expect(&link, (1, "not_a_database"));
    let foreign = make("foreign");
    let db = Connection::open(foreign.database()).expect("made");
    db.execute_batch("CREATE TABLE notes (a); INSERT INTO notes VALUES (1);").expect("filled");
    drop(db);
    expect(&foreign, (1, "database_foreign"));
    // Another process has the database locked, or holds the owner lock.
    let used = set_up_case(&harness, "01-openapi-file-basic", "used");
    let db = Connection::open(used.database()).expect("opened");
    db.execute_batch("BEGIN IMMEDIATE").expect("held");
    expect(&used, (4, "database_in_use"));
    drop(db);
    let lock = Connection::open(used.data.join("data.db.owner-lock")).expect("made");
    lock.execute_batch("BEGIN EXCLUSIVE").expect("held");
    expect(&used, (4, "database_in_use"));
    drop(lock);
    assert_eq!(run(&harness, &migrate(&used, TENANT), &[]).0, 0, "free again");
    let usage = ["migrate", "--recipe", "nonsense", "x.db"];
    assert_eq!(harness.refused(&usage).0, 64);
}

/// Starts a daemon with a database to migrate first, and waits for its end or its ready line.
fn start_with(harness: &Harness, place: &Place, more: &[&str]) -> (Option<Daemon>, Option<Output>) {
    let database = place.database();
    let words = ["daemon", "--migrate", database.to_str().expect("text"), "--recipe", "executor"];
    let auth = place.auth.to_str().expect("text");
    let words: Vec<&str> = words
        .into_iter()
        .chain(["--tenant", TENANT, "--auth", auth])
        .chain(more.iter().copied())
        .collect();
    let mut command = harness.command(&words);
    command.stdin(Stdio::null());
    if more.contains(&"--ready-format") {
        return (None, Some(command.output().expect("ran")));
    }
    (Some(Daemon::of(harness, command)), None)
}

#[test]
fn ready_daemon_has_migrated_database() {
    let harness = Harness::new();
    let place = set_up_case(&harness, "01-openapi-file-basic", "one");
    let case = fixtures().join("cases/01-openapi-file-basic");
    let (daemon, _) = start_with(&harness, &place, &[]);
    // A ready daemon has migrated the rows and made the changes of every start. The record holds
    // only the tables that a start may change.
    let mut wrong = differences(&place.database(), &recorded(&case.join("v2-booted.json")));
    wrong.retain(|line| !line.starts_with("there is a table"));
    assert!(wrong.is_empty(), "{wrong:#?}");
    let lock = Connection::open(place.data.join("data.db.owner-lock")).expect("opened");
    lock.busy_timeout(std::time::Duration::ZERO).expect("set");
    assert!(lock.execute_batch("BEGIN EXCLUSIVE").is_err(), "the daemon owns the directory");
    drop(daemon);
    lock.execute_batch("BEGIN EXCLUSIVE").expect("free after its end");
}

#[test]
fn failed_database_ends_daemon_with_cause() {
    let harness = Harness::new();
    let place = set_up_case(&harness, "91-fail-bad-json", "bad");
    let before = read(&place.database());
    let (_, output) = start_with(&harness, &place, &["--ready-format", "executor"]);
    let output = output.expect("ended");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(!out.contains("READY"), "{out}");
    assert!(err.contains("input_schema") && err.contains("tool"), "{err}");
    assert!(!err.to_lowercase().contains("unknown error"), "{err}");
    assert_eq!(read(&place.database()), before);
    place.check_clean("after a start that failed");
}

/// The daemon becomes ready, and does not hold the lock of the application.
#[test]
fn foreign_database_is_left_alone() {
    let harness = Harness::new();
    let place = set_up_case(&harness, "01-openapi-file-basic", "one");
    std::fs::remove_file(place.database()).expect("removed");
    let db = Connection::open(place.database()).expect("made");
    db.execute_batch("CREATE TABLE notes (a); INSERT INTO notes VALUES (1);").expect("filled");
    drop(db);
    let before = (read(&place.database()), place.files());
    let (daemon, _) = start_with(&harness, &place, &[]);
    assert_eq!((read(&place.database()), place.files()), before);
    assert!(!place.data.join("data.db.owner-lock").exists(), "no lock is taken");
    drop(daemon);
}

/// Creates a folder of SQL files, and a database that it migrates.
pub(crate) fn create_notes_recipe(harness: &Harness) -> (PathBuf, PathBuf) {
    let recipe = harness.path("recipe");
    let file = |name: &str, text: &str| harness.write(&recipe.join(name), text);
    file(
        "recognise.sql",
        "SELECT CASE user_version WHEN 0 THEN 'old' WHEN 1 THEN 'current' ELSE 'newer' END
         FROM pragma_user_version",
    );
    file(
        "build.sql",
        "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
        INSERT INTO note SELECT rowid, a FROM old.notes;",
    );
    file("stamp.sql", "PRAGMA user_version = 1");
    let database = harness.path("notes.db");
    let db = Connection::open(&database).expect("made");
    db.execute_batch("CREATE TABLE notes (a); INSERT INTO notes VALUES ('x'), ('y');")
        .expect("filled");
    (recipe, database)
}

/// The next daemon and the undo use the recipe as it was when the migration began.
#[test]
fn migration_keeps_its_recipe() {
    let harness = Harness::new();
    let (recipe, database) = create_notes_recipe(&harness);
    let kept = || {
        let entries = std::fs::read_dir(harness.data().join("migrations")).into_iter().flatten();
        entries.flatten().map(|e| e.file_name()).collect::<Vec<_>>()
    };
    let (folder, file) = (recipe.to_str().expect("text"), database.to_str().expect("text"));
    let mut killed = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", "flip.installed")]);
    harness.refused(&["--no-autostart", "migrate", "--recipe", folder, file]);
    wait_for("the end of a killed daemon", || killed.is_dead());
    harness.write(&recipe.join("recognise.sql"), "SELECT 'foreign'");
    let _daemon = Daemon::start(&harness);
    let status = || harness.ok(&["migrate", "status"])[0].clone();
    wait_for("the end of the migration", || status()["over"] == true);
    assert_eq!(status()["phase"], "finished", "{:#}", status());
    assert_eq!(kept().len(), 1, "the recipe for the undo is stored: {:?}", kept());
    let undone = harness.ok(&["migrate", "undo", file]);
    assert_eq!(undone["phase"], "undone", "{undone:#}");
    let db = Connection::open(&database).expect("opened");
    let rows: i64 = db.query_row("SELECT count(*) FROM notes", [], |r| r.get(0)).expect("read");
    assert_eq!((rows, kept()), (2, Vec::new()));
}

#[test]
fn sql_folder_is_recipe() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let (recipe, database) = create_notes_recipe(&harness);
    let (recipe, database) = (recipe.to_str().expect("text"), database.to_str().expect("text"));
    let done = harness.ok(&["migrate", "--recipe", recipe, database]);
    assert_eq!(done["migrated"], true, "{done:#}");
    let db = Connection::open(database).expect("opened");
    let rows: i64 = db.query_row("SELECT count(*) FROM note", [], |r| r.get(0)).expect("read");
    assert_eq!(rows, 2);
    drop(db);
    assert_eq!(harness.ok(&["migrate", "--recipe", recipe, database])["phase"], "current");
    // A script cannot attach another file.
    harness.write(
        Path::new(recipe).join("stamp.sql").as_path(),
        &format!("ATTACH '{}' AS out; PRAGMA user_version = 2", harness.path("out.db").display()),
    );
    let sly = harness.path("sly.db");
    let db = Connection::open(&sly).expect("made");
    db.execute_batch("CREATE TABLE notes (a)").expect("filled");
    drop(db);
    let sly = sly.to_str().expect("text");
    let (code, error) = harness.refused(&["migrate", "--recipe", recipe, sly]);
    assert_eq!((code, &error["code"]), (2, &Value::from("migration_failed")));
    let build = format!(
        "COMMIT; DETACH old; ATTACH '{}' AS old; CREATE TABLE old.x (a); BEGIN",
        harness.path("out.db").display()
    );
    harness.write(Path::new(recipe).join("build.sql").as_path(), &build);
    assert_eq!(harness.refused(&["migrate", "--recipe", recipe, sly]).0, 2);
    assert!(!harness.path("out.db").exists());
}
