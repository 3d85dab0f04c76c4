//! Handler for the sweep.

use axum::Json;
use axum::extract::{Extension, State};

use crate::api::shared::Shared;
use crate::api::types::WaitQuery;
use crate::core::event::Actor;
use crate::http::extract::{Answer, Body, Params};
use crate::service::sweep;
pub use crate::service::types::sweep::{FindingView, SweepRequest, SweepView};

/// Looks for what no record explains, and settles what is proven ours if asked to.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/sweep",
    operation_id = "sweep",
    params(WaitQuery),
    request_body = SweepRequest,
    responses((status = 200, body = SweepView), crate::http::openapi::Failure),
))]
pub(super) async fn sweep(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Params(query): Params<WaitQuery>,
    Body(wanted): Body<SweepRequest>,
) -> Answer<Json<SweepView>> {
    Ok(Json(sweep::sweep(&app, actor, wanted, query.wait).await?))
}
