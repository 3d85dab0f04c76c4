//! Unlinking a tree entry by entry, through descriptors: never through a link, never into another
//! mount, not even one of the same file system.
//!
//! Whoever calls has proven that the tree may go. Interrupted at any point it can be started again
//! on what is left.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::paths;
use crate::core::{Code, Fault};

/// Levels that are descended; each costs a descriptor.
const DEPTH_MAX: usize = 4_096;

/// Unlinks a directory and all that is in it; one that is not there is fine. `each` is called with
/// the number of entries so far, now and then, and can stop it. Returns how many went.
///
/// # Errors
/// What the system says, with the path; [`Code::EnvironmentBusy`] at a mount.
pub(super) fn tree(
    path: &Path,
    each: &mut dyn FnMut(u64) -> Result<(), Fault>,
) -> Result<u64, Fault> {
    let mut unlinker = Unlinker { each, count: 0, path: path.to_owned() };
    let name = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    match unlinker.directory(CWD, &name, 0) {
        Ok(()) | Err(Stop::System(Errno::NOENT)) => Ok(unlinker.count),
        Err(Stop::Told(fault)) => Err(fault),
        Err(Stop::System(Errno::XDEV)) => {
            let place = unlinker.path.display();
            let message = format!("a file system is mounted at {place}");
            Err(Fault::new(Code::EnvironmentBusy, message, "unmount it first").transient())
        }
        Err(Stop::System(e)) => Err(paths::fault("unlink", &unlinker.path, &e.into())),
    }
}

enum Stop {
    System(Errno),
    Told(Fault),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

struct Unlinker<'a> {
    each: &'a mut dyn FnMut(u64) -> Result<(), Fault>,
    count: u64,
    /// Where it is, for a message.
    path: PathBuf,
}

impl Unlinker<'_> {
    fn directory(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Stop> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let open = open_inside(parent, name, depth)?;
        loop {
            // Read anew after each pass: unlinking while reading may skip entries.
            let mut found = 0_u32;
            for entry in Dir::read_from(open.as_fd())? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                found += 1;
                self.path.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
                self.entry(open.as_fd(), name, entry.file_type(), depth)?;
                self.path.pop();
            }
            if found == 0 {
                break;
            }
        }
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
        self.gone()
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> Result<(), Stop> {
        if kind == FileType::Directory {
            return self.directory(parent, name, depth + 1);
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => self.gone(),
            Err(Errno::NOENT) => Ok(()),
            // A file system that does not tell kinds, or one that was replaced meanwhile.
            Err(Errno::ISDIR | Errno::PERM) if kind == FileType::Unknown => {
                self.directory(parent, name, depth + 1)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn gone(&mut self) -> Result<(), Stop> {
        self.count += 1;
        (self.each)(self.count).map_err(Stop::Told)
    }
}

/// A directory, opened where it is: not through a link and, below the first, not across a mount.
fn open_inside(parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || {
        if depth == 0 {
            return rustix::fs::openat(parent, name, flags, Mode::empty());
        }
        let how = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        rustix::fs::openat2(parent, name, flags, Mode::empty(), how)
    };
    let opened = match open() {
        Err(Errno::ACCESS) => {
            open_up(parent, name)?;
            open()?
        }
        opened => opened?,
    };
    // Its owner must be able to remove what is in it.
    let mode = rustix::fs::fstat(&opened)?.st_mode;
    if mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode | 0o700))?;
    }
    Ok(opened)
}

fn open_up(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    let mode = Mode::from_raw_mode(found.st_mode | 0o700);
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
}
