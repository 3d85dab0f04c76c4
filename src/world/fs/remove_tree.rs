//! Unlinks a tree entry by entry through descriptors: never through a link, never into another
//! mount, not even a bind mount of the same file system.
//!
//! The caller has proven that the tree may be removed. An interrupted run can be repeated.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd as _;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::failpoint::fault;
use crate::world::fs::beneath::{self, Mounts};
use crate::world::fs::error::Error;

/// Depth limit of the recursion: each level costs a descriptor and stack space. Deeper directories
/// are first moved up to the top.
const DEPTH_MAX: usize = 128;

/// Unlinks a directory and everything in it; a missing one is success. Calls `each` with
/// the number of entries removed so far; an error from it stops the walk and is returned.
/// Returns the number of removed entries.
///
/// # Errors
/// The error of the system, with the path; [`Error::MountAt`] at a mount; the error of `each`.
pub(in crate::world) fn tree<E: From<Error>>(
    path: &Path,
    each: &mut dyn FnMut(u64) -> Result<(), E>,
) -> Result<u64, E> {
    let mut unlinker = Unlinker { each, count: 0, path: path.to_owned(), moved: 0 };
    let name = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    match unlinker.top(&name) {
        Ok(()) | Err(Stop::System(Errno::NOENT)) => Ok(unlinker.count),
        Err(Stop::Caller(error)) => Err(error),
        Err(Stop::System(Errno::XDEV)) => Err(Error::MountAt { place: unlinker.path }.into()),
        Err(Stop::System(e)) => Err(Error::about("unlink", &unlinker.path)(e.into()).into()),
    }
}

/// Reason why a walk over a tree ends early: an error of the system, or one of the callback.
pub(in crate::world) enum Stop<E> {
    System(Errno),
    Caller(E),
}

impl<E> From<Errno> for Stop<E> {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

struct Unlinker<'a, E> {
    each: &'a mut dyn FnMut(u64) -> Result<(), E>,
    count: u64,
    /// Current path, for error messages only; no system call uses it.
    path: PathBuf,
    /// Number of directories that were moved up because they lay too deep.
    moved: u64,
}

impl<E> Unlinker<'_, E> {
    fn top(&mut self, name: &CStr) -> Result<(), Stop<E>> {
        let top = open_inside(CWD, name, 0)?;
        self.contents(top.as_fd(), top.as_fd(), 0)?;
        rustix::fs::unlinkat(CWD, name, AtFlags::REMOVEDIR)?;
        self.gone()
    }

    /// Removes the entries of an open directory.
    fn contents(
        &mut self,
        top: BorrowedFd<'_>,
        open: BorrowedFd<'_>,
        depth: usize,
    ) -> Result<(), Stop<E>> {
        loop {
            // Read anew after each pass: unlinking during a read may make readdir skip entries.
            let mut found = 0_u32;
            for entry in Dir::read_from(open)? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                found += 1;
                self.path.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
                self.entry(top, open, name, entry.file_type(), depth)?;
                self.path.pop();
            }
            if found == 0 {
                return Ok(());
            }
        }
    }

    /// Removes one entry; one that another process removed meanwhile is success.
    fn entry(
        &mut self,
        top: BorrowedFd<'_>,
        parent: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> Result<(), Stop<E>> {
        let is_directory = match kind {
            FileType::Directory => true,
            // Some file systems do not fill in `d_type`.
            FileType::Unknown => {
                let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
                found.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
            }
            _ => false,
        };
        if let Err(e) = fault::call("unlink") {
            return Err(Stop::System(Errno::from_io_error(&e).unwrap_or(Errno::IO)));
        }
        let removed = if !is_directory {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())
        } else if depth >= DEPTH_MAX {
            return self.move_up(top, parent, name);
        } else {
            let open = match open_inside(parent, name, depth + 1) {
                Err(Errno::NOENT) => return Ok(()),
                open => open?,
            };
            self.contents(top, open.as_fd(), depth + 1)?;
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
        };
        match removed {
            Err(Errno::NOENT) => Ok(()),
            removed => {
                removed?;
                self.gone()
            }
        }
    }

    fn move_up(
        &mut self,
        top: BorrowedFd<'_>,
        parent: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), Stop<E>> {
        self.moved += 1;
        // The name is unique to this process; the next pass over the top finds and empties it.
        let new = format!(".gk-deep-{}-{}", std::process::id(), self.moved);
        match rustix::fs::renameat(parent, name, top, new.as_str()) {
            Err(Errno::NOENT) => Ok(()),
            moved => Ok(moved?),
        }
    }

    fn gone(&mut self) -> Result<(), Stop<E>> {
        self.count += 1;
        (self.each)(self.count).map_err(Stop::Caller)
    }
}

/// Opens a directory without following a link and, below the first level, without crossing a mount.
fn open_inside(parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || {
        if depth == 0 {
            return rustix::fs::openat(parent, name, flags, Mode::empty());
        }
        let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        beneath::open(parent, name, flags, Mode::empty(), Mounts::Refused)
    };
    let opened = match open() {
        Err(Errno::ACCESS) => {
            open_up(parent, name)?;
            open()?
        }
        opened => opened?,
    };
    // Removing the entries needs read, write and search permission for the owner.
    let mode = rustix::fs::fstat(&opened)?.st_mode;
    if mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode | 0o700))?;
    }
    Ok(opened)
}

/// Grants the owner all permissions on a directory that could not be opened.
fn open_up(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    let mode = Mode::from_raw_mode(found.st_mode | 0o700);
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
}
