//! The daemon's session with a control server: it receives commands and reports what happens here.
//!
//! The daemon connects, sends its environments, applies the server's live set, carries out commands
//! and reports their results. A session keeps no state that the log or the server does not have:
//! after a break a new session is opened and both sides synchronize again.
//!
//! [`protocol`] defines the messages, [`transport`] carries them, [`connector`] keeps a session
//! open, `exchange` is one session, `heartbeat` detects a silent peer, `commands` checks commands
//! and queues them, `calls` turns each into a use case, `registry` caches the answers,
//! [`scheduler`] orders them, `outbox` reports records of the log. Commands go through the same use
//! cases as local requests: a server can do nothing here that a local user could not do.

pub mod protocol;

pub(crate) mod answers;
mod calls;
mod commands;
pub mod connector;
mod context;
pub(crate) mod exchange;
mod heartbeat;
pub(crate) mod outbox;
pub(crate) mod registry;
pub mod scheduler;
pub mod transport;

pub use crate::session::connector::start;
pub use crate::session::context::Link;
