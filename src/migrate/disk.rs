//! Space on the disk.

use std::io;
use std::path::Path;

/// Returns the bytes that this user may still write to the file system of a directory.
///
/// # Errors
/// The error of the system.
#[cfg(unix)]
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Without a way to ask, a full disk shows when a write fails.
#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}
