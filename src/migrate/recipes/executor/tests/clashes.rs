//! Tests of clashing rows: refused by name, left out by name, or renamed with what refers to them.

use super::harness::Done;
use super::old::{HOME, Old, warned};
use groundskeeper_migrate::Code;
use groundskeeper_migrate::recipe::OnConflict;

const OPEN: &str = r#"{"config":{"endpoint":"https://e.test","transport":"remote"}}"#;
const OPERATION: &str = r#"{"toolId":"api.t","sourceId":"api","binding":{}}"#;

/// Returns two scopes with a source of the same id each, and everything that can belong to one.
fn folders() -> Old {
    let old = Old::new();
    for scope in ["one-00000001", "two-00000002"] {
        old.configured(scope, "api", "mcp", OPEN);
        old.tool(scope, "api", "t").definition(scope, "api", "D");
        old.stored(scope, "openapi", "operation", "api.t", OPERATION);
        old.stored(scope, "mcp", "binding", "api.t", r#"{"binding":{"toolName":"T"}}"#);
        old.policy(scope, scope, "api.t");
    }
    old
}

fn refused(old: &Old, table: &str, words: &[&str]) {
    let fault = old.try_migrate(OnConflict::Refuse).err().expect("refused");
    assert_eq!(fault.code, Code::MigrationConflict);
    assert!(fault.message.contains(&format!("`{table}`")), "{}", fault.message);
    assert!(fault.hint.contains("--on-conflict keep-first"));
    for word in words {
        assert!(
            fault.evidence.iter().any(|line| line.contains(word)),
            "{word}: {:?}",
            fault.evidence
        );
    }
}

fn settled(old: &Old, conflicts: OnConflict) -> Done {
    old.try_migrate(conflicts).expect("settled")
}

#[test]
fn folder_conflict_names_both() {
    refused(&folders(), "integration", &["one-00000001", "two-00000002"]);
}

/// The rows that belong to the second folder are left out and named.
#[test]
fn keep_first_drops_dependent_rows() {
    let done = settled(&folders(), OnConflict::KeepFirst);
    assert_eq!(done.column("integration", "slug"), ["api"]);
    for table in ["connection", "tool", "definition"] {
        assert_eq!(done.column(table, "integration"), ["api"], "{table}");
    }
    assert_eq!(done.column("plugin_storage", "key"), ["api.t", "api.t"]);
    assert!(warned(&done, &["left out", "two-00000002"]));
    assert!(warned(&done, &["5 row(s)", "left out with it", "two-00000002"]));
}

#[test]
fn rename_updates_dependent_rows() {
    let done = settled(&folders(), OnConflict::Rename);
    assert_eq!(done.column("integration", "slug"), ["api", "api_2"]);
    for table in ["connection", "tool", "definition"] {
        assert_eq!(done.column(table, "integration"), ["api", "api_2"], "{table}");
    }
    assert_eq!(done.column("plugin_storage", "key"), ["api.t", "api.t", "api_2.t", "api_2.t"]);
    assert!(done.column("plugin_storage", "data")[2].contains("api_2"));
    assert_eq!(done.column("tool_policy", "pattern"), ["api.*.*.t", "api_2.*.*.t"]);
    assert!(warned(&done, &["new names", "api_2", "two-00000002"]));
}

#[test]
fn every_table_conflict_can_be_resolved() {
    let (a, b) = ("one-00000001", "two-00000002");
    let table = |name: &str| {
        let old = Old::new();
        match name {
            "tool_policy" => drop(old.policy(a, "p", "*").policy(b, "p", "x.*")),
            "plugin_storage" => {
                old.stored(a, "p", "c", "k", "1").stored(b, "p", "c", "k", "2");
            }
            "blob" => drop(old.blob("one/p", "k", "1").blob("two/p", "k", "2")),
            "definition" => {
                old.configured(HOME, "api", "mcp", OPEN);
                old.definition(HOME, "api", "D").definition(HOME, "api", "D");
            }
            _ => {
                old.configured(HOME, "api", "mcp", OPEN);
                old.tool(HOME, "api", "t").tool(HOME, "api", "t").tool(HOME, "api", "t");
            }
        }
        old
    };
    for (name, column, first, others) in [
        ("tool_policy", "id", "p", &["p_2"][..]),
        ("plugin_storage", "key", "k", &["k_2"]),
        ("blob", "key", "k", &["k_2"]),
        ("definition", "name", "D", &["D_2"]),
        ("tool", "name", "t", &["t_2", "t_3"]),
    ] {
        let old = table(name);
        refused(&old, name, &[]);
        let kept = settled(&old, OnConflict::KeepFirst);
        assert_eq!(kept.column(name, column), [first]);
        assert!(warned(&kept, &[&format!("{} row(s)", others.len()), "left out", name]), "{name}");
        let renamed = settled(&old, OnConflict::Rename);
        let names: Vec<&str> = [first].into_iter().chain(others.iter().copied()).collect();
        assert_eq!(renamed.column(name, column), names);
        assert!(warned(&renamed, &["new names", name, others[0]]), "{name}");
    }
}
