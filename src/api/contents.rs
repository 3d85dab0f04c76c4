//! Handlers for the contents of environments: removal evidence, sizes, adoption.

use axum::Json;
use axum::extract::{Extension, State};

use crate::api::shared::Shared;
use crate::api::types::EnvironmentView;
use crate::core::event::Actor;
use crate::http::extract::{Answer, Body, Named, environment_id};
use crate::service::contents;
use crate::service::outcome::Outcome;
pub use crate::service::types::contents::{Adoption, EvidenceView, SizeView, UsageView};

/// The evidence on whether an environment may go. Changes nothing.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments/{id}/evidence",
    operation_id = "show_work_at_risk",
    responses((status = 200, body = EvidenceView), crate::http::openapi::Failure),
))]
pub(super) async fn evidence(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
) -> Answer<Json<EvidenceView>> {
    Ok(Json(contents::evidence(&app, &environment_id(&id)?, actor).await?))
}

/// Measures an environment.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments/{id}/usage",
    operation_id = "show_usage",
    responses((status = 200, body = UsageView), crate::http::openapi::Failure),
))]
pub(super) async fn usage(State(app): Shared, Named(id): Named) -> Answer<Json<UsageView>> {
    Ok(Json(contents::usage(&app, &environment_id(&id)?).await?))
}

/// Takes in a worktree that somebody else made: it is watched and leased, and never deleted.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/adopt",
    operation_id = "adopt_worktree",
    request_body = Adoption,
    responses((status = 201, body = EnvironmentView), crate::http::openapi::Failure),
))]
pub(super) async fn adopt(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<Adoption>,
) -> Answer<Outcome<EnvironmentView>> {
    Ok(contents::adopt(&app, actor, wanted).await?)
}
