//! The error for something else that has the name of a file or folder of this program.

use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

/// Something else has the name of a file or folder of this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is {found}, not {wanted}", path.display())]
pub struct Misplaced {
    path: PathBuf,
    found: &'static str,
    wanted: &'static str,
}

impl Misplaced {
    /// Returns this error as one of the system: what was found at a path, and what belongs there.
    #[must_use]
    pub fn error(path: &Path, found: FileType, wanted: &'static str) -> io::Error {
        io::Error::other(Self { path: path.to_owned(), found: kind(found), wanted })
    }

    /// Returns the cause of an error, if it is this one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns what a file is, for a message.
#[must_use]
pub fn kind(found: FileType) -> &'static str {
    if found.is_dir() {
        "a directory"
    } else if found.is_symlink() {
        "a symbolic link"
    } else if found.is_file() {
        "a plain file"
    } else {
        special(found)
    }
}

#[cfg(unix)]
fn special(found: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    if found.is_fifo() {
        "a FIFO"
    } else if found.is_socket() {
        "a socket"
    } else if found.is_block_device() || found.is_char_device() {
        "a device"
    } else {
        "a special file"
    }
}

#[cfg(not(unix))]
fn special(_: FileType) -> &'static str {
    "a special file"
}
