//! `migrate prune` by the real program: what it lists, what it removes, and what it never touches.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use serde_json::Value;

use crate::migrate::create_notes_recipe;
use crate::migrate_undo::{Migrated, paste};
use crate::support::{Daemon, Harness, wait_for};

const CASE: &str = "01-openapi-file-basic";
/// An old backup with a sidecar, as the application's own migration leaves it.
const OLD: &str = "data.db.v1-v2-1600000000000-0123abcd";
const UNDONE: &str = "data.db.undone-1600000000005-0123abd0";

const HEADER: &str = "SQLite format 3\0";

/// Makes old files beside a migrated database. Returns those that look like ours and are not.
fn set_up_old(migrated: &Migrated) -> Vec<PathBuf> {
    let path = |name: &str| migrated.place.data.join(name);
    let write = |name: &str| {
        std::fs::write(path(name), HEADER).expect("written");
        let old = SystemTime::now() - Duration::from_secs(90 * 86_400);
        File::options()
            .write(true)
            .open(path(name))
            .expect("opened")
            .set_modified(old)
            .expect("set");
    };
    for name in [OLD, &format!("{OLD}-wal"), UNDONE] {
        write(name);
    }
    let names = [
        "data.db.v1-v2-1600000000001-0123abce",
        "data.db.v1-v2-1600000000002-0123abcf",
        "data.db.v1-v2-1600000000003-01234567",
        "data.db.v1-v2-1600000000004-xyz",
        "data.db.old-1600000000005-01234567",
        "data.db.v1-v2-1600000000006-01234567.copy",
    ];
    write("other");
    std::os::unix::fs::symlink("other", path(names[0])).expect("linked");
    std::fs::hard_link(path("other"), path(names[1])).expect("linked");
    std::fs::create_dir(path(names[2])).expect("made");
    names[3..].iter().for_each(|name| write(name));
    names.iter().map(|name| path(name)).collect()
}

fn prune(migrated: &Migrated, more: &[&str]) -> Value {
    let args: Vec<&str> =
        ["migrate", "prune", "--older-than"].into_iter().chain(more.iter().copied()).collect();
    migrated.harness.ok(&args)
}

/// Returns the reason why a file is kept; `None` when it can be removed.
fn kept<'a>(found: &'a Value, name: &str) -> Option<&'a str> {
    let items = found["items"].as_array().expect("a list");
    let item = items.iter().find(|item| item["path"].as_str().is_some_and(|p| p.ends_with(name)));
    item.unwrap_or_else(|| panic!("{name} is not listed: {found:#}"))["kept"].as_str()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("listed").flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.ends_with("-shm") && !name.ends_with("owner-lock"));
    names.sort();
    names
}

/// Returns the backup that the log names.
fn backup(migrated: &Migrated) -> String {
    let status = migrated.harness.ok(&["migrate", "status", &migrated.database()]);
    status[0]["backup"].as_str().expect("a backup").to_owned()
}

fn is_put_back(migrated: &Migrated, context: &str) {
    let (code, undone) = migrated.undo(&[]);
    assert_eq!(code, 0, "{context}: {undone:#}");
}

/// Lists first, and removes only what is proven ours and old when the command that it names is run.
#[test]
fn old_files_are_listed_then_removed() {
    let migrated = Migrated::new(CASE);
    let foreign = set_up_old(&migrated);
    let (before, newest) = (names(&migrated.place.data), backup(&migrated));
    let found = prune(&migrated, &["30d"]);
    assert_eq!((&found["removable"], &found["removed"]), (&1.into(), &0.into()), "{found:#}");
    assert_eq!(found["bytes"], 32, "bytes of all files: {found:#}");
    let unsure = Some("no log says that the undo that put it aside is complete");
    assert_eq!((kept(&found, OLD), kept(&found, UNDONE)), (None, unsure));
    assert_eq!(kept(&found, &newest), Some("the newest backup is the last way back"));
    for (name, why) in
        foreign.iter().zip(["no regular file", "more than one name", "no regular file"])
    {
        let reason = kept(&found, name.file_name().expect("a name").to_str().expect("text"));
        assert!(reason.is_some_and(|reason| reason.contains(why)), "{name:?}: {reason:?}");
    }
    let secrets = found["items"].as_array().expect("a list").last().expect("secrets");
    assert_eq!(secrets["kind"], "secrets");
    assert!(secrets["kept"].as_str().is_some_and(|why| why.contains("which is kept")));
    assert_eq!(names(&migrated.place.data), before, "it only lists");

    let args = ["migrate", "prune", "--older-than", "30d", &migrated.database()];
    let listed = migrated.command(&args).output().expect("runs");
    let (text, hint) = (String::from_utf8_lossy(&listed.stdout), listed.stderr);
    assert!(text.contains("removable") && text.contains(OLD), "{text}");
    let hint = String::from_utf8_lossy(&hint).into_owned();
    assert!(hint.contains("1 of 7 can be removed"), "{hint}");
    let (code, text) = paste(&migrated, &hint);
    assert!(code == 0 && text.contains("1 of 7 removed"), "{code}: {text}");
    let gone = |name: &String| !name.starts_with(OLD);
    let left: Vec<String> = before.into_iter().filter(gone).collect();
    assert_eq!(names(&migrated.place.data), left);

    // Whatever the age, the last way back stays with its secrets, and an undo works.
    let found = prune(&migrated, &["0s", "--apply"]);
    assert_eq!(found["removed"], 0, "{found:#}");
    is_put_back(&migrated, "after prune");
    migrated.harness.check_log();
}

/// After an undo, what was put aside and the kept secrets are of no use.
#[test]
fn undone_database_and_secrets_are_removed() {
    let migrated = Migrated::new(CASE);
    is_put_back(&migrated, "set up");
    let database = std::fs::read(migrated.database()).expect("read");
    let found = prune(&migrated, &["1h", "--apply"]);
    let items = found["items"].as_array().expect("a list");
    let kinds: Vec<&str> = items.iter().filter_map(|item| item["kind"].as_str()).collect();
    assert_eq!(kinds, ["undone", "secrets"], "{found:#}");
    assert!(items.iter().all(|item| item["kept"] == "it is younger than --older-than"));
    let found = prune(&migrated, &["0s", "--apply"]);
    assert_eq!((&found["removed"], &found["removable"]), (&2.into(), &2.into()), "{found:#}");
    assert_eq!(names(&migrated.place.data), ["data.db"]);
    assert_eq!(names(&migrated.harness.data().join("migrations")), [""; 0]);
    assert_eq!(std::fs::read(migrated.database()).expect("read"), database);
    assert_eq!(prune(&migrated, &["0s"])["items"], Value::Array(Vec::new()));
}

/// What only has the name of a newer backup does not make the last real one removable.
#[test]
fn lookalike_is_no_way_back() {
    let migrated = Migrated::new(CASE);
    set_up_old(&migrated);
    is_put_back(&migrated, "set up");
    let path = |name: &str| migrated.place.data.join(name);
    let foreign = [0, 1, 2].map(|n| format!("data.db.v1-v2-170000000000{n}-01234567"));
    std::fs::create_dir(path(&foreign[0])).expect("made");
    std::fs::write(path(&foreign[1]), "").expect("made");
    std::fs::write(path(&foreign[2]), "no database\n").expect("made");
    // The name of another file keeps that one, whatever its age.
    std::fs::remove_file(path("data.db.v1-v2-1600000000002-0123abcf")).expect("removed");
    let found = prune(&migrated, &["0s", "--apply"]);
    assert_eq!(kept(&found, OLD), Some("the newest backup is the last way back"), "{found:#}");
    assert!(path(OLD).exists() && path(&foreign[0]).exists());
    assert_eq!(kept(&found, &foreign[1]), None, "it is empty: {found:#}");
}

/// Two migrations of one database: the backup of the first is not the last way back any more, and
/// the undo that would need it says what became of it.
#[test]
fn undo_names_pruned_backup() {
    let migrated = Migrated::new(CASE);
    let harness = &migrated.harness;
    let (recipe, database) = create_notes_recipe(harness);
    let (folder, file) = (recipe.to_str().expect("text"), database.to_str().expect("text"));
    harness.ok(&["migrate", "--recipe", folder, file]);
    let recognise = "SELECT CASE user_version WHEN 1 THEN 'old' ELSE 'current' END
                     FROM pragma_user_version";
    harness.write(&recipe.join("recognise.sql"), recognise);
    harness.write(&recipe.join("build.sql"), "CREATE TABLE n AS SELECT * FROM old.note");
    harness.write(&recipe.join("stamp.sql"), "PRAGMA user_version = 2");
    harness.ok(&["migrate", "--recipe", folder, file]);

    let found = prune(&migrated, &["0s", "--apply", file]);
    assert_eq!(found["removed"], 1, "{found:#}");
    assert_eq!(found["items"][0]["removed"], true, "the older one: {found:#}");
    let text = harness.command(&["migrate", "status", file]).output().expect("runs").stdout;
    assert!(String::from_utf8_lossy(&text).contains("(not there any more)"));
    harness.ok(&["migrate", "undo", file]);
    let (code, refused) = harness.refused(&["migrate", "undo", file]);
    assert_eq!((code, &refused["code"]), (1, &Value::from("migration_conflict")));
    let message = refused["message"].as_str().expect("a message");
    assert!(message.contains("was pruned"), "{message}");
    let (code, text) = paste(&migrated, refused["hint"].as_str().expect("a hint"));
    assert_eq!(code, 0, "{text}");
    let version: i64 = Connection::open(&database)
        .and_then(|db| db.query_row("PRAGMA user_version", [], |row| row.get(0)))
        .expect("read");
    assert_eq!(version, 1, "nothing was changed");
}

/// A repeated call removes the rest. What is left between is no half of a backup.
#[test]
fn killed_prune_is_continued() {
    for point in ["prune.noted:1", "prune.removed_one:1", "prune.removed_one:2"] {
        let migrated = Migrated::new(CASE);
        set_up_old(&migrated);
        let newest = backup(&migrated);
        let mut killed = migrated.command(&["migrate", "prune", "--older-than", "30d", "--apply"]);
        killed.env("GROUNDSKEEPER_KILL_AT", point);
        assert!(!killed.status().expect("runs").success(), "{point}");
        let there = |name: &str| migrated.place.data.join(name).exists();
        let (whole, log) = (there(OLD), there(&format!("{OLD}-wal")));
        assert!(!whole || log, "{point}: a database without its log is no backup");
        let found = prune(&migrated, &["30d", "--apply"]);
        assert!(!there(OLD) && !there(&format!("{OLD}-wal")), "{found:#}");
        assert!(Path::new(&newest).exists(), "{point}");
        is_put_back(&migrated, point);
        migrated.harness.check_log();
    }
}

/// The daemon does the same, and keeps everything of a database that is being migrated.
#[test]
fn daemon_prunes_nothing_in_progress() {
    let migrated = Migrated::new(CASE);
    set_up_old(&migrated);
    is_put_back(&migrated, "set up");
    let ring = migrated.place.data.join("keyring.json");
    let env = [
        ("GROUNDSKEEPER_KEYCHAIN_FILE", ring.to_str().expect("text")),
        ("GROUNDSKEEPER_FAULT", "sync:400ms:1"),
    ];
    let daemon = Daemon::start_with(&migrated.harness, &env);
    let args = crate::migrate::migrate(&migrated.place, crate::migrate::TENANT);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = migrated.command(&args).spawn().expect("starts");
    wait_for("the private copy", || {
        names(&migrated.place.data).iter().any(|name| name.contains(".source-"))
    });
    let found = prune(&migrated, &["0s", "--apply"]);
    let items = found["items"].as_array().expect("a list");
    let is_busy = |item: &Value| item["kept"].as_str().is_some_and(|w| w.contains("in progress"));
    assert!(items.len() > 3 && items.iter().all(is_busy), "{found:#}");
    assert!(child.wait().expect("ends").success());
    daemon.terminate();

    let daemon = Daemon::start_with(&migrated.harness, &env[..1]);
    let found = prune(&migrated, &["30d", "--apply"]);
    assert_eq!(found["removed"], 1, "{found:#}");
    is_put_back(&migrated, "by the daemon");
    daemon.terminate();
}

/// What is only reached through a link, or has a log that another process uses, is left alone.
#[test]
fn unsure_database_is_left_alone() {
    let migrated = Migrated::new(CASE);
    set_up_old(&migrated);
    let beside = migrated.place.data.join("data.db.migration");
    std::fs::create_dir(&beside).expect("made");
    std::fs::write(beside.join("log.redb"), "").expect("made");
    let held = File::create(beside.join("lock")).expect("made");
    held.try_lock().expect("free");
    let found = prune(&migrated, &["0s", "--apply"]);
    assert_eq!(kept(&found, OLD), Some("another process has the log beside it"), "{found:#}");
    assert_eq!(found["removed"], 0);
    drop(held);
    std::fs::remove_dir_all(&beside).expect("removed");

    let moved = migrated.place.data.with_file_name("moved");
    std::fs::rename(&migrated.place.data, &moved).expect("moved");
    std::os::unix::fs::symlink(&moved, &migrated.place.data).expect("linked");
    let found = prune(&migrated, &["0s", "--apply"]);
    assert_eq!(found["removed"], 0, "{found:#}");
    let why = found["items"][0]["kept"].as_str().expect("a reason");
    assert!(why.contains("is reached through a link"), "{found:#}");
    assert!(moved.join(OLD).exists());

    let none = migrated.harness.path("none.db");
    let none = ["migrate", "prune", "--older-than", "0s", none.to_str().expect("text")];
    assert_eq!(migrated.harness.refused(&none).1["code"], "migration_not_found");
}

/// A log that is kept beside the database is pruned too, but only with the log of the data
/// directory: that may know of an undo in progress.
#[test]
fn log_beside_database_is_pruned() {
    let harness = Harness::new();
    let daemon = Daemon::start(&harness);
    let (recipe, database) = create_notes_recipe(&harness);
    let (folder, file) = (recipe.to_str().expect("text"), database.to_str().expect("text"));
    harness.ok(&["migrate", "--no-daemon", "--recipe", folder, file]);
    harness.ok(&["migrate", "--no-daemon", "undo", file]);
    let args = ["migrate", "--no-daemon", "prune", "--older-than", "0s", "--apply", file];
    assert_eq!(harness.refused(&args).1["code"], "already_running");
    daemon.terminate();
    let found = harness.ok(&args);
    assert_eq!((&found["removed"], &found["items"][0]["kind"]), (&1.into(), &"undone".into()));
    let gone = ["migrate", "--no-daemon", "status", file];
    assert_eq!(harness.ok(&gone)[0].get("kept"), None, "it is not there any more");
}

/// A backup that is a database of its own by now, or that the database leads to, is in use.
#[test]
fn backup_in_use_is_kept() {
    let migrated = Migrated::new(CASE);
    set_up_old(&migrated);
    let (data, old) = (&migrated.place.data, migrated.place.data.join(OLD));
    std::fs::copy(backup(&migrated), &old).expect("copied");
    std::fs::write(data.join(format!("{OLD}-wal")), "").expect("emptied");
    let found = prune(&migrated, &["30d", "--apply"]);
    assert_eq!(kept(&found, OLD), Some("it is younger than --older-than"), "it was written to");
    let args = crate::migrate::migrate(&migrated.place, crate::migrate::TENANT);
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.pop();
    migrated.harness.ok(&[&args[..], &[old.to_str().expect("text")]].concat());
    let found = prune(&migrated, &["0s", "--apply", &migrated.database()]);
    assert_eq!(kept(&found, OLD), Some("it was migrated itself since"), "{found:#}");
    std::fs::remove_file(migrated.database()).expect("removed");
    std::os::unix::fs::symlink(OLD, migrated.database()).expect("linked");
    let found = prune(&migrated, &["0s", "--apply"]);
    assert!(kept(&found, OLD).is_some_and(|why| why.ends_with("leads to it")), "{found:#}");
    assert!(old.exists());
}
