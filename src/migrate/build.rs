//! Builds the new database beside the old one, stamps it and verifies it.
//!
//! The file is synced once, when it is complete. Until then only the process that builds it trusts
//! it: after a restart it is built again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rusqlite::Connection;

use crate::context::{Task, sync};
use crate::files::with_suffix;
use crate::interrupt::Interrupted;
use crate::manifest::{self, Manifest, ReadManifest, Stage};
use crate::recipe::KEPT_SECRETS;
use crate::{access, content, flip, interrupt, secrets, sqlite, warnings};
use groundskeeper_core::event::Staging;
use groundskeeper_core::{Code, Fault, MigrationOutcome};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::paths;

/// Limit of the tables that a fault names.
const TABLES_MAX: usize = 20;

/// Builds the new database from an empty file.
pub(super) fn build(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    task.hold_and_check()?;
    reset_to_building(task)?;
    Ok(MigrationOutcome::StagingBuilt(rows(task)?))
}

fn rows(task: &Task<'_>) -> Result<Staging, Fault> {
    task.runner.with_held(task.id(), |held| held.is_built = false);
    let (files, path) = (task.files(), &task.names.staging);
    files.remove_set(path).map_err(paths::failed("remove", path))?;
    let copy = crate::copy::open(task)?;
    task.create_private(path)?;
    access::same_owner_and_mode(&task.names.database, path)?;
    let mut staging = task.open_private(path)?;
    let built = task.with_work(|work| task.recipe.build(&copy, &mut staging, work))?;
    point("migrate.built");
    let rows = sqlite::count_all(&staging, path)?;
    compare(&built.rows, &rows)?;
    has_rows(task, &rows)?;
    drop(staging);
    task.runner.with_held(task.id(), |held| held.is_built = true);
    // Only the engine knows where the old secrets are kept; a recipe writes a placeholder.
    let kept = task.runner.folder_of(task.id()).join(secrets::KEPT).display().to_string();
    let warnings = built.warnings.iter().map(|text| text.replace(KEPT_SECRETS, &kept)).collect();
    let warnings = warnings::bounded(task, warnings::OF_BUILD, warnings)?;
    task.runner.with_held(task.id(), |held| held.secrets = built.secrets);
    let report = built.report;
    Ok(Staging { rows, warnings, report })
}

/// Sets the manifest back to `building` before the staging file is written to, so that no program
/// takes the file for complete, even after a kill.
fn reset_to_building(task: &Task<'_>) -> Result<(), Fault> {
    match manifest::read(&task.names.manifest) {
        ReadManifest::Manifest(manifest) if manifest.nonce == task.id().as_str() => {
            flip::reset_to_building(task.files(), &task.names.manifest, &manifest)
        }
        _ => Ok(()),
    }
}

/// Checks that the tables hold exactly the rows that the recipe reports as written.
fn compare(planned: &[(String, u64)], found: &[(String, u64)]) -> Result<(), Fault> {
    let planned: BTreeMap<&str, u64> = planned.iter().map(|(t, n)| (t.as_str(), *n)).collect();
    let found: BTreeMap<&str, u64> = found.iter().map(|(t, n)| (t.as_str(), *n)).collect();
    let tables = planned.keys().chain(found.keys());
    let mut wrong: Vec<String> = tables
        .filter_map(|table| {
            let (a, b) = (planned.get(table).copied(), found.get(table).copied());
            let differs = a.unwrap_or(0) != b.unwrap_or(0);
            let number = |n: Option<u64>| n.map_or("none".to_owned(), |n| n.to_string());
            differs.then(|| format!("{table}: {} rows planned, {} found", number(a), number(b)))
        })
        .collect();
    wrong.dedup();
    if wrong.is_empty() {
        return Ok(());
    }
    let hint = "please report this with the evidence; the old database is unchanged";
    let message = "the new database does not have the planned rows";
    let fault = Fault::new(Code::MigrationFailed, message, hint);
    Err(fault.with_evidence(wrong))
}

/// Checks that the new database has rows if the old one has some. A script that reads no row, for
/// example because of a wrong condition, would otherwise install a database without content.
fn has_rows(task: &Task<'_>, built: &[(String, u64)]) -> Result<(), Fault> {
    let old = task.migration.copy.iter().flat_map(|copy| &copy.rows);
    let old: Vec<&(String, u64)> = old.filter(|(_, rows)| *rows > 0).collect();
    let is_empty = built.iter().all(|(_, rows)| *rows == 0);
    if old.is_empty() || !is_empty || task.recipe.may_be_empty() {
        return Ok(());
    }
    let rows: u64 = old.iter().map(|(_, rows)| rows).sum();
    let message = format!("the old database has {rows} rows and the new one has none");
    let hint = "correct build.sql; if it is intended, add the line \
                `-- groundskeeper: may-be-empty` to build.sql; nothing was changed";
    let named = old.iter().take(TABLES_MAX).map(|(table, rows)| format!("{table}: {rows} rows"));
    let fault = Fault::new(Code::MigrationFailed, message, hint);
    Err(fault.with_evidence(named))
}

/// Stamps the new database, verifies it and turns it into one durable file.
pub(super) fn verify(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    task.hold_and_check()?;
    reset_to_building(task)?;
    let path = &task.names.staging;
    let is_built = task.runner.with_held(task.id(), |held| std::mem::take(&mut held.is_built));
    let mut built = task.migration.staging.as_ref().map(|s| s.rows.clone()).unwrap_or_default();
    if !is_built || !path.exists() {
        // No process trusts an unsynced file of another one, so a restart builds it again.
        let again = rows(task)?.rows;
        still_there(&built, &again, "the new database lost rows", "migrate again")?;
        built = again;
    }
    let staging = task.open_private(path)?;
    task.progress("verify", (0, 0), "bytes");
    task.with_work(|work| task.recipe.stamp(&staging, work))?;
    point("migrate.stamped");
    prove(task, &staging, path, &built)?;
    sqlite::settle(staging, path)?;
    point("migrate.settled");
    leave_one_file(task, path)?;
    let bytes = path.metadata().map_err(paths::failed("read", path))?.len();
    if !task.migration.plan.dry_run {
        // Only now: to a program without the log, `built` promises a complete and durable file.
        let manifest = Manifest { phase: Stage::Built, ..manifest::own(task)? };
        manifest::write(task.files(), &task.names.manifest, &manifest)?;
        point("migrate.verified");
    }
    Ok(MigrationOutcome::StagingVerified(bytes, sqlite::fingerprint(path)))
}

/// Checks integrity in a second thread while this one syncs the file, counts the rows, keeps a
/// copy and runs the recipe's own check: the first is bound by the processor, the rest by the disk.
fn prove(
    task: &Task<'_>,
    staging: &Connection,
    path: &Path,
    built: &[(String, u64)],
) -> Result<(), Fault> {
    let own = task.open_private(path)?;
    let handle = own.get_interrupt_handle();
    let whole = move |_: &AtomicBool| sqlite::check(&own, path);
    let beside = || {
        task.files().sync(path).map_err(paths::failed("sync", path))?;
        let stamped = sqlite::count_all(staging, path)?;
        let hint = "correct the stamp of the recipe: it may add rows, and remove none";
        still_there(built, &stamped, "the stamp removed rows of the new database", hint)?;
        if !task.migration.plan.dry_run {
            content::keep(task);
        }
        task.with_work(|work| task.recipe.verify_with(staging, work))
    };
    let (whole, beside, why) =
        interrupt::run(&handle, Duration::MAX, task.cancelled, whole, beside);
    // It failed because it was interrupted.
    if whole.is_err() && why == Some(Interrupted::Cancelled) {
        return Err(sqlite::stopped());
    }
    whole?;
    beside
}

/// Checks that no table is missing or has fewer rows than before. It may have more.
fn still_there(
    before: &[(String, u64)],
    found: &[(String, u64)],
    message: &str,
    hint: &str,
) -> Result<(), Fault> {
    let found: BTreeMap<&str, u64> = found.iter().map(|(t, n)| (t.as_str(), *n)).collect();
    let less = before.iter().filter(|(t, n)| found.get(t.as_str()).is_none_or(|f| f < n));
    let less: Vec<String> = less
        .map(|(table, rows)| match found.get(table.as_str()) {
            Some(found) => format!("{table}: {found} rows instead of {rows}"),
            None => format!("{table}: the table with {rows} rows is gone"),
        })
        .collect();
    if less.is_empty() {
        return Ok(());
    }
    let hint = format!("{hint}; the old database is unchanged");
    Err(Fault::new(Code::MigrationFailed, message, hint).with_evidence(less))
}

fn leave_one_file(task: &Task<'_>, path: &Path) -> Result<(), Fault> {
    for suffix in ["-wal", "-shm", "-journal"] {
        let sidecar = with_suffix(path, suffix);
        task.files().remove(&sidecar).map_err(paths::failed("remove", &sidecar))?;
    }
    sync(task, path)
}
