//! Handlers for the daemon itself: its description, its reload and its shutdown.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::api::shared::Shared;
use crate::api::types::DaemonView;
use crate::http::extract::Answer;
use crate::service::daemon;

/// What the daemon says of itself.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/daemon",
    operation_id = "show_daemon",
    responses((status = 200, body = DaemonView)),
))]
pub(super) async fn daemon(State(app): Shared) -> Json<DaemonView> {
    Json(daemon::describe(&app))
}

/// Asks the daemon to come to rest and end.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/shutdown",
    operation_id = "stop_daemon",
    responses((status = 202), crate::http::openapi::Failure),
))]
pub(super) async fn shutdown(State(app): Shared) -> StatusCode {
    daemon::shut_down(&app);
    StatusCode::ACCEPTED
}

/// Asks the daemon to start again in its process, with the settings as they are now.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/reload",
    operation_id = "reload_daemon",
    responses((status = 202), crate::http::openapi::Failure),
))]
pub(super) async fn reload(State(app): Shared) -> Answer<StatusCode> {
    daemon::reload(&app)?;
    Ok(StatusCode::ACCEPTED)
}
