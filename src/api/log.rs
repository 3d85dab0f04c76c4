//! Handlers that expose the log itself: its stored records, and the hash of the state they fold to.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::shared::Shared;
use crate::core::Seq;
use crate::http::extract::{Answer, Params};
pub use crate::service::types::log::StateView;
use crate::service::{App, log};

/// Which part of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// Only records after this one.
    #[serde(default)]
    pub since: u64,
    /// Go on with what comes; the stream has no end then.
    #[serde(default)]
    pub follow: bool,
}

/// Returns the routes of this file.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/log", get(records)).route("/v1/log/state", get(state))
}

/// The records of the log as they stand there: a flat log, which `replay` reads.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/log",
    operation_id = "list_records",
    params(LogQuery),
    responses(
        (status = 200, description = "a flat log", body = String, content_type = "application/octet-stream"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn records(
    State(app): Shared,
    Params(query): Params<LogQuery>,
) -> Answer<Response> {
    let parts = ReceiverStream::new(log::copy(&app, Seq(query.since), query.follow)?);
    let mut response = Body::from_stream(parts.map(Ok::<_, Infallible>)).into_response();
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// The hash of the state. Whoever folds the log up to the same record has the same.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/log/state",
    operation_id = "show_state",
    responses((status = 200, body = StateView), crate::http::openapi::Failure),
))]
pub(super) async fn state(State(app): Shared) -> Answer<Json<StateView>> {
    Ok(Json(log::digest(&app)?))
}
