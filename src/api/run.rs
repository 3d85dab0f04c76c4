//! Handler that runs a command in an environment for a remote client.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;

use crate::api::shared::Shared;
use crate::core::event::Actor;
use crate::http::extract::{Answer, Body, Named, environment_id, request_id};
use crate::service::runs;
pub use crate::service::types::run::{RunRequest, RunView};

/// Runs a command in an environment and answers when it is over. The same `Idempotency-Key` again
/// runs nothing: the answer is how the first one ended.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/run",
    operation_id = "run_command",
    params(crate::http::openapi::Key),
    request_body = RunRequest,
    responses((status = 200, body = RunView), crate::http::openapi::Failure),
))]
pub(super) async fn run(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Named(id): Named,
    Body(wanted): Body<RunRequest>,
) -> Answer<Json<RunView>> {
    let (id, request) = (environment_id(&id)?, request_id(&headers)?);
    let keyed = app.keys.compare(request.as_ref(), &("run", &id, &wanted))?;
    let run = runs::run(&app, id, actor, request, wanted).await?;
    app.keys.remember(keyed);
    Ok(Json(run))
}
