//! Handlers for the environments of a host: list, provision, destroy, restore, retire.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde_json::{Value, json};

use super::types::{Destroy, Grace, NewEnvironment, RowView, WaitParams, Which};
use super::{catalog, operations, threads};
use crate::core::{Code, Fault};
use crate::http::extract::{Body, Named, Params, environment_id};
use crate::server::app::{ApiResult, Server, key, respond_with_operation};
use crate::server::operations::host_command;
use crate::server::store::{self, Applied};
use crate::server::transitions::{Change, Status};
use crate::session::protocol::HostCommand;

/// The environments of a host.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/hosts/{host}/environments",
    operation_id = "list_environments",
    params(Which),
    responses((status = 200, body = Vec<RowView>), crate::http::openapi::Failure),
))]
pub(super) async fn list(
    State(shared): Server,
    Named(id): Named,
    Params(which): Params<Which>,
) -> ApiResult<Json<Vec<RowView>>> {
    let found = shared.catalog.with(move |tx| {
        catalog::host(tx, &id)?;
        store::list(tx, &id, which.all)
    });
    Ok(Json(found.await?.into_iter().map(RowView::of).collect()))
}

/// One environment. One that was destroyed is answered for ever.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/hosts/{host}/environments/{id}",
    operation_id = "show_environment",
    responses((status = 200, body = RowView), crate::http::openapi::Failure),
))]
pub(super) async fn show(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
) -> ApiResult<Json<RowView>> {
    let found = shared.catalog.with(move |tx| store::get(tx, &host, &id)).await?;
    Ok(Json(RowView::of(found)))
}

/// Has an environment made.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/hosts/{host}/environments",
    operation_id = "create_environment",
    params(WaitParams, crate::http::openapi::Key),
    request_body = NewEnvironment,
    responses(
        (status = 200, body = super::types::OperationView, description = "over"),
        (status = 202, body = super::types::OperationView, description = "under way"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn create(
    State(shared): Server,
    Named(host): Named,
    headers: HeaderMap,
    Params(wait_params): Params<WaitParams>,
    Body(wanted): Body<NewEnvironment>,
) -> ApiResult<Response> {
    let id = environment_id(&wanted.id)?.to_string();
    let mut body = serde_json::to_value(&wanted).unwrap_or_default();
    if let Value::Object(fields) = &mut body {
        fields.remove("id");
    }
    let request = key(&headers)?;
    let command = host_command(&request, "environment.provision", &id, body);
    let host_id = host.clone();
    shared
        .catalog
        .with(move |tx| {
            catalog::host(tx, &host_id)?;
            request_provision(tx, &host_id, &command)
        })
        .await?;
    respond_with_operation(&shared, &host, &request, wait_params).await
}

/// Adds the operation that provisions or restores an environment; a repeated one changes nothing.
pub(super) fn request_provision(
    tx: &rusqlite::Transaction<'_>,
    host: &str,
    command: &HostCommand,
) -> Result<(), Fault> {
    if !operations::is_known(tx, command, host)? {
        store::request_incarnation(tx, host, &command.environment, &command.request)?;
    }
    operations::add(tx, command, host)
}

/// Has an environment destroyed. One that is over is a success.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/hosts/{host}/environments/{id}",
    operation_id = "remove_environment",
    params(Destroy, crate::http::openapi::Key),
    responses(
        (status = 200, body = super::types::OperationView, description = "over"),
        (status = 202, body = super::types::OperationView, description = "under way"),
        (status = 204, description = "it was destroyed already"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn destroy(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
    headers: HeaderMap,
    Params(query): Params<Destroy>,
) -> ApiResult<Response> {
    let request = key(&headers)?;
    let host_id = host.clone();
    let mode = if query.force { DestroyMode::Forced } else { DestroyMode::Safely };
    let started =
        shared.catalog.with(move |tx| request_destroy(tx, &host_id, &id, &request, mode)).await?;
    match started {
        Some(request) => {
            respond_with_operation(&shared, &host, &request, WaitParams { wait: query.wait }).await
        }
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// How to destroy an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DestroyMode {
    /// Work at risk makes the host refuse.
    Safely,
    /// Work at risk is rescued, and leases are broken.
    Forced,
    /// The grace period ended: work at risk is rescued, and an environment in use again is kept.
    Unused,
}

/// Starts a destroy, in the same transaction that checks that no thread uses the environment.
/// Returns the id of the operation; `None` if the environment is destroyed already.
pub(super) fn request_destroy(
    tx: &rusqlite::Transaction<'_>,
    host: &str,
    id: &str,
    request: &str,
    mode: DestroyMode,
) -> Result<Option<String>, Fault> {
    let known = store::get(tx, host, id)?;
    // The command names the incarnation, so that the host destroys no other. The number of one that
    // is being provisioned is not known here yet.
    let is_known = known.incarnation > 0 && known.status != Status::Provisioning;
    let life = is_known.then_some(known.incarnation);
    let body = json!({
        "force": mode != DestroyMode::Safely, "retire": mode == DestroyMode::Unused, "incarnation": life,
    });
    let command = host_command(request, "environment.destroy", id, body);
    // Checked first: a repeated request returns its operation, whatever the row is by now.
    if operations::is_known(tx, &command, host)? {
        return Ok(Some(request.to_owned()));
    }
    if known.status == Status::Destroyed {
        return Ok(None);
    }
    if let (Status::Destroying, Some(attempt)) = (known.status, known.attempt) {
        return Ok(Some(attempt));
    }
    let active = threads::active(tx, host, id)?;
    if !active.is_empty() && mode != DestroyMode::Forced {
        let message = format!("environment {id} is in use");
        let names = active.into_iter().map(|t| format!("{} {}", t.kind, t.id));
        let fault = Fault::new(Code::EnvironmentBusy, message, "end its threads, or use `force`");
        return Err(fault.with_evidence(names));
    }
    operations::add(tx, &command, host)?;
    match store::change(tx, host, id, Change::DestroyStarted, Some(request), None)? {
        Applied::Now(_) => Ok(Some(request.to_owned())),
        other => {
            let message = format!("cannot destroy environment {id} now: {other:?}");
            let hint = "retry when its current operation has ended";
            Err(Fault::new(Code::EnvironmentBusy, message, hint).transient())
        }
    }
}

/// Stops making an environment.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/hosts/{host}/environments/{id}/cancel",
    operation_id = "cancel_environment",
    params(WaitParams, crate::http::openapi::Key),
    responses(
        (status = 200, body = super::types::OperationView, description = "over"),
        (status = 202, body = super::types::OperationView, description = "under way"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn cancel(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
    headers: HeaderMap,
    Params(wait_params): Params<WaitParams>,
) -> ApiResult<Response> {
    let request = key(&headers)?;
    let command = host_command(&request, "environment.cancel", &id, json!({}));
    let host_id = host.clone();
    shared
        .catalog
        .with(move |tx| {
            store::get(tx, &host_id, &id)?;
            operations::is_known(tx, &command, &host_id)?;
            operations::add(tx, &command, &host_id)
        })
        .await?;
    respond_with_operation(&shared, &host, &request, wait_params).await
}

/// Has a destroyed environment brought back.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/hosts/{host}/environments/{id}/restore",
    operation_id = "restore_environment",
    params(WaitParams, crate::http::openapi::Key),
    responses(
        (status = 200, body = super::types::OperationView, description = "over"),
        (status = 202, body = super::types::OperationView, description = "under way"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn restore(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
    headers: HeaderMap,
    Params(wait_params): Params<WaitParams>,
) -> ApiResult<Response> {
    let request = key(&headers)?;
    let command = host_command(&request, "environment.restore", &id, json!({}));
    let host_id = host.clone();
    shared
        .catalog
        .with(move |tx| {
            store::get(tx, &host_id, &id)?;
            request_provision(tx, &host_id, &command)
        })
        .await?;
    respond_with_operation(&shared, &host, &request, wait_params).await
}

/// Lets an environment that nobody uses go after a while; its work is rescued.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/hosts/{host}/environments/{id}/retire",
    operation_id = "retire_environment",
    request_body = Grace,
    responses((status = 200, body = RowView), crate::http::openapi::Failure),
))]
pub(super) async fn retire(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
    Body(grace): Body<Grace>,
) -> ApiResult<Json<RowView>> {
    let at = catalog::now() + i64::from(grace.seconds) * 1_000;
    let found = shared.catalog.with(move |tx| {
        let known = store::get(tx, &host, &id)?;
        if !threads::active(tx, &host, &id)?.is_empty() {
            let message = format!("environment {id} is in use");
            return Err(Fault::new(Code::EnvironmentBusy, message, "end its threads first"));
        }
        if !matches!(known.status, Status::Ready | Status::Retiring) {
            let message = format!("environment {id} is {}", known.status.as_str());
            return Err(Fault::new(Code::EnvironmentBusy, message, "retire it when it is ready"));
        }
        store::change(tx, &host, &id, Change::Retire, None, None)?;
        store::retire_at(tx, &host, &id, at)?;
        store::get(tx, &host, &id)
    });
    Ok(Json(RowView::of(found.await?)))
}

/// Keeps an environment that was about to go.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/hosts/{host}/environments/{id}/retire",
    operation_id = "keep_environment",
    responses((status = 200, body = RowView), crate::http::openapi::Failure),
))]
pub(super) async fn revive(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
) -> ApiResult<Json<RowView>> {
    let found = shared.catalog.with(move |tx| {
        store::get(tx, &host, &id)?;
        store::change(tx, &host, &id, Change::Revive, None, None)?;
        store::get(tx, &host, &id)
    });
    Ok(Json(RowView::of(found.await?)))
}
