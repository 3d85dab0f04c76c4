//! Damages databases of the old generation in the ways that real ones are: missing and extra tables
//! and columns, cells of the wrong type, violated keys, and everything SQLite lets a user add.

use rusqlite::Connection;

use super::chance::Chance;
use super::v1::names;

/// Values that no column of the application holds, as SQL.
const ODD: [&str; 24] = [
    "NULL",
    "''",
    "'null'",
    "'[]'",
    "'{}'",
    "'\"x\"'",
    "5",
    "-1.5",
    "1e300",
    "9223372036854775807",
    "x'ff00fe'",
    "x'6d61726b'",
    "CAST(x'c3280061' AS TEXT)",
    "CAST(x'eda080' AS TEXT)",
    "'{\"config\":5}'",
    "'{\"config\":{\"headers\":[null]}}'",
    "'{\"config\":{\"headers\":\"\u{1f600}\",\"oauth2\":true}}'",
    "'{\"scopes\":[1,null,{}],\"clientId\":7}'",
    "'{\"toolId\":\"a\\ud800\",\"sourceId\":\"b\",\"binding\":null}'",
    "replace(hex(zeroblob(400)), '0', '[')",
    "'a b'",
    "'/'",
    "' '",
    "'user-org:user_:org_'",
];

/// Damages a database once.
///
/// SQLite may reject the damage, for example the removal of a key; the database is then as before.
pub(super) fn once(db: &Connection, chance: &mut Chance) {
    let tables = names(
        db,
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
         AND name NOT LIKE 'sqlite%' AND name NOT LIKE '%-%' ORDER BY name",
    );
    let Some(table) = tables.get(chance.below(tables.len().max(1))) else { return };
    let columns = names(db, &format!("SELECT name FROM pragma_table_xinfo('{table}')"));
    let Some(column) = columns.get(chance.below(columns.len().max(1))) else { return };
    let sql = statement(chance, table, column);
    let sql = sql.unwrap_or_else(|| rebuilt(db, chance, table, column));
    let done = db.execute_batch(&format!("SAVEPOINT damage; {sql}; RELEASE damage"));
    if done.is_err() {
        db.execute_batch("ROLLBACK TO damage; RELEASE damage").expect("as before");
    }
}

/// Returns a statement; none when the table is to be rebuilt.
fn statement(chance: &mut Chance, table: &str, column: &str) -> Option<String> {
    Some(match chance.below(24) {
        0 => format!("DROP TABLE \"{table}\""),
        1 => format!("ALTER TABLE \"{table}\" DROP COLUMN \"{column}\""),
        2 => "CREATE TABLE mine (a); INSERT INTO mine VALUES (1)".to_owned(),
        3 => format!("ALTER TABLE \"{table}\" ADD COLUMN extra DEFAULT 'more'"),
        4 => format!("CREATE VIEW seen{} AS SELECT * FROM \"{table}\"", chance.below(9)),
        5 => format!(
            "CREATE TRIGGER fired{} AFTER INSERT ON \"{table}\" BEGIN SELECT 1; END",
            chance.below(9)
        ),
        6 => "CREATE VIRTUAL TABLE found USING fts5(t); INSERT INTO found VALUES ('w')".to_owned(),
        7 => format!(
            "ALTER TABLE \"{table}\" ADD COLUMN made GENERATED ALWAYS AS (\"{column}\" || 'x')"
        ),
        8 => {
            let capitals = column.to_uppercase();
            format!("ALTER TABLE \"{table}\" RENAME COLUMN \"{column}\" TO \"{capitals}\"")
        }
        9 => format!("CREATE INDEX quick{} ON \"{table}\" (\"{column}\" || 1)", chance.below(9)),
        10 => format!("CREATE TABLE child (p REFERENCES \"{table}\" ON DELETE CASCADE)"),
        11 => format!(
            "UPDATE OR IGNORE \"{table}\" SET \"{column}\" = \"{column}\" || \
             hex(zeroblob({})) WHERE rowid = 1",
            1 << chance.below(20)
        ),
        12..17 => return None,
        _ => format!(
            "UPDATE OR IGNORE \"{table}\" SET \"{column}\" = {} WHERE rowid % 2 = {}",
            chance.of(&ODD),
            chance.below(2)
        ),
    })
}

/// Returns the statements that rebuild a table in another way: without keys and with a row twice,
/// without row ids, with a generated column, with a column named `rowid`, or as a view.
fn rebuilt(db: &Connection, chance: &mut Chance, table: &str, column: &str) -> String {
    let columns =
        names(db, &format!("SELECT '\"' || name || '\"' FROM pragma_table_info('{table}')"));
    let list = columns.join(", ");
    let saved = format!(
        "CREATE TABLE \"saved-rows\" AS SELECT {list} FROM \"{table}\"; DROP TABLE \"{table}\";"
    );
    let made = match chance.below(5) {
        0 => format!(
            "CREATE TABLE \"{table}\" ({list}); INSERT INTO \"{table}\" SELECT * FROM \"saved-rows\";
             INSERT INTO \"{table}\" SELECT * FROM \"saved-rows\" LIMIT 1;"
        ),
        1 => {
            let key = names(db, &format!("SELECT '\"' || name || '\"' FROM pragma_table_info('{table}') WHERE pk > 0"));
            let key = if key.is_empty() { columns[0].clone() } else { key.join(", ") };
            format!(
                "CREATE TABLE \"{table}\" ({list}, PRIMARY KEY ({key})) WITHOUT ROWID;
                 INSERT OR IGNORE INTO \"{table}\" SELECT * FROM \"saved-rows\";"
            )
        }
        2 => {
            let others: Vec<&str> = columns
                .iter()
                .map(String::as_str)
                .filter(|c| c.trim_matches('"') != column)
                .collect();
            let others = others.join(", ");
            format!(
                "CREATE TABLE \"{table}\" ({others}, kept, \"{column}\" GENERATED ALWAYS AS (kept));
                 INSERT INTO \"{table}\" ({others}, kept) SELECT {others}, \"{column}\"
                 FROM \"saved-rows\";"
            )
        }
        3 => format!("CREATE TABLE \"{table}\" AS SELECT *, 7 AS \"rowid\" FROM \"saved-rows\";"),
        _ => {
            return format!(
                "ALTER TABLE \"{table}\" RENAME TO \"real-{table}\";
                 CREATE VIEW \"{table}\" AS SELECT {list} FROM \"real-{table}\";"
            );
        }
    };
    format!("{saved}{made}DROP TABLE \"saved-rows\";")
}
