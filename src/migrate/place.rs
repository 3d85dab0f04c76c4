//! Where migrations without a daemon are recorded, and the lock that keeps other processes from the
//! log there.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::files::with_suffix;
use groundskeeper_core::{Code, Fault};
use groundskeeper_system::own_file::{self, Links};
use groundskeeper_system::paths;
use groundskeeper_system::portable::{self, Existing};

/// Files in which migrations are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The log.
    pub log: PathBuf,
    /// File whose lock means that a process appends to the log.
    pub lock: PathBuf,
    /// Directory for what an undo needs, and for scratch files.
    pub home: PathBuf,
}

impl Place {
    /// Returns a place whose files are all in one directory.
    #[must_use]
    pub fn within(dir: &Path) -> Self {
        Self { log: dir.join("log.redb"), lock: dir.join("lock"), home: dir.to_owned() }
    }

    /// Returns the place beside a database: the directory `DATABASE.migration`.
    #[must_use]
    pub fn beside(database: &Path) -> Self {
        Self::within(&with_suffix(database, ".migration"))
    }
}

/// Returns whether no other process appends to the log at a place.
///
/// # Errors
/// When the lock cannot be tried.
pub fn is_free(place: &Place) -> Result<bool, Fault> {
    if !place.lock.exists() {
        return Ok(true);
    }
    match lock(&place.lock) {
        Ok(_) => Ok(true),
        Err(fault) if fault.code == Code::AlreadyRunning => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Takes the lock of a place. It is held until the file is dropped, and ends with the process.
pub(super) fn lock(path: &Path) -> Result<File, Fault> {
    let checked = own_file::check(path, Links::Refused);
    let file = checked.and_then(|_| portable::open_private(path, Existing::Kept));
    let file = file.map_err(paths::failed("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!("another process holds {}", path.display());
            let hint = "retry when the other migration has ended, or stop the daemon with \
                        `groundskeeper stop`";
            Err(Fault::new(Code::AlreadyRunning, message, hint))
        }
        Err(TryLockError::Error(e)) => Err(paths::fault("lock", path, &e)),
    }
}
