//! Handlers for live sets: lists of the environments that must exist on this host, from a control
//! server or from the user in its place.

use axum::Json;
use axum::extract::{Extension, State};

use crate::api::shared::Shared;
use crate::core::event::Actor;
use crate::http::extract::{Answer, Body};
use crate::service::reconcile;
pub use crate::service::types::live_set::{
    BY_HAND, ConfirmView, KeptView, LiveView, ReconciledView,
};

/// Limit of the request body of a live set, in bytes.
pub(super) const LIVE_BYTES_MAX: usize = 2 << 20;

/// Makes this host agree with a live set: what is not listed and idle is torn down like anything
/// else, what is in use is kept, what is missing is named and not made again.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/reconcile",
    operation_id = "apply_live_set",
    request_body = LiveView,
    responses((status = 200, body = ReconciledView), crate::http::openapi::Failure),
))]
pub(super) async fn reconcile(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<LiveView>,
) -> Answer<Json<ReconciledView>> {
    Ok(Json(reconcile::apply_live_set(&app, wanted, actor).await?))
}

/// Lets a live set that waits take effect.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/reconcile/confirm",
    operation_id = "confirm_live_set",
    request_body = ConfirmView,
    responses((status = 200, body = ReconciledView), crate::http::openapi::Failure),
))]
pub(super) async fn confirm(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<ConfirmView>,
) -> Answer<Json<ReconciledView>> {
    Ok(Json(reconcile::confirm(&app, wanted.epoch, actor).await?))
}
