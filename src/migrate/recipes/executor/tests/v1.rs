//! Makes random databases of the old generation: any stage of its schema, any state of its history,
//! any text encoding and page size. Every row has a unique mark.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, ToSql};

use super::chance::Chance;
use super::v1_schema::{CONFIGS, LAST, STEPS, schema, secrets};

/// Scope of most rows, and tenant of the migrations.
pub(super) use super::old::HOME;

const SCOPES: [&str; 5] =
    [HOME, HOME, "org_acme", "user-org:user_u1:org_acme", "My Folder-0a0b0c0d"];
const KINDS: [&str; 4] = ["openapi", "mcp", "graphql", "custom"];
pub(super) const PROVIDERS: [&str; 4] = ["file", "keychain", "onepassword", "env"];
pub(super) const SLOTS: [&str; 6] = [
    "header:x",
    "c",
    "oauth2:a_b:connection",
    "oauth2:a-b:client-id",
    "spec_fetch_header:y",
    "odd",
];
/// Headers or parameters of the early stages.
const MEMBERS: [&str; 5] = [
    r#"{"X":{"secretId":"sec1"},"S":"s"}"#,
    r#"{"DD-API-KEY":{"secretId":"sec2","prefix":"p "},"N":5,"O":{}}"#,
    "null",
    r#"{"K":{"kind":"secret","secretId":"sec3"},"T":{"kind":"text","text":"t"}}"#,
    "{}",
];
const OAUTH: [&str; 2] =
    ["null", r#"{"securitySchemeName":"A_b","connectionId":"con1","clientIdSecretId":"sec5"}"#];
const AUTH: [&str; 4] = [
    r#"{"kind":"none"}"#,
    r#"{"kind":"oauth2"}"#,
    r#"{"kind":"oauth2","connectionId":"con1"}"#,
    r#"{"kind":"header","secretId":"sec6","headerName":"H"}"#,
];
const STATES: [&str; 5] = [
    r#"{"clientId":"i","tokenEndpoint":"https://t.test/token"}"#,
    "null",
    r#"{"x":[1]}"#,
    r#"{"flow":"authorizationCode","tokenUrl":"https://t.test/token","clientIdSecretId":"sec1"}"#,
    r#"{"clientInformation":{"client_id":"i"},"endpoint":"https://m.test"}"#,
];

/// A database file of the old generation, and its secrets file.
pub(super) struct V1 {
    pub(super) dir: tempfile::TempDir,
    pub(super) db: Connection,
    pub(super) stage: usize,
}

impl V1 {
    /// Path of the secrets file.
    pub(super) fn auth(&self) -> PathBuf {
        self.dir.path().join("auth.json")
    }

    /// Makes a database with rows.
    pub(super) fn made(chance: &mut Chance) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Connection::open(dir.path().join("data.db")).expect("a database");
        let encoding = chance.of(&["UTF-8", "UTF-8", "UTF-16le", "UTF-16be"]);
        let page = chance.of(&["512", "1024", "4096", "4096", "65536"]);
        let journal = chance.of(&["WAL", "DELETE"]);
        let vacuum = chance.of(&["NONE", "FULL", "INCREMENTAL"]);
        db.execute_batch(&format!(
            "PRAGMA encoding = '{encoding}'; PRAGMA page_size = {page};
             PRAGMA auto_vacuum = {vacuum}; PRAGMA journal_mode = {journal};
             PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;"
        ))
        .expect("set up");
        // Half of the databases have the last schema, as most real ones do.
        let stage = if chance.once_in(2) { LAST } else { chance.below(LAST + 1) };
        let v1 = Self { dir, db, stage };
        v1.db.execute_batch(&schema(stage)).expect("a schema");
        v1.history(chance);
        v1.db.execute_batch("BEGIN").expect("begun");
        v1.rows(chance);
        v1.db.execute_batch("COMMIT").expect("committed");
        std::fs::write(v1.auth(), secrets(chance)).expect("written");
        v1
    }

    /// Writes the history in one of its seven states.
    fn history(&self, chance: &mut Chance) {
        let state = chance.below(9);
        if state == 0 {
            return;
        }
        let table = "CREATE TABLE __drizzle_migrations \
                     (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at numeric)";
        self.db.execute_batch(table).expect("a table");
        let count = match state {
            1 => 0,
            2 => self.stage,
            3 => (self.stage + 2).min(13),
            4 => 14,
            _ => self.stage + 1,
        };
        for n in 0..count {
            let (hash, when) = STEPS[n.min(LAST)];
            let hash = if state == 5 && n == self.stage / 2 { "foreign" } else { hash };
            self.insert("__drizzle_migrations", &[("hash", &hash), ("created_at", &when)]);
        }
    }

    /// Inserts a row, with the columns that this stage has; a table that it lacks gets none.
    pub(super) fn insert(&self, table: &str, cells: &[(&str, &dyn ToSql)]) {
        let there = names(&self.db, &format!("SELECT name FROM pragma_table_info('{table}')"));
        if there.is_empty() {
            return;
        }
        let cells: Vec<_> = cells.iter().filter(|(c, _)| there.iter().any(|t| t == c)).collect();
        let columns: Vec<String> = cells.iter().map(|(c, _)| format!("\"{c}\"")).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT INTO {table} ({}) VALUES ({marks})", columns.join(", "));
        let values: Vec<&dyn ToSql> = cells.iter().map(|(_, value)| *value).collect();
        self.db.execute(&sql, &values[..]).expect("a row");
    }

    fn rows(&self, chance: &mut Chance) {
        for n in 0..chance.below(6) {
            self.source(chance, n);
        }
        for n in 0..8 {
            let (scope, provider) = (chance.of(&SCOPES), chance.of(&PROVIDERS));
            let (id, name) = (format!("sec{n}"), format!("Secret {n}"));
            self.insert(
                "secret",
                &[
                    ("id", &id),
                    ("scope_id", &scope),
                    ("name", &name),
                    ("provider", &provider),
                    ("created_at", &1),
                ],
            );
        }
        for n in 0..chance.below(5) {
            let (id, label) = (format!("con{n}"), format!("label{n}"));
            let provider = chance.of(&[
                "oauth2",
                "oauth2",
                "mcp:oauth2",
                "openapi:oauth2",
                "google-discovery:google",
            ]);
            let state: Option<&str> =
                if chance.once_in(5) { None } else { Some(chance.of(&STATES)) };
            self.insert(
                "connection",
                &[
                    ("id", &id),
                    ("scope_id", &chance.of(&SCOPES)),
                    ("provider", &provider),
                    ("kind", &"oauth2"),
                    ("identity_label", &label),
                    ("access_token_secret_id", &chance.of(&["", "sec1", "sec4"])),
                    ("provider_state", &state),
                    ("created_at", &1),
                    ("updated_at", &1),
                ],
            );
        }
        self.bindings(chance);
        self.others(chance);
    }

    fn source(&self, chance: &mut Chance, n: usize) {
        let (scope, kind, id) = (chance.of(&SCOPES), chance.of(&KINDS), format!("src{n}"));
        let plugin =
            if kind == "graphql" { chance.of(&["graphql", "graphql-greenfield"]) } else { kind };
        self.insert(
            "source",
            &[
                ("id", &id),
                ("scope_id", &scope),
                ("plugin_id", &plugin),
                ("kind", &kind),
                ("name", &id),
                ("created_at", &1),
                ("updated_at", &1),
            ],
        );
        if chance.once_in(4) {
            return;
        }
        let mark = format!("cfg{n}x");
        if self.stage >= 11 {
            let data = chance.of(&CONFIGS).replace("MARK", &mark);
            return self.stored(scope, plugin, "source", &id, &data);
        }
        if kind != "custom" {
            self.early_source(chance, &format!("{kind}_source"), scope, &id, &mark);
        }
    }

    /// Inserts what the plugin of an early stage knows of a source.
    fn early_source(&self, chance: &mut Chance, table: &str, scope: &str, id: &str, mark: &str) {
        let [headers, query] = [chance.of(&MEMBERS), chance.of(&MEMBERS)];
        let (oauth, auth) = (chance.of(&OAUTH), chance.of(&AUTH));
        let config = format!(
            r#"{{"transport":"remote","endpoint":"https://{mark}","headers":{headers},"auth":{auth}}}"#
        );
        let invocation = format!(r#"{{"specFetchCredentials":{{"headers":{query}}}}}"#);
        self.insert(
            table,
            &[
                ("id", &id),
                ("scope_id", &scope),
                ("name", &id),
                ("spec", &mark),
                ("endpoint", &format!("https://{mark}")),
                ("config", &config),
                ("headers", &headers),
                ("query_params", &query),
                ("invocation_config", &invocation),
                ("oauth2", &oauth),
                ("auth", &auth),
                ("auth_kind", &chance.of(&["none", "oauth2", "header"])),
                ("auth_connection_id", &chance.of(&["con1", "con2"])),
                ("auth_client_id_secret_id", &"sec5"),
                ("auth_secret_id", &"sec6"),
                ("auth_connection_slot", &"auth:oauth2:connection"),
                ("created_at", &1),
            ],
        );
        for child in ["header", "query_param", "spec_fetch_header"] {
            let kind = chance.of(&["text", "secret", "binding"]);
            self.insert(
                &format!("{table}_{child}"),
                &[
                    ("id", &format!("[\"{id}\",\"X\"]")),
                    ("scope_id", &scope),
                    ("source_id", &id),
                    ("name", &"X"),
                    ("kind", &kind),
                    ("text_value", &"t"),
                    ("secret_id", &chance.of(&["sec1", "sec7"])),
                    ("slot_key", &"header:x"),
                ],
            );
        }
    }

    fn bindings(&self, chance: &mut Chance) {
        for n in 0..chance.below(9) {
            let (scope, source) = (chance.of(&SCOPES), format!("src{}", chance.below(6)));
            let slot = format!("{}{}", chance.of(&SLOTS), ["", "~"][chance.below(2)].repeat(n));
            let kind = chance.of(&["secret", "secret", "connection", "text", "odd"]);
            let (secret, connection) =
                (format!("sec{}", chance.below(8)), format!("con{}", chance.below(5)));
            let value = format!(
                r#"{{"kind":"{kind}","secretId":"{secret}","connectionId":"{connection}","text":"t"}}"#
            );
            for table in ["credential_binding", "openapi_source_binding"] {
                self.insert(
                    table,
                    &[
                        ("id", &format!("b{n}")),
                        ("scope_id", &scope),
                        ("target_scope_id", &scope),
                        ("source_scope_id", &scope),
                        ("plugin_id", &"p"),
                        ("source_id", &source),
                        ("slot_key", &slot),
                        ("slot", &slot),
                        ("kind", &kind),
                        ("value", &value),
                        ("secret_id", &secret),
                        ("connection_id", &connection),
                        ("text_value", &"t"),
                        ("created_at", &1),
                        ("updated_at", &1),
                    ],
                );
            }
        }
    }

    /// Inserts rows that refer to sources: tools, definitions, policies, operations and blobs.
    fn others(&self, chance: &mut Chance) {
        for n in 0..chance.below(9) {
            let (scope, source) = (chance.of(&SCOPES), format!("src{}", chance.below(6)));
            let plugin = chance.of(&["openapi", "graphql-greenfield", "mcp", "x"]);
            let (tool, definition) = (format!("tool{n}z"), format!("def{n}z"));
            for (table, name) in [("tool", &tool), ("definition", &definition)] {
                self.insert(
                    table,
                    &[
                        ("id", &format!("{source}.{name}")),
                        ("scope_id", &scope),
                        ("source_id", &source),
                        ("plugin_id", &plugin),
                        ("name", name),
                        ("description", &"d"),
                        ("schema", &"{}"),
                        ("input_schema", &chance.of(&["{}", "", "\"s\"", r#"{"a":1e400}"#])),
                        ("created_at", &1),
                        ("updated_at", &1),
                    ],
                );
            }
            let (policy, pattern) = (format!("pol{n}z"), format!("{source}.{tool}"));
            self.insert(
                "tool_policy",
                &[
                    ("id", &policy),
                    ("scope_id", &scope),
                    ("pattern", &pattern),
                    ("action", &"allow"),
                    ("position", &"a0"),
                    ("created_at", &1),
                    ("updated_at", &1),
                ],
            );
            let key = format!("{source}.key{n}z");
            let collection = chance.of(&["operation", "binding", "misc"]);
            let data = format!(
                r#"{{"toolId":"{key}","sourceId":"{source}","binding":{{"toolName":"T"}},"extra":1}}"#
            );
            self.stored(scope, plugin, collection, &key, &data);
            let early = chance.of(&["openapi_operation", "graphql_operation", "mcp_binding"]);
            self.insert(
                early,
                &[
                    ("id", &key),
                    ("scope_id", &scope),
                    ("source_id", &source),
                    ("binding", &r#"{"toolName":"T"}"#),
                    ("created_at", &1),
                ],
            );
            let namespace = chance.of(&["a/openapi", "nowhere", "/x", "b/graphql-greenfield"]);
            let blob = format!("blob{n}z");
            self.insert("blob", &[("namespace", &namespace), ("key", &blob), ("value", &"v")]);
        }
    }

    fn stored(&self, scope: &str, plugin: &str, collection: &str, key: &str, data: &str) {
        self.insert(
            "plugin_storage",
            &[
                ("id", &format!("[\"{plugin}\",\"{collection}\",\"{key}\"]")),
                ("scope_id", &scope),
                ("plugin_id", &plugin),
                ("collection", &collection),
                ("key", &key),
                ("data", &data),
                ("created_at", &1),
                ("updated_at", &2),
            ],
        );
    }

    /// Copies the database's files as they are, so that a log that was not written back stays one.
    pub(super) fn copy_files(&self, to: &Path) {
        for name in ["data.db", "data.db-wal", "auth.json"] {
            let from = self.dir.path().join(name);
            if from.exists() {
                std::fs::copy(from, to.join(name)).expect("copied");
            }
        }
    }
}

/// Returns the first column of a query as text, which need not be UTF-8.
pub(super) fn names(db: &Connection, sql: &str) -> Vec<String> {
    let mut query = db.prepare(sql).expect("SQL");
    let text = |row: &Row<'_>| {
        let bytes = row.get_ref(0)?.as_bytes_or_null().expect("text");
        Ok(String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned())
    };
    let rows = query.query_map([], text).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}
