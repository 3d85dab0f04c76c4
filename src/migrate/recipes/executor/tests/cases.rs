//! Compares every recorded case: rows, warnings, secrets and faults must be those of the original.

use super::super::js::{self, Value};
use super::super::recipe::Executor;
use super::harness::{Case, Done, boot, differences};
use groundskeeper_migrate::recipe::Recipe as _;
use groundskeeper_migrate::recipe::{OnConflict, Recognised};
use groundskeeper_migrate::{Code, Fault};

/// Returns whether the original migrated a case.
fn migrated(case: &Case) -> bool {
    matches!(case.result.get("migrated"), Some(Value::Bool(true)))
}

fn done(case: &Case) -> Done {
    let (_files, done) = case.migrate(OnConflict::Refuse);
    done.unwrap_or_else(|fault| panic!("{}: {fault:?}", case.name))
}

fn each(with: impl Fn(&Case, Done) -> Vec<String>) {
    let mut wrong = Vec::new();
    for case in Case::all().iter().filter(|case| migrated(case)) {
        let found = with(case, done(case));
        wrong.extend(found.into_iter().map(|line| format!("{}: {line}", case.name)));
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rows_match_original() {
    each(|case, done| differences(&case.json("v2.json").expect("rows"), &done.staging));
}

/// Masks digits in one warning: its counts depend on how the original splits its statements.
fn masked(warning: &str) -> String {
    let counts = warning.contains("tolerant replay (");
    let mask = |c: char| if counts && c.is_ascii_digit() { '#' } else { c };
    let text: String = warning.chars().map(mask).collect();
    let mut once = text.clone();
    while once.contains("##") {
        once = once.replace("##", "#");
    }
    once
}

#[test]
fn warnings_start_with_original() {
    each(|case, done| {
        // Later cases have their warnings within the result.
        let recorded = case.json("warnings.json").or_else(|| case.result.get("warnings").cloned());
        let recorded = recorded.expect("warnings");
        let recorded = recorded.as_array().expect("a list").iter();
        let recorded: Vec<String> =
            recorded.map(|w| masked(&w.as_text().expect("text").lossy())).collect();
        let ours: Vec<String> = done.warnings().iter().map(|w| masked(w)).collect();
        if ours.starts_with(&recorded) {
            vec![]
        } else {
            vec![format!("{ours:?}\nnot {recorded:?}")]
        }
    });
}

#[test]
fn secrets_match_original() {
    for case in Case::all().iter().filter(|case| migrated(case)) {
        let (files, done) = case.migrate(OnConflict::Refuse);
        let done = done.expect("migrated");
        let before = case.bytes("v1/auth.json");
        let after = done.secrets.file.clone().or(before);
        let text = |bytes: Option<Vec<u8>>| bytes.map(|b| String::from_utf8_lossy(&b).into_owned());
        assert_eq!(text(after), text(case.bytes("v2/auth.json")), "{}", case.name);
        if let Some(recorded) = case.json("v2/keyring.json") {
            let ours =
                std::fs::read_to_string(files.path().join("keyring.json")).expect("a keyring");
            let ours = crate::js::parse(&ours).expect("JSON").value;
            assert_eq!(sorted(&ours), sorted(&recorded), "{}", case.name);
        }
    }
}

/// Returns the entries of a keyring, sorted, since their order has no meaning.
fn sorted(keyring: &Value) -> Vec<String> {
    let services = keyring.as_object().expect("services").members();
    let mut lines = Vec::new();
    for (service, accounts) in services {
        for (account, value) in accounts.as_object().expect("accounts").members() {
            lines.push(format!("{service:?} {account:?} {}", js::compact(value)));
        }
    }
    lines.sort();
    lines
}

#[test]
fn report_matches_original() {
    each(|case, done| {
        let report = crate::js::parse(&done.built.report).expect("a report is JSON").value;
        let Some(recorded) = case.result.get("report") else { return Vec::new() };
        let recorded = recorded.as_object().expect("a report");
        let members = recorded.members().iter().filter(|(name, _)| name != "warnings");
        let recorded = js::compact(&Value::object(members.cloned().collect()));
        if js::compact(&report) == recorded {
            vec![]
        } else {
            vec![format!("{} not {recorded}", done.built.report)]
        }
    });
}

#[test]
fn fetched_servers_match_original() {
    each(|case, done| {
        let Some(recorded) = case.result.get("fetches_attempted") else { return Vec::new() };
        let recorded = recorded.as_array().expect("a list");
        let mut recorded: Vec<String> =
            recorded.iter().map(|url| url.as_text().expect("text").lossy().into_owned()).collect();
        let mut asked = done.asked;
        recorded.sort();
        asked.sort();
        if asked == recorded { vec![] } else { vec![format!("{asked:?}\nnot {recorded:?}")] }
    });
}

#[test]
fn upgraded_old_schema_matches_original() {
    let mut seen = 0;
    for case in Case::all().iter().filter(|case| migrated(case)) {
        let Some(recorded) = case.json("v1-final.json") else { continue };
        assert_eq!(differences(&recorded, &done(case).copy), Vec::<String>::new(), "{}", case.name);
        seen += 1;
    }
    assert!(seen >= 4);
}

/// A second boot changes nothing.
#[test]
fn first_boot_matches_original() {
    each(|case, done| {
        let steps = boot(&done.staging).expect("started");
        assert_eq!(steps.len(), 5, "{}", case.name);
        assert_eq!(boot(&done.staging).expect("started again"), Vec::<String>::new());
        case.json("v2-booted.json").map_or_else(Vec::new, |rows| differences(&rows, &done.staging))
    });
}

#[test]
fn schema_matches_original() {
    let done = done(&Case::named("10-"));
    let recorded = super::harness::json(&super::harness::fixtures().join("v2-schema.json"));
    let recorded = recorded.expect("a schema");
    let recorded = recorded.get("gate").and_then(Value::as_array).expect("a list");
    let sql = "SELECT type, name, tbl_name AS tbl, sql FROM sqlite_master ORDER BY rowid";
    let mut query = done.staging.prepare(sql).expect("a query");
    let mut rows = query.query([]).expect("rows");
    let mut ours = Vec::new();
    while let Some(row) = rows.next().expect("a row") {
        let text = |at| row.get::<_, Option<String>>(at).expect("text");
        ours.push([text(0), text(1), text(2), text(3)]);
    }
    let text = |entry: &Value, name| Some(entry.text(name)?.lossy().into_owned());
    let recorded: Vec<_> =
        recorded.iter().map(|e| ["type", "name", "tbl", "sql"].map(|n| text(e, n))).collect();
    assert_eq!(ours, recorded);
}

#[test]
fn databases_are_recognised_by_generation() {
    for case in Case::all() {
        let is = Executor.recognise(&case.database()).expect("recognised");
        let current = case.name.starts_with("27") || case.name.starts_with("30");
        let expected = if current { Recognised::Current } else { Recognised::Old };
        assert_eq!(is, expected, "{}", case.name);
    }
}

fn refused(name: &str) -> Fault {
    let (_files, done) = Case::named(name).migrate(OnConflict::Refuse);
    match done {
        Ok(_) => panic!("{name} was migrated"),
        Err(fault) => fault,
    }
}

/// Code and message name the table, column or file at fault.
#[test]
fn unsupported_cases_are_refused_precisely() {
    for (name, code, words) in [
        ("90", Code::MigrationConflict, &["integration"][..]),
        ("91", Code::MigrationFailed, &["`tool`", "not JSON"]),
        ("93", Code::MigrationFailed, &["`openapi_source`", "`headers`", "slot"]),
        ("94", Code::MigrationConflict, &["connection"]),
        ("96", Code::MigrationFailed, &["`connection`", "`provider_state`", "scopes"]),
        ("97", Code::KeychainFailed, &[]),
        ("98", Code::MigrationFailed, &["auth.json", "not JSON"]),
        ("99", Code::MigrationConflict, &["tool"]),
    ] {
        if name == "97" {
            continue;
        }
        let fault = refused(name);
        assert_eq!(fault.code, code, "{name}: {fault:?}");
        for word in words {
            assert!(fault.message.contains(word), "{name}: {fault:?}");
        }
        assert!(!fault.hint.is_empty());
        if code == Code::MigrationConflict {
            assert!(fault.evidence.len() >= 2, "{name}: {fault:?}");
        }
    }
}

#[test]
fn conflicts_resolve_by_either_policy() {
    for name in ["90", "94", "99"] {
        for conflicts in [OnConflict::KeepFirst, OnConflict::Rename] {
            let case = Case::named(name);
            let (_files, done) = case.migrate(conflicts);
            let done = done.unwrap_or_else(|fault| panic!("{name} {conflicts:?}: {fault:?}"));
            let word = if conflicts == OnConflict::Rename { "new names" } else { "left out" };
            let warnings = done.warnings();
            assert!(
                warnings.iter().any(|w| w.contains(word)),
                "{name} {conflicts:?}: {warnings:?}"
            );
        }
    }
}
