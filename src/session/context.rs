//! What keeping a session open works with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use crate::api::App;
use crate::api::types::SessionView;
use crate::core::{Code, Fault};
use crate::session::commands::CommandDispatcher;
use crate::world::fs::paths;

/// What keeps a session open.
pub(super) struct Client {
    pub(super) app: Arc<App>,
    pub(super) link: Link,
    pub(super) tell: watch::Sender<SessionView>,
    pub(super) orders: CommandDispatcher,
    pub(super) instance: String,
    /// The last record that a server could not take in.
    pub(super) set_aside: u64,
}

/// Where a control server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket on this machine.
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String),
}

impl Address {
    /// Reads `unix:/path`, `ws://host:port` or `http://host:port`.
    ///
    /// # Errors
    /// What is wrong with it.
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
        let hint = "write unix:/path/to/server.sock or ws://host:port; put a tunnel or a proxy in \
                    between for anything but this machine";
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

/// A control server and the key to it.
#[derive(Clone)]
pub struct Link {
    /// Where it is.
    pub address: Address,
    pub(super) key: String,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        write!(f, "Link({})", self.address)
    }
}

impl Link {
    /// The server at an address, with the key in a file that only its owner can read.
    ///
    /// # Errors
    /// When the address or the file cannot be used.
    pub fn new(address: &str, key_file: &Path) -> Result<Self, Fault> {
        use std::os::unix::fs::PermissionsExt as _;
        let address = Address::parse(address)?;
        let found = key_file.metadata().map_err(paths::failed("read the key", key_file))?;
        if found.permissions().mode() & 0o077 != 0 {
            let message = format!("others can read the key {}", key_file.display());
            let hint = format!("`chmod 600 {}`", key_file.display());
            return Err(Fault::new(Code::PermissionDenied, message, hint));
        }
        let text = std::fs::read_to_string(key_file);
        let key = text.map_err(paths::failed("read the key", key_file))?.trim().to_owned();
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.chars().all(|c| c.is_ascii_graphic())
        {
            let message = format!("{} holds no key", key_file.display());
            let hint = "`groundskeeper host add NAME` at the server makes one";
            return Err(Fault::new(Code::InvalidConfig, message, hint));
        }
        Ok(Self { address, key })
    }
}

/// Longest key in bytes.
const KEY_BYTES_MAX: usize = 256;
