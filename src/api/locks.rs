//! Handler that lists git's lock files in the repositories of environments.

use axum::Json;
use axum::extract::State;

use crate::api::shared::Shared;
use crate::http::extract::Answer;
use crate::service::locks;
pub use crate::service::types::lock::LockView;

/// Lists the locks of git in every repository that has an environment, or something kept of one.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/locks",
    operation_id = "list_locks",
    responses((status = 200, body = Vec<LockView>), crate::http::openapi::Failure),
))]
pub(super) async fn locks(State(app): Shared) -> Answer<Json<Vec<LockView>>> {
    Ok(Json(locks::list(&app).await?))
}
