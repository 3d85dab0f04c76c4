//! What the handlers of the server share.

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

use crate::api::problem::{Refusal, invalid};
use crate::core::{Code, EnvironmentId, Fault, RequestId};
use crate::server::catalog::Catalog;
use crate::server::operations;
use crate::server::registry::Hub;
use crate::server::types::{OperationView, Patience};
use crate::session::connector::random_name;

pub(super) type Done<T> = Result<T, Refusal>;

pub(super) type Server = State<Arc<Shared>>;

/// Longest wait that a request may ask for.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// How fast sessions are found dead, and grace is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How often each side asks whether the other is there.
    pub heartbeat: Duration,
    /// Silence after which the other side is taken for gone.
    pub lease: Duration,
    /// How often what is under way is told again.
    pub again: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let second = Duration::from_secs;
        Self { heartbeat: second(5), lease: second(30), again: second(30) }
    }
}

/// What the handlers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) catalog: Catalog,
    pub(super) hub: Arc<Hub>,
    pub(super) pace: Pace,
    pub(super) stop: watch::Receiver<bool>,
    /// Bound on open sessions.
    pub(super) sessions: Arc<Semaphore>,
    /// Bound on readers of news.
    pub(super) streams: Arc<Semaphore>,
    pub(super) place: PathBuf,
}

/// A name of a host: as that of an environment.
pub(super) fn host_name(text: &str) -> Result<String, Fault> {
    let named = EnvironmentId::parse(text).map(|id| id.to_string());
    named.map_err(|e| invalid(format!("{text:?} cannot name a host: {e}")))
}

pub(super) fn key(headers: &HeaderMap) -> Result<String, Fault> {
    match headers.get("idempotency-key") {
        None => Ok(random_name()),
        Some(value) => {
            let text = value.to_str().map_err(|_| invalid("Idempotency-Key is not text"))?;
            let id =
                RequestId::parse(text).map_err(|e| invalid(format!("Idempotency-Key: {e}")))?;
            Ok(id.to_string())
        }
    }
}

/// Answers for an operation: at once, or when it is over.
pub(super) async fn under_way(
    shared: &Arc<Shared>,
    host: &str,
    request: &str,
    patience: Patience,
) -> Done<Response> {
    let (mut news, reader) = shared.hub.news();
    // Subscription in operations is none in worktrees.
    drop(reader);
    shared.hub.wake(host);
    let limit = Duration::from_secs(patience.wait.unwrap_or(0)).min(WAIT_MAX);
    let until = tokio::time::Instant::now() + limit;
    let operation = loop {
        let id = request.to_owned();
        let found = shared.catalog.with(move |tx| operations::find(tx, &id)).await?;
        let found = found.ok_or_else(|| no_operation(request))?;
        if found.status.is_some() || tokio::time::Instant::now() >= until {
            break found;
        }
        // News may be missed when there are many; then it is looked again after a while.
        let next = tokio::time::Instant::now() + Duration::from_secs(1);
        let ends = |news: &Value| news["operation"] == request;
        let heard = async {
            while let Ok(news) = news.recv().await {
                if ends(&news) {
                    return;
                }
            }
        };
        drop(tokio::time::timeout_at(next.min(until), heard).await);
    };
    let status = if operation.status.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(OperationView::of(operation))).into_response())
}

pub(super) fn no_operation(id: &str) -> Fault {
    let message = format!("there is no operation {id}");
    Fault::new(Code::NotFound, message, "those that are over are forgotten after a week")
}
