//! Which file or directory a path leads to, whatever its name. It opens nothing.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// Identifies a file while it exists: another one of the same name has another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    /// Device of its file system; some get another one at each mount.
    pub device: u64,
    /// Inode on that device.
    pub inode: u64,
}

impl FileId {
    /// Returns the identity of the file that was inspected.
    #[must_use]
    pub fn of(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }
}
