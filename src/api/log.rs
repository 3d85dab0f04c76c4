//! Handlers that expose the log itself: its stored records, and the hash of the state they fold to.
//!
//! `journal::flat` describes the flat form. A copy ends at the record that was the last one at the
//! time of the request, so it is consistent, however long it takes. These handlers decode nothing
//! and decide nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::StreamExt as _;

use crate::api::events::STREAMS_MAX;
use crate::api::shared::Shared;
use crate::core::{Code, Fault, Seq};
use crate::engine::Handle;
use crate::engine::log_stream::Part;
use crate::format::hex;
use crate::http::extract::{Answer, Params};
use crate::service::App;

/// Records per read of the log.
const BATCH: usize = 512;
/// Capacity of the queue of parts that the client has not read yet.
const PARTS: usize = 4;
/// Timeout after which the stream of a client that reads nothing is closed.
const READER_LIMIT: Duration = Duration::from_secs(60);

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

/// The state that the log adds up to, as one number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct StateView {
    /// The record that it is the state after.
    pub seq: u64,
    /// SHA-256 of the state, in hex; the same as that of a fold of the log up to there.
    pub sha256: String,
    /// The identity of the log, in hex.
    pub log_id: String,
}

/// Returns the routes of this file.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/log", get(records)).route("/v1/log/state", get(state))
}

/// The records of the log as they stand there: a flat log, which `replay` reads.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/log",
    params(LogQuery),
    responses(
        (status = 200, description = "a flat log", content_type = "application/octet-stream"),
        super::document::Failure,
    ),
))]
pub(super) async fn records(
    State(app): State<Arc<App>>,
    Params(query): Params<LogQuery>,
) -> Answer<Response> {
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        let message = format!("{STREAMS_MAX} event streams are open");
        Fault::new(Code::LimitReached, message, "close another stream first")
    })?;
    let (sender, receiver) = mpsc::channel(PARTS);
    let copying = LogStream {
        reader: app.handle.clone(),
        head: app.handle.head(),
        stop: app.stop.clone(),
        sender,
        _permit: permit,
    };
    tokio::spawn(copying.run(Seq(query.since), query.follow));
    let parts = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut response = Body::from_stream(fallible(parts)).into_response();
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn fallible(parts: impl Stream<Item = Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    parts.map(Ok)
}

/// The hash of the state. Whoever folds the log up to the same record has the same.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/log/state",
    responses((status = 200, body = StateView), super::document::Failure),
))]
pub(super) async fn state(State(app): Shared) -> Answer<Json<StateView>> {
    let (Seq(seq), sha256) = app.handle.digest()?;
    let log_id = app.about.log_id.clone();
    Ok(Json(StateView { seq, sha256: hex(&sha256), log_id }))
}

struct LogStream {
    reader: Handle,
    head: watch::Receiver<Seq>,
    stop: watch::Receiver<bool>,
    sender: mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl LogStream {
    /// Sends the copy. A copy that breaks off lacks the end mark, so its reader can detect that.
    async fn run(mut self, since: Seq, follow: bool) {
        let goal = if follow { Seq(u64::MAX) } else { *self.head.borrow_and_update() };
        let mut part = Part::default();
        part.last.seq = since.0;
        if !self.enqueue(self.reader.flat_head(part.last)).await {
            return;
        }
        loop {
            let (reader, after) = (self.reader.clone(), part.last);
            let read = tokio::task::spawn_blocking(move || reader.flat_part(after, goal, BATCH));
            part = match read.await {
                Ok(Ok(part)) => part,
                Ok(Err(e)) => {
                    return tracing::error!(error = %e, "cannot read the log for a copy of it");
                }
                Err(_) => return,
            };
            let (records, last) = (part.records, part.last);
            if records > 0 && !self.enqueue(std::mem::take(&mut part.bytes)).await {
                return;
            }
            // Only an empty read proves the end of the copy.
            if records > 0 {
                continue;
            }
            if !follow {
                self.enqueue(Handle::flat_end(last)).await;
                return;
            }
            if !self.wait(Seq(last.seq)).await {
                return;
            }
        }
    }

    /// Waits for a record after `after`. Returns false when the stream must end.
    async fn wait(&mut self, after: Seq) -> bool {
        tokio::select! {
            moved = self.head.wait_for(|head| *head > after) => moved.is_ok(),
            _ = self.stop.wait_for(|stop| *stop) => false,
            () = self.sender.closed() => false,
        }
    }

    /// Queues bytes for the client. Returns false if the client has disconnected or has read
    /// nothing for [`READER_LIMIT`].
    async fn enqueue(&self, bytes: Vec<u8>) -> bool {
        let sent = tokio::time::timeout(READER_LIMIT, self.sender.send(bytes.into())).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }
}
