//! Migrations in the process that asks for them: no daemon runs, or it is passed by.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use groundskeeper::failpoint::kill::POINTS;
use serde_json::Value;

use crate::kill::is_of_migrations;
use crate::migrate::{Place, TENANT, migrate, set_up_case};
use crate::recorded_rows::{differences, fixtures, recorded};
use crate::support::{Daemon, Harness};

const CASE: &str = "01-openapi-file-basic";

/// Returns a command that migrates in its own process, with a file in place of the keychain.
fn local(harness: &Harness, place: &Place, more: &[&str]) -> Command {
    let args = migrate(place, TENANT);
    let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let mut command = harness.command(&args);
    command.env("GROUNDSKEEPER_KEYCHAIN_FILE", place.data.join("keyring.json"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn check_new(place: &Place, case: &str, context: &str) {
    let wanted = recorded(&fixtures().join("cases").join(case).join("v2.json"));
    let wrong = differences(&place.database(), &wanted);
    assert!(wrong.is_empty(), "{context}: {wrong:#?}");
    place.check_clean(context);
}

fn undo(harness: &Harness, place: &Place) -> (i32, Value) {
    harness.gk(&["migrate", "undo", place.database().to_str().expect("text")])
}

fn phases(harness: &Harness) -> Vec<String> {
    let all = harness.ok(&["migrate", "status"]);
    let phase = |m: &Value| m["phase"].as_str().expect("a phase").to_owned();
    all.as_array().expect("a list").iter().map(phase).collect()
}

/// No daemon is started, and one that comes later knows what was done.
#[test]
fn migration_needs_no_daemon() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let before = std::fs::read(place.database()).expect("read");
    let done = local(&harness, &place, &["--json"]).output().expect("runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    check_new(&place, CASE, "migrated");
    assert!(!harness.data().join("daemon.sock").exists(), "a daemon was started");
    assert_eq!(phases(&harness), ["finished"]);

    let (code, undone) = undo(&harness, &place);
    assert_eq!((code, &undone["phase"]), (0, &Value::from("undone")), "{undone:#}");
    assert_eq!(std::fs::read(place.database()).expect("read"), before);

    let again = local(&harness, &place, &["--json"]).output().expect("runs");
    assert!(again.status.success());
    let daemon = Daemon::start(&harness);
    assert_eq!(phases(&harness), ["finished", "undone"]);
    let (code, _) = undo(&harness, &place);
    assert_eq!(code, 0, "a daemon undoes it");
    daemon.terminate();
    assert_eq!(std::fs::read(place.database()).expect("read"), before);
    harness.check_log();
}

/// A process that was killed left a log from which the next one goes on: it is the same migration.
#[test]
fn killed_process_is_continued() {
    for point in POINTS.iter().filter(|point| is_of_migrations(point)) {
        let harness = Harness::new();
        let place = set_up_case(&harness, CASE, "one");
        let first = local(&harness, &place, &[]).env("GROUNDSKEEPER_KILL_AT", point).status();
        let was_killed = !first.expect("runs").success();
        let done = local(&harness, &place, &["--json"]).output().expect("runs");
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{point}: {text}");
        check_new(&place, CASE, point);
        let phases = phases(&harness);
        assert_eq!(phases, ["finished"], "{point}: one migration, killed: {was_killed}");
        harness.check_log();
    }
}

/// The data directory is gone, so only the files beside the database tell of the migration. What
/// was written to the old database since is in the new one.
#[test]
fn write_after_kill_is_migrated_without_log() {
    for is_logged in [true, false] {
        let harness = Harness::new();
        let place = set_up_case(&harness, CASE, "one");
        let killed =
            local(&harness, &place, &[]).env("GROUNDSKEEPER_KILL_AT", "migrate.verified").status();
        assert!(!killed.expect("runs").success());
        std::fs::remove_dir_all(harness.data()).expect("removed");
        let old = rusqlite::Connection::open(place.database()).expect("opened");
        // Its log stays, as after a kill of the application.
        let stays = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        old.set_db_config(stays, true).expect("set");
        let mode = if is_logged { "WAL" } else { "DELETE" };
        old.execute_batch(&format!(
            "PRAGMA journal_mode = {mode}; UPDATE source SET name = 'Later';"
        ))
        .expect("written");
        drop(old);
        let done = local(&harness, &place, &["--json"]).output().expect("runs");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{text}");
        assert!(text.contains("were written to after an interrupted migration"), "{text}");
        let new = rusqlite::Connection::open(place.database()).expect("opened");
        let query = "SELECT count(*) FROM integration WHERE description = 'Later'";
        let later: i64 = new.query_row(query, [], |row| row.get(0)).expect("counted");
        assert_eq!(later, 1, "{mode}");
        place.check_clean(mode);
    }
}

/// Only the files beside the database tell of the migration, which had installed it already. What
/// is written to the new database is no reason to take its secrets back.
#[test]
fn write_after_flip_keeps_new_secrets_without_log() {
    for point in ["flip.installed", "migrate.copies_gone"] {
        let harness = Harness::new();
        let place = set_up_case(&harness, "04-secret-providers", "one");
        let before = std::fs::read(&place.auth).expect("read");
        let killed = local(&harness, &place, &[]).env("GROUNDSKEEPER_KILL_AT", point).status();
        assert!(!killed.expect("runs").success());
        let installed = std::fs::read(&place.auth).expect("read");
        assert_ne!(installed, before, "the secrets of this case change");
        std::fs::remove_dir_all(harness.data()).expect("removed");
        let new = rusqlite::Connection::open(place.database()).expect("opened");
        new.execute_batch("CREATE TABLE later (a)").expect("written");
        drop(new);
        let done = local(&harness, &place, &["--json"]).output().expect("runs");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{text}");
        assert!(!text.contains("rolled back"), "{text}");
        assert_eq!(std::fs::read(&place.auth).expect("read"), installed, "{point}");
        place.check_clean(point);
    }
}

/// The old application renews its secrets after a kill, and only the files beside the database tell
/// of the migration. What it wrote stays in its place, or comes from it.
#[test]
fn renewed_secrets_survive_takeover_without_log() {
    for point in ["migrate.secrets_kept", "migrate.secrets_written", "migrate.verified"] {
        for existed in [true, false] {
            let harness = Harness::new();
            let place = set_up_case(&harness, "04-secret-providers", "one");
            let before = std::fs::read_to_string(&place.auth).expect("read");
            if !existed {
                std::fs::remove_file(&place.auth).expect("removed");
            }
            let context = format!("{point}, existed: {existed}");
            let killed = local(&harness, &place, &[]).env("GROUNDSKEEPER_KILL_AT", point).status();
            assert!(!killed.expect("runs").success(), "{context}");
            std::fs::remove_dir_all(harness.data()).expect("removed");
            let mut renewed: Value = serde_json::from_str(&before).expect("JSON");
            renewed["renewed"] = Value::from("fresh-token");
            std::fs::write(&place.auth, renewed.to_string()).expect("written");
            let done = local(&harness, &place, &["--json"]).output().expect("runs");
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(done.status.success(), "{context}: {text}");
            let now = std::fs::read_to_string(&place.auth).expect("read");
            assert!(now.contains("fresh-token"), "{context}: {now}");
            assert!(text.contains("as another program wrote it since"), "{context}: {text}");
            let aside: Vec<String> = files_beside(&place.auth, ".undone-");
            assert_eq!(aside.len(), usize::from(existed), "{context}: {aside:?}");
            for path in aside {
                let old = std::fs::read_to_string(&path).expect("read");
                assert_eq!(old, before, "{context}");
                std::fs::remove_file(path).expect("removed");
            }
            place.check_clean(&context);
        }
    }
}

/// Returns the paths of the files beside another whose names contain a text.
fn files_beside(path: &Path, part: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path.parent().expect("a folder")).expect("a folder").flatten();
    let all = entries.map(|entry| entry.path().display().to_string());
    all.filter(|path| path.contains(part)).collect()
}

/// While a daemon has the data directory, the log is beside the database.
#[test]
fn busy_data_directory_is_passed_by() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let daemon = Daemon::start(&harness);
    let done = local(&harness, &place, &["--no-daemon", "--json"]).output().expect("runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    check_new(&place, CASE, "migrated");
    assert_eq!(phases(&harness), [""; 0], "the daemon knows nothing of it");
    let database = place.database();
    let kept = place.data.join("data.db.migration/log.redb");
    assert!(kept.exists());
    let path = database.to_str().expect("text");
    let listed = harness.ok(&["migrate", "status", path, "--no-daemon"]);
    assert_eq!(listed[0]["phase"], "finished", "{listed:#}");
    let undone = harness.ok(&["migrate", "undo", path, "--no-daemon"]);
    assert_eq!(undone["phase"], "undone");
    daemon.terminate();
}

/// Starts a migration that takes seconds, and waits until it has begun.
fn start_slow(harness: &Harness, place: &Place) -> (Child, impl Iterator<Item = String>) {
    let mut command = local(harness, place, &["--progress", "json"]);
    command.env("GROUNDSKEEPER_FAULT", "sync:400ms:1");
    let mut child = command.spawn().expect("starts");
    let mut lines =
        BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let begun = lines.by_ref().find(|line| line.contains("\"copied\""));
    assert!(begun.is_some(), "it copies");
    (child, lines)
}

#[test]
fn interrupted_process_rolls_back() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let before = std::fs::read(place.database()).expect("read");
    let (mut child, lines) = start_slow(&harness, &place);
    let asked = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    let rest: Vec<String> = lines.collect();
    let status = child.wait().expect("ends");
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert!(!status.success(), "{rest:?}");
    if status.code() == Some(130) {
        // Ended by force: the next run puts the old database back first.
        let database = place.database();
        harness.ok(&["migrate", "cancel", database.to_str().expect("text")]);
    }
    assert_eq!(std::fs::read(place.database()).expect("read"), before, "{rest:?}");
    place.check_clean("interrupted");
    assert_eq!(phases(&harness).last().map(String::as_str), Some("failed"));
}

/// A second process is told that the first one has the log.
#[test]
fn second_process_is_refused() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let (mut child, lines) = start_slow(&harness, &place);
    let other = set_up_case(&harness, CASE, "two");
    let second = local(&harness, &place, &["--json", "--no-daemon"]).output().expect("runs");
    let out: Value = serde_json::from_slice(&second.stdout).expect("JSON");
    assert_eq!(out["error"]["code"], "database_in_use", "{out:#}");
    // Another database has a log beside it.
    let third = local(&harness, &other, &["--no-daemon"]).output().expect("runs");
    assert!(third.status.success(), "{}", String::from_utf8_lossy(&third.stderr));
    drop(lines);
    child.wait().expect("ends");
    let done = local(&harness, &place, &[]).output().expect("runs");
    assert!(done.status.success());
    check_new(&place, CASE, "first");
    check_new(&other, CASE, "other");
}

#[test]
fn progress_is_one_object_a_line() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let mut child =
        local(&harness, &place, &["--progress", "json", "--json"]).spawn().expect("runs");
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("read");
    assert!(child.wait().expect("ends").success(), "{text}");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let lines: Vec<Value> = lines.collect();
    let phases = lines.iter().filter_map(|line| line["phase"].as_str());
    let phases: Vec<&str> = phases.collect();
    assert_eq!((phases.first(), phases.last()), (Some(&"started"), Some(&"finished")));
    assert!(lines.iter().any(|line| line["unit"] == "bytes"), "{text}");
}

/// The daemon that migrated a database at its start has written to it since, and holds the lock of
/// the application.
#[test]
fn startup_migration_is_undone_by_same_daemon() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let before = std::fs::read(place.database()).expect("read");
    let ring = place.data.join("keyring.json");
    let args = ["daemon", "--recipe", "executor", "--tenant", TENANT, "--auth"];
    let mut command = harness.command(&args);
    command.arg(&place.auth).arg("--migrate").arg(place.database());
    command.env("GROUNDSKEEPER_KEYCHAIN_FILE", &ring).env("GROUNDSKEEPER_OFFLINE", "1");
    let daemon = Daemon::of(&harness, command);
    place.check_clean("brought up");
    assert_ne!(std::fs::read(place.database()).expect("read"), before);
    let (code, undone) = undo(&harness, &place);
    assert_eq!(code, 0, "{undone:#}");
    assert_eq!(std::fs::read(place.database()).expect("read"), before);
    daemon.terminate();

    // A write of another program still stands in the way.
    let again = local(&harness, &place, &["--json"]).output().expect("runs");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let database = rusqlite::Connection::open(place.database()).expect("opened");
    database.execute_batch("CREATE TABLE later (a)").expect("written");
    drop(database);
    let (code, refused) = undo(&harness, &place);
    assert_eq!((code, &refused["error"]["code"]), (1, &Value::from("migration_conflict")));
}

/// The daemon ends it, and refuses once the new database is in its place.
#[test]
fn daemon_cancels_until_flip() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let before = std::fs::read(place.database()).expect("read");
    let ring = place.data.join("keyring.json");
    let env = [
        ("GROUNDSKEEPER_KEYCHAIN_FILE", ring.to_str().expect("text")),
        ("GROUNDSKEEPER_FAULT", "sync:400ms:1"),
    ];
    let daemon = Daemon::start_with(&harness, &env);
    let mut child = local(&harness, &place, &[]).spawn().expect("starts");
    let path = place.database();
    let path = path.to_str().expect("text");
    wait_for_copy(&place.data);
    let cancelled = harness.ok(&["migrate", "cancel", path]);
    assert_eq!(cancelled["phase"], "failed", "{cancelled:#}");
    assert!(!child.wait().expect("ends").success());
    assert_eq!(std::fs::read(place.database()).expect("read"), before);
    place.check_clean("cancelled");
    daemon.terminate();

    let daemon = Daemon::start_with(&harness, &env[..1]);
    assert!(local(&harness, &place, &[]).status().expect("runs").success());
    let (code, refused) = harness.gk(&["migrate", "cancel", path]);
    assert_eq!((code, &refused["error"]["code"]), (3, &Value::from("migration_not_found")));
    daemon.terminate();
}

/// Ctrl-C in the client of a daemon ends the migration in the daemon.
#[test]
fn interrupted_client_cancels_in_daemon() {
    let harness = Harness::new();
    let place = set_up_case(&harness, CASE, "one");
    let before = std::fs::read(place.database()).expect("read");
    let ring = place.data.join("keyring.json");
    let env = [
        ("GROUNDSKEEPER_KEYCHAIN_FILE", ring.to_str().expect("text")),
        ("GROUNDSKEEPER_FAULT", "sync:400ms:1"),
    ];
    let daemon = Daemon::start_with(&harness, &env);
    let mut child = local(&harness, &place, &["--json"]).spawn().expect("starts");
    wait_for_copy(&place.data);
    let asked = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    let status = child.wait().expect("ends");
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert!(!status.success(), "{status}");
    harness.drain();
    crate::support::wait_for("the end of the migration", || phases(&harness) == ["failed"]);
    assert_eq!(std::fs::read(place.database()).expect("read"), before);
    place.check_clean("cancelled");
    daemon.terminate();
}

fn wait_for_copy(dir: &Path) {
    crate::support::wait_for("the private copy", || {
        let entries = std::fs::read_dir(dir).expect("listed").flatten();
        entries.map(|e| e.file_name()).any(|n| n.to_string_lossy().contains(".source-"))
    });
}
