//! Tests of the accepted differences from the original, one for each that `mod.rs` names.

use super::super::recipe::Executor;
use super::harness::{Given, migrate};
use super::old::{HOME, Old, warned};
use crate::slug::item_id;
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::Recipe as _;
use groundskeeper_migrate::recipe::{OnConflict, Recognised};

const OPEN: &str = r#"{"config":{"endpoint":"https://e.test","transport":"remote"}}"#;

fn refused(old: &Old) -> Fault {
    old.try_migrate(OnConflict::Refuse).err().expect("refused")
}

/// The original reads a BLOB in a text column as the name of its type, and so loses the text.
#[test]
fn blob_in_a_text_column_is_read_as_text() {
    let old = Old::new();
    old.configured(HOME, "api", "mcp", OPEN).tool(HOME, "api", "t");
    old.sql("UPDATE tool SET description = x'6465736372', created_at = x'37'");
    let done = old.migrated();
    assert_eq!(done.column("tool", "description"), ["descr"]);
    assert_eq!(super::v1::names(&done.staging, "SELECT '' || created_at FROM tool"), ["7"]);
}

/// The original overlooks an optional column that is generated or spelled in capitals.
#[test]
fn generated_and_capital_columns_are_read() {
    let old = Old::new();
    old.configured(HOME, "api", "mcp", OPEN).tool(HOME, "api", "t").definition(HOME, "api", "D");
    old.sql(
        "ALTER TABLE tool DROP COLUMN input_schema;
         ALTER TABLE tool ADD COLUMN input_schema GENERATED ALWAYS AS ('{\"a\":1}');
         ALTER TABLE definition RENAME COLUMN schema TO SCHEMA;
         UPDATE definition SET schema = '{\"b\":2}'",
    );
    let done = old.migrated();
    assert_eq!(done.column("tool", "input_schema"), [r#"{\"a\":1}"#]);
    assert_eq!(done.column("definition", "schema"), [r#"{\"b\":2}"#]);
    old.sql("ALTER TABLE source RENAME COLUMN scope_id TO SCOPE_ID");
    assert_eq!(Executor.recognise(&old.db).expect("recognised"), Recognised::Old);
}

/// The original stops for ever at a history that claims more than the schema has.
#[test]
fn history_that_the_schema_disproves_is_not_trusted() {
    let step = "INSERT INTO __drizzle_migrations (hash, created_at) VALUES";
    let seventh =
        "('739afa418aa40adf529fe9cf3e3f46a24164454c579dc0b8a87cfe4cfc6f7165', 1778100000000)";
    let old = Old::early();
    old.source(HOME, "g", "graphql").sql(&format!("{step} {seventh}"));
    old.sql(&format!(
        "INSERT INTO graphql_source (id, scope_id, name, endpoint, headers)
            VALUES ('g', '{HOME}', 'G', 'https://g.test', '{{\"A\":\"a\"}}')"
    ));
    let done = old.migrated();
    assert!(done.replayed[0].contains("tolerant replay"), "{:?}", done.replayed);
    assert!(done.column("integration", "config")[0].contains(r#"\"headers\":{\"A\":\"a\"}"#));
}

/// The original loses a source whose table of headers is gone, or stops for ever.
#[test]
fn early_source_survives_a_missing_table_beside_it() {
    for damage in [
        "DROP TABLE openapi_source_query_param",
        "DROP TABLE openapi_source_spec_fetch_header",
        "DROP INDEX IF EXISTS x; ALTER TABLE openapi_source DROP COLUMN base_url",
        "DROP TABLE mcp_source_header",
        "DROP TABLE graphql_source",
    ] {
        let old = Old::seventh();
        old.source(HOME, "api", "openapi").sql(damage);
        old.sql(&format!(
            "INSERT INTO openapi_source (id, scope_id, name, spec) VALUES ('api', '{HOME}', 'A', 'S')"
        ));
        let done = old.migrated();
        assert_eq!(done.column("integration", "config"), [r#"{\"spec\":\"S\"}"#], "{damage}");
    }
}

/// Neither a table that cannot be read nor foreign keys stop the migration or cost a row.
#[test]
fn tables_of_the_user_do_not_matter() {
    let old = Old::new();
    old.configured(HOME, "api", "mcp", OPEN).tool(HOME, "api", "t");
    old.sql(
        "CREATE VIRTUAL TABLE found USING fts5(t); INSERT INTO found VALUES ('words');
         CREATE VIEW seen AS SELECT * FROM nowhere;
         CREATE TRIGGER fired AFTER DELETE ON tool BEGIN DELETE FROM nowhere; END;
         CREATE TABLE child (p REFERENCES plugin_storage ON DELETE CASCADE);
         PRAGMA writable_schema = ON;
         INSERT INTO sqlite_master VALUES ('table', 'strange', 'strange', 0,
            'CREATE VIRTUAL TABLE strange USING nomodule(x)');
         PRAGMA writable_schema = RESET;",
    );
    let done = old.migrated();
    assert_eq!(done.column("tool", "name"), ["t"]);
    assert!(warned(&done, &["table(s) with rows", "`found` (1 rows)", "`strange` (not readable)"]));
}

/// The original's keychain refuses a value that is not text, and the original then stops for ever.
#[test]
fn value_that_is_no_text_goes_into_the_keychain_as_text() {
    let mut old = Old::new();
    old.auth(&format!(r#"{{"{HOME}":{{"k":{{"a":1}}}}}}"#));
    old.configured(HOME, "api", "openapi", OPEN);
    old.secret(HOME, "k", "K", "file").secret(HOME, "other", "O", "keychain");
    old.bound(HOME, "api", "a", "other").bound(HOME, "api", "b", "k");
    let keyring = old.auth_path().with_file_name("keyring.json");
    let given = Given {
        tenant: HOME,
        auth: Some(old.auth_path()),
        keyring: Some(keyring),
        ..Given::default()
    };
    let done = migrate(&old.db, &given).expect("migrated");
    let entries = done.secrets.keychain.iter().map(|(_, item, value)| (&**item, &**value));
    assert_eq!(entries.collect::<Vec<_>>(), [(&*item_id(HOME, "k"), r#"{"a":1}"#)]);
}

/// The hint's statement makes the migration possible.
#[test]
fn hint_for_a_dropped_table_helps() {
    for table in ["tool_policy", "secret", "connection", "credential_binding", "tool"] {
        let old = Old::new();
        old.configured(HOME, "api", "mcp", OPEN).sql(&format!("DROP TABLE \"{table}\""));
        let fault = refused(&old);
        assert!(fault.message.contains(&format!("lacks the table `{table}`")), "{fault:?}");
        let sql = fault.hint.split('\'').nth(1).expect("a statement").to_owned();
        old.sql(&sql);
        assert_eq!(old.migrated().column("integration", "slug"), ["api"], "{sql}");
    }
    // The upgrade of an early schema needs more of the new table than the migration itself.
    let old = Old::recorded("11-");
    old.sql("DROP TABLE credential_binding");
    let fault = refused(&old);
    old.sql(fault.hint.split('\'').nth(1).expect("a statement")).migrated();
    let old = Old::new();
    old.secret(HOME, "k", "K", "file");
    old.sql("DROP INDEX secret_provider_idx; ALTER TABLE secret DROP COLUMN provider");
    let fault = refused(&old);
    let sql = fault.hint.split('\'').nth(1).expect("a statement").to_owned();
    old.sql(&sql).sql("UPDATE secret SET provider = 'file'");
    old.migrated();
}

#[test]
fn hint_for_a_byte_order_mark_helps() {
    let text = format!(r#"{{"{HOME}":{{"k":"v"}}}}"#);
    let utf16: Vec<u8> =
        [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    for bytes in [format!("\u{feff}{text}").into_bytes(), utf16] {
        let mut old = Old::new();
        old.auth(&text).secret(HOME, "k", "K", "file");
        let path = old.auth_path();
        std::fs::write(&path, bytes).expect("written");
        let fault = refused(&old);
        assert!(fault.message.contains("auth.json") && fault.message.contains("byte order mark"));
        assert!(fault.hint.contains("UTF-8 without a byte order mark"), "{}", fault.hint);
        std::fs::write(&path, &text).expect("written");
        let file = old.migrated().secrets.file.expect("a file");
        assert!(String::from_utf8_lossy(&file).contains(&item_id(HOME, "k")));
    }
}

/// A statement that does not fit the schema is no sign of a damaged file.
#[test]
fn hint_for_a_missing_early_column_names_the_schema() {
    let old = Old::early();
    old.source(HOME, "g", "graphql").sql(&format!(
        "INSERT INTO graphql_source (id, scope_id, name, endpoint)
            VALUES ('g', '{HOME}', 'G', 'https://g.test');
         ALTER TABLE graphql_source DROP COLUMN endpoint;"
    ));
    let fault = refused(&old);
    assert!(fault.hint.contains("restore the table or column that the cause names"), "{fault:?}");
}
