//! Handlers for staged migrations: start one for a database, report its state, undo it.

use axum::Json;
use axum::extract::{Extension, State};
use serde::Deserialize;

use crate::api::shared::Shared;
use crate::api::types::WaitQuery;
use crate::core::event::Actor;
use crate::http::extract::{Answer, Body, Named, Params};
use crate::service::migrations;
pub use crate::service::types::migration::{MigrationView, NewMigration, ProgressView, TableView};
pub use crate::service::types::prune::{NewPrune, PruneView, PrunedView};

/// Carries a database to its next generation. The answer comes when the request is durable, or with
/// `wait` when it is over. A database that is there already is said to be `current`.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/migrations",
    operation_id = "start_migration",
    params(WaitQuery),
    request_body = NewMigration,
    responses((status = 200, body = MigrationView), crate::http::openapi::Failure),
))]
pub(super) async fn create(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Params(query): Params<WaitQuery>,
    Body(new): Body<NewMigration>,
) -> Answer<Json<MigrationView>> {
    Ok(Json(migrations::create(&app, actor, new, query.wait).await?))
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
    operation_id = "list_migrations",
    params(MigrationsQuery),
    responses((status = 200, body = [MigrationView]), crate::http::openapi::Failure),
))]
pub(super) async fn list(
    State(app): Shared,
    Params(query): Params<MigrationsQuery>,
) -> Json<Vec<MigrationView>> {
    Json(migrations::list(&app, query.database.as_deref()))
}

/// One migration. With `wait` the answer comes when it is over.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/migrations/{id}",
    operation_id = "show_migration",
    params(WaitQuery),
    responses((status = 200, body = MigrationView), crate::http::openapi::Failure),
))]
pub(super) async fn show(
    State(app): Shared,
    Named(id): Named,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<MigrationView>> {
    Ok(Json(migrations::show(&app, &id, query.wait).await?))
}

/// Ends a migration that has not begun to install the new database. One that has is refused; an
/// undo leads back then.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/migrations/{id}/cancel",
    operation_id = "cancel_migration",
    params(WaitQuery),
    responses((status = 200, body = MigrationView), crate::http::openapi::Failure),
))]
pub(super) async fn cancel(
    State(app): Shared,
    Named(id): Named,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<MigrationView>> {
    Ok(Json(migrations::cancel(&app, &id, query.wait).await?))
}

/// Lists what migrations keep: old databases, what an undo put aside, secrets kept for an undo.
/// Removes what is old enough and not needed any more if asked to.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/migrations/prune",
    operation_id = "prune_migrations",
    request_body = NewPrune,
    responses((status = 200, body = PruneView), crate::http::openapi::Failure),
))]
pub(super) async fn prune(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<NewPrune>,
) -> Answer<Json<PruneView>> {
    Ok(Json(migrations::prune(&app, &actor, wanted).await?))
}

/// How a migration is undone.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub(super) struct UndoQuery {
    /// Seconds; without it the answer comes at once.
    #[serde(default)]
    wait: Option<u64>,
    /// Put the old database back also when the new one was written to, which is kept aside.
    #[serde(default)]
    keep_new: bool,
}

/// Puts the old database back, while the new one is as it was installed.
/// With `keep_new` a new one that was written to is put aside.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/migrations/{id}/undo",
    operation_id = "undo_migration",
    params(UndoQuery),
    responses((status = 200, body = MigrationView), crate::http::openapi::Failure),
))]
pub(super) async fn undo(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
    Params(query): Params<UndoQuery>,
) -> Answer<Json<MigrationView>> {
    Ok(Json(migrations::undo(&app, &id, actor, query.keep_new, query.wait).await?))
}
