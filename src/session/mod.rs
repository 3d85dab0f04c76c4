//! The session with a control server: a source of commands, and a reader of what happens here.
//!
//! The daemon connects, says what lives here, takes the server's live set in, does what it is told
//! and tells what comes of it. Nothing of that is kept here that the log or the server does not
//! have: a session that breaks is opened anew and both sides agree again.
//!
//! [`protocol`] defines the messages, [`transport`] carries them, [`connector`] keeps a session
//! open, `exchange` is one session, `heartbeat` tells whether the peer is there, `commands` turns
//! commands into requests to the API and remembers the answers, [`scheduler`] orders them, `outbox`
//! reports what happened. Commands go through the same API as everybody's: a server may do nothing
//! here that a local user could not.

pub mod protocol;

pub(crate) mod commands;
pub mod connector;
mod context;
pub(crate) mod exchange;
mod heartbeat;
pub(crate) mod outbox;
pub mod scheduler;
pub mod transport;

pub use crate::session::connector::start;
pub use crate::session::context::Link;
