//! Tests of early forms of the old schema.

use super::old::{HOME, Old, warned};
use groundskeeper_migrate::recipe::OnConflict;

/// Returns one source with every kind of header and parameter, as the sixth step left them.
fn source_of_every_kind() -> Old {
    let old = Old::early();
    let headers = r#"{"X-Zeta":"z","10":"ten","DD-API-KEY":{"secretId":"dd1"},"DD_Application Key":{"secretId":"dd2","prefix":"K "},"Accept":"application/json","Num":5}"#;
    let query = r#"{"site":"eu","tok en":{"secretId":"tok","prefix":"p:"}}"#;
    let fetch = r#"{"specFetchCredentials":{"headers":{"X-Spec":{"secretId":"tok"}}}}"#;
    old.source(HOME, "dd", "openapi");
    old.db
        .execute(
            "INSERT INTO openapi_source (id, scope_id, name, spec, headers, invocation_config, \
             query_params) VALUES ('dd', ?1, 'DD', '{}', ?2, ?3, ?4)",
            [HOME, headers, fetch, query],
        )
        .expect("a row");
    old.sql(&format!(
        "INSERT INTO openapi_source_binding VALUES ('b', 'dd', '{HOME}', '{HOME}', 'header:extra', \
         '{{\"kind\":\"text\",\"text\":\"t\"}}', 1, 1);"
    ));
    for secret in ["dd1", "dd2", "tok"] {
        old.sql(&format!(
            "INSERT INTO secret VALUES ('{secret}', '{HOME}', '{secret}', 'file', 1, NULL)"
        ));
    }
    old
}

#[test]
fn sixth_step_source_matches_original() {
    let old = source_of_every_kind();
    let done = old.migrated();
    assert!(done.replayed.is_empty());
    let slots: Vec<String> = super::harness::dump(&done.copy, "credential_binding")
        .iter()
        .map(|row| row.text("slot_key").expect("a slot").lossy().into_owned())
        .collect();
    assert_eq!(
        slots,
        [
            "header:extra",
            "header:dd-api-key",
            "header:dd-application-key",
            "query_param:tok-en",
            "spec_fetch_header:x-spec"
        ]
    );
    let config = &done.column("integration", "config")[0];
    let expected =
        r#"\"headers\":{\"10\":\"ten\",\"X-Zeta\":\"z\",\"Accept\":\"application/json\"}"#;
    assert!(config.contains(expected), "{config}");
    let items = &done.column("connection", "item_ids")[0];
    for variable in ["dd_api_key", "dd_application_key", "tok_en", "token"] {
        assert!(items.contains(&format!("\\\"{variable}\\\":")), "{items}");
    }
    assert!(warned(&done, &["neither text nor secret", "header \"Num\" of source \"dd\""]));
    assert!(warned(&done, &["credential binding(s) were not migrated", "header:extra"]));
}

/// The migration history may be empty, missing or foreign.
#[test]
fn unusable_history_yields_same_rows() {
    let expected = source_of_every_kind().migrated();
    for history in [
        "DELETE FROM __drizzle_migrations",
        "DROP TABLE __drizzle_migrations",
        "UPDATE __drizzle_migrations SET hash = 'foreign' WHERE rowid = 3",
    ] {
        let old = source_of_every_kind();
        old.sql(history);
        let done = old.migrated();
        assert!(done.replayed[0].starts_with("v1 database had unusable drizzle migration history"));
        for table in ["integration", "connection", "plugin_storage"] {
            for column in ["config", "item_ids", "name", "key", "data"] {
                assert_eq!(done.column(table, column), expected.column(table, column), "{history}");
            }
        }
    }
}

#[test]
fn early_schema_plugins_are_migrated() {
    let old = Old::early();
    old.source(HOME, "g", "graphql").source(HOME, "m", "mcp").source(HOME, "s", "mcp");
    old.sql(&format!(
        "INSERT INTO graphql_source (id, scope_id, name, endpoint, headers, query_params, auth) VALUES
            ('g', '{HOME}', 'G', 'https://g.test/graphql', '{{\"A\":\"a\"}}', NULL,
             '{{\"kind\":\"oauth2\",\"connectionId\":\"gc\"}}');
         INSERT INTO graphql_operation VALUES ('g.query.me', '{HOME}', 'g', '{{\"kind\":\"query\"}}');
         INSERT INTO mcp_source VALUES
            ('m', '{HOME}', 'M', '{{\"transport\":\"remote\",\"endpoint\":\"https://m.test\",\"remoteTransport\":null,\"headers\":{{\"H\":{{\"secretId\":\"k\"}}}},\"auth\":{{\"kind\":\"header\",\"headerName\":\"X-Key\",\"secretId\":\"k\",\"prefix\":\"P \"}}}}', 1),
            ('s', '{HOME}', 'S', '{{\"transport\":\"stdio\",\"command\":\"x\"}}', 1);
         INSERT INTO mcp_binding VALUES ('m.t', '{HOME}', 'm', '{{\"toolName\":\"T\"}}', 7);
         INSERT INTO secret VALUES ('k', '{HOME}', 'K', 'file', 1, NULL);
         INSERT INTO connection VALUES ('gc', '{HOME}', 'mcp:oauth2', 'me', '', NULL, NULL, 'read',
            '{{\"endpoint\":\"https://g.test\",\"tokenEndpoint\":\"https://g.test/token\",\"clientInformation\":{{\"client_id\":\"C\"}},\"authorizationServerMetadata\":{{\"issuer\":\"https://g.test\"}}}}', 1, 1);"
    ));
    let done = old.migrated();
    let stored: Vec<String> = super::harness::dump(&done.copy, "plugin_storage")
        .iter()
        .map(|row| row.text("data").expect("data").lossy().into_owned())
        .collect();
    let graphql = r#"{"namespace":"g","scope":"workspace-1a2b3c4d","name":"G","endpoint":"https://g.test/graphql","headers":{"A":"a"},"queryParams":{},"auth":{"kind":"oauth2","connectionSlot":"auth:oauth2:connection"}}"#;
    let mcp = r#"{"namespace":"m","scope":"workspace-1a2b3c4d","name":"M","config":{"transport":"remote","endpoint":"https://m.test","remoteTransport":null,"headers":{"H":{"kind":"binding","slot":"header:h"}},"auth":{"kind":"header","headerName":"X-Key","secretSlot":"auth:header","prefix":"P "}}}"#;
    assert_eq!(stored[0], graphql);
    assert_eq!(stored[2], mcp);
    assert_eq!(done.column("oauth_client", "client_id"), ["C"]);
    assert_eq!(done.column("oauth_client", "resource"), ["https://g.test"]);
    assert_eq!(done.column("connection", "oauth_scope"), ["read", "null", "null"]);
    assert_eq!(done.column("connection", "name"), ["me", "k", "workspace"]);
    assert!(warned(&done, &["description of their authorization server", "gc"]));
    assert!(warned(&done, &["lose members of their configuration", "command"]));
}

/// A list of headers has numbers as names, and a name that comes twice keeps its last place.
#[test]
fn early_headers_may_be_a_list_or_repeat_a_name() {
    for (headers, slots, config) in [
        (r#"[{"secretId":"s"},"a"]"#, &["header:0"][..], r#"\"headers\":{\"1\":\"a\"}"#),
        (r#"{"A":"1","B":"2","A":"3"}"#, &[], r#"\"headers\":{\"B\":\"2\",\"A\":\"3\"}"#),
    ] {
        let old = Old::early();
        old.source(HOME, "api", "openapi").secret(HOME, "s", "S", "file");
        let sql = "INSERT INTO openapi_source (id, scope_id, name, spec, headers, \
                   invocation_config) VALUES ('api', ?1, 'A', '{}', ?2, '{}')";
        old.db.execute(sql, [HOME, headers]).expect("a row");
        let done = old.migrated();
        let bound = super::v1::names(&done.copy, "SELECT slot_key FROM credential_binding");
        assert_eq!(bound, slots, "{headers}");
        let found = &done.column("integration", "config")[0];
        assert!(found.contains(config), "{headers}: {found}");
    }
}

/// The message names table, scope and id.
#[test]
fn early_invalid_json_is_refused() {
    let old = source_of_every_kind();
    old.sql("UPDATE openapi_source SET invocation_config = '{x'");
    let fault = old.try_migrate(OnConflict::Refuse).err().expect("refused");
    assert!(
        fault.message.contains("`openapi_source`, scope \"workspace-1a2b3c4d\" id \"dd\""),
        "{fault}"
    );
}
