//! Streams the records of the log as NDJSON or server-sent events, from any position, and follows
//! new records on request.
//!
//! Each server-sent event has the record's seq as its id, so a client that reconnects with
//! `Last-Event-ID` misses no record. Lines that a running hook prints are interleaved as `output`
//! events without an id; they are not in the log. `environment.changed` events, which `watch`
//! requests, are not in the log either. A client that resumes gets those that it missed, or one
//! event that says that anything may have changed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::IntoResponse as _;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, watch};
use tokio_stream::Stream;

use crate::api::types::EventsQuery;
use crate::core::event::Record;
use crate::core::{Code, EnvironmentId, Fault, Seq};
use crate::engine::watcher::{Change, Subscription};
use crate::engine::{Handle, Progress, WatchService};
use crate::http::extract::Params;
use crate::http::problem::{Refusal, invalid};
use crate::service::App;

/// Name of the event that reports a change of a worktree.
const CHANGED: &str = "environment.changed";
/// Limit of concurrent streams, those of `/v1/log` included.
pub const STREAMS_MAX: usize = 128;
/// Records per read of the log.
const BATCH: usize = 512;
/// Timeout after which the stream of a client that reads nothing is closed.
const READER_LIMIT: Duration = Duration::from_secs(60);
/// Interval of the comment that keeps an idle server-sent stream open.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Lines,
    ServerSent,
}

/// Records of the log, from a position on.
///
/// # Errors
/// A malformed query, or too many open streams.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/events",
    params(EventsQuery),
    responses(
        (
            status = 200,
            description = "One record a line as NDJSON, or server-sent events when \
            `Accept` is text/event-stream; `Last-Event-ID` overrides `since`",
        ),
        super::document::Failure,
    ),
))]
pub async fn events(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
) -> Result<Response, Refusal> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let server_sent = text(header::ACCEPT).is_some_and(|a| a.contains("text/event-stream"));
    let format = if server_sent { Format::ServerSent } else { Format::Lines };
    let last = headers.get("last-event-id").map(|v| {
        let seq = v.to_str().ok().and_then(|v| v.parse().ok());
        seq.ok_or_else(|| invalid("Last-Event-ID is not the seq of a record"))
    });
    let since = Seq(last.transpose()?.unwrap_or(query.since));
    let only = query.environment.as_deref().map(EnvironmentId::parse).transpose();
    let only = only.map_err(|e| invalid(format!("environment: {e}")))?;
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        let message = format!("{STREAMS_MAX} event streams are open");
        Fault::new(Code::LimitReached, message, "close another stream first")
    })?;
    let (sender, receiver) = mpsc::channel(16);
    let follow = query.follow || server_sent || query.watch;
    let watched = query.watch.then(|| Watched {
        changes: app.watching.changes(),
        _subscription: app.watching.subscribe(only.clone()),
        watching: Arc::clone(&app.watching),
    });
    let event_stream = EventStream {
        reader: app.handle.clone(),
        head: app.handle.head(),
        progress: app.handle.progress(),
        watched,
        stop: app.stop.clone(),
        only,
        format,
        sender,
        permit,
    };
    tokio::spawn(event_stream.run(since, follow));
    let kind = match format {
        Format::Lines => "application/x-ndjson",
        Format::ServerSent => "text/event-stream",
    };
    let mut response = Body::from_stream(Chunks(receiver)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

struct Chunks(mpsc::Receiver<Bytes>);

impl Stream for Chunks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(Ok))
    }
}

/// Receiver of changes, with the subscription that keeps the worktrees watched.
struct Watched {
    changes: broadcast::Receiver<Change>,
    _subscription: Subscription,
    watching: Arc<WatchService>,
}

/// An item of a stream that is not a record.
enum StreamItem {
    Line(Progress),
    Change(Change),
    /// Changes were missed; which of the followed environments changed is not known.
    Missed,
    Nothing,
}

struct EventStream {
    reader: Handle,
    head: watch::Receiver<Seq>,
    progress: broadcast::Receiver<Progress>,
    watched: Option<Watched>,
    stop: watch::Receiver<bool>,
    only: Option<EnvironmentId>,
    format: Format,
    sender: mpsc::Sender<Bytes>,
    permit: OwnedSemaphorePermit,
}

impl EventStream {
    async fn run(mut self, since: Seq, follow: bool) {
        let (mut after, mut caught_up) = (since, false);
        // Without `update_path` the stream ends when it reaches the head of this moment.
        let goal = *self.head.borrow_and_update();
        loop {
            let reader = self.reader.reader().clone();
            let read = tokio::task::spawn_blocking(move || reader.read(after, BATCH)).await;
            let records = match read {
                Ok(Ok(records)) => records,
                Ok(Err(e)) => {
                    return tracing::error!(error = %e, "cannot read the log for an event stream");
                }
                Err(_) => return,
            };
            let full = records.len() == BATCH;
            after = records.last().map_or(after, |r| r.seq);
            if !self.send(&records).await || (!follow && (after >= goal || records.is_empty())) {
                break;
            }
            if full {
                continue;
            }
            // Missed changes follow the records of the log, once.
            if !std::mem::replace(&mut caught_up, true) && !self.send_missed(since).await {
                break;
            }
            if !self.wait(after).await {
                break;
            }
        }
        drop(self.permit);
    }

    async fn send(&self, records: &[Record]) -> bool {
        let mut chunk = Vec::new();
        for record in records {
            let about = record.event.environment();
            if self.only.is_some() && about != self.only.as_ref() {
                continue;
            }
            let json = crate::format::json(record);
            let text = match self.format {
                Format::Lines => format!("{json}\n"),
                Format::ServerSent => {
                    format!("id: {}\nevent: {}\ndata: {json}\n\n", record.seq, record.event.kind())
                }
            };
            chunk.extend_from_slice(text.as_bytes());
        }
        chunk.is_empty() || self.enqueue(chunk.into()).await
    }

    /// Queues a chunk for the client. Returns false if the client has disconnected or has read
    /// nothing for [`READER_LIMIT`].
    async fn enqueue(&self, chunk: Bytes) -> bool {
        let sent = tokio::time::timeout(READER_LIMIT, self.sender.send(chunk)).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }

    /// Sends the changes that a resuming client missed; a client that starts at 0 missed none.
    async fn send_missed(&self, since: Seq) -> bool {
        let Some(watched) = self.watched.as_ref().filter(|_| since != Seq(0)) else { return true };
        match watched.watching.since(since) {
            None => self.send_item(&StreamItem::Missed).await,
            Some(changes) => {
                for change in changes {
                    if !self.send_item(&StreamItem::Change(change)).await {
                        return false;
                    }
                }
                true
            }
        }
    }

    /// Waits for a record after `after` and sends all other items meanwhile. Returns false when the
    /// stream must end.
    async fn wait(&mut self, after: Seq) -> bool {
        loop {
            let changes = self.watched.as_mut().map(|watched| &mut watched.changes);
            let item = tokio::select! {
                moved = self.head.wait_for(|head| *head > after) => return moved.is_ok(),
                _ = self.stop.wait_for(|stop| *stop) => return false,
                () = self.sender.closed() => return false,
                line = self.progress.recv() => match line {
                    Ok(line) => StreamItem::Line(line),
                    // Hook output is best effort: a slow client misses lines.
                    Err(broadcast::error::RecvError::Lagged(_)) => StreamItem::Nothing,
                    Err(broadcast::error::RecvError::Closed) => return false,
                },
                change = next(changes) => match change {
                    Ok(change) => StreamItem::Change(change),
                    Err(broadcast::error::RecvError::Lagged(_)) => StreamItem::Missed,
                    Err(broadcast::error::RecvError::Closed) => return false,
                },
                () = tokio::time::sleep(HEARTBEAT) => StreamItem::Nothing,
            };
            if !self.send_item(&item).await {
                return false;
            }
        }
    }

    /// Sends an item that is not a record, if it concerns a followed environment and the format can
    /// carry it. Returns false if the client is gone.
    async fn send_item(&self, item: &StreamItem) -> bool {
        let is_for_us = |id: &EnvironmentId| self.only.as_ref().is_none_or(|only| only == id);
        let (event, data) = match item {
            StreamItem::Line(p)
                if is_for_us(&p.environment) && self.format == Format::ServerSent =>
            {
                ("output", serde_json::json!({ "environment": p.environment, "line": p.line }))
            }
            StreamItem::Change(c) if is_for_us(&c.environment) => (CHANGED, json(c)),
            StreamItem::Missed => {
                let anything = serde_json::json!({
                    "kind": CHANGED,
                    "environment": self.only,
                    "changes": ["anything"],
                });
                (CHANGED, anything)
            }
            StreamItem::Nothing if self.format == Format::ServerSent => {
                return self.enqueue(": alive\n\n".into()).await;
            }
            StreamItem::Nothing | StreamItem::Line(_) | StreamItem::Change(_) => return true,
        };
        let text = match self.format {
            Format::Lines => format!("{data}\n"),
            Format::ServerSent => format!("event: {event}\ndata: {data}\n\n"),
        };
        self.enqueue(text.into()).await
    }
}

/// Returns the next change; waits forever without a receiver.
async fn next(
    changes: Option<&mut broadcast::Receiver<Change>>,
) -> Result<Change, broadcast::error::RecvError> {
    match changes {
        Some(changes) => changes.recv().await,
        None => std::future::pending().await,
    }
}

fn json(change: &Change) -> serde_json::Value {
    serde_json::json!({
        "kind": CHANGED,
        "environment": change.environment,
        "incarnation": change.incarnation,
        "changes": change.kinds.names(),
        "at": crate::format::rfc3339(change.at),
    })
}
