//! Converts paths between bytes and `Path`, and `io::Error` to a fault with a code and a hint.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use groundskeeper_core::{Code, Fault, HostPath};
use groundskeeper_failpoint::fault;

/// Converts a path to the bytes that the log stores.
#[must_use]
pub fn to_host(path: &Path) -> HostPath {
    HostPath(path.as_os_str().as_bytes().to_vec())
}

/// Converts a logged path for the file system without a copy.
#[must_use]
pub fn borrowed(path: &HostPath) -> &Path {
    Path::new(OsStr::from_bytes(&path.0))
}

/// Converts a logged path for the file system into an owned path.
#[must_use]
pub fn from_host(path: &HostPath) -> PathBuf {
    PathBuf::from(OsString::from_vec(path.0.clone()))
}

/// Converts bytes as git prints them to a path.
#[must_use]
pub fn from_bytes(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Converts an error of the system about a path to a fault with a code and the next step.
#[must_use]
pub fn fault(what: &str, path: &Path, error: &io::Error) -> Fault {
    use io::ErrorKind as K;
    let message = format!("cannot {what} {}", path.display());
    let (code, hint, transient) = match error.kind() {
        K::NotFound => (Code::PathNotFound, "check that the path exists", false),
        K::PermissionDenied => {
            (Code::PermissionDenied, "check the owner and mode of the path", false)
        }
        K::ReadOnlyFilesystem => {
            (Code::Io, "remount the read-only file system with write access", false)
        }
        K::StorageFull | K::QuotaExceeded => (
            Code::DiskFull,
            "free disk space; `groundskeeper df` shows what environments use",
            false,
        ),
        K::ResourceBusy | K::DirectoryNotEmpty | K::Interrupted | K::WouldBlock => {
            (Code::Io, "end the process that uses the path; the operation is retried", true)
        }
        K::CrossesDevices => (Code::Io, "keep the whole data directory on one file system", false),
        _ => (Code::Io, "check the file system, for example with `dmesg`", false),
    };
    let fault = Fault::new(code, message, hint).because(error);
    if transient { fault.transient() } else { fault }
}

/// Returns [`fault()`] as an adapter for `map_err`.
pub fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> Fault + 'a {
    move |error| fault(what, path, &error)
}

/// Renames like the system call does: an existing file of the new name is replaced.
///
/// # Errors
/// The error of the system.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    fault::call("rename")?;
    std::fs::rename(from, to)
}

/// Removes a file; a missing one is success.
///
/// # Errors
/// Any other failure.
pub fn remove_file_if_any(path: &Path) -> io::Result<()> {
    match fault::call("remove").and_then(|()| std::fs::remove_file(path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes an empty directory; a missing or non-empty one is success and stays as it is.
///
/// # Errors
/// Any other failure.
pub fn remove_dir_if_empty(path: &Path) -> io::Result<()> {
    match fault::call("remove").and_then(|()| std::fs::remove_dir(path)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // Some systems report this error for an empty directory, and the last entry may have just
        // vanished. Both are errors, so that the caller retries.
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty && has_entries(path) => Ok(()),
        removed => removed,
    }
}

fn has_entries(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

/// Makes the entries of a directory durable: a sync of a file does not cover its name.
///
/// # Errors
/// The error of the system.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

/// Reports whether an entry has this name; a dangling link counts.
///
/// # Errors
/// When the system cannot answer, for example for lack of permission.
pub fn exists(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}
