//! The file in which a daemon describes itself to its clients.

use std::path::{Path, PathBuf};

use groundskeeper_system::own_file::{self, Links};
use serde::{Deserialize, Serialize};

use crate::core::Fault;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::process::table;

/// A longer file is not one that a daemon wrote.
const INFO_BYTES_MAX: u64 = 64 * 1024;

/// Facts about a running daemon, in a file that its clients read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Process id of the daemon.
    pub pid: u32,
    /// Start time of the process in clock ticks since boot, as `/proc` has it. Pids are reused; an
    /// earlier version wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// Path of the socket on which it listens.
    pub socket: PathBuf,
    /// Version of the daemon's program.
    pub version: String,
    /// Process that listened on the socket before the daemon did, and goes on when it ends; none
    /// without a service manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u32>,
    /// Why no client can connect to the socket; none when clients can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
}

impl Info {
    /// Returns the facts about this process, which listens on `socket`.
    pub(super) fn of_this_process(socket: &Path, listener: Option<u32>) -> Self {
        let pid = std::process::id();
        let started = table::start_time(pid).ok().flatten();
        let version = crate::VERSION.to_owned();
        Self { pid, started, socket: socket.to_owned(), version, listener, unreachable: None }
    }

    /// Returns whether that process may be alive. One that cannot be seen may be.
    #[must_use]
    pub fn may_be_alive(&self) -> bool {
        match self.started {
            Some(started) => !table::has_ended(self.pid, started),
            None => !matches!(table::start_time(self.pid), Ok(None)),
        }
    }
}

/// Returns the facts that the daemon of a data directory wrote about itself; none if there is no
/// such file. That daemon may have ended since.
#[must_use]
pub fn read_info(layout: &Layout) -> Option<Info> {
    let text = own_file::read(&layout.daemon_info(), INFO_BYTES_MAX, Links::Refused).ok()??;
    serde_json::from_slice(&text).ok()
}

/// Writes the file, so that a client never reads half of it.
///
/// # Errors
/// When the file cannot be written or published.
pub(super) fn write_info(layout: &Layout, info: &Info) -> Result<(), Fault> {
    let path = layout.daemon_info();
    let text = serde_json::to_vec(info).unwrap_or_default();
    own_file::replace(&path, &text).map_err(paths::failed("write", &path))
}
