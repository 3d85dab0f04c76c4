//! Streams the records of the log as NDJSON or server-sent events, from any position, and follows
//! new records on request.
//!
//! Each server-sent event has the record's seq as its id, so a client that reconnects with
//! `Last-Event-ID` misses no record. Lines that a running hook prints are interleaved as `output`
//! events without an id; they are not in the log. `environment.changed` events, which `watch`
//! requests, are not in the log either. A client that resumes gets those that it missed, or one
//! event that says that anything may have changed.
//!
//! A `log.trimmed` event with `fresh: true` says that records that were asked for are trimmed from
//! the log, and which is the first one that is left: a client that keeps a copy of the state takes
//! a fresh one. A `daemon.stopping` event is the last one of a stream that ends because the daemon
//! stops.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::shared::Shared;
use crate::api::types::EventsQuery;
use crate::core::event::Record;
use crate::core::{EnvironmentId, Seq, Time};
use crate::describe;
use crate::http::extract::Params;
use crate::http::problem::{Refusal, invalid};
use crate::service::events::{Beginning, Change, Item, Selection, begin, follow};

/// Name of the event that reports a change of a worktree.
const CHANGED: &str = "environment.changed";

/// Name of the event that ends a stream because the daemon stops.
const STOPPING: &str = "daemon.stopping";

/// Name of the event that reports that records are trimmed from the log.
const TRIMMED: &str = "log.trimmed";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Lines,
    ServerSent,
}

/// How records are written.
#[derive(Debug, Clone, Copy)]
struct Form {
    format: Format,
    describe: bool,
}

/// Parses a time in a query.
fn time(text: &str) -> Result<Time, Refusal> {
    let found = crate::format::parse_time(text);
    found.ok_or_else(|| invalid(format!("from: {text:?} is not a time")).into())
}

/// Records of the log, from a position on.
///
/// # Errors
/// A malformed query, or too many open streams.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "stream_events",
    params(EventsQuery),
    responses(
        (
            status = 200,
            description = "One record a line as NDJSON, or server-sent events when \
            `Accept` is text/event-stream; `Last-Event-ID` overrides `since`. Where records after \
            it are trimmed from the log, an item of kind `log.trimmed` with `fresh: true` and the \
            seq of the `first` one that is left stands in their place. A stream that ends because \
            the daemon stops ends with an item of kind `daemon.stopping`",
            content((String = "application/x-ndjson"), (String = "text/event-stream")),
        ),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn events(
    State(app): Shared,
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
    let resumes = last.is_some();
    let since = Seq(last.transpose()?.unwrap_or(query.since));
    let only = query.environment.as_deref().map(EnvironmentId::parse).transpose();
    let only = only.map_err(|e| invalid(format!("environment: {e}")))?;
    let from = query.from.as_deref().map(time).transpose()?;
    // A client that resumes has had the beginning already.
    let (from, last) = if resumes { (None, None) } else { (from, query.last) };
    let since = begin(&app, Beginning { since, from, last }, only.clone()).await?;
    let wanted = Selection {
        since,
        only: only.clone(),
        follow: query.follow || server_sent || query.watch,
        watch: query.watch,
        output: server_sent,
    };
    let items = ReceiverStream::new(follow(&app, wanted)?);
    let form = Form { format, describe: query.describe };
    let chunks = items.map(move |item| Ok::<_, Infallible>(chunk(&item, form, only.as_ref())));
    let kind = match format {
        Format::Lines => "application/x-ndjson",
        Format::ServerSent => "text/event-stream",
    };
    let mut response = Body::from_stream(chunks).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Returns an item in the form of a stream; `only` is the environment that the stream is about.
fn chunk(item: &Item, form: Form, only: Option<&EnvironmentId>) -> String {
    let (event, data) = match item {
        Item::Records(records) => return records.iter().map(|r| line(r, form)).collect(),
        Item::Alive => return ": alive\n\n".to_owned(),
        Item::Trimmed(first) => {
            (TRIMMED, json!({ "kind": TRIMMED, "fresh": true, "first": first }))
        }
        Item::Stopping => (STOPPING, json!({ "kind": STOPPING })),
        Item::Line(p) => ("output", json!({ "environment": p.environment, "line": p.line })),
        Item::Change(c) => (CHANGED, change(c)),
        Item::Missed => {
            let anything = json!({
                "kind": CHANGED,
                "environment": only,
                "changes": ["anything"],
            });
            (CHANGED, anything)
        }
    };
    match form.format {
        Format::Lines => format!("{data}\n"),
        Format::ServerSent => format!("event: {event}\ndata: {data}\n\n"),
    }
}

fn line(record: &Record, form: Form) -> String {
    let mut json = crate::format::json(record);
    if form.describe {
        json["text"] = describe::event(&record.event).into();
    }
    match form.format {
        Format::Lines => format!("{json}\n"),
        Format::ServerSent => {
            format!("id: {}\nevent: {}\ndata: {json}\n\n", record.seq, record.event.kind())
        }
    }
}

fn change(change: &Change) -> Value {
    json!({
        "kind": CHANGED,
        "environment": change.environment,
        "incarnation": change.incarnation,
        "changes": change.kinds.names(),
        "at": crate::format::rfc3339(change.at),
    })
}
