//! State of the session client, and the address and key of the control server.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use groundskeeper_system::own_file::{self, Links};
use tokio::sync::watch;

use crate::core::{Code, Fault};
use crate::service::App;
use crate::service::types::daemon::SessionView;
use crate::session::commands::CommandDispatcher;
use crate::world::fs::paths;

/// The task that keeps a session open, across connections.
pub(super) struct Client {
    pub(super) app: Arc<App>,
    pub(super) link: Link,
    pub(super) status: watch::Sender<SessionView>,
    pub(super) commands: CommandDispatcher,
    pub(super) instance: String,
    /// The last record that a server rejected; each such record is counted once.
    pub(super) last_rejected: u64,
}

/// Address of a control server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Path of a Unix socket on this machine.
    Unix(PathBuf),
    /// `host:port`, without encryption.
    Tcp(String),
}

impl Address {
    /// Parses `unix:/path`, `ws://host:port` or `http://host:port`.
    ///
    /// # Errors
    /// Returns `InvalidConfig` for any other form, also for `wss:` and for a URL with a path.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if let Some(path) = text.strip_prefix("unix:").filter(|p| p.starts_with('/')) {
            return Ok(Self::Unix(path.into()));
        }
        let place = text.strip_prefix("ws://").or_else(|| text.strip_prefix("http://"));
        let place = place.map(|p| p.trim_end_matches('/'));
        if let Some(place) = place.filter(|p| p.contains(':') && !p.contains('/')) {
            return Ok(Self::Tcp(place.to_owned()));
        }
        let message = format!("{text:?} is not the address of a control server");
        let hint = "use unix:/path/to/server.sock or ws://host:port, with a tunnel or a proxy in \
                    between for any other machine";
        Err(Fault::new(Code::InvalidConfig, message, hint))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(place) => write!(f, "ws://{place}"),
        }
    }
}

/// A control server's address and this host's key for it.
#[derive(Clone)]
pub struct Link {
    /// Address of the server.
    pub address: Address,
    pub(super) key: String,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must not appear in logs.
        write!(f, "Link({})", self.address)
    }
}

impl Link {
    /// Reads the key from a file that only its owner can access (no group or other bits).
    ///
    /// # Errors
    /// Fails if the address is invalid, the file is unreadable or open to others, or it holds no
    /// key (empty, too long, or not printable ASCII).
    pub fn new(address: &str, key_file: &Path) -> Result<Self, Fault> {
        use std::os::unix::fs::PermissionsExt as _;
        let address = Address::parse(address)?;
        let found = own_file::check(key_file, Links::Followed);
        let found = found.and_then(|found| found.ok_or_else(|| ErrorKind::NotFound.into()));
        let found = found.map_err(paths::failed("read the key", key_file))?;
        if found.permissions().mode() & 0o077 != 0 {
            let message =
                format!("the key file {} is accessible to other users", key_file.display());
            let hint = format!("`chmod 600 {}`", key_file.display());
            return Err(Fault::new(Code::PermissionDenied, message, hint));
        }
        let read = own_file::read(key_file, KEY_FILE_BYTES_MAX, Links::Followed);
        let read = read.map_err(paths::failed("read the key", key_file))?.unwrap_or_default();
        let key = String::from_utf8(read).unwrap_or_default().trim().to_owned();
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.chars().all(|c| c.is_ascii_graphic())
        {
            let message = format!("{} holds no valid key", key_file.display());
            let hint = "create one with `groundskeeper host add NAME` at the server";
            return Err(Fault::new(Code::InvalidConfig, message, hint));
        }
        Ok(Self { address, key })
    }
}

/// Bound on a file that holds a key, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 4 * 1024;
/// Bound on a key in bytes.
const KEY_BYTES_MAX: usize = 256;
