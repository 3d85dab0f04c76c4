//! Messages over a WebSocket, for both sides: numbered, bounded in size and in time.

use std::marker::PhantomData;
use std::time::Duration;

use futures_util::SinkExt as _;
use futures_util::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, http};

use crate::session::protocol::{Envelope, MESSAGE_BYTES_MAX};

/// Timeout for handing one message to the kernel.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Timeout of the WebSocket handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Reason why a connection ended or could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// Messages were lost or reordered: the number that came, and the number that was due.
    #[error("received message {0} instead of message {1}")]
    Gap(u64, u64),
    /// A message is invalid, unexpected, or too large to be sent.
    #[error("invalid message: {0}")]
    Malformed(String),
    /// A message carries another session, or the session is not the host's current one.
    #[error("a message belongs to another session")]
    ForeignSession,
    /// The peer did not accept data, or did not answer, within a timeout.
    #[error("the peer did not respond within {} s", SEND_LIMIT.as_secs())]
    TimedOut,
    /// The peer sent nothing for this many seconds.
    #[error("the peer sent nothing for {0} s")]
    Silent(u64),
    /// The server answered the handshake with this HTTP status.
    #[error("the server answered with HTTP status {0}")]
    Status(u16),
    /// The connection could not be opened.
    #[error("cannot reach the server")]
    Unreachable(#[source] std::io::Error),
    /// The WebSocket or the socket below it failed.
    #[error("the connection broke")]
    Transport(#[source] Box<Error>),
}

impl From<Error> for SessionError {
    fn from(error: Error) -> Self {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Closed,
            Error::Http(answer) => Self::Status(answer.status().as_u16()),
            other => Self::Transport(Box::new(other)),
        }
    }
}

/// Number of the last message received: detects repeated and missing messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received(u64);

impl Received {
    /// Returns true if the message is new, false if it is a repetition to be ignored.
    ///
    /// # Errors
    /// Returns `Gap` if a message is missing before this one.
    pub(crate) fn admit(&mut self, n: u64) -> Result<bool, SessionError> {
        if n <= self.0 {
            return Ok(false);
        }
        if n != self.0 + 1 {
            return Err(SessionError::Gap(n, self.0 + 1));
        }
        self.0 = n;
        Ok(true)
    }
}

/// One end of a connection: receives `In` and sends `Out`.
pub struct Wire<S, In, Out> {
    socket: WebSocketStream<S>,
    session: String,
    sent: u64,
    received: Received,
    types: PhantomData<(In, Out)>,
}

fn config() -> WebSocketConfig {
    let config = WebSocketConfig::default();
    config.max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX))
}

impl<S, In, Out> Wire<S, In, Out>
where
    S: AsyncRead + AsyncWrite + Unpin,
    In: DeserializeOwned,
    Out: Serialize,
{
    fn new(socket: WebSocketStream<S>) -> Self {
        Self {
            socket,
            session: String::new(),
            sent: 0,
            received: Received::default(),
            types: PhantomData,
        }
    }

    /// Performs the client's handshake on a stream, with the host's key as bearer token.
    ///
    /// # Errors
    /// Fails if the server refuses, does not answer in time, or the connection breaks.
    pub async fn connect(
        stream: S,
        host: &str,
        path: &str,
        key: &str,
    ) -> Result<Self, SessionError> {
        let request = http::Request::builder()
            .uri(format!("ws://{host}{path}"))
            .header("host", host)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .header("authorization", format!("Bearer {key}"))
            .body(())
            .map_err(|e| SessionError::Malformed(e.to_string()))?;
        let shake = tokio_tungstenite::client_async_with_config(request, stream, Some(config()));
        let shaken = tokio::time::timeout(HANDSHAKE_LIMIT, shake).await;
        let (socket, _) = shaken.map_err(|_| SessionError::TimedOut)??;
        Ok(Self::new(socket))
    }

    /// Wraps the server's end of a connection whose upgrade was already answered.
    pub async fn accepted(stream: S) -> Self {
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
        Self::new(socket)
    }

    /// Sets the session: it is sent with every later message and required of every received one.
    pub fn set_session(&mut self, session: &str) {
        session.clone_into(&mut self.session);
    }

    /// Sends one message and flushes it.
    ///
    /// # Errors
    /// Fails if the message is too large, or if the connection ended or accepts no data.
    pub async fn send(&mut self, message: &Out) -> Result<(), SessionError> {
        self.sent += 1;
        let session = self.session.clone();
        let text = serde_json::to_string(&Envelope { n: self.sent, session, message })
            .map_err(|e| SessionError::Malformed(e.to_string()))?;
        if text.len() > MESSAGE_BYTES_MAX {
            // The number was not used; skipping it would be a gap for the peer.
            self.sent -= 1;
            return Err(SessionError::Malformed(format!("it has {} bytes", text.len())));
        }
        let send = self.socket.send(Message::text(text));
        tokio::time::timeout(SEND_LIMIT, send).await.map_err(|_| SessionError::TimedOut)??;
        Ok(())
    }

    /// Waits for the next new message. Cancel-safe: a dropped wait loses no message.
    ///
    /// # Errors
    /// Fails if the connection ended, or if a message is invalid, missing or of another session.
    pub async fn receive(&mut self) -> Result<In, SessionError> {
        loop {
            let message = self.socket.next().await.ok_or(SessionError::Closed)??;
            let text = match message {
                Message::Text(text) => text,
                Message::Close(_) => return Err(SessionError::Closed),
                Message::Binary(_) => {
                    return Err(SessionError::Malformed("it is not text".to_owned()));
                }
                // Ping and pong frames, which the library handles.
                _ => continue,
            };
            let read: Result<Envelope<In>, _> = serde_json::from_str(text.as_str());
            let envelope = read.map_err(|e| SessionError::Malformed(e.to_string()))?;
            if !self.received.admit(envelope.n)? {
                continue;
            }
            if !self.session.is_empty() && envelope.session != self.session {
                return Err(SessionError::ForeignSession);
            }
            return Ok(envelope.message);
        }
    }

    /// Sends the closing handshake; takes at most one second.
    pub async fn close(mut self) {
        drop(tokio::time::timeout(Duration::from_secs(1), self.socket.close(None)).await);
    }
}

/// Returns the value of `sec-websocket-accept` for a client's key.
#[must_use]
pub fn accept(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::protocol::{FromHost, FromServer};

    type Host = Wire<tokio::io::DuplexStream, FromServer, FromHost>;
    type Server = Wire<tokio::io::DuplexStream, FromHost, FromServer>;

    async fn pair() -> (Host, Server) {
        let (a, b) = tokio::io::duplex(1 << 16);
        let host = WebSocketStream::from_raw_socket(a, Role::Client, Some(config())).await;
        (Wire::new(host), Wire::accepted(b).await)
    }

    #[tokio::test]
    async fn duplicate_dropped_and_gap_ends_session() {
        let (mut host, mut server) = pair().await;
        host.send(&FromHost::Ping).await.expect("sent");
        assert!(matches!(server.receive().await, Ok(FromHost::Ping)));
        host.sent = 0;
        host.send(&FromHost::Ping).await.expect("sent again");
        host.send(&FromHost::Pong).await.expect("sent");
        assert!(matches!(server.receive().await, Ok(FromHost::Pong)), "the duplicate is dropped");
        host.sent = 7;
        host.send(&FromHost::Ping).await.expect("sent");
        assert!(matches!(server.receive().await, Err(SessionError::Gap(8, 3))));
    }

    #[tokio::test]
    async fn foreign_session_message_is_refused() {
        let (mut host, mut server) = pair().await;
        server.set_session("ours");
        host.set_session("theirs");
        host.send(&FromHost::Ping).await.expect("sent");
        assert!(matches!(server.receive().await, Err(SessionError::ForeignSession)));
    }

    #[tokio::test]
    async fn malformed_or_large_message_ends_connection() {
        let (mut host, mut server) = pair().await;
        host.socket.send(Message::text("{\"n\":")).await.expect("sent");
        assert!(matches!(server.receive().await, Err(SessionError::Malformed(_))));
        let (mut host, mut server) = pair().await;
        let large = Message::text("x".repeat(MESSAGE_BYTES_MAX + 1));
        let receive = async move {
            let received = server.receive().await;
            // Nothing reads the remainder, so the sender must not wait for it.
            drop(server);
            received
        };
        let (sent, received) = tokio::join!(host.socket.send(large), receive);
        assert!(matches!(received, Err(SessionError::Transport(_))), "{sent:?}");
    }
}
