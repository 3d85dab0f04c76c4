//! Recorded cases as an oracle for random databases: what SQLite lets a user change around the rows
//! must not change the recorded result.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params_from_iter};

use super::chance::Chance;
use super::harness::{Case, Given, differences, migrate};
use super::seeds::numbers;
use super::v1::names;
use groundskeeper_migrate::recipe::OnConflict;

/// Number of seeds without an environment variable; each tries one case.
const SEEDS: u64 = 60;

#[test]
fn recorded_cases_survive_harmless_changes() {
    let cases = Case::all();
    let migrated =
        |case: &&Case| case.json("v2.json").is_some() && !case.dir.join("v1/keyring.json").exists();
    let cases: Vec<&Case> = cases.iter().filter(migrated).collect();
    let (mut tried, seeds) = (0, numbers(SEEDS));
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let case = cases[chance.below(cases.len())];
        let Some((db, how)) = varied(case, &mut chance) else { continue };
        let tenant = case.result.text("tenant").expect("a tenant").lossy().into_owned();
        let dir = tempfile::tempdir().expect("a directory");
        let auth = dir.path().join("auth.json");
        let auth = std::fs::copy(case.dir.join("v1/auth.json"), &auth).is_ok().then_some(auth);
        let given =
            Given { tenant: &tenant, auth, conflicts: OnConflict::Refuse, ..Given::default() };
        let about = format!("seed {seed}, {}, {how}", case.name);
        let done = migrate(&db, &given).unwrap_or_else(|fault| panic!("{about}: {fault:?}"));
        tried += 1;
        let wrong = differences(&case.json("v2.json").expect("rows"), &done.staging);
        assert!(wrong.is_empty(), "{about}: {wrong:?}");
    }
    assert!(count == 1 || tried * 2 > count, "only {tried} of {count} were tried");
}

/// Returns a case's database in another encoding and page size, and with things beside its rows;
/// none when a text of it cannot be kept.
fn varied(case: &Case, chance: &mut Chance) -> Option<(Connection, String)> {
    let old = case.database();
    let db = Connection::open_in_memory().expect("memory");
    let encoding = chance.of(&["UTF-8", "UTF-16le", "UTF-16be"]);
    let page = chance.of(&["512", "4096", "65536"]);
    let mut how = format!("{encoding} {page}");
    db.execute_batch(&format!(
        "PRAGMA encoding = '{encoding}'; PRAGMA page_size = {page}; PRAGMA foreign_keys = OFF;"
    ))
    .expect("set up");
    let kept = "sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let tables =
        names(&old, &format!("SELECT name FROM sqlite_master WHERE type = 'table' AND {kept}"));
    let sql = names(&old, &format!("SELECT sql FROM sqlite_master WHERE {kept} ORDER BY rowid"));
    db.execute_batch(&sql.join(";\n")).expect("a schema");
    for table in &tables {
        copy(&old, &db, table)?;
    }
    for _ in 0..chance.below(4) {
        let sql = harmless(chance, &tables);
        if db.execute_batch(&sql).is_ok() {
            how.push_str("; ");
            how.push_str(&sql);
        }
    }
    Some((db, how))
}

/// Copies the rows of a table; none when a text of it is not UTF-8.
fn copy(from: &Connection, to: &Connection, table: &str) -> Option<()> {
    let mut query = from.prepare(&format!("SELECT * FROM \"{table}\"")).expect("a table");
    let count = query.column_count();
    let marks = vec!["?"; count].join(", ");
    let mut insert =
        to.prepare(&format!("INSERT INTO \"{table}\" VALUES ({marks})")).expect("a table");
    let mut rows = query.query([]).expect("rows");
    while let Some(row) = rows.next().expect("a row") {
        let cell = |at| match row.get_ref(at).expect("a cell") {
            ValueRef::Text(bytes) => Some(Value::Text(std::str::from_utf8(bytes).ok()?.to_owned())),
            other => Value::try_from(other).ok(),
        };
        let cells: Option<Vec<Value>> = (0..count).map(cell).collect();
        insert.execute(params_from_iter(cells?)).expect("a row");
    }
    Some(())
}

/// Returns a statement that changes no row that the migration reads.
fn harmless(chance: &mut Chance, tables: &[String]) -> String {
    let table = &tables[chance.below(tables.len())];
    match chance.below(9) {
        0 => "CREATE TABLE mine (a); INSERT INTO mine VALUES (1)".to_owned(),
        1 => format!("CREATE VIEW seen AS SELECT * FROM \"{table}\""),
        2 => format!("CREATE TRIGGER fired AFTER INSERT ON \"{table}\" BEGIN SELECT 1; END"),
        3 => "CREATE VIRTUAL TABLE found USING fts5(t); INSERT INTO found VALUES ('w')".to_owned(),
        4 => format!("ALTER TABLE \"{table}\" ADD COLUMN extra DEFAULT 'more'"),
        5 => format!("ALTER TABLE \"{table}\" ADD COLUMN made GENERATED ALWAYS AS ('x')"),
        6 => format!("CREATE TABLE child (p REFERENCES \"{table}\" ON DELETE CASCADE)"),
        7 => "ANALYZE".to_owned(),
        _ => "CREATE VIEW broken AS SELECT * FROM nowhere".to_owned(),
    }
}
