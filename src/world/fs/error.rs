//! The errors of this layer, by what callers distinguish, and what the user is told about each. No
//! caller reads the text of one.

use std::io;
use std::path::{Path, PathBuf};

use groundskeeper_system::proc::Unseen;

use crate::core::{Code, Fault};
use crate::world::fs::paths;

/// A failed operation on files or directories.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused the operation: missing, not permitted, no space.
    #[error("cannot {what} {}", path.display())]
    System {
        /// The verb of the operation, as in "cannot read".
        what: &'static str,
        /// Path that the operation was about.
        path: PathBuf,
        /// Answer of the system.
        source: io::Error,
    },
    /// The target of a rename is on another file system.
    #[error("cannot move {}", path.display())]
    CrossDevice {
        /// Path that was to be renamed.
        path: PathBuf,
        /// Answer of the system.
        source: io::Error,
    },
    /// The new name of a rename is taken.
    #[error("{} already exists", path.display())]
    Exists {
        /// The existing path.
        path: PathBuf,
        /// Answer of the system.
        source: io::Error,
    },
    /// A file system is mounted below a directory.
    #[error("a file system is mounted inside {}", path.display())]
    MountInside {
        /// The directory.
        path: PathBuf,
        /// Path of the mount.
        place: String,
    },
    /// A walk came to a directory on which a file system is mounted.
    #[error("a file system is mounted at {}", place.display())]
    MountAt {
        /// Path of the mount.
        place: PathBuf,
    },
    /// An attribute keeps even the owner from moving a directory.
    #[error("{} is marked immutable or append-only", path.display())]
    Immutable {
        /// The directory that has the attribute.
        path: PathBuf,
    },
    /// It is unknown what is mounted where.
    #[error(transparent)]
    Unseen(#[from] Unseen),
}

impl Error {
    /// Returns an adapter for `map_err` that names the operation and its path.
    pub(crate) fn about<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self::System { what, path: path.to_owned(), source }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::System { what, path, source } => paths::fault(what, &path, &source),
            Error::CrossDevice { path, source } => paths::fault("move", &path, &source),
            Error::Exists { source, .. } => {
                Self::new(Code::PathExists, message, "inspect it, and move it away").because(source)
            }
            Error::MountInside { place, .. } => {
                let hint = format!("run `umount '{place}'` first");
                let fault = Self::new(Code::EnvironmentBusy, message, hint);
                fault.with_evidence([place]).transient()
            }
            Error::MountAt { place } => {
                let hint = format!("run `umount '{}'` first", place.display());
                Self::new(Code::EnvironmentBusy, message, hint).transient()
            }
            Error::Immutable { path } => {
                let path = path.display();
                let hint = format!("run `chattr -i -a '{path}'` as root, then repeat the command");
                Self::new(Code::PermissionDenied, message, hint)
            }
            // Unknown counts as in use.
            Error::Unseen(unseen) => {
                Self { code: Code::EnvironmentBusy, ..unseen.into() }.transient()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_file_system_keeps_code_and_hint() {
        let source = io::Error::from_raw_os_error(rustix::io::Errno::XDEV.raw_os_error());
        let cause = source.to_string();
        let fault = Fault::from(Error::CrossDevice { path: "/a".into(), source });
        assert_eq!((fault.code, fault.message.as_str()), (Code::Io, "cannot move /a"));
        assert_eq!(fault.causes, [cause]);
        assert_eq!(fault.hint, "keep the whole data directory on one file system");
    }

    #[test]
    fn mount_inside_names_its_place() {
        let error = Error::MountInside { path: "/a".into(), place: "/a/b".into() };
        let fault = Fault::from(error);
        assert_eq!((fault.code, fault.transient), (Code::EnvironmentBusy, true));
        assert_eq!(fault.message, "a file system is mounted inside /a");
        assert_eq!(fault.evidence, ["/a/b"]);
        assert_eq!(fault.hint, "run `umount '/a/b'` first");
    }
}
