//! Tests of the kinds of databases behind the recorded cases 41 to 46, each in several forms.

use super::harness::Done;
use super::old::{HOME, Old, warned};
use crate::slug::item_id;

const OPEN: &str = r#"{"config":{"endpoint":"https://e.test","transport":"remote"}}"#;
const HEADER: &str =
    r#"{"config":{"spec":"{}","headers":{"X":{"kind":"binding","slot":"header:x"}}}}"#;

/// Tables of the result, and those of their columns that have the same values in every run.
const RESULT: [(&str, &[&str]); 8] = [
    ("integration", &["slug", "plugin_id", "description", "config", "tenant"]),
    ("oauth_client", &["slug", "authorization_url", "token_url", "client_id", "resource"]),
    ("connection", &["integration", "name", "template", "provider", "item_ids", "oauth_client"]),
    ("tool", &["integration", "connection", "plugin_id", "name", "description"]),
    ("definition", &["integration", "connection", "plugin_id", "name", "schema"]),
    ("plugin_storage", &["plugin_id", "collection", "key", "data", "owner"]),
    ("blob", &["namespace", "key", "value"]),
    ("tool_policy", &["id", "pattern", "action", "position"]),
];

fn result(done: &Done) -> Vec<Vec<String>> {
    let column = |table: &str, name: &&str| done.column(table, name);
    RESULT.iter().flat_map(|(table, all)| all.iter().map(|name| column(table, name))).collect()
}

#[test]
fn former_plugin_name_is_replaced_everywhere_but_in_blobs() {
    let old = Old::new();
    old.configured(HOME, "g", "graphql", r#"{"endpoint":"https://g.test","auth":{"kind":"none"}}"#);
    old.tool(HOME, "g", "t").definition(HOME, "g", "D");
    old.stored(HOME, "openapi", "misc", "k", "1").stored(HOME, "x", "operation", "o", "{}");
    old.blob("a/graphql-greenfield", "b", "v");
    for table in ["source", "tool", "definition", "plugin_storage"] {
        old.sql(&format!("UPDATE {table} SET plugin_id = 'graphql-greenfield'"));
    }
    let done = old.migrated();
    for table in ["integration", "tool", "definition"] {
        assert_eq!(done.column(table, "plugin_id"), ["graphql"], "{table}");
    }
    assert_eq!(done.column("plugin_storage", "plugin_id"), ["graphql", "graphql"]);
    assert!(done.column("blob", "namespace")[0].ends_with("/graphql-greenfield"));
    // An empty name becomes the kind only for a source; no other name is replaced.
    old.sql("UPDATE source SET plugin_id = ''; UPDATE tool SET plugin_id = '';");
    old.sql("UPDATE definition SET plugin_id = 'GraphQL-greenfield'");
    let done = old.migrated();
    assert_eq!(done.column("integration", "plugin_id"), ["graphql"]);
    assert_eq!(done.column("tool", "plugin_id"), [""]);
    assert_eq!(done.column("definition", "plugin_id"), ["GraphQL-greenfield"]);
}

/// Returns a database of the sixth stage with a connection that one binding names.
fn connected(provider: &str, state: Option<&str>) -> Old {
    let old = Old::early();
    old.source(HOME, "api", "openapi");
    old.sql(&format!(
        "INSERT INTO openapi_source (id, scope_id, name, spec, invocation_config)
            VALUES ('api', '{HOME}', 'A', '{{}}', '{{}}');
         INSERT INTO openapi_source_binding VALUES ('b', 'api', '{HOME}', '{HOME}', 'c',
            '{{\"kind\":\"connection\",\"connectionId\":\"c\"}}', 1, 1);"
    ));
    old.db
        .execute(
            "INSERT INTO connection (id, scope_id, provider, access_token_secret_id, scope, \
             provider_state, created_at, updated_at) VALUES ('c', ?1, ?2, '', 'read', ?3, 1, 1)",
            rusqlite::params![HOME, provider, state],
        )
        .expect("a row");
    old
}

/// The chain tests the state's JSON, where NULL is not false.
#[test]
fn early_connection_without_state_gets_the_common_form() {
    for (provider, token_url, url) in [
        (
            "google-discovery:google",
            "https://oauth2.googleapis.com/token",
            "https://accounts.google.com",
        ),
        (
            "google-discovery:oauth2",
            "https://oauth2.googleapis.com/token",
            "https://accounts.google.com",
        ),
        ("mcp:oauth2", "", ""),
    ] {
        for state in [None, Some(" "), Some("{}"), Some("null"), Some("[]"), Some("5")] {
            let done = connected(provider, state).migrated();
            assert_eq!(done.column("connection", "provider"), ["file"], "{provider} {state:?}");
            assert_eq!(done.column("connection", "oauth_scope"), ["read"]);
            assert_eq!(done.column("oauth_client", "token_url"), [token_url]);
            assert_eq!(done.column("oauth_client", "authorization_url"), [url]);
            assert!(warned(&done, &["no client id or client-id secret reference"]));
        }
    }
    // These states name no flow, so the row keeps its provider.
    for state in [None, Some("{}"), Some("null")] {
        let done = connected("openapi:oauth2", state).migrated();
        assert_eq!(done.column("connection", "provider"), ["openapi:oauth2"], "{state:?}");
        assert_eq!(done.column("oauth_client", "token_url"), [""]);
    }
}

#[test]
fn early_graphql_oauth_needs_a_connection() {
    for auth in [
        r#"{"kind":"oauth2"}"#,
        r#"{"kind":"oauth2","connectionId":null}"#,
        r#"{"kind":"none"}"#,
        r#"{"connectionId":"c"}"#,
        "null",
    ] {
        let old = Old::early();
        old.source(HOME, "g", "graphql");
        old.db
            .execute(
                "INSERT INTO graphql_source (id, scope_id, name, endpoint, auth) \
                 VALUES ('g', ?1, 'G', 'https://g.test', ?2)",
                [HOME, auth],
            )
            .expect("a row");
        let done = old.migrated();
        let config = &done.column("integration", "config")[0];
        assert!(config.contains(r#"\"auth\":{\"kind\":\"none\"}"#), "{auth}: {config}");
        assert_eq!(done.column("connection", "name"), ["workspace"], "{auth}");
    }
}

#[test]
fn early_mcp_client_secrets_are_bound_without_a_connection() {
    for (columns, slots, configured) in [
        (["s", "NULL"], &["auth:oauth2:client-id"][..], false),
        (["NULL", "s"], &["auth:oauth2:client-secret"], false),
        (["s", "k"], &["auth:oauth2:client-id", "auth:oauth2:client-secret"], false),
        (["NULL", "NULL"], &[], true),
    ] {
        let old = Old::seventh();
        old.source(HOME, "m", "mcp")
            .secret(HOME, "s", "Key", "file")
            .secret(HOME, "k", "K", "file");
        let value = |c: &str| if c == "NULL" { c.to_owned() } else { format!("'{c}'") };
        old.sql(&format!(
            "INSERT INTO mcp_source (id, scope_id, name, config, created_at, auth_kind,
                auth_client_id_secret_id, auth_client_secret_secret_id)
             VALUES ('m', '{HOME}', 'M', '{{\"transport\":\"remote\",\"endpoint\":\"https://m.test\"}}',
                1, 'oauth2', {}, {})",
            value(columns[0]),
            value(columns[1])
        ));
        let done = old.migrated();
        let bound = super::v1::names(&done.copy, "SELECT slot_key FROM credential_binding");
        assert_eq!(bound, slots);
        // The source's own configuration names the slots only together with a connection.
        let stored = super::v1::names(&done.copy, "SELECT data FROM plugin_storage");
        assert!(stored[0].contains(r#""auth":{"kind":"oauth2"}"#), "{stored:?}");
        assert_eq!(done.column("connection", "name").is_empty(), configured);
    }
}

/// A binding of the early schema replaces an earlier one of the same scope, source and slot.
#[test]
fn early_binding_twice_keeps_the_later_one() {
    let old = connected("oauth2", Some(r#"{"clientId":"i"}"#));
    old.secret(HOME, "sec", "sec", "file").sql(&format!(
        "INSERT INTO openapi_source_binding VALUES ('b2', 'api', '{HOME}', '{HOME}', 'c',
            '{{\"kind\":\"secret\",\"secretId\":\"sec\"}}', 1, 1);"
    ));
    let done = old.migrated();
    assert_eq!(super::v1::names(&done.copy, "SELECT kind FROM credential_binding"), ["secret"]);
    assert!(warned(&done, &["replaced by a later one of the same id", "slot \"c\""]));
}

/// A whole map of headers of another type is no reason to invent a header.
#[test]
fn early_headers_of_another_type_are_dropped_by_name() {
    for (headers, kept) in [
        (r#""text""#, None),
        ("5", None),
        ("true", None),
        ("null", None),
        (r#"["a"]"#, Some(r#"\"headers\":{\"0\":\"a\"}"#)),
        (r#""{\"A\":\"a\"}""#, Some(r#"\"headers\":{\"A\":\"a\"}"#)),
    ] {
        let old = Old::early();
        old.source(HOME, "m", "mcp");
        let config =
            format!(r#"{{"transport":"remote","endpoint":"https://m.test","headers":{headers}}}"#);
        old.db
            .execute("INSERT INTO mcp_source VALUES ('m', ?1, 'M', ?2, 1)", [HOME, &config])
            .expect("a row");
        let done = old.migrated();
        let config = &done.column("integration", "config")[0];
        match kept {
            Some(kept) => assert!(config.contains(kept), "{headers}: {config}"),
            None => assert!(!config.contains("headers"), "{headers}: {config}"),
        }
        let dropped = warned(&done, &["neither text nor secret", "all headers of source \"m\""]);
        assert_eq!(dropped, kept.is_none() && headers != "null", "{headers}");
    }
}

/// Fills a database with rows of every table.
fn filled() -> Old {
    let mut old = Old::new();
    old.auth(r#"{"s":"v"}"#);
    old.configured(HOME, "api", "openapi", HEADER).configured(HOME, "m", "mcp", OPEN);
    old.secret(HOME, "s", "Key", "file").bound(HOME, "api", "header:x", "s");
    old.connection(HOME, "c", "me", r#"{"clientId":"i","tokenEndpoint":"https://t.test/token"}"#);
    old.tool(HOME, "api", "t").definition(HOME, "api", "D").policy(HOME, "p", "api.t");
    old.stored(HOME, "mcp", "binding", "m.t", r#"{"binding":{"toolName":"T"}}"#);
    old.blob("a/p", "k", "v");
    old
}

/// Makes a table again with the rows in the order of its key, with or without row ids.
fn rebuild(old: &Old, table: &str, end: &str) {
    let sql = format!("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = '{table}'");
    let sql: String = old.db.query_row(&sql, [], |row| row.get(0)).expect("a table");
    let key = format!("SELECT name FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY pk");
    let key = super::v1::names(&old.db, &key);
    let order = if key.is_empty() { "1".to_owned() } else { key.join(", ") };
    let end = if key.is_empty() { "" } else { end };
    old.sql(&format!(
        "CREATE TEMP TABLE rows AS SELECT * FROM \"{table}\"; DROP TABLE \"{table}\"; {sql}{end};
         INSERT INTO \"{table}\" SELECT * FROM temp.rows ORDER BY {order}; DROP TABLE temp.rows;"
    ));
}

#[test]
fn tables_without_row_ids_are_migrated() {
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_\\_%' ESCAPE '\\'";
    let all = super::v1::names(&filled().db, tables);
    let migrated = |end: &str, only: Option<&str>| {
        let old = filled();
        for table in &all {
            rebuild(&old, table, if only.is_none_or(|only| only == table) { end } else { "" });
        }
        result(&old.migrated())
    };
    // Ids of some rows are random, so their order may differ between two databases.
    let sorted = |mut columns: Vec<Vec<String>>| {
        for column in &mut columns {
            column.sort();
        }
        columns
    };
    let expected = sorted(migrated("", None));
    assert_eq!(sorted(migrated(" WITHOUT ROWID", None)), expected);
    for table in &all {
        assert_eq!(sorted(migrated(" WITHOUT ROWID", Some(table))), expected, "{table}");
    }
}

/// The early schema is brought up in place, and its keys decide which rows are replaced.
#[test]
fn early_tables_without_row_ids_are_brought_up() {
    let filled = || {
        let old = connected("mcp:oauth2", None);
        old.source(HOME, "m", "mcp");
        old.sql(&format!(
            "INSERT INTO mcp_source VALUES ('m', '{HOME}', 'M',
                '{{\"transport\":\"remote\",\"endpoint\":\"https://m.test\",\"headers\":{{\"b\":\"1\",\"a\":\"2\"}}}}', 1);
             INSERT INTO mcp_binding VALUES ('m.t', '{HOME}', 'm', '{{\"toolName\":\"T\"}}', 7);"
        ));
        old
    };
    let expected = result(&filled().migrated());
    for table in
        ["mcp_source", "mcp_binding", "openapi_source", "openapi_source_binding", "connection"]
    {
        let old = filled();
        rebuild(&old, table, " WITHOUT ROWID");
        assert_eq!(result(&old.migrated()), expected, "{table}");
    }
}

#[test]
fn column_named_rowid_does_not_hide_row_ids() {
    let expected = result(&filled().migrated());
    for table in ["plugin_storage", "tool", "credential_binding"] {
        let old = filled();
        old.sql(&format!(
            "CREATE TEMP TABLE rows AS SELECT *, 7 AS \"rowid\" FROM {table}; DROP TABLE {table};
             CREATE TABLE {table} AS SELECT * FROM temp.rows; DROP TABLE temp.rows;"
        ));
        let done = old.migrated();
        assert_eq!(result(&done), expected, "{table}");
        assert!(warned(&done, &["column(s) were not migrated", &format!("{table}.rowid column")]));
    }
}

#[test]
fn lone_halves_stay_in_json() {
    for (data, key, json) in [
        (
            r#"{"toolId":"api.a\ud800b","sourceId":"api","binding":{}}"#,
            "api.a\u{fffd}",
            r#"{"integration":"api","toolName":"a\ud800b","binding":{}}"#,
        ),
        (
            r#"{"integration":"a\udc00","toolName":"té","binding":"\ud800"}"#,
            "a\u{fffd}.t",
            r#"{"integration":"a\udc00","toolName":"té","binding":"\ud800"}"#,
        ),
        (
            r#"{"sourceId":"s\ud83d","toolId":"s\ud83d.\ude00x","binding":null}"#,
            "s\u{fffd}.",
            r#"{"integration":"s\ud83d","toolName":"\ude00x","binding":null}"#,
        ),
    ] {
        let old = Old::new();
        old.stored(HOME, "openapi", "operation", "k", data);
        let done = old.migrated();
        let rows = done.dump("plugin_storage");
        let text = |name: &str| rows[0].text(name).expect("text").lossy().into_owned();
        assert_eq!((text("key"), text("data")), (key.to_owned(), json.to_owned()));
        assert!(warned(&done, &["half of a surrogate pair", "key of"]));
    }
    let old = Old::new();
    old.stored(HOME, "p", "misc", "k", r#" {"a\ud800":["\udfff"]}"#);
    old.stored(HOME, "p", "misc", "root", r#""ab\ud800c""#);
    let done = old.migrated();
    let data: Vec<String> = super::v1::names(&done.staging, "SELECT data FROM plugin_storage");
    assert_eq!(data, [r#"{"a\ud800":["\udfff"]}"#, "ab\u{fffd}"]);
}

#[test]
fn lone_halves_in_a_connection_are_written_as_the_driver_does() {
    let old = Old::new();
    old.configured(HOME, "api", "openapi", HEADER).connection(
        HOME,
        "c",
        "me",
        r#"{"clientId":"i\ud800d","tokenEndpoint":"https://t.test/\udc00ab","scopes":["a\ud800","b"]}"#,
    );
    old.binding(HOME, "api", "c", "connection", [None, Some("c"), None]);
    let done = old.migrated();
    assert_eq!(done.column("oauth_client", "client_id"), ["i\u{fffd}"]);
    assert_eq!(done.column("oauth_client", "token_url"), ["https://t.test/\u{fffd}a"]);
    assert_eq!(done.column("connection", "oauth_scope"), ["a\u{fffd} "]);
}

/// Only an object under a scope hides flat values; what it holds is taken as it is.
#[test]
fn secrets_file_scope_may_hold_anything() {
    for (scope, expected) in [
        (r#"{"k":"v"}"#, Some("\"v\"")),
        (r#"{"k":5}"#, Some("5")),
        (r#"{"k":false}"#, Some("false")),
        (r#"{"k":["a"]}"#, Some("[\n    \"a\"\n  ]")),
        (r#"{"k":null}"#, None),
        (r#"{"K":"v"}"#, None),
        ("{}", None),
        (r#"["v"]"#, Some("\"flat\"")),
        (r#"[{"k":"v"}]"#, Some("\"flat\"")),
        ("[]", Some("\"flat\"")),
        ("7", Some("\"flat\"")),
        ("0", Some("\"flat\"")),
        ("true", Some("\"flat\"")),
        ("null", Some("\"flat\"")),
        (r#""text""#, Some("\"flat\"")),
        (r#""""#, Some("\"flat\"")),
    ] {
        let mut old = Old::new();
        old.auth(&format!(r#"{{"{HOME}":{scope},"k":"flat"}}"#));
        old.secret(HOME, "k", "K", "file");
        let done = old.migrated();
        let file = String::from_utf8(done.secrets.file.clone().expect("a file")).expect("text");
        let member = format!("\"{}\": ", item_id(HOME, "k"));
        let found = file.split_once(&member).map(|(_, rest)| rest.trim_end_matches(['\n', '}']));
        assert_eq!(found, expected, "{scope}: {file}");
        assert_eq!(warned(&done, &["Could not resolve local secret \"k\""]), expected.is_none());
    }
}

/// The value of a client's id goes into a text column, whatever its type.
#[test]
fn client_id_of_the_secrets_file_may_be_any_value() {
    for (value, expected) in
        [("\"i\"", "i"), ("5", "5"), ("true", "1"), ("false", ""), ("\"\"", "")]
    {
        let mut old = Old::new();
        old.auth(&format!(r#"{{"{HOME}":{{"k":{value}}}}}"#));
        old.configured(HOME, "api", "openapi", HEADER).secret(HOME, "k", "K", "file");
        old.connection(HOME, "c", "me", r#"{"clientIdSecretId":"k"}"#);
        old.binding(HOME, "api", "c", "connection", [None, Some("c"), None]);
        assert_eq!(old.migrated().column("oauth_client", "client_id"), [expected], "{value}");
    }
}
