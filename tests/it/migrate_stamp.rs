//! Undo by the real program after the application started on the new database: its stamps are no
//! reason to refuse, and every other write is one.

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, params_from_iter};
use serde_json::{Map, Value};

use crate::migrate::cases;
use crate::migrate_undo::Migrated;
use crate::recorded_rows::{fixtures, recorded};

/// Columns that tell one row from another; the others may change at the first start.
const KEYS: [(&str, &[&str]); 9] = [
    ("integration", &["tenant", "slug"]),
    ("connection", &["tenant", "owner", "subject", "integration", "name"]),
    ("oauth_client", &["tenant", "owner", "subject", "slug"]),
    ("tool", &["tenant", "owner", "subject", "integration", "connection", "name"]),
    ("definition", &["tenant", "owner", "subject", "integration", "connection", "name"]),
    ("tool_policy", &["tenant", "owner", "subject", "id"]),
    ("plugin_storage", &["tenant", "owner", "subject", "key"]),
    ("blob", &["id"]),
    ("data_migration", &["name"]),
];

fn cell(recorded: &Value, before: Option<&Cell>, number: usize) -> Cell {
    match recorded {
        Value::Null => Cell::Null,
        Value::Number(number) => Cell::Integer(number.as_i64().expect("an integer")),
        Value::String(text) if text.starts_with('<') && text.ends_with('>') => {
            let made = match text.as_str() {
                "<ROWID>" => Cell::Text(format!("row{number}")),
                _ => Cell::Integer(1_900_000_000_000),
            };
            before.cloned().unwrap_or(made)
        }
        Value::String(text) => Cell::Text(text.clone()),
        other => match (&other["$real"], &other["$blob"]) {
            (Value::String(real), _) => Cell::Real(real.parse().expect("a number")),
            (_, blob) => panic!("{blob} is in no case"),
        },
    }
}

fn rows(db: &Connection, table: &str, columns: &[&str]) -> Vec<Vec<Cell>> {
    let mut find = db.prepare(&format!("SELECT * FROM \"{table}\"")).expect("prepared");
    let read = |row: &rusqlite::Row<'_>| (0..columns.len()).map(|n| row.get(n)).collect();
    find.query_map([], read).expect("asked").collect::<Result<_, _>>().expect("read")
}

/// Writes what the application was recorded to write at its first start: all rows anew, with the
/// row ids and times that they had, and new ones where it makes a row.
fn start_application(db: &Connection, booted: &Map<String, Value>) {
    db.execute_batch("PRAGMA journal_mode = WAL; BEGIN").expect("begun");
    for (table, recorded) in booted {
        let columns = recorded["columns"].as_array().expect("columns").iter();
        let columns: Vec<&str> = columns.map(|c| c.as_str().expect("a name")).collect();
        let before = rows(db, table, &columns);
        let keys = KEYS.iter().find(|(name, _)| name == table).map_or(&[][..], |(_, keys)| keys);
        db.execute(&format!("DELETE FROM \"{table}\""), []).expect("emptied");
        for (number, row) in recorded["rows"].as_array().expect("rows").iter().enumerate() {
            let is_same = |found: &&Vec<Cell>| {
                let same = |(n, name): (usize, &&str)| {
                    !keys.contains(name) || found[n] == cell(&row[*name], None, 0)
                };
                columns.iter().enumerate().all(|(n, name)| same((n, name)))
            };
            let was = before.iter().find(is_same);
            let cells = columns.iter().enumerate();
            let cells = cells.map(|(n, name)| cell(&row[*name], was.map(|w| &w[n]), number));
            let marks = vec!["?"; columns.len()].join(", ");
            let insert = format!("INSERT INTO \"{table}\" VALUES ({marks})");
            db.execute(&insert, params_from_iter(cells)).expect("inserted");
        }
    }
    db.execute_batch("COMMIT").expect("committed");
}

fn booted(case: &str) -> Map<String, Value> {
    let path = fixtures().join("cases").join(case).join("v2-booted.json");
    recorded(&path).as_object().expect("tables").clone()
}

/// Every recorded first start: its stamps, and the rows that its steps changed.
#[test]
fn first_start_of_application_can_be_undone() {
    let mut seen = 0;
    for case in cases() {
        let path = fixtures().join("cases").join(&case).join("v2-booted.json");
        let result = recorded(&fixtures().join("cases").join(&case).join("result.json"));
        // An undo cannot put entries of a keychain back.
        if !path.exists() || case.starts_with("25") {
            continue;
        }
        let migrated = Migrated::of_tenant(&case, result["tenant"].as_str().expect("a tenant"));
        let db = Connection::open(migrated.database()).expect("opened");
        start_application(&db, &booted(&case));
        drop(db);
        let (code, undone) = migrated.undo(&[]);
        assert_eq!(code, 0, "{case}: {undone:#}");
        migrated.check_old(&case);
        seen += 1;
    }
    assert!(seen >= 12, "only {seen} first starts");
}

/// Stamps alone, of all steps or of a few before a kill.
#[test]
fn part_of_first_start_can_be_undone() {
    // The steps have nothing to do in the first case, and were only stamped in the other.
    for (case, stamps) in [("10-empty-v1", 0), ("10-empty-v1", 3), ("02-plugin-mix", 5)] {
        let migrated = Migrated::new(case);
        let db = Connection::open(migrated.database()).expect("opened");
        db.execute_batch("PRAGMA wal_checkpoint; VACUUM;").expect("as an application may");
        let names = booted(case)["data_migration"]["rows"].clone();
        for row in names.as_array().expect("rows").iter().skip(1).take(stamps) {
            let insert = "INSERT INTO data_migration VALUES (?1, 1900000000000)";
            db.execute(insert, [row["name"].as_str().expect("a name")]).expect("stamped");
        }
        drop(db);
        let (code, undone) = migrated.undo(&[]);
        assert_eq!(code, 0, "{case} {stamps}: {undone:#}");
        migrated.check_old("part of a start");
    }
}

/// One write besides the stamps, of every kind.
#[test]
fn write_besides_stamps_refuses_undo() {
    let case = "02-plugin-mix";
    let writes = [
        "UPDATE integration SET description = description || '.' WHERE rowid = 1",
        "DELETE FROM tool WHERE rowid = (SELECT max(rowid) FROM tool)",
        "INSERT INTO private_executor_local_settings (id) VALUES ('mine')",
        "UPDATE connection SET tools_synced_at = x'00'",
        "CREATE TABLE mine (a)",
        "CREATE INDEX mine ON tool (name)",
        "PRAGMA user_version = 7",
        "DELETE FROM data_migration WHERE name = '2026-06-11-local-v1-to-v2'",
    ];
    let migrated = Migrated::new(case);
    let path = migrated.database();
    let db = Connection::open(&path).expect("opened");
    start_application(&db, &booted(case));
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE").expect("one");
    drop(db);
    let started = std::fs::read(&path).expect("read");
    for write in writes {
        let db = Connection::open(&path).expect("opened");
        db.execute_batch(write).expect("written");
        drop(db);
        let (code, refused) = migrated.undo(&[]);
        assert_eq!(code, 1, "{write}: {refused:#}");
        assert_eq!(refused["error"]["code"], "migration_conflict", "{write}: {refused:#}");
        for suffix in ["-wal", "-shm"] {
            drop(std::fs::remove_file(format!("{path}{suffix}")));
        }
        std::fs::write(&path, &started).expect("as before");
    }
    let (code, undone) = migrated.undo(&[]);
    assert_eq!(code, 0, "{undone:#}");
    migrated.check_old("without any of the writes");
}

/// A recipe of one's own names the table that its application stamps.
#[test]
fn folder_names_its_stamped_tables() {
    let harness = crate::support::Harness::new();
    let (recipe, database) = crate::migrate::create_notes_recipe(&harness);
    let stamp = "-- groundskeeper: stamps ledger\nPRAGMA user_version = 1";
    harness.write(&recipe.join("stamp.sql"), stamp);
    let (recipe, file) = (recipe.to_str().expect("text"), database.to_str().expect("text"));
    let starts = "CREATE TABLE IF NOT EXISTS ledger (step TEXT); INSERT INTO ledger VALUES ('a');";
    for (write, code) in [(starts, 0), ("UPDATE note SET text = 'mine'", 1)] {
        harness.ok(&["migrate", "--recipe", recipe, file]);
        let db = Connection::open(&database).expect("opened");
        db.execute_batch(write).expect("written");
        drop(db);
        let (found, out) = harness.gk(&["migrate", "undo", file]);
        assert_eq!(found, code, "{write}: {out:#}");
    }
}
