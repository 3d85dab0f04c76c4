//! Converts paths between bytes and `Path`, and `io::Error` to a fault with a code and a hint.

#[cfg(unix)]
use std::ffi::OsStr;
use std::io;
#[cfg(unix)]
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use groundskeeper_core::{Code, Fault, HostPath};
use groundskeeper_failpoint::fault;

use crate::misplaced::Misplaced;
use crate::portable;

/// Converts a path to the bytes that the log stores: on Unix its own bytes, on Windows UTF-8.
///
/// A Windows name that is no valid UTF-16 has no such form; [`is_representable`] tells, and a
/// request that names one is refused.
#[must_use]
pub fn to_host(path: &Path) -> HostPath {
    #[cfg(unix)]
    return HostPath(path.as_os_str().as_bytes().to_vec());
    #[cfg(windows)]
    return HostPath(path.to_string_lossy().into_owned().into_bytes());
}

/// Returns whether the log can store a path: every one on Unix, and on Windows every one that is
/// valid UTF-16.
#[must_use]
pub fn is_representable(path: &Path) -> bool {
    cfg!(unix) || path.to_str().is_some()
}

/// Converts a logged path for the file system without a copy. On Windows a path of another system
/// that is no UTF-8 becomes one that does not exist.
#[must_use]
pub fn borrowed(path: &HostPath) -> &Path {
    from_bytes(&path.0)
}

/// Converts a logged path for the file system into an owned path.
#[must_use]
pub fn from_host(path: &HostPath) -> PathBuf {
    borrowed(path).to_owned()
}

/// Converts bytes as git prints them to a path.
#[must_use]
pub fn from_bytes(bytes: &[u8]) -> &Path {
    #[cfg(unix)]
    return Path::new(OsStr::from_bytes(bytes));
    // A NUL byte is in no name, so this path is nowhere.
    #[cfg(windows)]
    return Path::new(std::str::from_utf8(bytes).unwrap_or("\0"));
}

/// Converts an error of the system about a path to a fault with a code and the next step.
#[must_use]
pub fn fault(what: &str, path: &Path, error: &io::Error) -> Fault {
    use io::ErrorKind as K;
    if let Some(misplaced) = Misplaced::of(error) {
        return misplaced_fault(misplaced);
    }
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
        // std has no stable kind for the sharing violations of Windows.
        _ if cfg!(windows) && portable::is_busy(error) => {
            (Code::Io, "end the program that has the file open, then retry", true)
        }
        _ => (Code::Io, "check the file system, for example with `dmesg`", false),
    };
    let fault = Fault::new(code, message, hint).because(error);
    if transient { fault.transient() } else { fault }
}

fn misplaced_fault(misplaced: &Misplaced) -> Fault {
    let from = misplaced.path();
    let to = PathBuf::from(format!("{}.aside", from.display()));
    let (from, to) = (as_argument(from), as_argument(&to));
    let hint = format!("move it away with `mv {from} {to}`, then repeat the command");
    Fault::new(Code::Io, misplaced.to_string(), hint)
}

/// Returns [`fault()`] as an adapter for `map_err`.
pub fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> Fault + 'a {
    move |error| fault(what, path, &error)
}

/// Returns a path as one word of a command that a user pastes into a shell.
#[must_use]
pub fn as_argument(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    if cfg!(windows) { format!("\"{text}\"") } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Returns the real path of an existing file. On Windows it has the form that other programs take,
/// without the prefix `\\?\`, wherever that form names the same file.
///
/// # Errors
/// The error of the system.
pub fn real(path: &Path) -> io::Result<PathBuf> {
    dunce::canonicalize(path)
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
