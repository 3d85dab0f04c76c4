//! Calls that only Linux has. Elsewhere each one fails with `Unsupported`, which the caller handles
//! as a kernel that lacks the call, or refuses.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, Signal};

#[cfg(not(target_os = "linux"))]
fn unsupported<T>(what: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("this system has no {what}")))
}

/// Opens a descriptor of a process that becomes readable when the process ends. It never refers to
/// another process that reuses the pid.
///
/// # Errors
/// The error of the system.
pub fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        unsupported("pidfd_open")
    }
}

/// Sends a signal to the process of a descriptor.
///
/// # Errors
/// The error of the system.
pub fn pidfd_send_signal(process: impl AsFd, signal: Signal) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::process::pidfd_send_signal(process, signal)?);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (process.as_fd(), signal);
        unsupported("pidfd_send_signal")
    }
}

/// Makes this process the parent of all orphans among its descendants.
///
/// # Errors
/// The error of the system.
pub fn become_subreaper() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?);
    #[cfg(not(target_os = "linux"))]
    unsupported("subreaper")
}

/// Lets a new file share the blocks of another one.
///
/// # Errors
/// The error of the system, also where the file system cannot share blocks.
pub fn reflink(to: impl AsFd, from: impl AsFd) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::ioctl_ficlone(to, from)?);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (to.as_fd(), from.as_fd());
        unsupported("ioctl_ficlone")
    }
}

/// Writes everything of a file system to its disk.
///
/// # Errors
/// The error of the system.
pub fn sync_file_system(open: impl AsFd) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::syncfs(open)?);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = open.as_fd();
        unsupported("syncfs")
    }
}

/// Creates a file without a name in a directory, for writing.
///
/// # Errors
/// The error of the system; `Unsupported` where the file system has no such files.
pub fn unnamed_file(folder: &std::path::Path, mode: u32) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(openat(CWD, folder, flags, Mode::from(mode))?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (folder, mode);
        unsupported("O_TMPFILE")
    }
}

/// The entries of a directory; what its `next` returns has the same methods on all systems.
#[cfg(target_os = "linux")]
pub type Listing<'a> = rustix::fs::RawDir<'a, BorrowedFd<'a>>;
/// The entries of a directory; what its `next` returns has the same methods on all systems.
#[cfg(not(target_os = "linux"))]
pub type Listing<'a> = rustix::fs::Dir;

/// Lists an open directory. On Linux the names are not copied out of the buffer.
///
/// # Errors
/// The error of the system.
pub fn list<'a>(
    open: BorrowedFd<'a>,
    buffer: &'a mut [MaybeUninit<u8>],
) -> rustix::io::Result<Listing<'a>> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::RawDir::new(open, buffer));
    #[cfg(not(target_os = "linux"))]
    {
        let _ = buffer;
        rustix::fs::Dir::read_from(open)
    }
}

/// Returns whether an attribute of a file or directory keeps even its owner from changing it.
#[must_use]
pub fn is_immutable(path: &std::path::Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
        let marks = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        found.is_ok_and(|found| {
            found.stx_attributes_mask.intersects(marks) && found.stx_attributes.intersects(marks)
        })
    }
    #[cfg(target_os = "macos")]
    {
        use std::os::macos::fs::MetadataExt as _;
        // UF_IMMUTABLE, UF_APPEND, SF_IMMUTABLE, SF_APPEND
        const MARKS: u32 = 0x2 | 0x4 | 0x2_0000 | 0x4_0000;
        path.symlink_metadata().is_ok_and(|found| found.st_flags() & MARKS != 0)
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _ = path;
        false
    }
}

/// Returns whether programs can be run from the file system of a directory. Where the system does
/// not tell, the attempt to run one decides.
#[must_use]
pub fn may_run_programs(folder: &std::path::Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        let found = rustix::fs::statvfs(folder);
        found.is_ok_and(|found| !found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
    }
    #[cfg(not(target_os = "linux"))]
    folder.is_dir()
}

/// Returns whether a file system reports changes by other machines to watchers. If its type is
/// unknown, it may.
#[must_use]
pub fn is_local(folder: &std::path::Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        const REMOTE: [i64; 8] = [
            0x6969,      // NFS
            0x517b,      // SMB
            0xfe53_4d42, // SMB2
            0xff53_4d42, // CIFS
            0x0102_1997, // 9p
            0x6573_5546, // FUSE
            0x00c3_6400, // Ceph
            0x5346_414f, // AFS
        ];
        rustix::fs::statfs(folder).map_or(true, |found| !REMOTE.contains(&found.f_type))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        true
    }
}

/// Converts the bits of a mode as std has them to the type of the file calls.
#[must_use]
pub fn mode(bits: u32) -> rustix::fs::Mode {
    // Twelve bits, which fit into the 16 that some systems have.
    rustix::fs::Mode::from_raw_mode((bits & 0o7777) as rustix::fs::RawMode)
}
