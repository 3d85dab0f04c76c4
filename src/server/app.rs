//! State and helpers that the server's handlers share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use crate::core::{Code, EnvironmentId, Fault, RequestId};
use crate::http::problem::{Refusal, invalid};
use crate::server::catalog::Catalog;
use crate::server::operations;
use crate::server::registry::SessionRegistry;
use crate::server::types::{OperationView, WaitParams};
use crate::session::connector::random_name;

pub(super) type ApiResult<T> = Result<T, Refusal>;

pub(super) type Server = State<Arc<Shared>>;

/// Bound on the wait for an operation that a request may ask for.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Intervals of a session; the server announces the first two to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Interval of each side's heartbeat.
    pub heartbeat: Duration,
    /// Peer timeout: after this silence the session ends.
    pub lease: Duration,
    /// Interval at which open operations and the live set are sent again.
    pub repeat: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let second = Duration::from_secs;
        Self { heartbeat: second(5), lease: second(30), repeat: second(30) }
    }
}

/// State of a running server.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) catalog: Catalog,
    pub(super) registry: Arc<SessionRegistry>,
    pub(super) timing: Timing,
    pub(super) stop: watch::Receiver<bool>,
    /// Permits for open sessions.
    pub(super) sessions: Arc<Semaphore>,
    /// Permits for subscribers of the event stream.
    pub(super) streams: Arc<Semaphore>,
    pub(super) place: PathBuf,
}

/// Parses the name of a host; the rules are those of environment ids.
pub(super) fn host_name(text: &str) -> Result<String, Fault> {
    let named = EnvironmentId::parse(text).map(|id| id.to_string());
    named.map_err(|e| invalid(format!("{text:?} is not a valid host id: {e}")))
}

pub(super) fn key(headers: &HeaderMap) -> Result<String, Fault> {
    match headers.get("idempotency-key") {
        None => Ok(random_name()),
        Some(value) => {
            let text =
                value.to_str().map_err(|_| invalid("Idempotency-Key is not visible ASCII"))?;
            let id =
                RequestId::parse(text).map_err(|e| invalid(format!("Idempotency-Key: {e}")))?;
            Ok(id.to_string())
        }
    }
}

/// Answers with an operation, as soon as it has ended or the requested wait is over.
pub(super) async fn respond_with_operation(
    shared: &Arc<Shared>,
    host: &str,
    request: &str,
    wait_params: WaitParams,
) -> ApiResult<Response> {
    // Subscribed before the first read: an end in between is then in the channel.
    let (mut notifications, subscriber) = shared.registry.subscribe();
    // Waiting for an operation must not make hosts report changes of worktrees.
    drop(subscriber);
    shared.registry.wake(host);
    let limit = Duration::from_secs(wait_params.wait.unwrap_or(0)).min(WAIT_MAX);
    let until = tokio::time::Instant::now() + limit;
    let operation = loop {
        let id = request.to_owned();
        let found = shared.catalog.with(move |tx| operations::find(tx, &id)).await?;
        let found = found.ok_or_else(|| no_operation(request))?;
        if found.status.is_some() || tokio::time::Instant::now() >= until {
            break found;
        }
        // A lagged subscriber misses notifications, so the operation is read every second as well.
        let next = tokio::time::Instant::now() + Duration::from_secs(1);
        let ends = |notifications: &Value| notifications["operation"] == request;
        let ended = async {
            while let Ok(notifications) = notifications.recv().await {
                if ends(&notifications) {
                    return;
                }
            }
        };
        drop(tokio::time::timeout_at(next.min(until), ended).await);
    };
    let status = if operation.status.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(OperationView::of(operation))).into_response())
}

pub(super) fn no_operation(id: &str) -> Fault {
    let message = format!("there is no operation {id}");
    Fault::new(Code::NotFound, message, "check the id; ended operations are deleted after a week")
}
