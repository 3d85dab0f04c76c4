//! Handlers that move the rebuildable output of an environment to the trash and put it back.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::api::shared::Shared;
use crate::api::types::WaitQuery;
use crate::core::event::Actor;
use crate::http::extract::{Answer, Named, Params, environment_id};
pub use crate::service::types::clean::{CleanedView, NotMovedView, UndoneView};
use crate::service::{App, clean};

/// How to clean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct CleanQuery {
    /// Seconds to wait for the end.
    #[serde(default)]
    pub wait: Option<u64>,
    /// Unlink it at once: it cannot be put back.
    #[serde(default)]
    pub now: bool,
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/environments/{id}/clean", get(preview).post(clean))
        .route("/v1/environments/{id}/clean/undo", post(undo))
}

/// Returns what a clean would take, and changes nothing.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments/{id}/clean",
    operation_id = "preview_clean",
    responses((status = 200, body = CleanedView), crate::http::openapi::Failure),
))]
pub(super) async fn preview(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
) -> Answer<Json<CleanedView>> {
    Ok(Json(clean::preview(&app, &environment_id(&id)?, actor).await?))
}

/// Moves the rebuildable output of an environment to the trash, and nothing else.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/clean",
    operation_id = "clean_environment",
    params(CleanQuery),
    responses((status = 200, body = CleanedView), crate::http::openapi::Failure),
))]
pub(super) async fn clean(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
    Params(query): Params<CleanQuery>,
) -> Answer<Json<CleanedView>> {
    let id = environment_id(&id)?;
    Ok(Json(clean::clean(&app, &id, query.now, actor, query.wait).await?))
}

/// Puts back what the last clean took, as far as it is still there and its place is free.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/clean/undo",
    operation_id = "undo_clean",
    params(WaitQuery),
    responses((status = 200, body = UndoneView), crate::http::openapi::Failure),
))]
pub(super) async fn undo(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<UndoneView>> {
    Ok(Json(clean::undo(&app, &environment_id(&id)?, actor, query.wait).await?))
}
