//! The file in which a daemon describes itself to its clients.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::Fault;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;

/// Facts about a running daemon, in a file that its clients read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Process id of the daemon.
    pub pid: u32,
    /// Path of the socket on which it listens.
    pub socket: PathBuf,
    /// Version of the daemon's program.
    pub version: String,
}

/// Returns the facts that the daemon of a data directory wrote about itself; none if there is no
/// such file. That daemon may have ended since.
#[must_use]
pub fn read_info(layout: &Layout) -> Option<Info> {
    serde_json::from_slice(&std::fs::read(layout.daemon_info()).ok()?).ok()
}

/// Writes the file for this process, which listens on `socket`.
///
/// # Errors
/// When the file cannot be written or published.
pub(super) fn write_info(layout: &Layout, socket: &Path) -> Result<(), Fault> {
    let version = crate::VERSION.to_owned();
    let info = Info { pid: std::process::id(), socket: socket.to_owned(), version };
    let path = layout.daemon_info();
    let fresh = path.with_extension("new");
    let text = serde_json::to_vec(&info).unwrap_or_default();
    // Written aside and renamed, so that a client never reads half a file.
    std::fs::write(&fresh, text).map_err(paths::failed("write", &fresh))?;
    std::fs::rename(&fresh, &path).map_err(paths::failed("publish", &path))
}
