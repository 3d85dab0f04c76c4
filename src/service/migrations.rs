//! Use cases of staged migrations: start one for a database, report its state, undo it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::core::event::{Actor, MigrationPlan, Origin};
use crate::core::{Code, Command, Fault, Migration, MigrationId};
use crate::migrate::prune;
use crate::migrate::recipes::Recipes;
use crate::migrate::request::{MigrationRequest, is_interrupted};
use crate::migrate::standalone;
use crate::service::app::{App, wait_until};
use crate::service::blocking::blocking;
use crate::service::requests::invalid;
use crate::service::types::migration::{MigrationView, NewMigration};
use crate::service::types::prune::{NewPrune, PruneView};
use crate::world::fs::paths;

/// Migrates a database to its next generation. Returns when the request is durable, or with `wait`
/// when the migration has ended. A database that needs no migration is `current`.
///
/// # Errors
/// If the request is invalid or refused, or comes from a control server.
pub(crate) async fn create(
    app: &Arc<App>,
    actor: Actor,
    new: NewMigration,
    wait: Option<u64>,
) -> Result<MigrationView, Fault> {
    if actor.origin == Origin::Session {
        let hint = "run `groundskeeper migrate DB --recipe NAME` on the host itself";
        let message = "a control server may not migrate databases";
        return Err(Fault::new(Code::PermissionDenied, message, hint));
    }
    let wanted = wanted(new)?;
    let runner = Arc::clone(&app.migration_runner);
    let plan = blocking(move || wanted.plan(runner.recipes())).await?;
    let (inspected_plan, runner) = (plan.clone(), Arc::clone(&app.migration_runner));
    if !blocking(move || has_work(&inspected_plan, runner.recipes())).await? {
        return Ok(MigrationView::current(&plan));
    }
    let (migration, database) = (standalone::new_id()?, plan.database.clone());
    let command = Command::Migrate { migration: migration.clone(), plan, actor };
    app.handle.submit(command).await?;
    // The same migration may have been requested before. This request then joins it, and the new
    // id is not in the state.
    let joined = app.handle.view(|state| {
        let own = state.migration(&migration).map(|m| m.id.clone());
        own.or_else(|| {
            let same = state.migrations().filter(|m| m.plan.database == database);
            same.max_by_key(|m| m.seq).map(|m| m.id.clone())
        })
    });
    let id = joined.unwrap_or(migration);
    settled(app, &id, wait).await
}

/// Returns whether a migration has anything to do. Every start of an application checks this, so it
/// reads no more than it needs.
fn has_work(plan: &MigrationPlan, recipes: &Recipes) -> Result<bool, Fault> {
    if is_interrupted(plan, recipes) {
        return Ok(true);
    }
    let recipe = recipes.find(plan)?;
    crate::migrate::recipe::is_old(paths::borrowed(&plan.database), &*recipe)
}

fn wanted(new: NewMigration) -> Result<MigrationRequest, Fault> {
    let absolute = |text: String| {
        let path = PathBuf::from(text);
        if path.is_absolute() { Ok(path) } else { Err(invalid("paths must be absolute")) }
    };
    Ok(MigrationRequest {
        database: absolute(new.database)?,
        recipe: new.recipe,
        auth: new.auth.map(absolute).transpose()?,
        tenant: new.tenant,
        on_conflict: new.on_conflict,
        dry_run: new.dry_run,
    })
}

async fn settled(app: &App, id: &MigrationId, wait: Option<u64>) -> Result<MigrationView, Fault> {
    if let Some(seconds) = wait {
        let over = |state: &crate::core::State| {
            state.migration(id).is_none_or(crate::core::Migration::is_over)
        };
        match wait_until(app, seconds, over).await {
            // After a timeout the current phase is the answer.
            Err(fault) if fault.code == Code::Timeout => {}
            waited => waited?,
        }
    }
    let found = app.handle.view(|state| state.migration(id).cloned());
    let found = found.ok_or_else(|| not_found(id.as_str()))?;
    if found.is_over() {
        let (migration_runner, handle) = (Arc::clone(&app.migration_runner), app.handle.clone());
        blocking(move || {
            migration_runner
                .remove_unused_recipes(|id| handle.view(|state| state.wants_recipe(id)));
            Ok(())
        })
        .await?;
    }
    Ok(view(app, &found))
}

fn view(app: &App, migration: &Migration) -> MigrationView {
    MigrationView::of(migration, app.migration_runner.progress(&migration.id))
}

fn not_found(id: &str) -> Fault {
    let hint = "run `groundskeeper migrate status` to list migrations";
    Fault::new(Code::MigrationNotFound, format!("there is no migration {id}"), hint)
}

fn parse(id: &str) -> Result<MigrationId, Fault> {
    MigrationId::parse(id).map_err(|_| not_found(id))
}

/// Lists the migrations in the state, the latest first; with `database` only those of one.
pub(crate) fn list(app: &App, database: Option<&str>) -> Vec<MigrationView> {
    let only = |m: &&Migration| database.is_none_or(|path| m.plan.database.to_string() == *path);
    let mut found: Vec<Migration> =
        app.handle.view(|state| state.migrations().filter(only).cloned().collect());
    found.sort_by_key(|m| std::cmp::Reverse(m.created_at));
    found.iter().map(|m| view(app, m)).collect()
}

/// Returns one migration; with `wait` when it has ended.
///
/// # Errors
/// If it does not exist.
pub(crate) async fn show(app: &App, id: &str, wait: Option<u64>) -> Result<MigrationView, Fault> {
    settled(app, &parse(id)?, wait).await
}

/// Ends a migration that has not begun to install the new database.
///
/// # Errors
/// If the migration does not exist, or has begun to install it.
pub(crate) async fn cancel(app: &App, id: &str, wait: Option<u64>) -> Result<MigrationView, Fault> {
    let migration = parse(id)?;
    app.handle.submit(Command::CancelMigration { migration: migration.clone() }).await?;
    settled(app, &migration, wait).await
}

/// Lists what migrations keep, and removes what may be removed if asked to.
///
/// # Errors
/// If the request comes from a control server, or a file cannot be inspected or removed.
pub(crate) async fn prune(
    app: &Arc<App>,
    actor: &Actor,
    wanted: NewPrune,
) -> Result<PruneView, Fault> {
    if actor.origin == Origin::Session {
        let hint = "run `groundskeeper migrate prune --older-than 30d` on the host itself";
        let message = "a control server may not remove databases";
        return Err(Fault::new(Code::PermissionDenied, message, hint));
    }
    let (runner, handle) = (Arc::clone(&app.migration_runner), app.handle.clone());
    blocking(move || {
        let own = || {
            let migrations = handle.view(|state| state.migrations().cloned().collect());
            prune::Log::new(runner.home().to_owned(), migrations)
        };
        let report = prune::prune(&runner, &own, &wanted.request()?)?;
        Ok(PruneView::of(&wanted, &report))
    })
    .await
}

/// Restores the old database, while the new one is as it was installed. With `keep_new` a new one
/// that was written to is put aside.
///
/// # Errors
/// If the migration does not exist, or cannot be undone any more.
pub(crate) async fn undo(
    app: &App,
    id: &str,
    actor: Actor,
    keep_new: bool,
    wait: Option<u64>,
) -> Result<MigrationView, Fault> {
    let migration = parse(id)?;
    let command = Command::UndoMigration { migration: migration.clone(), actor, keep_new };
    app.handle.submit(command).await?;
    settled(app, &migration, wait).await
}
