//! Builds the new database beside the old one, stamps it and verifies it.
//!
//! The file is synced once, when it is complete. Until then only the process that builds it trusts
//! it: after a restart it is built again.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use crate::context::{Task, sync};
use crate::files::with_suffix;
use crate::manifest::{self, ReadManifest, Stage, manifest_for};
use crate::recipe::KEPT_SECRETS;
use crate::{flip, secrets, sqlite};
use groundskeeper_core::event::Staging;
use groundskeeper_core::{Code, Fault, MigrationOutcome};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::paths;

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
    sqlite::create_private(path)?;
    let mut staging = sqlite::open_private(path)?;
    files.same_mode(&task.names.database, path).map_err(paths::failed("set the mode of", path))?;
    let built = task.with_work(|work| task.recipe.build(&copy, &mut staging, work))?;
    point("migrate.built");
    let rows = sqlite::count_all(&staging, path)?;
    compare(&built.rows, &rows)?;
    drop(staging);
    task.runner.with_held(task.id(), |held| held.is_built = true);
    // Only the engine knows where the old secrets are kept; a recipe writes a placeholder.
    let kept = task.runner.folder_of(task.id()).join(secrets::KEPT).display().to_string();
    let warnings = built.warnings.iter().map(|text| text.replace(KEPT_SECRETS, &kept)).collect();
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

/// Stamps the new database, verifies it and turns it into one durable file.
pub(super) fn verify(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    task.hold_and_check()?;
    reset_to_building(task)?;
    let path = &task.names.staging;
    let is_built = task.runner.with_held(task.id(), |held| std::mem::take(&mut held.is_built));
    if !is_built || !path.exists() {
        // No process trusts an unsynced file of another one, so a restart builds it again.
        rows(task)?;
    }
    let staging = sqlite::open_private(path)?;
    task.progress("verify", (0, 0), "bytes");
    let built = task.migration.staging.as_ref().map(|s| s.rows.clone()).unwrap_or_default();
    still_there(&built, &sqlite::count_all(&staging, path)?)?;
    task.with_work(|work| task.recipe.stamp(&staging, work))?;
    point("migrate.stamped");
    prove(task, &staging, path)?;
    sqlite::settle(staging, path)?;
    point("migrate.settled");
    leave_one_file(task, path)?;
    let bytes = path.metadata().map_err(paths::failed("read", path))?.len();
    if !task.migration.plan.dry_run {
        let had = task.migration.copy.as_ref().is_some_and(|copy| copy.has_secrets);
        // Only now: to a program without the log, `built` promises a complete and durable file.
        let mut manifest = manifest_for(task, had, Stage::Built);
        // The old manifest is replaced, and the backups that it notes still have to be removed.
        manifest.keychain_backups = secrets::known_backups(task)?;
        manifest::write(task.files(), &task.names.manifest, &manifest)?;
        point("migrate.verified");
    }
    Ok(MigrationOutcome::StagingVerified(bytes, sqlite::fingerprint(path)))
}

/// Checks integrity while a second thread syncs the file and runs the recipe's own check: the check
/// is bound by the processor and the sync by the disk.
fn prove(task: &Task<'_>, staging: &Connection, path: &Path) -> Result<(), Fault> {
    let files = task.files();
    let beside = || {
        files.sync(path).map_err(paths::failed("sync", path))?;
        task.recipe.verify(&sqlite::open_private(path)?)
    };
    let (whole, beside) = std::thread::scope(|scope| {
        let beside = scope.spawn(beside);
        (sqlite::check(staging, path), beside.join())
    });
    whole?;
    beside.unwrap_or_else(|_| {
        Err(Fault::new(
            Code::Defect,
            "the check of the new database panicked",
            "please report this",
        ))
    })
}

/// Checks that no table has fewer rows than were built. The stamp may add rows.
fn still_there(built: &[(String, u64)], found: &[(String, u64)]) -> Result<(), Fault> {
    let found: BTreeMap<&str, u64> = found.iter().map(|(t, n)| (t.as_str(), *n)).collect();
    let less = built.iter().filter(|(t, n)| found.get(t.as_str()).is_none_or(|f| f < n));
    let less: Vec<String> =
        less.map(|(t, n)| format!("{t}: fewer than the {n} rows built")).collect();
    if less.is_empty() {
        return Ok(());
    }
    let hint = "migrate again; the old database is unchanged";
    Err(Fault::new(Code::MigrationFailed, "the new database lost rows", hint).with_evidence(less))
}

fn leave_one_file(task: &Task<'_>, path: &Path) -> Result<(), Fault> {
    for suffix in ["-wal", "-shm", "-journal"] {
        let sidecar = with_suffix(path, suffix);
        task.files().remove(&sidecar).map_err(paths::failed("remove", &sidecar))?;
    }
    sync(task, path)
}
