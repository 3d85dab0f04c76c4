//! The events of a daemon as a client reads them: one JSON value after another, until the stream
//! ends. It opens no connection, and knows no event.

use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use serde_json::Value;

/// Headers of a request for such a stream.
pub(super) const ACCEPT: [(&str, &str); 1] = [("accept", "text/event-stream")];

/// A stream of server-sent events.
pub(super) struct EventStream {
    body: Incoming,
    text: String,
}

impl EventStream {
    /// Reads from a successful answer.
    pub(super) fn of(answer: Response<Incoming>) -> Self {
        Self { body: answer.into_body(), text: String::new() }
    }

    /// Returns the data of the next event, `null` where it has none that parses; none at the end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(super) async fn next(&mut self) -> Result<Option<Value>, hyper::Error> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let data = event.lines().find_map(|l| l.strip_prefix("data: ")).unwrap_or("null");
                return Ok(Some(serde_json::from_str(data).unwrap_or_default()));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame?;
            let bytes = frame.data_ref().map_or(&[][..], |data| data);
            self.text.push_str(&String::from_utf8_lossy(bytes));
        }
    }
}
