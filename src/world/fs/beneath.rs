//! Opens paths below a directory that is already open: never through a link, never above it.
//!
//! A path that was checked may lead elsewhere a moment later. Every descriptor returned here lies
//! below the directory that the caller holds, even if names change meanwhile. The caller makes,
//! reads or removes relative to that descriptor, so its action stays below, too. One `openat2` call
//! does it where the kernel has that call; otherwise one `openat` per component. This file never
//! changes files; it only creates directories.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// Policy for mount points on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::world) enum Mounts {
    Entered,
    Refused,
}

/// Opens a directory by its own path, which may lead through links.
///
/// # Errors
/// The error of the system.
pub(in crate::world) fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, directory(), Mode::empty())
}

/// Opens a directory below `base`; the empty path opens `base` itself.
///
/// # Errors
/// `ELOOP` or `ENOTDIR` for a link, `EXDEV` for a refused mount or for a path that leaves `base`.
pub(in crate::world) fn directory_in(
    base: BorrowedFd<'_>,
    path: &Path,
    mounts: Mounts,
) -> Result<OwnedFd, Errno> {
    open(base, path, directory(), Mode::empty(), mounts)
}

/// Opens the entry at `path` below `base`, with these flags.
///
/// # Errors
/// As [`directory_in`].
pub(in crate::world) fn open(
    base: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    mounts: Mounts,
) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match open_at_once(base, path, flags, mode, mounts) {
        // `ENOSYS`: the kernel is older than 5.6. `EPERM`: a seccomp filter does
        // not know `openat2`.
        Err(Errno::NOSYS | Errno::PERM) => open_by_steps(base, path, flags, mode, mounts),
        opened => opened,
    }
}

#[cfg(target_os = "linux")]
fn open_at_once(
    base: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    mounts: Mounts,
) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let mut how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    if mounts == Mounts::Refused {
        how |= ResolveFlags::NO_XDEV;
    }
    rustix::fs::openat2(base, path, flags, mode, how)
}

#[cfg(not(target_os = "linux"))]
fn open_at_once(
    _: BorrowedFd<'_>,
    _: &Path,
    _: OFlags,
    _: Mode,
    _: Mounts,
) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// Opens a directory below `base` and creates its missing components.
///
/// # Errors
/// As [`directory_in`].
pub(in crate::world) fn make_directory(
    base: BorrowedFd<'_>,
    path: &Path,
) -> Result<OwnedFd, Errno> {
    match directory_in(base, path, Mounts::Entered) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    // One component at a time: a path-wide mkdir would follow a link that replaced a component.
    let mut at = directory_in(base, Path::new(""), Mounts::Entered)?;
    for part in path.components() {
        let Component::Normal(name) = part else { return Err(Errno::XDEV) };
        match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(e) => return Err(e),
        }
        at = directory_in(at.as_fd(), Path::new(name), Mounts::Entered)?;
    }
    Ok(at)
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn open_by_steps(
    base: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    mounts: Mounts,
) -> Result<OwnedFd, Errno> {
    let device = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|found| found.st_dev);
    // Without `RESOLVE_NO_XDEV` a mount shows only as a change of device. A bind mount of the same
    // file system is not detected here.
    let home = device(base)?;
    let mut at = rustix::fs::openat(base, ".", directory(), Mode::empty())?;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let name = match part {
            Component::Normal(name) => name,
            Component::CurDir => std::ffi::OsStr::new("."),
            _ => return Err(Errno::XDEV),
        };
        let last = parts.peek().is_none();
        let (flags, mode) = if last { (flags, mode) } else { (directory(), Mode::empty()) };
        at = rustix::fs::openat(&at, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)?;
        if mounts == Mounts::Refused && device(at.as_fd())? != home {
            return Err(Errno::XDEV);
        }
    }
    Ok(at)
}

/// Reports whether an error means that a link, another non-directory or a mount is on the path.
pub(in crate::world) fn is_link(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::LOOP | Errno::NOTDIR | Errno::XDEV))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Open = fn(BorrowedFd<'_>, &Path, OFlags, Mode, Mounts) -> Result<OwnedFd, Errno>;

    /// Covers both implementations: `openat2`, and one `openat` per component.
    #[test]
    fn open_follows_no_link_or_parent() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("top/a/b")).expect("made");
        std::fs::create_dir(at("outside")).expect("made");
        std::fs::write(at("outside/secret"), "x").expect("written");
        std::fs::write(at("top/a/file"), "x").expect("written");
        std::os::unix::fs::symlink("../outside", at("top/out")).expect("linked");
        std::os::unix::fs::symlink("a", at("top/in")).expect("linked");
        std::os::unix::fs::symlink("file", at("top/a/last")).expect("linked");
        let base = open_root(&at("top")).expect("opened");
        let ways: [(&str, Open); 2] = [("at once", open), ("by steps", open_by_steps)];
        for (how, opens) in ways {
            let open = |path: &str| {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK;
                opens(base.as_fd(), Path::new(path), flags, Mode::empty(), Mounts::Refused)
            };
            for good in ["a/b", "a/file", ".", "a/./b"] {
                assert!(open(good).is_ok(), "{how}: {good}");
            }
            for bad in ["out/secret", "in/file", "a/last", "../outside", "/etc", "a/../../outside"]
            {
                assert!(open(bad).is_err(), "{how}: {bad}");
            }
        }
        assert!(make_directory(base.as_fd(), Path::new("a/new/one")).is_ok());
        assert!(at("top/a/new/one").is_dir());
        let error = make_directory(base.as_fd(), Path::new("out/new")).expect_err("a link");
        assert!(is_link(&error.into()) && !at("outside/new").exists());
    }

    #[test]
    fn other_file_systems_are_refused() {
        let base = open_root(Path::new("/")).expect("opened");
        let ways: [Open; 2] = [open, open_by_steps];
        for opens in ways {
            let open =
                |mounts| opens(base.as_fd(), Path::new("proc"), directory(), Mode::empty(), mounts);
            assert!(open(Mounts::Entered).is_ok());
            assert_eq!(open(Mounts::Refused).map(drop), Err(Errno::XDEV));
        }
    }
}
