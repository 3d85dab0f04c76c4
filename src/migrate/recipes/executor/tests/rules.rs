//! Tests of single rules, each on the smallest database that shows it.

use super::super::slug::item_id;
use super::old::{HOME, Old, warned};
use groundskeeper_migrate::Code;
use groundskeeper_migrate::recipe::OnConflict;

const HEADER: &str =
    r#"{"config":{"spec":"{}","headers":{"X":{"kind":"binding","slot":"header:x"}}}}"#;

#[test]
fn tool_exists_once_per_connection() {
    let org = "org_acme";
    let users = ["user-org:user_u1:org_acme", "user-org:user_u2:org_acme"];
    let old = Old::new();
    old.configured(org, "github", "openapi", HEADER).tool(org, "github", "list");
    old.tool(users[0], "github", "own").definition(org, "github", "Repo");
    for (scope, secret, name) in
        [(org, "s", "Shared pat"), (users[0], "a", "My pat"), (users[1], "b", "My pat")]
    {
        old.secret(scope, secret, name, "file").bound(scope, "github", "header:x", secret);
    }
    old.sql("UPDATE credential_binding SET source_scope_id = 'org_acme'");
    old.stored(
        users[0],
        "openapi",
        "operation",
        "github.list",
        r#"{"toolId":"github.list","sourceId":"github","binding":{}}"#,
    );
    let done = old.migrated();
    assert_eq!(done.column("connection", "name"), ["sharedPat", "myPat", "myPat"]);
    assert_eq!(done.column("connection", "subject"), ["", "user_u1", "user_u2"]);
    assert_eq!(done.column("tool", "connection"), ["sharedPat", "myPat", "myPat"]);
    assert_eq!(done.column("tool", "tenant"), ["org_acme", "org_acme", "org_acme"]);
    assert_eq!(done.column("definition", "subject"), ["", "user_u1", "user_u2"]);
    assert_eq!(done.column("plugin_storage", "owner"), ["org"]);
    assert_eq!(done.column("plugin_storage", "key"), ["github.list"]);
    assert!(warned(&done, &["1 tool(s) were not migrated", "own"]));
}

/// The original misreads such a scope, and so does this migration.
#[test]
fn scope_with_space_is_warned() {
    let scope = "My Project-1a2b3c4d";
    let old = Old::new();
    old.configured(scope, "api", "openapi", HEADER).tool(scope, "api", "t");
    old.secret(scope, "k", "Key", "file").bound(scope, "api", "header:x", "k");
    let done = old.migrated();
    assert_eq!(done.column("connection", "integration"), ["Project-1a2b3c4d"]);
    assert_eq!(done.column("tool", "name"), Vec::<String>::new());
    assert!(warned(&done, &["have a space", "My Project-1a2b3c4d", "api"]));
    assert!(warned(&done, &["belong to a source that does not exist"]));
}

#[test]
fn bindings_determine_connection_kind() {
    let old = Old::new();
    for id in ["both", "texts", "none", "empty", "ghost"] {
        old.configured(HOME, id, "openapi", HEADER);
    }
    old.configured(
        HOME,
        "open",
        "mcp",
        r#"{"config":{"endpoint":"https://e","transport":"remote"}}"#,
    );
    old.secret(HOME, "one", "  ", "file").secret(HOME, "9lives", "日本", "file");
    old.bound(HOME, "both", "header:x", "one");
    old.binding(HOME, "both", "header:y", "text", [None, None, Some("v")]);
    old.binding(HOME, "texts", "header:x", "text", [None, None, Some("plain")]);
    old.binding(HOME, "texts", "other", "text", [None, None, None]);
    old.binding(HOME, "none", "header:x", "strange", [None, None, None]);
    old.binding(HOME, "empty", "header:x", "secret", [Some(""), None, None]);
    old.binding(HOME, "ghost", "c", "connection", [None, Some("gone"), None]);
    old.bound(HOME, "nine", "header:x", "9lives");
    let done = old.migrated();
    let names = ["one", "inline", "api-key9lives", "workspace"];
    assert_eq!(done.column("connection", "name"), names);
    assert_eq!(done.column("connection", "integration"), ["both", "texts", "nine", "open"]);
    assert_eq!(done.column("connection", "template"), ["apiKey", "apiKey", "apiKey", "none"]);
    let original = [
        "Skipped binding group \"none\" in scope \"workspace-1a2b3c4d\": no migratable credential \
         binding (its secrets fall to the orphan re-key).",
        "Skipped binding group \"empty\" in scope \"workspace-1a2b3c4d\": its secret bindings \
         reference no secrets.",
        "Connection \"gone\" referenced by a binding is missing.",
        "Could not resolve local secret \"one\" from provider \"file\".",
        "Could not resolve local secret \"9lives\" from provider \"file\".",
    ];
    assert_eq!(done.warnings()[..5], original);
    let file = String::from_utf8(done.secrets.file.clone().expect("a file")).expect("text");
    assert!(file.contains(&format!("\"{}\": \"plain\"", item_id(HOME, "text:texts:header:x"))));
    assert!(file.contains(&format!("\"{}\": \"\"", item_id(HOME, "text:texts:other"))));
    assert!(warned(
        &done,
        &["4 credential binding(s) were not migrated", "header:y", "strange", "empty"]
    ));
    assert!(warned(&done, &["do not exist"]) || warned(&done, &["does not exist", "nine"]));
}

#[test]
fn policy_patterns_gain_two_segments() {
    let old = Old::new();
    old.configured(HOME, "api", "openapi", "{}").source(HOME, "openapi", "openapi");
    let curated = "microsoft_graph_v1_0_sharepoint_files_excel_outlook_combined_curated";
    old.source(HOME, curated, "openapi").tool(HOME, "only_tools", "x");
    let pairs = [
        ("*", "*"),
        ("api", "api"),
        ("api.", "api"),
        ("api.*", "api.*"),
        ("api.a.b", "api.*.*.a.b"),
        ("only_tools.x", "only_tools.*.*.x"),
        ("openapi.addSource", "openapi.addSource"),
        ("executor.*", "executor.*"),
        ("gone.x", "gone.x"),
        ("", ""),
        (".x", ".x"),
        ("**", "**"),
        ("microsoft_graph.me", &format!("{curated}.*.*.me")),
    ];
    for (n, (from, _)) in pairs.iter().enumerate() {
        old.policy(HOME, &format!("p{n:02}"), from);
    }
    let done = old.migrated();
    let expected: Vec<String> = pairs.iter().map(|(_, to)| (*to).to_owned()).collect();
    assert_eq!(done.column("tool_policy", "pattern"), expected);
    assert!(
        done.built.report.contains("\"policies\":{\"ok\":7,\"static\":2,\"deadInert\":4}"),
        "{}",
        done.built.report
    );
    assert!(
        done.warnings()[0]
            .starts_with("Dead-source policy kept inert: \"gone.x\" (slug \"gone\" removed).")
    );
    assert!(warned(&done, &["built-in tools", "openapi.addSource"]));
}

/// Names a missing table or column, or the cell that cannot be read.
#[test]
fn unreadable_schema_is_refused_by_name() {
    let refused = |old: &Old, words: &[&str]| {
        let fault = old.try_migrate(OnConflict::Refuse).err().expect("refused");
        assert_eq!(fault.code, Code::MigrationFailed);
        let all = words.iter().all(|word| fault.message.contains(word));
        assert!(all, "{} does not contain {words:?}", fault.message);
    };
    let old = Old::new();
    refused(old.sql("DROP TABLE tool_policy"), &["lacks the table `tool_policy`"]);
    let old = Old::new();
    refused(
        old.sql("DROP INDEX secret_provider_idx; ALTER TABLE secret DROP COLUMN provider"),
        &["`secret`", "column `provider`"],
    );
    let old = Old::new();
    old.configured(HOME, "n", "openapi", r#"{"config":{"headers":{"A":null}}}"#);
    refused(&old, &["`plugin_storage`", "key \"n\"", "`data`", "`A` of `headers` is null"]);
    let old = Old::new();
    old.configured(HOME, "n", "graphql", "null");
    refused(&old, &["`plugin_storage`", "empty"]);
    let old = Old::new();
    old.tool(HOME, "s", "t").sql("UPDATE tool SET created_at = 9007199254740993");
    refused(&old, &["`tool`", "source \"s\" name \"t\"", "`created_at`", "2^53"]);
    let old = Old::new();
    old.definition(HOME, "s", "d").sql("UPDATE definition SET schema = '{oops'");
    refused(&old, &["`definition`", "name \"d\"", "`schema`", "not JSON at byte 1"]);
    let mut old = Old::new();
    refused(old.auth("[]"), &["auth.json", "not a JSON object"]);
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let old = Old::new();
    old.stored(HOME, "p", "misc", "deep", &deep);
    assert_eq!(old.migrated().column("plugin_storage", "data"), [deep]);
}

/// Values that are lost are named in warnings.
#[test]
fn secrets_file_keeps_flat_values() {
    let mut old = Old::new();
    old.auth(&format!(
        r#"{{"{HOME}":{{"k":"v","stray":"x","n":5}},"flat":"f","10":"ten","2":"two","odd":7,"other":{{"k":"w"}}}}"#
    ));
    old.secret(HOME, "k", "K", "file").secret(HOME, "flat", "F", "file").secret(
        "elsewhere",
        "flat",
        "F",
        "file",
    );
    let done = old.migrated();
    let file = String::from_utf8(done.secrets.file.clone().expect("a file")).expect("text");
    let [k, elsewhere] = [item_id(HOME, "k"), item_id("elsewhere", "flat")];
    let expected = format!(
        "{{\n  \"2\": \"two\",\n  \"10\": \"ten\",\n  \"flat\": \"f\",\n  \"{k}\": \"v\",\n  \"{elsewhere}\": \"f\"\n}}\n"
    );
    assert_eq!(file, expected);
    // If a scope has an object of its own, flat values are not searched.
    assert!(warned(&done, &["Could not resolve local secret \"flat\" from provider \"file\"."]));
    assert!(warned(
        &done,
        &[
            "4 value(s)",
            "stray",
            "\"n\"",
            "odd",
            "other",
            groundskeeper_migrate::recipe::KEPT_SECRETS
        ]
    ));
}

/// Only a slot of the form `oauth2:...:client-id` is one of a client; without a connection it makes
/// none.
#[test]
fn client_bindings_without_connection_differ_by_slot() {
    for (slots, names) in [
        (&["oauth2:a:client-id"][..], &[][..]),
        (&["oauth2:a:client-secret", "oauth2:a:client-id"], &[]),
        (&["auth:oauth2:client-id"], &["key"]),
        (&["oauth2:a:client-id", "auth:oauth2:client-secret"], &["key"]),
        (&["oauth2:client-id"], &[]),
        (&["oauth2:a:client-id:x"], &["key"]),
    ] {
        let old = Old::new();
        old.configured(HOME, "api", "openapi", HEADER).secret(HOME, "s", "Key", "file");
        for slot in slots {
            old.bound(HOME, "api", slot, "s");
        }
        let done = old.migrated();
        assert_eq!(done.column("connection", "name"), names, "{slots:?}");
        let skipped = warned(&done, &["Skipped binding group \"api\""]);
        assert_eq!(skipped, names.is_empty(), "{slots:?}");
    }
}

/// The original does not check the type of a slot, which is the name of a property.
#[test]
fn slot_of_another_type_is_compared_as_text() {
    let config = r#"{"config":{"headers":{"A":{"kind":"binding","slot":5},"B":{"kind":"binding","slot":true}}}}"#;
    let old = Old::new();
    old.configured(HOME, "api", "openapi", config).secret(HOME, "s", "Key", "file");
    old.secret(HOME, "t", "Other", "file").bound(HOME, "api", "5", "s");
    old.bound(HOME, "api", "true", "t");
    let items = &old.migrated().column("connection", "item_ids")[0];
    assert!(items.contains(r#"\"a\":"#) && items.contains(r#"\"b\":"#), "{items}");
}

/// A long column does not hide the others that name a row.
#[test]
fn warning_names_row_despite_a_long_column() {
    let old = Old::new();
    old.source(HOME, &"s".repeat(400), "openapi").tool(HOME, &"s".repeat(400), "tool-name");
    assert!(warned(&old.migrated(), &["1 tool(s) were not migrated", "name \"tool-name\""]));
}

#[test]
fn secrets_file_without_matches_is_untouched() {
    let mut old = Old::new();
    old.auth(r#"{"other":{"k":"w"}}"#);
    let done = old.migrated();
    assert!(done.secrets.file.is_none());
    assert!(!warned(&done, &["secrets file"]));
}

#[test]
fn connection_names_derive_from_secret() {
    for (name, id, expected) in [
        ("Stripe key", "x", "stripeKey"),
        ("rhys@example.com", "x", "rhysExampleCom"),
        ("123", "x", "123"),
        ("1password token", "x", "1passwordToken"),
        ("---", "9lives", "api-key9lives"),
        ("\u{a0}", "My id", "myId"),
    ] {
        let old = Old::new();
        old.configured(HOME, "api", "openapi", HEADER);
        old.secret(HOME, id, name, "file").bound(HOME, "api", "header:x", id);
        assert_eq!(old.migrated().column("connection", "name"), [expected], "{name}");
    }
}

#[test]
fn last_of_several_configurations_wins() {
    let old = Old::new();
    old.configured(HOME, "api", "openapi", r#"{"config":{"spec":"first"}}"#);
    old.stored(HOME, "other", "source", "api", r#"{"config":{"spec":"last"}}"#);
    old.stored(HOME, "other", "source", "unowned", r#"{"config":{"spec":"x"}}"#);
    let done = old.migrated();
    assert!(done.column("integration", "config")[0].contains("last"));
    assert!(
        warned(&done, &["replaced by a later one"])
            && warned(&done, &["belong to no source", "unowned"])
    );
}
