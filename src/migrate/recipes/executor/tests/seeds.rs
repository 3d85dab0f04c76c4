//! Properties over random databases of the old generation: see `v1.rs` and `damage.rs`.
//!
//! `GROUNDSKEEPER_SEEDS=20000 cargo test -p groundskeeper-executor any_v1_database` tries that many
//! seeds in place of 300, `GROUNDSKEEPER_SEEDS=300..600` those, and `GROUNDSKEEPER_SEED=17` repeats
//! one. A failure prints its seed and the command that repeats it.
//!
//! 1. Nothing panics, and no fault is a defect of this program.
//! 2. Every row is in the result or in a warning.
//! 3. If the engine refuses a database, its files and the secrets file are as they were.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::super::js;
use super::super::recipe::Executor;
use super::super::slug::item_id;
use super::chance::Chance;
use super::damage;
use super::harness::{Done, Given, boot, migrate, result};
use super::v1::{HOME, V1, names};
use groundskeeper_migrate::http::NoNetwork;
use groundskeeper_migrate::keychain::NoKeychain;
use groundskeeper_migrate::recipe::OnConflict;
use groundskeeper_migrate::recipes::Recipes;
use groundskeeper_migrate::request::MigrationRequest;
use groundskeeper_migrate::standalone::{self, Control, Place, Report};
use groundskeeper_migrate::{Code, Fault, MigrationRunner};

/// Number of seeds without an environment variable.
const SEEDS: u64 = 300;
/// One seed in so many goes through the engine and its files as well, which takes longer.
const ENGINE: u64 = 5;

/// More warnings than one record of the log holds.
#[test]
fn database_with_many_warnings_is_migrated() {
    assert_eq!(check(9_985), Ok(true));
}

#[test]
fn any_v1_database_is_migrated_or_left_alone() {
    let seeds = numbers(SEEDS);
    let mut failed = Vec::new();
    let (mut migrated, count) = (0, seeds.end - seeds.start);
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| check(seed))) {
            Ok(Ok(is)) => migrated += u64::from(is),
            Ok(Err(why)) => failed.push((seed, why)),
            Err(_) => failed.push((seed, "panicked".to_owned())),
        }
    }
    let lines = failed.iter().take(10).map(|(seed, why)| {
        format!(
            "seed {seed}: {why}\nrepeat it: GROUNDSKEEPER_SEED={seed} cargo test -p \
             groundskeeper-executor any_v1_database"
        )
    });
    let lines: Vec<String> = lines.collect();
    assert!(lines.is_empty(), "{} of {count} seeds fail\n{}", failed.len(), lines.join("\n"));
    // A generator whose databases are all refused would show nothing.
    assert!(count == 1 || migrated * 3 > count, "only {migrated} of {count} were migrated");
}

/// Returns the seeds that the environment asks for; otherwise as many as usual.
pub(super) fn numbers(usual: u64) -> std::ops::Range<u64> {
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(seed) = number(&set("GROUNDSKEEPER_SEED")) {
        return seed..seed + 1;
    }
    let seeds = set("GROUNDSKEEPER_SEEDS");
    let range = seeds.split_once("..").and_then(|(a, b)| Some(number(a)?..number(b)?));
    range.unwrap_or_else(|| 0..number(&seeds).unwrap_or(usual))
}

/// Checks the properties for one seed. Returns whether the database was migrated.
fn check(seed: u64) -> Result<bool, String> {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let v1 = V1::made(&mut chance);
    for _ in 0..chance.below(4) {
        damage::once(&v1.db, &mut chance);
    }
    let marks = marks(&v1.db);
    let conflicts =
        [OnConflict::KeepFirst, OnConflict::Rename, OnConflict::Refuse][chance.below(3)];
    let given = Given { tenant: HOME, auth: Some(v1.auth()), conflicts, ..Given::default() };
    let done = migrate(&v1.db, &given);
    if seed.is_multiple_of(ENGINE) {
        through_engine(&v1, conflicts, done.as_ref().map(|_| ()))?;
    }
    let done = match done {
        Ok(done) => done,
        Err(fault) => return sound(&fault).map(|()| false),
    };
    boot(&done.staging).map_err(|fault| format!("the first start fails: {fault:?}"))?;
    let mut lost = unaccounted(&v1.db, &marks, &done);
    lost.extend(unread_secrets(&v1, &done));
    if lost.is_empty() {
        return Ok(true);
    }
    Err(format!("stage {}: {lost:?} lost\n{}", v1.stage, done.warnings().join("\n")))
}

/// Returns the values of the secrets file that are neither stored anew nor in a warning.
fn unread_secrets(v1: &V1, done: &Done) -> Vec<String> {
    // Without a new file the old one stays.
    let Some(file) = &done.secrets.file else { return Vec::new() };
    let before = std::fs::read_to_string(v1.auth()).expect("a file");
    let file = String::from_utf8_lossy(file);
    // The id of an OAuth client that was kept as a secret goes into its row.
    let clients = done.column("oauth_client", "client_id");
    let is_kept = |n: &usize| {
        let (id, value) = (format!("\"sec{n}\""), format!("value{n}"));
        let stored = |(_, _, kept): &(String, String, String)| *kept == value;
        file.contains(&value)
            || clients.contains(&value)
            || done.secrets.keychain.iter().any(stored)
            || done.warnings().iter().any(|warning| warning.contains(&id))
    };
    let there = (0..8).filter(|n| before.contains(&format!("value{n}")));
    there.filter(|n| !is_kept(n)).map(|n| format!("value{n}")).collect()
}

/// Returns an error when a fault blames this program, or has no hint that helps.
fn sound(fault: &Fault) -> Result<(), String> {
    let blames = fault.code == Code::Defect || fault.hint.contains("defect");
    if blames || fault.hint.is_empty() { Err(format!("{fault:?}")) } else { Ok(()) }
}

/// Migrates copies of the files with the real engine. Its result must be that of the recipe, and a
/// refusal must leave every file as it was.
fn through_engine(
    v1: &V1,
    conflicts: OnConflict,
    recipe: Result<(), &Fault>,
) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a directory");
    let kept = tempfile::tempdir().expect("a directory");
    v1.copy_files(dir.path());
    let before = files(dir.path());
    let recipes = Recipes::new(vec![Arc::new(Executor)]);
    let request = MigrationRequest {
        database: dir.path().join("data.db"),
        recipe: "executor".to_owned(),
        auth: Some(dir.path().join("auth.json")),
        tenant: Some(HOME.to_owned()),
        on_conflict: Some(name_of(conflicts).to_owned()),
        ..MigrationRequest::default()
    };
    let runner =
        MigrationRunner::new(kept.path(), recipes, Box::new(NoNetwork), Box::new(NoKeychain));
    let place = Place::within(kept.path());
    let report = standalone::run(&place, &runner, &request, &Control::default());
    let done = report.and_then(Report::into_result).map(|report| report.migration);
    match done {
        Ok(Some(done)) if recipe.is_err() && done.backup.is_some() => {
            Err(format!("the engine migrates what the recipe refuses: {recipe:?}"))
        }
        Ok(_) => Ok(()),
        Err(fault) => {
            // A keychain that does not exist refuses the secrets that the recipe planned for it.
            if recipe.is_ok() && fault.code != Code::KeychainFailed && !is_unrecognised(&fault) {
                return Err(format!("the engine refuses what the recipe migrates: {fault:?}"));
            }
            sound(&fault)?;
            let after = files(dir.path());
            let changed: Vec<&String> = before
                .iter()
                .filter(|(name, bytes)| after.get(*name) != Some(bytes))
                .map(|(name, _)| name)
                .collect();
            let more: Vec<&String> = after
                .iter()
                .filter(|(name, bytes)| {
                    !before.contains_key(*name) && !bytes.is_empty() && !name.ends_with("-shm")
                })
                .map(|(name, _)| name)
                .collect();
            if changed.is_empty() && more.is_empty() {
                return Ok(());
            }
            Err(format!("refused ({fault:?}), yet changed {changed:?} and left {more:?}"))
        }
    }
}

fn name_of(conflicts: OnConflict) -> &'static str {
    match conflicts {
        OnConflict::Refuse => "refuse",
        OnConflict::KeepFirst => "keep-first",
        OnConflict::Rename => "rename",
    }
}

/// Returns whether the engine found no old database: the recipe's tests do not ask that first.
fn is_unrecognised(fault: &Fault) -> bool {
    matches!(fault.code, Code::DatabaseForeign | Code::DatabaseNewer)
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries =
        std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect()
}

/// Returns the mark of every row in the form in which the migration reads it; rows whose mark is
/// damaged beyond reading have none.
fn marks(db: &Connection) -> Vec<String> {
    let mut marks = Vec::new();
    for (table, column, condition) in [
        ("source", "id", "1"),
        ("tool", "name", "1"),
        ("definition", "name", "1"),
        ("tool_policy", "id", "1"),
        ("blob", "key", "1"),
        ("connection", "id", "1"),
        ("plugin_storage", "key", "collection IS NOT 'source'"),
        ("openapi_operation", "id", "1"),
        ("graphql_operation", "id", "1"),
        ("mcp_binding", "id", "1"),
        ("openapi_source", "id", "1"),
        ("graphql_source", "id", "1"),
        ("mcp_source", "id", "1"),
    ] {
        // The upgrade of an early schema reads no views; the table behind one is reported.
        let early = ["openapi_", "graphql_", "mcp_"].iter().any(|plugin| table.starts_with(plugin));
        let sql = format!(
            "SELECT \"{column}\" FROM \"{table}\" WHERE {condition} AND ({} OR EXISTS \
             (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{table}'))",
            i32::from(!early)
        );
        let Ok(mut query) = db.prepare(&sql) else { continue };
        let mut rows = query.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            marks.extend(read(row.get_ref(0).expect("a cell")));
        }
    }
    // Tables of the user are named if they have rows.
    for table in ["mine", "found", "child"] {
        let count = db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
        let kind =
            format!("SELECT name FROM sqlite_master WHERE type = 'table' AND name = '{table}'");
        if count.is_ok_and(|count: i64| count > 0) && !names(db, &kind).is_empty() {
            marks.push(format!("`{table}`"));
        }
    }
    for (column, mark) in [("extra", "extra"), ("made", "made")] {
        for table in ["source", "tool", "secret", "connection", "credential_binding"] {
            let sql = format!("SELECT count(\"{column}\") FROM \"{table}\" HAVING count(*) > 0");
            // In quotes a name that is no column is a text, so the columns are asked first.
            let there = names(db, &format!("SELECT name FROM pragma_table_xinfo('{table}')"));
            if there.iter().any(|c| c == column)
                && db.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap_or(0) > 0
            {
                marks.push(format!("{table}.{mark}"));
            }
        }
    }
    marks
}

/// Returns the marks inside stored configurations, each with the start of its key.
fn configs(db: &Connection) -> Vec<(String, String)> {
    let mut marks = Vec::new();
    for sql in [
        "SELECT spec, id FROM openapi_source",
        "SELECT endpoint, id FROM graphql_source",
        "SELECT config, id FROM mcp_source",
        "SELECT data, key FROM plugin_storage WHERE collection = 'source'",
    ] {
        let Ok(mut query) = db.prepare(sql) else { continue };
        let mut rows = query.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let Ok(ValueRef::Text(bytes)) = row.get_ref(0) else { continue };
            let text = String::from_utf8_lossy(bytes).into_owned();
            let mark = text.find("cfg").and_then(|at| text.get(at..at + 5));
            let key = match row.get_ref(1).expect("a cell") {
                ValueRef::Null => "null".to_owned(),
                ValueRef::Integer(n) => n.to_string(),
                ValueRef::Real(n) => js::print_number(n),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    let start: String = text.chars().take(60).collect();
                    format!("{start:?}").trim_matches('"').to_owned()
                }
            };
            marks.extend(mark.map(|mark| (mark.to_owned(), key)));
        }
    }
    marks
}

/// Returns a cell as the migration reads it; none when it is too short to be a mark.
fn read(cell: ValueRef<'_>) -> Option<String> {
    let bytes = match cell {
        ValueRef::Text(bytes) => bytes.split(|byte| *byte == 0).next().unwrap_or_default(),
        ValueRef::Blob(bytes) => bytes,
        _ => return None,
    };
    let text = String::from_utf8_lossy(bytes);
    let mark: String = text.chars().take(60).collect();
    (mark.len() > 3 && mark != "null").then_some(mark)
}

/// Returns the rows that are neither in the result nor in a warning.
fn unaccounted(old: &Connection, marks: &[String], done: &Done) -> Vec<String> {
    let text = result(done);
    let forms = |mark: &str| {
        let label = mark.strip_prefix("con").map(|n| format!("label{n}"));
        let json = js::compact(&mark.into());
        let debug = format!("{mark:?}");
        let inner = |text: String| text.trim_matches('"').to_owned();
        [Some(mark.to_owned()), label, Some(inner(json)), Some(inner(debug))]
    };
    let is_configured = |(mark, key): &(String, String)| {
        // A warning names the source, or the key if that leads to no source.
        let number = mark.strip_prefix("cfg").and_then(|rest| rest.strip_suffix('x'));
        let id = format!("\"src{}\"", number.unwrap_or("?"));
        let about = ["configuration", "clash", "left out"];
        let names = |w: &String| {
            (w.contains(&id) || w.contains(&format!("key \"{key}")))
                && about.iter().any(|word| w.contains(word))
        };
        text.contains(mark) || done.warnings().iter().any(names)
    };
    let is_there = |mark: &str| forms(mark).into_iter().flatten().any(|form| text.contains(&form));
    let mut lost: Vec<String> = marks.iter().filter(|mark| !is_there(mark)).cloned().collect();
    let unnamed = configs(old).into_iter().filter(|config| !is_configured(config));
    lost.extend(unnamed.map(|(mark, _)| mark));
    let clients = done.column("oauth_client", "client_id");
    // Secrets are read from the old database, bindings from the one with the last schema.
    let pairs = |db: &Connection, sql: &str| {
        let Ok(mut query) = db.prepare(sql) else { return Vec::new() };
        let rows = query.query_map([], |row| Ok((read(row.get_ref(0)?), read(row.get_ref(1)?))));
        let rows = rows.expect("rows").map(|row| row.expect("a row"));
        rows.filter_map(|(a, b)| Some((a?, b?))).collect::<Vec<_>>()
    };
    for (scope, id) in pairs(old, "SELECT scope_id, id FROM secret") {
        // The id of an OAuth client that was kept as a secret is in its row instead.
        let value = id.strip_prefix("sec").map(|n| format!("value{n}"));
        let is_client = value.is_some_and(|value| clients.contains(&value));
        if !text.contains(&item_id(&scope, &id)) && !is_there(&id) && !is_client {
            lost.push(format!("secret {id}"));
        }
    }
    let sql = "SELECT secret_id, slot_key FROM credential_binding WHERE kind = 'secret'";
    for (secret, slot) in pairs(&done.copy, sql) {
        let scopes = names(
            &done.copy,
            "SELECT DISTINCT CAST(scope_id AS TEXT) FROM credential_binding WHERE typeof(scope_id) = 'text'",
        );
        let stored = scopes.iter().any(|scope| text.contains(&item_id(scope, &secret)));
        if !stored && !is_there(&slot) && !is_there(&secret) {
            lost.push(format!("binding {slot} to {secret}"));
        }
    }
    lost
}
