//! Handlers that show and change which hooks the user trusts: by content hash, per repository.

use axum::Json;
use axum::extract::{Extension, State};

use crate::api::shared::Shared;
use crate::api::types::{TrustRequest, TrustView};
use crate::core::event::Actor;
use crate::http::extract::{Answer, Body, Params};
use crate::service::trust;

/// What is trusted in a repository, and the hook it has now.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/trust",
    operation_id = "show_trust",
    params(("repo" = String, Query, description = "a directory in it")),
    responses((status = 200, body = TrustView), crate::http::openapi::Failure),
))]
pub(super) async fn show(
    State(app): Shared,
    Params(query): Params<TrustRequest>,
) -> Answer<Json<TrustView>> {
    Ok(Json(trust::show(&app, &query.repo).await?))
}

/// Trusts the hook with the given hash, or takes all trust back.
#[cfg_attr(test, utoipa::path(
    put,
    path = "/v1/trust",
    operation_id = "set_trust",
    request_body = TrustRequest,
    responses((status = 200, body = TrustView), crate::http::openapi::Failure),
))]
pub(super) async fn set(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<TrustRequest>,
) -> Answer<Json<TrustView>> {
    Ok(Json(trust::set(&app, actor, wanted).await?))
}
