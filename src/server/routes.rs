//! The server's HTTP API: all routes, and the handlers for hosts and operations.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};

use super::types::{HostKey, HostView, NewHost, OperationView};
use super::{catalog, environments, operations};
use crate::http::extract::{Body, Named};
use crate::http::problem::{Refusal, invalid};
use crate::http::{Error, body};
use crate::server::app::{ApiResult, Server, Shared, host_name, no_operation};
use crate::server::{connections, workspace};
use crate::service::types::live_set::ConfirmView;

/// The `OpenAPI` document of the control server: the committed file, as it is.
pub const OPENAPI: &str = include_str!("../../schema/openapi-server.json");

/// Limit of a request body of a control server, in bytes. The host that carries out the request has
/// limits of its own.
const BODY_BYTES_MAX: usize = 2 << 20;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/hosts", get(hosts).post(add_host))
        .route("/v1/hosts/{host}", get(host).delete(remove_host))
        .route("/v1/hosts/{host}/confirm", post(confirm))
        .route("/v1/hosts/{host}/environments", get(environments::list).post(environments::create))
        .route(
            "/v1/hosts/{host}/environments/{id}",
            get(environments::show).delete(environments::destroy),
        )
        .route("/v1/hosts/{host}/environments/{id}/cancel", post(environments::cancel))
        .route("/v1/hosts/{host}/environments/{id}/restore", post(environments::restore))
        .route(
            "/v1/hosts/{host}/environments/{id}/retire",
            post(environments::retire).delete(environments::revive),
        )
        .route("/v1/hosts/{host}/environments/{id}/status", get(workspace::status))
        .route("/v1/hosts/{host}/environments/{id}/diff", get(workspace::diff))
        .route("/v1/hosts/{host}/environments/{id}/exec", post(workspace::exec))
        .route(
            "/v1/hosts/{host}/environments/{id}/threads",
            get(workspace::list_threads).post(workspace::start_thread),
        )
        .route("/v1/hosts/{host}/threads/{id}", delete(workspace::end_thread))
        .route("/v1/operations/{id}", get(operation))
        .route("/v1/events", get(connections::notifications))
        .route("/v1/session", get(connections::session))
        .route("/v1/openapi.json", get(|| async { OPENAPI }))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { Refusal::from(Error::UnknownPath) })
        .method_not_allowed_fallback(|| async { Refusal::from(Error::UnknownMethod) })
        .layer(body::limit(BODY_BYTES_MAX))
        .with_state(shared)
}

/// All hosts.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/hosts",
    operation_id = "list_hosts",
    responses((status = 200, body = Vec<HostView>), crate::http::openapi::Failure),
))]
pub(super) async fn hosts(State(shared): Server) -> ApiResult<Json<Vec<HostView>>> {
    let found = shared.catalog.with(catalog::hosts).await?;
    let view = |host: &catalog::Host| HostView::of(host, shared.registry.session(&host.id));
    Ok(Json(found.iter().map(view).collect()))
}

/// Adds a host, or gives a known one another key.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/hosts",
    operation_id = "add_host",
    request_body = NewHost,
    responses((status = 201, body = HostKey), crate::http::openapi::Failure),
))]
pub(super) async fn add_host(
    State(shared): Server,
    Body(wanted): Body<NewHost>,
) -> ApiResult<(StatusCode, Json<HostKey>)> {
    let id = host_name(&wanted.id)?;
    let name = id.clone();
    let key = shared.catalog.with(move |tx| catalog::add_host(tx, &name, wanted.replace)).await?;
    Ok((StatusCode::CREATED, Json(HostKey { id, key })))
}

/// One host.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/hosts/{host}",
    operation_id = "show_host",
    responses((status = 200, body = HostView), crate::http::openapi::Failure),
))]
pub(super) async fn host(State(shared): Server, Named(id): Named) -> ApiResult<Json<HostView>> {
    let name = id.clone();
    let found = shared.catalog.with(move |tx| catalog::host(tx, &name)).await?;
    Ok(Json(HostView::of(&found, shared.registry.session(&id))))
}

/// Forgets a host. On the host itself nothing happens.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/hosts/{host}",
    operation_id = "remove_host",
    responses((status = 204), crate::http::openapi::Failure),
))]
pub(super) async fn remove_host(State(shared): Server, Named(id): Named) -> ApiResult<StatusCode> {
    let name = id.clone();
    shared.catalog.with(move |tx| catalog::remove_host(tx, &name)).await?;
    shared.registry.wake(&id);
    Ok(StatusCode::NO_CONTENT)
}

/// Lets the live set that a host holds back take effect: somebody has looked at what goes.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/hosts/{host}/confirm",
    operation_id = "confirm_live_set",
    request_body = ConfirmView,
    responses((status = 202), crate::http::openapi::Failure),
))]
pub(super) async fn confirm(
    State(shared): Server,
    Named(id): Named,
    Body(wanted): Body<ConfirmView>,
) -> ApiResult<StatusCode> {
    let name = id.clone();
    let known = shared.catalog.with(move |tx| catalog::host(tx, &name)).await?;
    if known.epoch != wanted.epoch {
        let message = format!("the live set of {id} now has epoch {}", known.epoch);
        return Err(invalid(message).into());
    }
    shared.registry.confirm(&id, wanted.epoch)?;
    Ok(StatusCode::ACCEPTED)
}

/// One operation.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/operations/{id}",
    operation_id = "show_operation",
    responses((status = 200, body = OperationView), crate::http::openapi::Failure),
))]
pub(super) async fn operation(
    State(shared): Server,
    Named(id): Named,
) -> ApiResult<Json<OperationView>> {
    let name = id.clone();
    let found = shared.catalog.with(move |tx| operations::find(tx, &name)).await?;
    Ok(Json(OperationView::of(found.ok_or_else(|| no_operation(&id))?)))
}
