//! Handlers for the processes of environments, and the commands that the user starts in them.

use axum::Json;
use axum::extract::{Extension, State};

use crate::api::shared::Shared;
use crate::api::types::ProcessView;
use crate::core::event::Actor;
use crate::http::extract::{Answer, Body, Named, environment_id};
use crate::service::outcome::Outcome;
use crate::service::processes;
pub use crate::service::types::process::Launch;

/// The processes that live in an environment, and those that merely have to do with it.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments/{id}/processes",
    operation_id = "list_processes",
    responses((status = 200, body = Vec<ProcessView>), crate::http::openapi::Failure),
))]
pub(super) async fn processes(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
) -> Answer<Json<Vec<ProcessView>>> {
    Ok(Json(processes::list(&app, &environment_id(&id)?, actor).await?))
}

/// Records a command that is about to run in an environment, so that its end can be seen to.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/processes",
    operation_id = "register_process",
    request_body = Launch,
    responses((status = 201, body = ProcessView), crate::http::openapi::Failure),
))]
pub(super) async fn launch(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
    Body(wanted): Body<Launch>,
) -> Answer<Outcome<ProcessView>> {
    Ok(processes::launch(&app, environment_id(&id)?, actor, wanted).await?)
}

/// A command that was recorded is over; an unknown one is a success.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/environments/{id}/processes/{pid}",
    operation_id = "report_exit",
    responses((status = 204), crate::http::openapi::Failure),
))]
pub(super) async fn exited(
    State(app): Shared,
    Named((id, pid)): Named<(String, u32)>,
) -> Answer<Outcome<()>> {
    processes::exited(&app, environment_id(&id)?, pid).await?;
    Ok(Outcome::Empty)
}
