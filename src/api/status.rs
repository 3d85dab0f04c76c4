//! Handlers for the status of one environment or all, and for the changes as a patch.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::api::shared::Shared;
use crate::http::extract::{Answer, Named, Params, environment_id};
use crate::service::status;
pub use crate::service::types::status::{DiffView, FileView, StatusEntry, StatusView};

/// What one environment looks like. Asking starts no watch and brings nothing back: one that is
/// destroyed is answered 410.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments/{id}/status",
    operation_id = "show_status",
    responses((status = 200, body = StatusView), crate::http::openapi::Failure),
))]
pub(super) async fn one(State(app): Shared, Named(id): Named) -> Answer<Json<StatusView>> {
    Ok(Json(status::one(&app, &environment_id(&id)?).await?))
}

/// What all living environments look like. One that cannot be looked at holds up no other.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/status",
    operation_id = "list_statuses",
    responses((status = 200, body = Vec<StatusEntry>), crate::http::openapi::Failure),
))]
pub(super) async fn all(State(app): Shared) -> Answer<Json<Vec<StatusEntry>>> {
    Ok(Json(status::all(&app).await?))
}

/// How much of a patch, and against what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// Compare with the last commit instead of the base.
    #[serde(default)]
    pub head: bool,
    /// Most bytes of the patch; 256 KiB if left out, 16 MiB at most.
    pub max_bytes: Option<u32>,
}

/// The changes of tracked files since the environment was made, or since the last commit.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments/{id}/diff",
    operation_id = "show_diff",
    params(DiffQuery),
    responses((status = 200, body = DiffView), crate::http::openapi::Failure),
))]
pub(super) async fn diff(
    State(app): Shared,
    Named(id): Named,
    Params(query): Params<DiffQuery>,
) -> Answer<Json<DiffView>> {
    let id = environment_id(&id)?;
    Ok(Json(status::diff(&app, &id, query.head, query.max_bytes).await?))
}
