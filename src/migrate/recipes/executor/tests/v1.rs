//! Makes random databases of the old generation: any stage of its schema, any state of its history,
//! any text encoding and page size. Every row has a unique mark.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ToSql};

/// Scope of most rows, and tenant of the migrations.
pub(super) use super::old::HOME;

/// A pseudo-random generator with a seed.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// Returns a number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }

    /// Returns one of the items.
    pub(super) fn of<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }

    /// Returns true once in `n` times.
    pub(super) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Last stage of the chain, counted from zero.
pub(super) const LAST: usize = 12;
/// Hashes and times of the chain's steps, as the application records them.
const STEPS: [(&str, i64); 13] = [
    ("a2ee2e503b57407857d69b2970f5b6b574ed20220bd2b4059a8a25b07e99b368", 1_776_367_901_699),
    ("a7b2d800ba6f6d73d8d5a60d2c75eab875aaa49a02b89a553cf0690bed2f317f", 1_776_680_432_025),
    ("9809c1e1f43e2a79490687b488a8888832825e243f2bfbde653c35d7598ea189", 1_776_732_062_873),
    ("84cfe9f746871624218184600eb35cc9564ab92eecc9e62aab2189603a86c2cb", 1_776_976_132_767),
    ("a7c90eb5bec35fb5bbb93048d52603fdbfd13572a1ee3fad2c9aef523c8a28e5", 1_777_800_000_000),
    ("11680b481ad356cb042ecfecbf4be050f7c44f182ce3ecbab29267c11a48177f", 1_777_850_000_000),
    ("1ae936839db0a176af4a3f166bed36b9a7b2c656a54b2b3d85093134d07e8022", 1_777_850_000_001),
    ("739afa418aa40adf529fe9cf3e3f46a24164454c579dc0b8a87cfe4cfc6f7165", 1_778_100_000_000),
    ("30dd2eca020f2da6b69934e36f11ab4a974b52bdaff36b7a41a180f471b0269b", 1_778_128_200_000),
    ("4a7d5536769d9e76c612e20d50576ec12ce3b3d9030db8b19969a537f349081a", 1_778_192_434_062),
    ("bf4874f41df946dee0d18b87d9feccd22ad738d53eec28bd55feb54a12a1267a", 1_778_192_434_063),
    ("6f8a9fc3e96a158c019e215d9d7c51a3f5f3e2c65f081c17dbdaf7c0920b250b", 1_779_087_600_000),
    ("eed0264e14a30cadfe3f96c96ffecf5124212165fe76639dc930191b7f69079a", 1_779_998_400_000),
];
const SCOPES: [&str; 5] =
    [HOME, HOME, "org_acme", "user-org:user_u1:org_acme", "My Folder-0a0b0c0d"];
const KINDS: [&str; 4] = ["openapi", "mcp", "graphql", "custom"];
const PROVIDERS: [&str; 4] = ["file", "keychain", "onepassword", "env"];
const SLOTS: [&str; 6] = [
    "header:x",
    "c",
    "oauth2:a_b:connection",
    "oauth2:a-b:client-id",
    "spec_fetch_header:y",
    "odd",
];
/// Stored configurations of the last stages.
const CONFIGS: [&str; 6] = [
    r#"{"config":{"spec":"MARK","headers":{"X":{"kind":"binding","slot":"header:x"},"S":"s"}}}"#,
    r#"{"config":{"endpoint":"https://MARK","transport":"remote","auth":{"kind":"none"}}}"#,
    r#"{"endpoint":"https://MARK","name":"n","auth":{"kind":"oauth2","connectionSlot":"c"}}"#,
    r#"{"config":{"transport":"stdio","command":"MARK"}}"#,
    r#"{"config":{"spec":"MARK","oauth2":{"securitySchemeName":"A_b","flow":"x"}}}"#,
    r#"{"config":{"extra":"MARK"}}"#,
];
/// Headers or parameters of the early stages.
const MEMBERS: [&str; 5] = [
    r#"{"X":{"secretId":"sec1"},"S":"s"}"#,
    r#"{"DD-API-KEY":{"secretId":"sec2","prefix":"p "},"N":5,"O":{}}"#,
    "null",
    r#"{"K":{"kind":"secret","secretId":"sec3"},"T":{"kind":"text","text":"t"}}"#,
    "{}",
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
        let flat: Vec<String> = (0..8).map(|n| format!("\"sec{n}\":\"value{n}\"")).collect();
        std::fs::write(v1.auth(), format!("{{{}}}", flat.join(","))).expect("written");
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
        let [headers, query] = [chance.of(&MEMBERS), chance.of(&MEMBERS)];
        let oauth = chance.of(&[
            "null",
            r#"{"securitySchemeName":"A_b","connectionId":"con1","clientIdSecretId":"sec5"}"#,
        ]);
        let auth = chance.of(&[
            r#"{"kind":"none"}"#,
            r#"{"kind":"oauth2"}"#,
            r#"{"kind":"oauth2","connectionId":"con1"}"#,
            r#"{"kind":"header","secretId":"sec6","headerName":"H"}"#,
        ]);
        let config = format!(
            r#"{{"transport":"remote","endpoint":"https://{mark}","headers":{headers},"auth":{auth}}}"#
        );
        let invocation = format!(r#"{{"specFetchCredentials":{{"headers":{query}}}}}"#);
        let table = match kind {
            "openapi" | "mcp" | "graphql" => format!("{kind}_source"),
            _ => return,
        };
        self.insert(
            &table,
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
            let (kind, child) =
                (chance.of(&["text", "secret", "binding"]), format!("{table}_{child}"));
            self.insert(
                &child,
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

/// Returns the first column of a query as text.
pub(super) fn names(db: &Connection, sql: &str) -> Vec<String> {
    let mut query = db.prepare(sql).expect("SQL");
    let rows = query.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("text")).collect()
}

/// Returns the tables of a stage, with the columns that matter.
fn schema(stage: usize) -> String {
    let mut sql = String::new();
    let mut table = |name: &str, when: bool, columns: &[(&str, bool)], key: &str| {
        if when {
            let there = columns.iter().filter(|(_, when)| *when).map(|(column, _)| *column);
            let columns = there.chain([key]).collect::<Vec<_>>().join(", ");
            sql.push_str(&format!("CREATE TABLE \"{name}\" ({columns});\n"));
        }
    };
    let own = "PRIMARY KEY (scope_id, id)";
    let (id, scope, name) = (
        ("id text NOT NULL", true),
        ("scope_id text NOT NULL", true),
        ("name text NOT NULL", true),
    );
    let source_id = ("source_id text NOT NULL", true);
    let plugin = ("plugin_id text NOT NULL", true);
    let times = [("created_at integer NOT NULL", true), ("updated_at integer NOT NULL", true)];
    let early = stage < 11;
    table(
        "blob",
        true,
        &[("namespace text NOT NULL, key text NOT NULL, value text NOT NULL", true)],
        "PRIMARY KEY (namespace, key)",
    );
    table(
        "source",
        true,
        &[
            id,
            scope,
            plugin,
            ("kind text NOT NULL", true),
            name,
            ("url text, can_remove integer DEFAULT 1 NOT NULL", true),
            times[0],
            times[1],
        ],
        own,
    );
    table(
        "tool",
        true,
        &[
            id,
            scope,
            source_id,
            plugin,
            name,
            ("description text NOT NULL, input_schema text, output_schema text", true),
            times[0],
            times[1],
        ],
        own,
    );
    table(
        "definition",
        true,
        &[id, scope, source_id, plugin, name, ("schema text NOT NULL", true), times[0]],
        own,
    );
    table(
        "secret",
        true,
        &[
            id,
            scope,
            name,
            ("provider text NOT NULL", true),
            times[0],
            ("owned_by_connection_id text", stage >= 2),
        ],
        own,
    );
    table(
        "connection",
        stage >= 2,
        &[
            id,
            scope,
            ("provider text NOT NULL", true),
            ("kind text NOT NULL", stage == 2),
            (
                "identity_label text, access_token_secret_id text NOT NULL, refresh_token_secret_id text, expires_at integer, scope text, provider_state text",
                true,
            ),
            times[0],
            times[1],
            ("identity_override text", stage >= 12),
        ],
        own,
    );
    table(
        "tool_policy",
        stage >= 4,
        &[
            id,
            scope,
            ("pattern text NOT NULL, action text NOT NULL, position text NOT NULL", true),
            times[0],
            times[1],
        ],
        own,
    );
    table(
        "openapi_source",
        early,
        &[
            id,
            scope,
            name,
            ("spec text NOT NULL", true),
            ("source_url text", stage >= 1),
            ("base_url text", true),
            ("headers text", stage < 8),
            ("oauth2 text", true),
            ("invocation_config text", stage < 7),
            ("query_params text", stage == 6),
        ],
        own,
    );
    table(
        "graphql_source",
        early,
        &[
            id,
            scope,
            name,
            ("endpoint text NOT NULL", true),
            ("headers text", stage < 7),
            ("query_params text, auth text", stage == 6),
            ("auth_kind text DEFAULT 'none' NOT NULL", stage >= 7),
            ("auth_connection_id text", stage == 7),
            ("auth_connection_slot text", stage >= 8),
        ],
        own,
    );
    table(
        "mcp_source",
        early,
        &[
            id,
            scope,
            name,
            ("config text NOT NULL", true),
            times[0],
            ("auth_kind text DEFAULT 'none' NOT NULL, auth_header_name text", stage >= 7),
            (
                "auth_secret_id text, auth_secret_prefix text, auth_connection_id text, auth_client_id_secret_id text, auth_client_secret_secret_id text",
                stage == 7,
            ),
            (
                "auth_header_slot text, auth_header_prefix text, auth_connection_slot text, auth_client_id_slot text, auth_client_secret_slot text",
                stage >= 8,
            ),
        ],
        own,
    );
    for name in ["openapi_operation", "graphql_operation", "mcp_binding"] {
        table(
            name,
            early,
            &[
                id,
                scope,
                source_id,
                ("binding text NOT NULL", true),
                ("created_at integer NOT NULL", name == "mcp_binding"),
            ],
            own,
        );
    }
    for child in [
        "openapi_source_header",
        "openapi_source_query_param",
        "openapi_source_spec_fetch_header",
        "openapi_source_spec_fetch_query_param",
        "graphql_source_header",
        "graphql_source_query_param",
        "mcp_source_header",
        "mcp_source_query_param",
    ] {
        let from = if child == "openapi_source_header" { 8 } else { 7 };
        table(
            child,
            early && stage >= from,
            &[
                id,
                scope,
                source_id,
                name,
                ("kind text NOT NULL, text_value text", true),
                ("secret_id text, secret_prefix text", stage == 7),
                ("slot_key text, prefix text", stage >= 8),
            ],
            own,
        );
    }
    table(
        "openapi_source_binding",
        (3..8).contains(&stage),
        &[
            (
                "id text NOT NULL, source_id text NOT NULL, source_scope_id text NOT NULL, target_scope_id text NOT NULL, slot text NOT NULL",
                true,
            ),
            ("value text NOT NULL", stage < 7),
            (
                "kind text DEFAULT 'text' NOT NULL, secret_id text, connection_id text, text_value text",
                stage == 7,
            ),
            times[0],
            times[1],
        ],
        "PRIMARY KEY (id)",
    );
    table(
        "credential_binding",
        stage >= 8,
        &[
            id,
            scope,
            plugin,
            source_id,
            (
                "source_scope_id text NOT NULL, slot_key text NOT NULL, kind text NOT NULL, text_value text, secret_id text, connection_id text",
                true,
            ),
            times[0],
            times[1],
            ("secret_scope_id text", stage >= 10),
        ],
        own,
    );
    table(
        "plugin_storage",
        stage >= 11,
        &[
            id,
            scope,
            plugin,
            ("collection text NOT NULL, key text NOT NULL, data text NOT NULL", true),
            times[0],
            times[1],
        ],
        own,
    );
    sql
}
