//! Migrates the configured databases before the daemon reports that it is ready: lock, migrate, run
//! the recipe's startup steps.
//!
//! The daemon holds the application's own lock for as long as it runs, so that both never use one
//! database at once. A failure here ends the start with its full reason; no database is left half
//! migrated.

use std::path::Path;

use crate::core::event::{Actor, MigrationPlan};
use crate::core::{Code, Command, Fault, Migration, MigrationId, MigrationPhase};
use crate::engine::Handle;
use crate::migrate::recipe::{Recipe, is_old};
use crate::migrate::recipes::Recipes;
use crate::migrate::request::{MigrationRequest, is_interrupted};
use crate::migrate::{MigrationRunner, standalone};
use crate::world::fs::paths;

/// Brings databases to their newest generation, one after the other, and holds the locks of their
/// applications. A database of another application is left alone.
///
/// # Errors
/// The first fault that keeps a database from being ready.
pub async fn bring_up(
    handle: &Handle,
    migration_runner: &MigrationRunner,
    wanted: &[MigrationRequest],
) -> Result<(), Fault> {
    let recipes = migration_runner.recipes();
    for one in wanted {
        let plan = one.plan(recipes)?;
        if plan.dry_run {
            let database = &plan.database;
            let message = format!("the migration of {database} at the start cannot be a dry run");
            let place = paths::as_argument(&paths::from_host(database));
            let recipe = paths::as_argument(Path::new(&one.recipe));
            let hint = format!(
                "remove dry_run from the configuration, or run `groundskeeper migrate {place} \
                 --recipe {recipe} --dry-run`"
            );
            return Err(Fault::new(Code::InvalidConfig, message, hint));
        }
        let recipe = recipes.find(&plan)?;
        let database = paths::from_host(&plan.database);
        // The application creates the database. An interrupted migration is settled first, below.
        if !database.exists() && !is_interrupted(&plan, recipes) {
            tracing::info!(database = %database.display(), "the database does not exist yet");
            migration_runner.own(&plan.database, &*recipe)?;
            continue;
        }
        // The engine resumes an earlier daemon's migration as an owed step. Its result does not
        // matter here: the database itself is checked next.
        let underway = handle.view(|s| s.migrating(&plan.database).map(|m| m.id.clone()));
        if let Some(id) = underway {
            drop(settled(handle, &id).await?);
        }
        let brought_up = bring_up_one(handle, &plan, &*recipe, recipes).await;
        if let Err(fault) = &brought_up
            && fault.code == Code::DatabaseForeign
        {
            // A database of another application is no reason to keep the daemon from its other
            // work. It is neither locked nor changed.
            tracing::warn!(database = %database.display(), %fault, "the database is left alone");
            continue;
        }
        brought_up?;
        migration_runner.own(&plan.database, &*recipe)?;
        let installed_by = handle.view(|state| {
            let own = state.migrations().filter(|m| m.plan.database == plan.database);
            own.filter(|m| m.has_migrated()).max_by_key(|m| m.seq).cloned()
        });
        for step in migration_runner.make_ready(&plan, &*recipe, installed_by.as_ref())? {
            tracing::info!(database = %database.display(), step, "a startup step was done");
        }
    }
    Ok(())
}

/// Migrates one database if it is of the old generation or an earlier migration was interrupted.
async fn bring_up_one(
    handle: &Handle,
    plan: &MigrationPlan,
    recipe: &dyn Recipe,
    recipes: &Recipes,
) -> Result<(), Fault> {
    let database = paths::from_host(&plan.database);
    if !is_interrupted(plan, recipes) && !is_old(&database, recipe)? {
        return Ok(());
    }
    let id = standalone::new_id()?;
    let origin = crate::core::event::Origin::Daemon;
    let actor = Actor { origin, uid: 0, pid: std::process::id() };
    let command = Command::Migrate { migration: id.clone(), plan: plan.clone(), actor };
    handle.submit(command).await?;
    log_result(&settled(handle, &id).await?, &database)
}

async fn settled(handle: &Handle, id: &MigrationId) -> Result<Migration, Fault> {
    let mut head = handle.head();
    loop {
        // Before the state is read, so that a record appended in between wakes the wait.
        head.borrow_and_update();
        let found = handle.view(|state| state.migration(id).filter(|m| m.is_over()).cloned());
        if let Some(done) = found {
            return Ok(done);
        }
        if head.changed().await.is_err() {
            let hint = "read the log of the daemon; the migration resumes at the next start";
            return Err(Fault::new(Code::ShuttingDown, "the engine ended", hint));
        }
    }
}

/// Logs the result of a migration for the user, or returns its fault.
fn log_result(done: &Migration, database: &Path) -> Result<(), Fault> {
    if done.phase == MigrationPhase::Failed
        && let Some(fault) = &done.fault
    {
        return Err(fault.clone());
    }
    for warning in done.warnings() {
        tracing::warn!(database = %database.display(), "{warning}");
    }
    if let Some(backup) = &done.backup {
        tracing::info!(database = %database.display(), %backup, "migrated; the backup is kept");
    }
    Ok(())
}
