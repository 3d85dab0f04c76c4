//! Scripts drawn from hostile fragments. The engine refuses one, and the old database keeps its
//! bytes, or installs a database with every table that the script made.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::case::{BUILD, Case};
use crate::sqlite;

/// Statements, and parts of statements that change how the text behind them is read.
const FRAGMENTS: [&str; 42] = [
    BUILD,
    "CREATE TABLE a (x); INSERT INTO a VALUES (1)",
    "CREATE TABLE b (x); INSERT INTO b SELECT name FROM old.item",
    "CREATE TABLE IF NOT EXISTS c (x)",
    "CREATE TEMP TABLE d (x)",
    "CREATE TABLE e (x UNIQUE ON CONFLICT ROLLBACK); INSERT INTO e VALUES (1), (1)",
    "INSERT OR ROLLBACK INTO item VALUES (1, 'a')",
    "CREATE TRIGGER t AFTER INSERT ON item BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    "CREATE TRIGGER u AFTER INSERT ON a BEGIN DELETE FROM item; END",
    "DROP TABLE old.item",
    "DELETE FROM old.item",
    "BEGIN",
    "BEGIN EXCLUSIVE",
    "COMMIT",
    "END TRANSACTION",
    "ROLLBACK",
    "ROLLBACK; BEGIN",
    "COMMIT; BEGIN",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "/*",
    "*/",
    "--",
    "'",
    "\"",
    "[",
    "`",
    "\0",
    "\n",
    "",
    "SELECT 1",
    "ATTACH ':memory:' AS m",
    "ATTACH 'a' || 'b' AS m",
    "DETACH old",
    "VACUUM",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = WAL",
    "PRAGMA user_version = 9",
    "PRAGMA main.page_size = 512",
    "INSERT INTO a VALUES (?)",
    "EXPLAIN CREATE TABLE f (x)",
];

/// Returns the tables that the script makes where SQLite alone runs it, statement by statement;
/// `None` when a statement fails.
fn made_by_sqlite(script: &str, old: &std::path::Path) -> Option<Vec<String>> {
    let dir = tempfile::tempdir().expect("a folder");
    let copy = dir.path().join("copy.db");
    std::fs::copy(old, &copy).expect("copied");
    let mut database = Connection::open(dir.path().join("new.db")).expect("made");
    let copy = copy.to_str().expect("text");
    database.execute("ATTACH ?1 AS old", [copy]).expect("attached");
    // It would make a file in the working directory, and the engine refuses it in any case.
    let no_files = |context: AuthContext<'_>| match context.action {
        // Unknown: with an expression as its name.
        AuthAction::Attach { .. } | AuthAction::Unknown { .. } => Authorization::Deny,
        _ => Authorization::Allow,
    };
    database.authorizer(Some(no_files)).expect("set");
    database.execute_batch(script).ok()?;
    Some(tables(&database))
}

fn tables(database: &Connection) -> Vec<String> {
    let ask = "SELECT name FROM main.sqlite_master WHERE type = 'table' ORDER BY name";
    let mut ask = database.prepare(ask).expect("prepared");
    let names = ask.query_map([], |row| row.get(0)).expect("asked");
    names.collect::<Result<_, _>>().expect("read")
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(96)
    })]

    #[test]
    fn hostile_script_never_loses_tables(
        parts in prop::collection::vec((0..FRAGMENTS.len(), 0..4_usize), 1..6),
        starts_well in any::<bool>(),
    ) {
        let between = [";\n", ";\n", ";", " "];
        let mut script = if starts_well { format!("{BUILD};\n") } else { String::new() };
        for (fragment, end) in parts {
            script.push_str(FRAGMENTS[fragment]);
            script.push_str(between[end]);
        }
        let case = Case::new();
        case.write("build", &script);
        let (before, from) = (case.bytes(), Instant::now());
        let expected = made_by_sqlite(&script, &case.database());
        match case.migrate() {
            Err(fault) => {
                prop_assert!(crate::sample::helps_user(&fault), "{script:?}: {fault}");
                prop_assert_eq!(case.bytes(), before, "{}: {}", script, fault);
            }
            Ok(is_new) => {
                prop_assert!(is_new, "{script:?}");
                let database = sqlite::open(&case.database()).expect("opened");
                let found = tables(&database);
                prop_assert!(!found.is_empty(), "{script:?}");
                // A script that the engine takes is one that SQLite runs to the same end.
                prop_assert_eq!(Some(found), expected, "{}", script);
                let ask = "SELECT sum(n) FROM (SELECT count(*) AS n FROM item)";
                if script.starts_with(BUILD) {
                    let rows: i64 = database.query_row(ask, [], |row| row.get(0)).expect("read");
                    prop_assert!(rows >= 3 || script.contains("DELETE FROM item"), "{script:?}");
                }
            }
        }
        prop_assert!(from.elapsed() < Duration::from_secs(30), "{script:?}");
    }
}
