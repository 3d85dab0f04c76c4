//! Handlers for the use of environments: threads, status and diff of worktrees, commands.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde_json::{Value, json};

use crate::core::{Code, Fault};
use crate::http::extract::{Body, Named, Params, environment_id};
use crate::http::problem::invalid;
use crate::server::app::{ApiResult, Server, Shared, key, respond_with_operation};
use crate::server::operations::{self, host_command};
use crate::server::store;
use crate::server::threads::{self, Thread, claim};
use crate::server::transitions::Status;
use crate::server::types::{Diff, Exec, NewThread, ThreadView, WaitParams};
use crate::session::connector::random_name;
use crate::session::protocol::Answer;

/// Timeout of a question to a host.
const QUESTION_LIMIT: Duration = Duration::from_secs(60);

/// What the worktree of an environment looks like.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/hosts/{host}/environments/{id}/status",
    operation_id = "show_status",
    responses(
        (status = 200, description = "as the daemon's API answers"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn status(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
) -> ApiResult<Response> {
    query(&shared, &host, "workspace.status", &id, json!({})).await
}

/// The changes in the worktree of an environment.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/hosts/{host}/environments/{id}/diff",
    operation_id = "show_diff",
    params(Diff),
    responses(
        (status = 200, description = "as the daemon's API answers"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn diff(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
    Params(what): Params<Diff>,
) -> ApiResult<Response> {
    let body = json!({ "head": what.head, "bytes": what.bytes });
    query(&shared, &host, "workspace.diff", &id, body).await
}

/// Sends a read-only command to the host and passes its answer on.
async fn query(
    shared: &Arc<Shared>,
    host: &str,
    command: &str,
    id: &str,
    body: Value,
) -> ApiResult<Response> {
    let (host_id, name) = (host.to_owned(), id.to_owned());
    let known = shared.catalog.with(move |tx| store::get(tx, &host_id, &name)).await?;
    if known.status == Status::Destroyed {
        return Err(crate::core::destroyed(&environment_id(id)?).into());
    }
    let answer = shared.registry.query(host, host_command(&random_name(), command, id, body))?;
    let answer = tokio::time::timeout(QUESTION_LIMIT, answer).await.map_err(|_| {
        let message = format!("{host} did not answer within {} s", QUESTION_LIMIT.as_secs());
        let hint = "check the session with `groundskeeper host ls`, then retry";
        Fault::new(Code::Timeout, message, hint).transient()
    })?;
    let Answer { status, body, .. } =
        answer.map_err(|_| crate::server::registry::no_session(host))?;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    Ok((status, Json(body)).into_response())
}

/// Runs a command in an environment, once however often it is asked for with the same key.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/hosts/{host}/environments/{id}/exec",
    operation_id = "run_command",
    params(WaitParams),
    request_body = Exec,
    responses(
        (status = 200, body = super::types::OperationView, description = "over"),
        (status = 202, body = super::types::OperationView, description = "under way"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn exec(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
    headers: HeaderMap,
    Params(wait_params): Params<WaitParams>,
    Body(wanted): Body<Exec>,
) -> ApiResult<Response> {
    let request = key(&headers)?;
    let (host_id, name) = (host.clone(), request.clone());
    shared
        .catalog
        .with(move |tx| {
            let known = store::get(tx, &host_id, &id)?;
            if !known.status.is_live() {
                return Err(crate::core::destroyed(&environment_id(&id)?));
            }
            let mut body =
                json!({ "argv": wanted.argv, "timeout_seconds": wanted.timeout_seconds });
            if let Some(thread) = &wanted.thread {
                let thread = crate::server::usage::in_use(tx, &host_id, thread)?;
                if thread.environment != id {
                    let message = format!(
                        "thread {} belongs to environment {}",
                        thread.id, thread.environment
                    );
                    return Err(invalid(message));
                }
                body["lease"] = json!(thread.lease);
            }
            let command = host_command(&name, "exec", &id, body);
            operations::is_known(tx, &command, &host_id)?;
            operations::add(tx, &command, &host_id)
        })
        .await?;
    respond_with_operation(&shared, &host, &request, wait_params).await
}

/// The active threads of an environment.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/hosts/{host}/environments/{id}/threads",
    operation_id = "list_threads",
    responses((status = 200, body = Vec<ThreadView>), crate::http::openapi::Failure),
))]
pub(super) async fn list_threads(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
) -> ApiResult<Json<Vec<ThreadView>>> {
    let found = shared.catalog.with(move |tx| {
        store::get(tx, &host, &id)?;
        threads::active(tx, &host, &id)
    });
    Ok(Json(found.await?.into_iter().map(ThreadView::of).collect()))
}

/// Starts a thread or terminal: from here on the environment is in use.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/hosts/{host}/environments/{id}/threads",
    operation_id = "start_thread",
    request_body = NewThread,
    responses((status = 201, body = ThreadView), crate::http::openapi::Failure),
))]
pub(super) async fn start_thread(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
    Body(wanted): Body<NewThread>,
) -> ApiResult<(StatusCode, Json<ThreadView>)> {
    let name = environment_id(&wanted.id)?.to_string();
    let kind: String = wanted.kind.chars().take(32).collect();
    let holder = wanted.holder.map(|h| h.chars().take(200).collect());
    let lease = format!("t-{}", &random_name()[..16]);
    let host_id = host.clone();
    let started = shared.catalog.with(move |tx| {
        let thread = Thread {
            host: host_id.clone(),
            id: name,
            environment: id,
            kind,
            holder,
            lease,
            active: true,
            error: None,
        };
        let started = crate::server::usage::start(tx, &thread)?;
        operations::add(tx, &claim(&started), &host_id)?;
        Ok(started)
    });
    let started = started.await?;
    shared.registry.wake(&host);
    Ok((StatusCode::CREATED, Json(ThreadView::of(started))))
}

/// Ends a thread or terminal. One that is unknown or has ended is refused.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/hosts/{host}/threads/{id}",
    operation_id = "end_thread",
    responses((status = 200, body = ThreadView), crate::http::openapi::Failure),
))]
pub(super) async fn end_thread(
    State(shared): Server,
    Named((host, id)): Named<(String, String)>,
) -> ApiResult<Json<ThreadView>> {
    let host_id = host.clone();
    let ended = shared.catalog.with(move |tx| {
        let known = threads::find(tx, &host_id, &id)?.ok_or_else(|| {
            let message = format!("there is no thread {id} on {host_id}");
            let hint = "check the id in the list of its environment's threads";
            Fault::new(Code::ThreadNotFound, message, hint)
        })?;
        if threads::end(tx, &host_id, &id)?.is_none() {
            let message = format!("thread {id} has ended");
            return Err(Fault::new(Code::ThreadEnded, message, "check the id of the thread"));
        }
        let body = json!({ "lease": known.lease });
        let release = host_command(&random_name(), "lease.release", &known.environment, body);
        operations::add(tx, &release, &host_id)?;
        Ok(Thread { active: false, ..known })
    });
    let ended = ended.await?;
    shared.registry.wake(&host);
    Ok(Json(ThreadView::of(ended)))
}
