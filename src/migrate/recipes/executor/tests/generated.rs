//! Property tests over generated databases: no row is lost without a warning, and nothing panics.

use proptest::prelude::*;
use rusqlite::Connection;

use super::super::recipe::Executor;
use super::super::slug::item_id;
use super::chance::Chance;
use super::harness::{Case, Done, Given, boot, migrate, result};
use super::old::{HOME, Old};
use super::v1::{PROVIDERS, SLOTS};
use groundskeeper_migrate::recipe::{OnConflict, Recipe as _};

const SCOPES: [&str; 5] =
    [HOME, "other-2b3c4d5e", "org_acme", "user-org:user_u1:org_acme", "My Folder-0a0b0c0d"];
const KINDS: [&str; 4] = ["openapi", "mcp", "graphql", "custom"];
const CONFIGS: [&str; 6] = [
    r#"{"config":{"spec":"MARK","headers":{"X":{"kind":"binding","slot":"header:x"},"S":"s"}}}"#,
    r#"{"config":{"endpoint":"https://MARK","transport":"remote","auth":{"kind":"none"}}}"#,
    r#"{"endpoint":"https://MARK","name":"n","auth":{"kind":"oauth2","connectionSlot":"c"}}"#,
    r#"{"config":{"transport":"stdio","command":"MARK"}}"#,
    r#"{"config":{"spec":"MARK","oauth2":{"securitySchemeName":"A_b","flow":"x"}}}"#,
    r#"{"config":{"extra":"MARK"}}"#,
];

/// Returns a database in which every row has a unique mark, and the marks.
fn generated(seed: u64) -> (Old, Vec<String>) {
    let mut chance = Chance(seed);
    let mut old = Old::new();
    let mut auth = Vec::new();
    for n in 0..chance.below(6) {
        let (scope, kind) = (chance.of(&SCOPES), chance.of(&KINDS));
        old.source(scope, &format!("src{n}"), kind);
        if chance.below(4) > 0 {
            let config = chance.of(&CONFIGS).replace("MARK", &format!("cfg{n}x"));
            old.stored(scope, kind, "source", &format!("src{n}"), &config);
        }
    }
    for n in 0..chance.below(8) {
        let (scope, provider) = (chance.of(&SCOPES), chance.of(&PROVIDERS));
        old.secret(scope, &format!("sec{n}"), &format!("Secret {n}"), provider);
        auth.push(format!("\"sec{n}\":\"value{n}\""));
    }
    for n in 0..chance.below(5) {
        let state =
            [r#"{"clientId":"i","tokenEndpoint":"https://t.test/token"}"#, "null", r#"{"x":[1]}"#];
        old.connection(
            chance.of(&SCOPES),
            &format!("con{n}"),
            &format!("label{n}"),
            chance.of(&state),
        );
    }
    for n in 0..chance.below(9) {
        let (scope, source) = (chance.of(&SCOPES), format!("src{}", chance.below(6)));
        let slot = format!("{}{}", chance.of(&SLOTS), ["", "~"][chance.below(2)].repeat(n));
        let kind = chance.of(&["secret", "secret", "connection", "text", "odd"]);
        let (secret, connection) =
            (format!("sec{}", chance.below(8)), format!("con{}", chance.below(5)));
        old.binding(scope, &source, &slot, kind, [Some(&secret), Some(&connection), Some("t")]);
    }
    add_tools(&mut old, &mut chance);
    if chance.below(3) == 0 {
        old.sql("CREATE TABLE mine (a); INSERT INTO mine VALUES (1)");
    }
    old.auth(&format!("{{{}}}", auth.join(",")));
    let marks = marks(&old.db);
    (old, marks)
}

/// Adds rows that refer to sources: tools, definitions, policies, stored rows and blobs.
fn add_tools(old: &mut Old, chance: &mut Chance) {
    for n in 0..chance.below(9) {
        let (scope, source) = (chance.of(&SCOPES), format!("src{}", chance.below(6)));
        old.tool(scope, &source, &format!("tool{n}")).definition(
            scope,
            &source,
            &format!("def{n}"),
        );
        old.policy(scope, &format!("pol{n}"), &format!("{source}.tool{n}"));
        let plugin = chance.of(&["openapi", "graphql-greenfield", "mcp", "x"]);
        let collection = chance.of(&["operation", "binding", "misc"]);
        let key = format!("{source}.key{n}");
        let data = format!(
            r#"{{"toolId":"{key}","sourceId":"{source}","binding":{{"toolName":"T"}},"extra":1}}"#
        );
        old.stored(scope, plugin, collection, &key, &data);
        old.blob(
            chance.of(&["a/openapi", "nowhere", "/x", "b/graphql-greenfield"]),
            &format!("blob{n}"),
            "v",
        );
    }
}

/// Returns the mark of every row, in the form that must appear in the result.
fn marks(db: &Connection) -> Vec<String> {
    let mut marks = Vec::new();
    for sql in [
        "SELECT id FROM source",
        "SELECT name FROM tool",
        "SELECT name FROM definition",
        "SELECT id FROM tool_policy",
        "SELECT \"key\" FROM blob",
        "SELECT id FROM connection",
        "SELECT \"key\" FROM plugin_storage WHERE collection <> 'source'",
        "SELECT 'cfg' || substr(\"key\", 4) || 'x' FROM plugin_storage WHERE collection = 'source'",
        "SELECT name FROM sqlite_master WHERE name = 'mine'",
    ] {
        let mut query = db.prepare(sql).expect("SQL");
        let rows = query.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        marks.extend(rows.map(|row| row.expect("text")));
    }
    marks
}

/// Returns the rows that do not appear in the result.
fn unaccounted(old: &Old, marks: &[String], done: &Done) -> Vec<String> {
    let text = result(done);
    let mut lost: Vec<String> =
        marks.iter().filter(|mark| !appears_in(&text, mark)).cloned().collect();
    let two = |sql: &str| -> Vec<(String, String)> {
        let mut query = old.db.prepare(sql).expect("SQL");
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.map(|row| row.expect("text")).collect()
    };
    for (scope, id) in two("SELECT scope_id, id FROM secret") {
        if !text.contains(&item_id(&scope, &id)) && !text.contains(&id) {
            lost.push(id);
        }
    }
    for forms in bound(&old.db) {
        if !forms.iter().any(|form| text.contains(form)) {
            lost.push(format!("binding: {forms:?}"));
        }
    }
    for (slot, kind) in
        two("SELECT slot_key, kind FROM credential_binding WHERE kind IN ('odd', 'text')")
    {
        let carried =
            kind == "text" && done.column("connection", "name").iter().any(|n| n == "inline");
        if !carried && !text.contains(&format!("{slot:?}")) && !text.contains(&slot) {
            lost.push(format!("binding {slot}"));
        }
    }
    lost
}

/// Returns the forms in which each binding of a secret may appear: the secret under its new id, the
/// slot that was not migrated, or the secret that does not exist.
fn bound(db: &Connection) -> Vec<[String; 4]> {
    let sql = "SELECT scope_id, secret_id, slot_key FROM credential_binding WHERE kind = 'secret'";
    let mut query = db.prepare(sql).expect("SQL");
    let rows = query.query_map([], |row| {
        let [scope, secret, slot]: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        let dangling = format!("secret {secret:?} of scope {scope:?}");
        // A provider other than file and keychain keeps the secret under its old id.
        let kept = format!("\\\"{secret}\\\"");
        Ok([item_id(&scope, &secret), format!("slot {slot:?}"), dangling, kept])
    });
    rows.expect("rows").map(|row| row.expect("text")).collect()
}

/// Returns whether a mark appears in the result. A migrated connection is known by its label; a
/// configuration by its content, or by the name of the source that a warning reports.
fn appears_in(text: &str, mark: &str) -> bool {
    let label = mark.strip_prefix("con").map(|n| format!("label{n}"));
    let number = mark.strip_prefix("cfg").and_then(|rest| rest.strip_suffix('x'));
    let named = number.map(|n| format!("\"src{n}\" of scope"));
    [Some(mark.to_owned()), label, named].into_iter().flatten().any(|form| text.contains(&form))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    #[test]
    fn every_lost_row_has_warning(seed in any::<u64>()) {
        let (old, marks) = generated(seed);
        for conflicts in [OnConflict::KeepFirst, OnConflict::Rename] {
            let done = old.try_migrate(conflicts).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
            let lost = unaccounted(&old, &marks, &done);
            prop_assert!(lost.is_empty(), "{:?}: {:?}\n{}", conflicts, lost, done.warnings().join("\n"));
            prop_assert!(boot(&done.staging).is_ok());
        }
    }

    #[test]
    fn migration_is_deterministic(seed in any::<u64>()) {
        let (old, _) = generated(seed);
        let (Ok(a), Ok(b)) = (old.try_migrate(OnConflict::Rename), old.try_migrate(OnConflict::Rename)) else {
            return Ok(());
        };
        prop_assert_eq!(&a.built.rows, &b.built.rows);
        prop_assert_eq!(&a.built.warnings, &b.built.warnings);
        prop_assert_eq!(&a.secrets.file, &b.secrets.file);
        for (table, rows) in &a.built.rows {
            prop_assert_eq!(a.dump(table).len() as u64, *rows);
        }
    }

    #[test]
    fn damaged_cells_never_panic(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let cases = Case::all();
        let case = &cases[chance.below(cases.len())];
        let db = case.database();
        for _ in 0..=chance.below(4) {
            corrupt(&db, &mut chance);
        }
        let _ = Executor.recognise(&db);
        let given = Given { tenant: HOME, conflicts: OnConflict::Rename, ..Given::default() };
        if let Ok(done) = migrate(&db, &given) {
            let _ = boot(&done.staging);
        }
    }

    #[test]
    fn damaged_files_never_panic(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let cases = Case::all();
        let case = &cases[chance.below(cases.len())];
        let mut bytes = case.bytes("v1/data.db").expect("a database");
        for _ in 0..=chance.below(40) {
            let at = 100 + chance.below(bytes.len() - 100);
            bytes[at] = chance.below(256) as u8;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data.db");
        std::fs::write(&path, bytes).expect("written");
        let db = Connection::open(&path).expect("opened");
        let _ = Executor.recognise(&db);
        let given = Given { tenant: HOME, conflicts: OnConflict::KeepFirst, ..Given::default() };
        let _ = migrate(&db, &given);
    }
}

/// Puts an unusual value into a cell, or drops a column or a table.
fn corrupt(db: &Connection, chance: &mut Chance) {
    let list = |sql: &str| -> Vec<String> {
        let mut query = db.prepare(sql).expect("SQL");
        let rows = query.query_map([], |row| row.get(0)).expect("rows");
        rows.map(|row| row.expect("text")).collect()
    };
    let tables =
        list("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'");
    let table = &tables[chance.below(tables.len())];
    let columns = list(&format!("SELECT name FROM pragma_table_info('{table}')"));
    let column = &columns[chance.below(columns.len())];
    let odd = [
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
        "CAST(x'c3280061' AS TEXT)",
        "'{\"config\":5}'",
        "'{\"config\":{\"headers\":[null]}}'",
        "'{\"config\":{\"headers\":\"\u{1f600}\",\"oauth2\":true}}'",
        "'{\"scopes\":[1,null,{}],\"clientId\":7}'",
        "replace(hex(zeroblob(400)), '0', '[')",
        "'a b'",
        "'/'",
        "'a/b/c'",
        "' '",
        "'user-org:user_:org_'",
    ];
    let sql = match chance.below(12) {
        0 => format!("DROP TABLE \"{table}\""),
        1 => format!("ALTER TABLE \"{table}\" DROP COLUMN \"{column}\""),
        _ => {
            let value = odd[chance.below(odd.len())];
            format!(
                "UPDATE OR IGNORE \"{table}\" SET \"{column}\" = {value} WHERE rowid % 2 = {}",
                chance.below(2)
            )
        }
    };
    // A constraint may reject the value; the row then stays as it was, which is fine here.
    let _ = db.execute_batch(&sql);
}
