//! The errors of this layer, by what went wrong, and what the client or the user is told about
//! each. No caller reads the text of one.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;

use crate::core::id::IdError;
use crate::core::{Code, Fault};
use crate::service::requests::invalid;
use crate::world::fs;
use crate::world::fs::paths;

/// A request that cannot be read, or a socket or token file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is larger than its route accepts.
    #[error("the request is larger than {limit} bytes")]
    BodyTooLarge {
        /// Limit of the route in bytes.
        limit: usize,
    },
    /// The client did not send the whole body in time.
    #[error("the body did not arrive within {} s", limit.as_secs())]
    BodyTimeout {
        /// The limit that passed.
        limit: Duration,
    },
    /// The connection broke in the middle of the body.
    #[error("cannot read the body: {}", .0.body_text())]
    BodyUnreadable(BytesRejection),
    /// The body is not the JSON that the route expects.
    #[error("invalid body: {0}")]
    InvalidBody(serde_json::Error),
    /// A text in the request holds a NUL character.
    #[error("a text in the request holds a NUL character")]
    Nul,
    /// A query parameter does not parse.
    #[error("invalid query: {}", .0.body_text())]
    InvalidQuery(QueryRejection),
    /// The path parameter does not parse.
    #[error("invalid path: {}", .0.body_text())]
    InvalidPath(PathRejection),
    /// The idempotency key contains bytes that a header does not show.
    #[error("Idempotency-Key is not visible ASCII")]
    KeyNotAscii,
    /// The idempotency key can be no id of a request.
    #[error("Idempotency-Key: {0}")]
    InvalidKey(IdError),
    /// No route has this path.
    #[error("unknown path")]
    UnknownPath,
    /// The route has other methods.
    #[error("this path does not support the method")]
    UnknownMethod,
    /// The request does not carry the token.
    #[error("the token is missing or wrong")]
    Unauthorized,
    /// All connections are in use.
    #[error("{limit} connections are open")]
    TooManyConnections {
        /// Limit of concurrent connections.
        limit: usize,
    },
    /// The TCP address cannot be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Answer of the system.
        source: io::Error,
    },
    /// The system does not tell the address of an open port.
    #[error("cannot read the address of the port")]
    PortAddress {
        /// Answer of the system.
        source: io::Error,
    },
    /// Another user owns the directory of the socket, or it is no directory.
    #[error("{} is not a directory of this user", path.display())]
    ForeignDirectory {
        /// Path of the directory.
        path: PathBuf,
    },
    /// A file that is no socket has the socket's name.
    #[error("{} is {kind}, not a socket", path.display())]
    NotASocket {
        /// Path of the socket.
        path: PathBuf,
        /// What the file is.
        kind: &'static str,
    },
    /// Another process listens at the socket, although it does not hold the lock.
    #[error("another process listens at {}", path.display())]
    OtherListener {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The service manager listens at another place than the one that clients look for.
    #[error("the socket that the service manager opened is not {}", path.display())]
    OtherSocket {
        /// Path at which clients connect.
        path: PathBuf,
    },
    /// The system gives no random bytes for a token.
    #[error("cannot get random bytes")]
    NoRandomBytes(getrandom::Error),
    /// A socket or a token file cannot be made or read.
    #[error(transparent)]
    Fs(#[from] fs::Error),
}

impl Error {
    /// Returns the error for a body that could not be read within the limit of its route.
    pub(super) fn of_body(limit: usize, rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::BodyTooLarge { limit };
        }
        Self::BodyUnreadable(rejection)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::BodyTooLarge { .. } => {
                Self::new(Code::RequestTooLarge, message, "send a smaller request")
            }
            Error::BodyTimeout { .. } => {
                Self::new(Code::Timeout, message, "send the whole body at once")
            }
            Error::BodyUnreadable(_)
            | Error::InvalidBody(_)
            | Error::Nul
            | Error::InvalidQuery(_)
            | Error::InvalidPath(_)
            | Error::KeyNotAscii
            | Error::InvalidKey(_) => invalid(message),
            Error::UnknownMethod => {
                let hint = "use a method that the header Allow names";
                Self::new(Code::MethodNotAllowed, message, hint)
            }
            Error::UnknownPath => {
                Self::new(Code::NotFound, message, "list the paths with GET /v1/openapi.json")
            }
            Error::Unauthorized => {
                let hint = "send `Authorization: Bearer TOKEN` with the token from the file \
                            `token` of the daemon or `admin-token` of the server";
                Self::new(Code::Unauthorized, message, hint)
            }
            Error::TooManyConnections { .. } => {
                Self::new(Code::LimitReached, message, "retry when another connection has closed")
            }
            Error::Listen { source, .. } => {
                Self::new(Code::Io, message, "choose another address with --listen").because(source)
            }
            Error::PortAddress { source } => {
                Self::new(Code::Io, message, "choose another address with --listen").because(source)
            }
            Error::ForeignDirectory { .. } => {
                Self::new(Code::PermissionDenied, message, "choose another --data-dir")
            }
            Error::NotASocket { path, .. } | Error::OtherListener { path } => {
                let aside = PathBuf::from(format!("{}.aside", path.display()));
                let (from, to) = (paths::as_argument(&path), paths::as_argument(&aside));
                let hint = format!("move it away with `mv {from} {to}`, then start again");
                Self::new(Code::PathExists, message, hint)
            }
            Error::OtherSocket { .. } => {
                let hint = "run `groundskeeper service install` again";
                Self::new(Code::InvalidConfig, message, hint)
            }
            Error::NoRandomBytes(source) => {
                let hint = "check the system's random number generator";
                Self::new(Code::Io, message, hint).because(source)
            }
            Error::Fs(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes decide the HTTP status, and texts are what clients show.
    #[test]
    fn errors_keep_codes_texts_and_causes() {
        let too_large = Fault::from(Error::BodyTooLarge { limit: 7 });
        assert_eq!(too_large.code, Code::RequestTooLarge);
        assert_eq!(too_large.message, "the request is larger than 7 bytes");
        let slow = Fault::from(Error::BodyTimeout { limit: Duration::from_secs(10) });
        assert_eq!((slow.code, slow.transient), (Code::Timeout, false));
        assert_eq!(slow.message, "the body did not arrive within 10 s");
        let unknown = Fault::from(Error::UnknownMethod);
        assert_eq!(unknown.code, Code::MethodNotAllowed);
        let source = || io::Error::from(io::ErrorKind::AddrInUse);
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let taken = Fault::from(Error::Listen { address, source: source() });
        assert_eq!(
            (taken.code, taken.message.as_str()),
            (Code::Io, "cannot listen on 127.0.0.1:80")
        );
        assert_eq!(taken.causes, [source().to_string()]);
    }
}
