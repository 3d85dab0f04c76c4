//! What the caller of a daemon decides, besides its configuration.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use crate::daemon::ready::ReadyFormat;
use crate::migrate::request::MigrationRequest;
use crate::session::Link;

/// Options of a daemon besides its configuration.
#[derive(Debug, Default)]
pub struct StartOptions {
    /// Control server that replaces the configured one.
    pub link: Option<Link>,
    /// Databases to migrate before the daemon is ready, in addition to the configured ones.
    pub databases: Vec<MigrationRequest>,
    /// Format of the ready line.
    pub ready: ReadyFormat,
    /// TCP address for clients that have the token; none for the socket alone.
    pub listen: Option<SocketAddr>,
    /// Socket on which a service manager listens for the daemon; none to make one.
    pub listener: Option<Arc<UnixListener>>,
    /// Whether to begin a new log although the directory has content of an earlier one.
    pub start_over: bool,
    /// Whether the daemon starts again when it is asked to, by `SIGHUP` or by a client.
    pub reloads: bool,
}

impl StartOptions {
    /// Returns the options of the start after a reload: what is done once is not done again.
    #[must_use]
    pub fn for_reload(&self) -> Self {
        let Self { ready, listen, reloads, .. } = *self;
        Self { ready, listen, listener: self.listener.clone(), reloads, ..Self::default() }
    }
}
