//! Handlers for staged migrations: start one for a database, report its state, undo it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::Path as UrlPath;
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};

use super::problem::invalid;
use super::types::{Problem, WaitQuery};
use super::unix_socket::BY_SESSION;
use crate::api::app::{App, blocking, wait_until};
use crate::api::extract::{Answer, Body, Params, Shared};
use crate::core::event::{Actor, MigrationPlan};
use crate::core::{Code, Command, Fault, Migration, MigrationId};
use crate::format::rfc3339;
use crate::migrate::recipes::Recipes;
use crate::migrate::request::{MigrationRequest, is_interrupted};
use crate::migrate::standalone;
use crate::world::fs::paths;

/// A request for a migration. Paths are absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewMigration {
    /// The database.
    pub database: String,
    /// Name of a recipe, or path of a folder of SQL files.
    pub recipe: String,
    /// The file with its secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// Who owns rows where the old database does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What happens to rows that cannot both be kept: `refuse`, `keep-first` or `rename`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<String>,
    /// Build and verify everything, and drop it.
    #[serde(default)]
    pub dry_run: bool,
}

/// A table before and after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct TableView {
    /// Its name.
    pub table: String,
    /// Rows in the old database; none when it had no such table.
    pub before: Option<u64>,
    /// Rows in the new one; none when it has no such table.
    pub after: Option<u64>,
}

/// What is being done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ProgressView {
    /// In a word.
    pub what: String,
    /// How much of it.
    pub done: u64,
    /// Of how much, as the old database has it; 0 when that is not known.
    pub of: u64,
    /// Of what: `bytes` of a copy, `rows` of a table.
    #[serde(default)]
    pub unit: String,
}

/// A migration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct MigrationView {
    /// Its name; empty when there was nothing to do.
    pub id: String,
    /// `current` (nothing to do), `started`, ..., `finished`, `failed`, `rehearsed`, `undone`.
    pub phase: String,
    /// Whether it installed a new database.
    pub migrated: bool,
    /// The database.
    pub database: String,
    /// The recipe.
    pub recipe: String,
    /// Whether it changes nothing.
    pub dry_run: bool,
    /// Where the old database is, once the new one is installed.
    pub backup: Option<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The recipe's numbers.
    #[cfg_attr(test, schema(value_type = Object))]
    pub report: serde_json::Value,
    /// Rows by table.
    pub tables: Vec<TableView>,
    /// How far an interrupted migration had come that was settled first; empty for none.
    pub taken_over: String,
    /// What could not be removed.
    pub leftovers: Vec<String>,
    /// Why it failed, or why the last attempt did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<Problem>,
    /// What is being done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub progress: Option<ProgressView>,
    /// When it was asked for.
    pub created_at: String,
    /// Whether it is over.
    pub over: bool,
    /// The last record about it.
    pub seq: u64,
}

impl MigrationView {
    fn of(app: &App, m: &Migration) -> Self {
        let staging = m.staging.as_ref();
        let report = staging.and_then(|s| serde_json::from_str(&s.report).ok());
        let seen = app.migration_runner.progress(&m.id);
        Self {
            id: m.id.to_string(),
            phase: m.phase.as_str().to_owned(),
            migrated: m.has_migrated(),
            database: m.plan.database.to_string(),
            recipe: name_of(&m.plan),
            dry_run: m.plan.dry_run,
            backup: m.backup.as_ref().map(ToString::to_string),
            warnings: m.warnings(),
            report: report.unwrap_or_else(|| serde_json::json!({})),
            tables: tables(m),
            taken_over: m.found.taken_over.clone(),
            leftovers: m.leftovers.clone(),
            error: m.fault.as_ref().map(Problem::of),
            progress: seen.map(|p| ProgressView {
                what: p.what,
                done: p.done,
                of: p.of,
                unit: p.unit.to_owned(),
            }),
            created_at: rfc3339(m.created_at),
            over: m.is_over(),
            seq: m.seq.0,
        }
    }

    fn current(plan: &MigrationPlan) -> Self {
        Self {
            phase: "current".to_owned(),
            database: plan.database.to_string(),
            recipe: name_of(plan),
            dry_run: plan.dry_run,
            report: serde_json::json!({}),
            over: true,
            ..Self::default()
        }
    }
}

fn name_of(plan: &MigrationPlan) -> String {
    if plan.recipe.is_empty() { plan.folder.to_string() } else { plan.recipe.clone() }
}

fn tables(m: &Migration) -> Vec<TableView> {
    let mut all: BTreeMap<&str, TableView> = BTreeMap::new();
    for (table, rows) in m.copy.iter().flat_map(|copy| &copy.rows) {
        all.entry(table).or_default().before = Some(*rows);
    }
    for (table, rows) in m.staging.iter().flat_map(|staging| &staging.rows) {
        all.entry(table).or_default().after = Some(*rows);
    }
    let named = all.into_iter();
    named.map(|(table, view)| TableView { table: table.to_owned(), ..view }).collect()
}

/// Carries a database to its next generation. The answer comes when the request is durable, or with
/// `wait` when it is over. A database that is there already is said to be `current`.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/migrations",
    params(WaitQuery),
    request_body = NewMigration,
    responses((status = 200, body = MigrationView), super::document::Failure),
))]
pub(super) async fn create(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Params(query): Params<WaitQuery>,
    Body(new): Body<NewMigration>,
) -> Answer<Json<MigrationView>> {
    if actor.door == BY_SESSION {
        let hint = "run `groundskeeper migrate` on the host itself";
        let message = "a control server may not migrate databases";
        return Err(Fault::new(Code::PermissionDenied, message, hint).into());
    }
    let wanted = wanted(new)?;
    let runner = Arc::clone(&app.migration_runner);
    let plan = blocking(move || wanted.plan(runner.recipes())).await?;
    let (inspected_plan, runner) = (plan.clone(), Arc::clone(&app.migration_runner));
    if !blocking(move || has_work(&inspected_plan, runner.recipes())).await? {
        return Ok(Json(MigrationView::current(&plan)));
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
    settled(&app, &id, query.wait).await
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

async fn settled(app: &App, id: &MigrationId, wait: Option<u64>) -> Answer<Json<MigrationView>> {
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
    Ok(Json(MigrationView::of(app, &found)))
}

fn not_found(id: &str) -> Fault {
    let hint = "run `groundskeeper migrate status` to list migrations";
    Fault::new(Code::MigrationNotFound, format!("there is no migration {id}"), hint)
}

fn parse(id: &str) -> Result<MigrationId, Fault> {
    MigrationId::parse(id).map_err(|_| not_found(id))
}

/// Which migrations.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
pub(super) struct MigrationsQuery {
    /// Only those of this database.
    database: Option<String>,
}

/// The migrations that are remembered, the latest first.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/migrations",
    params(MigrationsQuery),
    responses((status = 200, body = [MigrationView]), super::document::Failure),
))]
pub(super) async fn list(
    State(app): Shared,
    Params(query): Params<MigrationsQuery>,
) -> Json<Vec<MigrationView>> {
    let only = |m: &&Migration| {
        query.database.as_ref().is_none_or(|path| m.plan.database.to_string() == *path)
    };
    let mut found: Vec<Migration> =
        app.handle.view(|state| state.migrations().filter(only).cloned().collect());
    found.sort_by_key(|m| std::cmp::Reverse(m.created_at));
    Json(found.iter().map(|m| MigrationView::of(&app, m)).collect())
}

/// One migration. With `wait` the answer comes when it is over.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/migrations/{id}",
    params(WaitQuery),
    responses((status = 200, body = MigrationView), super::document::Failure),
))]
pub(super) async fn show(
    State(app): Shared,
    UrlPath(id): UrlPath<String>,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<MigrationView>> {
    settled(&app, &parse(&id)?, query.wait).await
}

/// Puts the old database back, while the new one is as it was installed.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/migrations/{id}/undo",
    params(WaitQuery),
    responses((status = 200, body = MigrationView), super::document::Failure),
))]
pub(super) async fn undo(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    UrlPath(id): UrlPath<String>,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<MigrationView>> {
    let migration = parse(&id)?;
    app.handle.submit(Command::UndoMigration { migration: migration.clone(), actor }).await?;
    settled(&app, &migration, query.wait).await
}
