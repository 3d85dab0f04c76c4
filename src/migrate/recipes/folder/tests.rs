//! Scripts that must be refused, each by the whole engine: the fault names the file and the line,
//! and the old database keeps its bytes.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Folder;
use super::case::{BUILD, Case, RECOGNISE};
use super::script::Limits;
use crate::files::with_suffix;
use crate::http::NoNetwork;
use crate::keychain::NoKeychain;
use crate::recipe::{OnConflict, Recipe as _, Work};
use crate::sqlite;
use groundskeeper_core::{Code, MigrationStep as Step};

/// Checks that each script is refused, with a message that contains the text.
fn check_refusals(file: &str, cases: &[(&str, &str)]) {
    for (script, wanted) in cases {
        let fault = Case::with(&[(file, script)]).refused();
        let text = format!("{fault} {:?} {}", fault.causes, fault.hint);
        assert!(text.contains(wanted) && text.contains(file), "{script:?}: {text}");
    }
}

#[test]
fn script_cannot_end_its_transaction() {
    let cases = [
        ("CREATE TABLE item (a); COMMIT; BEGIN", "ending a transaction"),
        ("CREATE TABLE item (a);\nEND", "line 2"),
        ("ROLLBACK; BEGIN;", "ending a transaction"),
        ("CREATE TABLE item (a); ROLLBACK; BEGIN", "ending a transaction"),
        ("BEGIN", "ending a transaction"),
        ("SAVEPOINT a; CREATE TABLE item (a); ROLLBACK TO a", "a savepoint"),
        ("RELEASE a", "a savepoint"),
        ("CREATE TABLE item (a UNIQUE);\nINSERT OR ROLLBACK INTO item VALUES (1), (1)", "line 2"),
    ];
    check_refusals("build", &cases);
}

#[test]
fn unread_text_is_refused() {
    let cases = [
        ("/* CREATE TABLE item (a);", "a comment is not closed"),
        ("CREATE TABLE item (a);\n\n/* INSERT", "line 3"),
        ("CREATE TABLE item (a);\n\0INSERT INTO item VALUES (1);", "a NUL byte"),
        ("\0", "a NUL byte"),
        ("CREATE TABLE item (a DEFAULT 'b);", "a string is not closed"),
        ("", "no statement"),
        (" -- CREATE TABLE item (a);\n/* */ ;", "no statement"),
        ("SELECT 1", "made no table"),
        ("SELECT 1 -- groundskeeper: may-be-empty", "made no table"),
        ("CREATE TABLE item (a); SELEC 1", "line 1"),
        ("CREATE TABLE item (a);\nINSERT INTO item VALUES (?1)", "has a parameter"),
    ];
    check_refusals("build", &cases);
    check_refusals("stamp", &[("-- a", "no statement"), ("PRAGMA user_version = 2 /*", "line 1")]);
    check_refusals("recognise", &[("-- a", "no statement"), ("SELECT 'old", "line 1")]);
}

#[test]
fn other_files_are_out_of_reach() {
    let cases = [
        ("ATTACH '/tmp/a' AS a", "ATTACH"),
        ("ATTACH '/tmp/' || 'a' AS a", "ATTACH"),
        ("DETACH old", "DETACH"),
        ("DETACH 'o' || 'ld'", "DETACH"),
        ("SELECT load_extension('a')", "load_extension"),
        ("SELECT fts3_tokenizer('a')", "fts3_tokenizer"),
        ("VACUUM INTO '/tmp/a'", "VACUUM"),
        ("DELETE FROM old.item", "changing old.item"),
        ("CREATE INDEX old.i ON item (name)", "changing old."),
        ("ALTER TABLE old.item ADD COLUMN a", "changing old.item"),
    ];
    check_refusals("build", &cases);
    let cases = [("SELECT 'old' WHERE load_extension('a')", "load_extension")];
    check_refusals("recognise", &cases);
    check_refusals("verify", &[("DELETE FROM item RETURNING id", "a change is not allowed")]);
    check_refusals("warnings", &[("SELECT 1; SELECT 2", "more than one statement")]);
}

#[test]
fn only_listed_pragmas_are_allowed() {
    let cases = [
        ("PRAGMA hard_heap_limit = 1", "hard_heap_limit"),
        ("PRAGMA soft_heap_limit = 1", "soft_heap_limit"),
        ("PRAGMA temp_store_directory = '/nowhere'", "temp_store_directory"),
        ("PRAGMA data_store_directory = '/nowhere'", "data_store_directory"),
        ("PRAGMA writable_schema = 1", "writable_schema"),
        ("PRAGMA max_page_count = 9999999", "max_page_count"),
        ("PRAGMA journal_mode = OFF", "journal_mode"),
        ("PRAGMA main.locking_mode = EXCLUSIVE", "locking_mode"),
        ("PRAGMA foreign_keys = ON", "defer_foreign_keys"),
        ("PRAGMA encoding = 'UTF-16le'", "encoding"),
        ("PRAGMA old.user_version = 7", "normalise.sql"),
    ];
    check_refusals("build", &cases);
    check_refusals("stamp", &[("PRAGMA page_size = 1024", "build.sql")]);
    let late = [
        ("CREATE TABLE item (a); PRAGMA page_size = 1024", "beginning of build.sql"),
        ("PRAGMA auto_vacuum = 1; PRAGMA page_size = 1024", "beginning of build.sql"),
        ("PRAGMA user_version = 1; PRAGMA auto_vacuum = 1", "beginning of build.sql"),
    ];
    check_refusals("build", &late);
    let build = format!(
        "PRAGMA page_size = 8192; PRAGMA auto_vacuum = 1; {BUILD}
         PRAGMA application_id = 7; PRAGMA foreign_keys; ANALYZE; PRAGMA optimize;
         SELECT name FROM pragma_table_info('item'); PRAGMA foreign_key_check(item);"
    );
    let case = Case::with(&[("build", &build)]);
    assert!(case.migrate().expect("migrated"));
    for (pragma, value) in [("page_size", "8192"), ("auto_vacuum", "1"), ("application_id", "7")] {
        let found = case.new_rows(&format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}"));
        assert_eq!(found, [value], "{pragma}");
    }
}

/// A virtual table runs statements of its own, also pragmas.
#[test]
fn triggers_and_virtual_tables_work() {
    let build = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
        CREATE VIRTUAL TABLE words USING fts5 (name, content = 'item', content_rowid = 'id');
        CREATE VIRTUAL TABLE older USING fts4 (name);
        CREATE VIRTUAL TABLE box USING rtree (id, a, b);
        CREATE TRIGGER t AFTER INSERT ON item BEGIN
            INSERT INTO words (rowid, name) VALUES (new.id, new.name); END;
        INSERT INTO item SELECT id, name FROM old.item;
        INSERT INTO older SELECT name FROM old.item;
        INSERT INTO box VALUES (1, 2, 3);
        CREATE TEMP TABLE t AS SELECT 1; CREATE VIEW v AS SELECT name FROM item;
        CREATE TABLE more (a, c); ALTER TABLE more RENAME COLUMN a TO b; ALTER TABLE more DROP COLUMN c;
        ALTER TABLE item RENAME TO title;
        ALTER TABLE title RENAME TO item; REINDEX; DROP VIEW IF EXISTS none;
        INSERT INTO words (words) VALUES ('optimize');";
    let case = Case::with(&[("build", build)]);
    assert!(case.migrate().expect("migrated"));
    assert_eq!(case.new_rows("SELECT v.name FROM v"), ["a", "b", "c"]);
    assert_eq!(case.new_rows("SELECT name FROM older WHERE older MATCH 'b'"), ["b"]);
}

#[test]
fn lost_rows_are_refused() {
    let none = "CREATE TABLE item (id INTEGER, name TEXT)";
    check_refusals("build", &[(none, "has 3 rows and the new one has none")]);
    let set = format!("-- groundskeeper: may-be-empty\n{none}");
    assert!(Case::with(&[("build", &set)]).migrate().expect("it is said"));
    let case = Case::with(&[("build", none)]);
    case.fill("CREATE TABLE item (id, name)");
    assert!(case.migrate().expect("there were none"));
    let stamps = [
        ("PRAGMA user_version = 2; DELETE FROM item WHERE id = 2", "item: 2 rows instead of 3"),
        ("PRAGMA user_version = 2; DROP TABLE item", "item: the table with 3 rows is gone"),
    ];
    for (stamp, wanted) in stamps {
        let fault = Case::with(&[("stamp", stamp)]).refused();
        assert_eq!(fault.evidence, [wanted], "{fault}");
    }
    let case = Case::with(&[("build", "-- groundskeeper: may_be_empty\nSELECT 1")]);
    assert!(case.refused().message.contains("no setting"), "a misspelled setting");
}

const ENDLESS: &str = "CREATE TABLE item (a);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
    INSERT INTO item SELECT i FROM n WHERE i < 0;";

#[test]
fn script_ends_at_time_limit() {
    let limits = Limits { script: Duration::from_millis(200), ..Limits::default() };
    let fault = Case::with(&[("build", ENDLESS)]).fault_of(Step::BuildStaging, limits, &|| false);
    assert!(fault.message.contains("did not end within 0.2 s"), "{fault}");
    // The limit of the first look holds by default.
    let query = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                 SELECT 'old' FROM n WHERE i < 0";
    let folder = Folder::built_in("test", [Some(query), None, None, None, None, None, None]);
    let short = Limits { look: Duration::from_millis(200), ..Limits::default() };
    let case = Case::new();
    let database = sqlite::open(&case.database()).expect("opened");
    let found = folder.with_limits(short).recognise(&database);
    assert!(found.expect_err("endless").message.contains("recognise.sql"));
}

/// One long statement, and many short ones between which no statement runs.
#[test]
fn stop_request_ends_running_script() {
    let short = "SELECT 1;\n".repeat(400_000);
    let many = format!("CREATE TABLE item (a);\n{short}");
    for build in [ENDLESS, &many] {
        let (asked, from) = (AtomicU32::new(0), Instant::now());
        let cancelled = || asked.fetch_add(1, Ordering::Relaxed) >= 1;
        let fault = Case::with(&[("build", build)]).fault_of(
            Step::BuildStaging,
            Limits::default(),
            &cancelled,
        );
        assert_eq!(fault.code, Code::Cancelled, "{fault}");
        assert!(from.elapsed() < Duration::from_secs(10), "{:?}", from.elapsed());
    }
}

/// The checks of a new database run beside each other, and both end.
#[test]
fn stop_request_ends_verification() {
    let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                   SELECT i FROM n WHERE i < 0";
    let (case, from) = (Case::with(&[("verify", endless)]), Instant::now());
    let asked = AtomicU32::new(0);
    let cancelled = || asked.fetch_add(1, Ordering::Relaxed) >= 1;
    let fault = case.fault_of(Step::VerifyStaging, Limits::default(), &cancelled);
    assert_eq!(fault.code, Code::Cancelled, "{fault}");
    assert!(from.elapsed() < Duration::from_secs(10), "{:?}", from.elapsed());
}

fn with_idle_work<T>(call: impl FnOnce(&Work<'_>) -> T) -> T {
    call(&Work {
        tenant: "",
        conflicts: OnConflict::Refuse,
        secrets: None,
        now_ms: 0,
        network: &NoNetwork,
        keychain: &NoKeychain,
        progress: &|_, _| (),
        cancelled: &|| false,
    })
}

/// The time limit passes while the script waits for the other program.
#[test]
fn locked_database_is_no_endless_script() {
    let case = Case::new();
    let other = Connection::open(case.database()).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("held");
    let scripts = [None, None, None, None, None, None, Some("DELETE FROM item")];
    let limits = Limits { look: Duration::from_millis(100), ..Limits::default() };
    let folder = Folder::built_in("test", scripts).with_limits(limits);
    let database = sqlite::open(&case.database()).expect("opened");
    let fault = with_idle_work(|work| folder.ready(&database, work)).expect_err("it is locked");
    assert_eq!(fault.code, Code::DatabaseInUse, "{fault}");
}

/// The tables behind it may hold rows.
#[test]
fn table_of_missing_module_is_named() {
    let case = Case::new();
    case.fill(
        "CREATE TABLE item (id, name); INSERT INTO item VALUES (1, 'a'); PRAGMA writable_schema = 1;
         INSERT INTO sqlite_master VALUES
             ('table', 'odd', 'odd', 0, 'CREATE VIRTUAL TABLE odd USING nomodule (a)');",
    );
    let fault = case.refused();
    assert!(fault.hint.contains("drop the virtual table odd"), "{fault}: {}", fault.hint);
}

#[test]
fn script_ends_at_page_limit() {
    let limits = Limits { bytes: 1 << 20, growth: 1, ..Limits::default() };
    let build = "CREATE TABLE item (a);
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        INSERT INTO item SELECT randomblob(1000) FROM n;";
    for build in [build, &build.replace("CREATE TABLE", "CREATE TEMP TABLE")] {
        let fault = Case::with(&[("build", build)]).fault_of(Step::BuildStaging, limits, &|| false);
        assert!(fault.message.contains("its limit of 1 MiB"), "{fault} {:?}", fault.causes);
    }
}

#[test]
fn results_of_any_type_are_text() {
    let recognise = format!("{RECOGNISE};");
    let verify = "SELECT 7 UNION ALL SELECT 2.0 UNION ALL SELECT NULL UNION ALL SELECT x'0aff'";
    let case = Case::with(&[("recognise", &recognise), ("verify", verify)]);
    let fault = case.refused();
    let mut found = fault.evidence.clone();
    found.sort();
    assert_eq!(found, ["0aff", "2.0", "7", "NULL"], "{fault}");
    let case = Case::with(&[("warnings", "SELECT count(*) FROM old.item -- three")]);
    assert!(case.migrate().expect("a number is a warning"));
    check_refusals(
        "recognise",
        &[
            ("SELECT NULL", "returned \"NULL\""),
            ("SELECT 1", "returned \"1\""),
            ("SELECT 'old' WHERE 0", "returned no row"),
        ],
    );
    let case = Case::with(&[("recognise", "SELECT 'foreign', 42")]);
    assert_eq!(case.refused().causes, ["42"], "a reason that is a number");
}

#[test]
fn missing_table_is_named() {
    let case = Case::new();
    case.fill("CREATE TABLE other (a); INSERT INTO other VALUES (1)");
    let fault = case.refused();
    assert!(fault.hint.contains("the table old.item"), "{fault}: {}", fault.hint);
    let case = Case::with(&[("build", "CREATE TABLE item (a);\nINSERT INTO item SELECT x FROM y")]);
    let fault = case.refused();
    assert!(fault.hint.contains("the table y") && fault.message.contains("line 2"), "{fault}");
}

/// The old and the new database are used over one connection, so both need the same encoding.
#[test]
fn encoding_of_old_database_is_kept() {
    let case = Case::new();
    case.fill(
        "PRAGMA encoding = 'UTF-16be'; CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO item (name) VALUES ('ä');",
    );
    assert!(case.migrate().expect("migrated"));
    assert_eq!(case.new_rows("SELECT name FROM item"), ["ä"]);
    assert_eq!(case.new_rows("SELECT encoding FROM pragma_encoding"), ["UTF-16be"]);
}

#[test]
fn violated_foreign_key_names_row() {
    let build = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE item (id INTEGER PRIMARY KEY, parent REFERENCES parent);
        INSERT INTO item SELECT id, 9 FROM old.item;
        CREATE TABLE pair (a PRIMARY KEY REFERENCES parent) WITHOUT ROWID;
        INSERT INTO pair VALUES (3)";
    let fault = Case::with(&[("build", build)]).refused();
    assert!(fault.message.contains("refer to rows that do not exist"), "{fault}");
    let wanted = "table item, rowid 2: there is no such row in table parent";
    assert!(fault.evidence.iter().any(|line| line == wanted), "{:?}", fault.evidence);
    let wanted = "table pair: there is no such row in table parent";
    assert!(fault.evidence.iter().any(|line| line == wanted), "{:?}", fault.evidence);
    assert!(fault.evidence.len() == 4, "{:?}", fault.evidence);
}

/// An undo runs no script, so a recipe that is refused by now can still be undone.
#[test]
fn kept_recipe_is_read_unchecked() {
    let case = Case::with(&[("build", "/* a")]);
    assert!(Folder::open(&case.folder()).is_err());
    assert!(Folder::open_kept(&case.folder()).is_ok());
}

#[cfg(unix)]
#[test]
fn special_files_are_refused_at_inspection() {
    let fifo = |path: &Path| {
        drop(std::fs::remove_file(path));
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.expect("mkfifo").success());
    };
    let names = ["-wal", "-shm", "-journal", ""];
    for name in names {
        let case = Case::new();
        fifo(&with_suffix(&case.database(), name));
        let fault = case.migrate().expect_err(name);
        assert!(fault.message.contains("a FIFO"), "{name}: {fault}");
        let case = Case::new();
        let path = with_suffix(&case.database(), name);
        drop(std::fs::remove_file(&path));
        std::fs::create_dir(&path).expect("a folder");
        let fault = case.migrate().expect_err(name);
        assert!(fault.message.contains("a directory"), "{name}: {fault}");
    }
    for file in ["recognise", "verify", "ready"] {
        let case = Case::new();
        fifo(&case.folder().join(format!("{file}.sql")));
        assert!(case.refused().message.contains("a FIFO"), "{file}");
    }
}
