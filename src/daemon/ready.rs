//! The line on stdout that tells a parent process that the daemon accepts clients.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::daemon::service_manager;

/// Start of the line that tells a parent process the path of the socket.
pub const READY: &str = "GROUNDSKEEPER_READY:";
/// Start of that line in the form that the Executor application waits for.
const EXECUTOR_READY: &str = "EXECUTOR_READY:";

/// Format of the line on stdout that tells a parent process that the daemon is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadyFormat {
    /// `GROUNDSKEEPER_READY:<socket>`, and the TCP address after a space if there is one.
    #[default]
    Groundskeeper,
    /// `EXECUTOR_READY:<port>`, or the socket if there is no port.
    Executor,
}

impl std::str::FromStr for ReadyFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "groundskeeper" => Ok(Self::Groundskeeper),
            "executor" => Ok(Self::Executor),
            _ => Err("must be groundskeeper or executor".to_owned()),
        }
    }
}

/// Reports to the parent process and the service manager that the socket accepts clients.
pub(super) fn announce(format: ReadyFormat, address: &Path, port: Option<SocketAddr>) {
    let mut out = std::io::stdout().lock();
    let socket = address.display();
    let line = match (format, port) {
        (ReadyFormat::Groundskeeper, None) => format!("{READY}{socket}"),
        (ReadyFormat::Groundskeeper, Some(port)) => format!("{READY}{socket} {port}"),
        (ReadyFormat::Executor, Some(port)) => format!("{EXECUTOR_READY}{}", port.port()),
        (ReadyFormat::Executor, None) => format!("{EXECUTOR_READY}{socket}"),
    };
    // The parent may have closed stdout; the daemon runs all the same.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
    service_manager::ready();
    tracing::info!(socket = %address.display(), "ready");
}
