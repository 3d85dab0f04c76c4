//! What the caller of a daemon decides, besides its configuration.

use std::net::SocketAddr;

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
    /// Whether to begin a new log although the directory has content of an earlier one.
    pub start_over: bool,
    /// Whether `SIGHUP` is a request to reload: the caller then starts the daemon again.
    pub reloads: bool,
}
