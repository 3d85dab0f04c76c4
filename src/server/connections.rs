//! Endpoints for long connections: hosts' sessions, admitted by key, and the event stream.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;

use crate::core::{Code, Fault};
use crate::http::problem::invalid;
use crate::server::app::{ApiResult, Server};
use crate::server::{catalog, host_session};
use crate::session::transport::{Wire, accept};

/// What happens, as it happens. While somebody reads this, hosts tell of changes in worktrees.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "stream_notifications",
    responses(
        (status = 200, description = "server-sent events", body = String, content_type = "text/event-stream"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn notifications(State(shared): Server) -> ApiResult<Response> {
    let slot = Arc::clone(&shared.streams).try_acquire_owned().map_err(|_| {
        Fault::new(Code::LimitReached, "too many event streams are open", "close one first")
    })?;
    let (notifications, subscriber) = shared.registry.subscribe();
    let mut stop = shared.stop.clone();
    let stream = BroadcastStream::new(notifications).map(move |notifications| {
        let _held = (&slot, &subscriber);
        // A lagged subscriber has to read the present state itself.
        let notifications = notifications.unwrap_or_else(|_| json!({ "type": "missed" }));
        Ok::<_, std::convert::Infallible>(Event::default().data(notifications.to_string()))
    });
    let over = async move { drop(stop.wait_for(|stop| *stop).await) };
    let stream = futures_util::StreamExt::take_until(stream, over);
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}

/// Upgrades a request to a host's session, a WebSocket. The host's key is the bearer token.
pub(super) async fn session(State(shared): Server, mut request: Request) -> ApiResult<Response> {
    let headers = request.headers();
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(|v| v.strip_prefix("Bearer "));
    let unknown = || {
        let hint = "create a key with `groundskeeper host add NAME` at the server";
        Fault::new(Code::Unauthorized, "the host key is unknown", hint)
    };
    let key = bearer.ok_or_else(unknown)?.to_owned();
    let websocket = text(header::UPGRADE).is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
    let nonce = text(header::SEC_WEBSOCKET_KEY).map(accept);
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (Some(nonce), Some(upgrade), true) = (nonce, upgrade, websocket) else {
        return Err(invalid("a session requires a WebSocket upgrade").into());
    };
    let host = shared.catalog.with(move |tx| catalog::host_of_key(tx, &key)).await?;
    let host = host.ok_or_else(unknown)?;
    let slot = Arc::clone(&shared.sessions).try_acquire_owned().map_err(|_| {
        Fault::new(Code::LimitReached, "too many sessions are open", "close one first")
    })?;
    // The upgrade completes only after the response below is sent.
    tokio::spawn(async move {
        match upgrade.await {
            Ok(stream) => {
                let wire = Wire::accepted(TokioIo::new(stream)).await;
                host_session::serve(shared, host, wire).await;
            }
            Err(e) => tracing::debug!(error = %e, "cannot open a session"),
        }
        drop(slot);
    });
    let headers = [
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, nonce),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}
