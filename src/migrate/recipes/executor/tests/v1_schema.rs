//! The schema of the old generation after each step of its chain, with the columns that matter, and
//! the configurations and secrets files beside it.

use super::chance::Chance;
use super::old::HOME;

/// Last stage of the chain, counted from zero.
pub(super) const LAST: usize = 12;
/// Hashes and times of the chain's steps, as the application records them.
pub(super) const STEPS: [(&str, i64); 13] = [
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

/// Stored configurations of the last stages.
pub(super) const CONFIGS: [&str; 6] = [
    r#"{"config":{"spec":"MARK","headers":{"X":{"kind":"binding","slot":"header:x"},"S":"s"}}}"#,
    r#"{"config":{"endpoint":"https://MARK","transport":"remote","auth":{"kind":"none"}}}"#,
    r#"{"endpoint":"https://MARK","name":"n","auth":{"kind":"oauth2","connectionSlot":"c"}}"#,
    r#"{"config":{"transport":"stdio","command":"MARK"}}"#,
    r#"{"config":{"spec":"MARK","oauth2":{"securitySchemeName":"A_b","flow":"x"}}}"#,
    r#"{"config":{"extra":"MARK"}}"#,
];

/// A line without indentation is a table, an indented one a column; the two numbers before each are
/// the first and the last stage that have it. Every table but the first ends with its key.
const TABLES: &str = "
0 12 blob
  0 12 namespace text NOT NULL
  0 12 key text NOT NULL
  0 12 value text NOT NULL
  0 12 PRIMARY KEY (namespace, key)
0 12 source
  0 12 @own
  0 12 plugin_id text NOT NULL
  0 12 kind text NOT NULL
  0 12 name text NOT NULL
  0 12 url text
  0 12 can_remove integer DEFAULT 1 NOT NULL
  0 12 @times
  0 12 @key
0 12 tool
  0 12 @own
  0 12 source_id text NOT NULL
  0 12 plugin_id text NOT NULL
  0 12 name text NOT NULL
  0 12 description text NOT NULL
  0 12 input_schema text
  0 12 output_schema text
  0 12 @times
  0 12 @key
0 12 definition
  0 12 @own
  0 12 source_id text NOT NULL
  0 12 plugin_id text NOT NULL
  0 12 name text NOT NULL
  0 12 schema text NOT NULL
  0 12 created_at integer NOT NULL
  0 12 @key
0 12 secret
  0 12 @own
  0 12 name text NOT NULL
  0 12 provider text NOT NULL
  0 12 created_at integer NOT NULL
  2 12 owned_by_connection_id text
  0 12 @key
2 12 connection
  0 12 @own
  0 12 provider text NOT NULL
  2 2 kind text NOT NULL
  0 12 identity_label text
  0 12 access_token_secret_id text NOT NULL
  0 12 refresh_token_secret_id text
  0 12 expires_at integer
  0 12 scope text
  0 12 provider_state text
  0 12 @times
  12 12 identity_override text
  0 12 @key
4 12 tool_policy
  0 12 @own
  0 12 pattern text NOT NULL
  0 12 action text NOT NULL
  0 12 position text NOT NULL
  0 12 @times
  0 12 @key
0 10 openapi_source
  0 12 @own
  0 12 name text NOT NULL
  0 12 spec text NOT NULL
  1 12 source_url text
  0 12 base_url text
  0 7 headers text
  0 12 oauth2 text
  0 6 invocation_config text
  6 6 query_params text
  0 12 @key
0 10 graphql_source
  0 12 @own
  0 12 name text NOT NULL
  0 12 endpoint text NOT NULL
  0 6 headers text
  6 6 query_params text
  6 6 auth text
  7 12 auth_kind text DEFAULT 'none' NOT NULL
  7 7 auth_connection_id text
  8 12 auth_connection_slot text
  0 12 @key
0 10 mcp_source
  0 12 @own
  0 12 name text NOT NULL
  0 12 config text NOT NULL
  0 12 created_at integer NOT NULL
  7 12 auth_kind text DEFAULT 'none' NOT NULL
  7 12 auth_header_name text
  7 7 auth_secret_id text
  7 7 auth_secret_prefix text
  7 7 auth_connection_id text
  7 7 auth_client_id_secret_id text
  7 7 auth_client_secret_secret_id text
  8 12 auth_header_slot text
  8 12 auth_header_prefix text
  8 12 auth_connection_slot text
  8 12 auth_client_id_slot text
  8 12 auth_client_secret_slot text
  0 12 @key
0 10 openapi_operation
  0 12 @own
  0 12 source_id text NOT NULL
  0 12 binding text NOT NULL
  0 12 @key
0 10 graphql_operation
  0 12 @own
  0 12 source_id text NOT NULL
  0 12 binding text NOT NULL
  0 12 @key
0 10 mcp_binding
  0 12 @own
  0 12 source_id text NOT NULL
  0 12 binding text NOT NULL
  0 12 created_at integer NOT NULL
  0 12 @key
8 10 openapi_source_header
  0 12 @member
7 10 openapi_source_query_param
  0 12 @member
7 10 openapi_source_spec_fetch_header
  0 12 @member
7 10 openapi_source_spec_fetch_query_param
  0 12 @member
7 10 graphql_source_header
  0 12 @member
7 10 graphql_source_query_param
  0 12 @member
7 10 mcp_source_header
  0 12 @member
7 10 mcp_source_query_param
  0 12 @member
3 7 openapi_source_binding
  0 12 id text PRIMARY KEY NOT NULL
  0 12 source_id text NOT NULL
  0 12 source_scope_id text NOT NULL
  0 12 target_scope_id text NOT NULL
  0 12 slot text NOT NULL
  3 6 value text NOT NULL
  7 7 kind text DEFAULT 'text' NOT NULL
  7 7 secret_id text
  7 7 connection_id text
  7 7 text_value text
  0 12 @times
8 12 credential_binding
  0 12 @own
  0 12 plugin_id text NOT NULL
  0 12 source_id text NOT NULL
  0 12 source_scope_id text NOT NULL
  0 12 slot_key text NOT NULL
  0 12 kind text NOT NULL
  0 12 text_value text
  0 12 secret_id text
  0 12 connection_id text
  0 12 @times
  10 12 secret_scope_id text
  0 12 @key
11 12 plugin_storage
  0 12 @own
  0 12 plugin_id text NOT NULL
  0 12 collection text NOT NULL
  0 12 key text NOT NULL
  0 12 data text NOT NULL
  0 12 @times
  0 12 @key
";

/// Returns the statements that make the tables of a stage.
pub(super) fn schema(stage: usize) -> String {
    let mut tables: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut is_there = false;
    for line in TABLES.lines().filter(|line| !line.is_empty()) {
        let mut words = line.trim_start().splitn(3, ' ');
        let mut number = || words.next().and_then(|n| n.parse::<usize>().ok()).expect("a stage");
        let stages = number()..=number();
        let what = words.next().expect("a name");
        if !line.starts_with(' ') {
            is_there = stages.contains(&stage);
            if is_there {
                tables.push((what, Vec::new()));
            }
        } else if is_there && stages.contains(&stage) {
            tables.last_mut().expect("a table").1.push(column(what, stage));
        }
    }
    let table = |(name, columns): &(&str, Vec<&str>)| {
        format!("CREATE TABLE \"{name}\" ({});\n", columns.join(", "))
    };
    tables.iter().map(table).collect()
}

/// Returns the columns behind a name that many tables share.
fn column(what: &'static str, stage: usize) -> &'static str {
    match what {
        "@own" => "id text NOT NULL, scope_id text NOT NULL",
        "@times" => "created_at integer NOT NULL, updated_at integer NOT NULL",
        "@key" => "PRIMARY KEY (scope_id, id)",
        "@member" if stage == 7 => {
            "id text NOT NULL, scope_id text NOT NULL, source_id text NOT NULL, \
             name text NOT NULL, kind text NOT NULL, text_value text, secret_id text, \
             secret_prefix text, PRIMARY KEY (scope_id, id)"
        }
        "@member" => {
            "id text NOT NULL, scope_id text NOT NULL, source_id text NOT NULL, \
             name text NOT NULL, kind text NOT NULL, text_value text, slot_key text, \
             prefix text, PRIMARY KEY (scope_id, id)"
        }
        column => column,
    }
}

/// Returns a secrets file with eight values: flat ones, those of a scope, and things beside them.
pub(super) fn secrets(chance: &mut Chance) -> String {
    let values = |from: usize, to: usize| {
        (from..to).map(|n| format!("\"sec{n}\":\"value{n}\"")).collect::<Vec<_>>().join(",")
    };
    match chance.below(4) {
        0 => format!("{{\"{HOME}\":{{{}}},{}}}", values(0, 4), values(4, 8)),
        1 => format!("{{\"{HOME}\":{{{}}},\"org_acme\":[\"a\"]}}", values(0, 8)),
        2 => {
            format!("{{\"{HOME}\":{},{}}}", chance.of(&["7", "[]", "\"t\"", "null"]), values(0, 8))
        }
        _ => format!("{{{}}}", values(0, 8)),
    }
}
