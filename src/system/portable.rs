//! What Unix and Windows do differently with files, so that no caller names a platform.
//!
//! The two tables of error codes are compiled on both, so that the one that is not in use is tested
//! too. Nothing here retries or decides.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Codes of a rename or a removal that another program is in the way of: a scanner or an editor has
/// the file open, or a handle is closed late.
const BUSY_UNIX: [i32; 3] = [EBUSY, EPERM, ENOTEMPTY];
/// `ERROR_ACCESS_DENIED`, `ERROR_SHARING_VIOLATION`, `ERROR_LOCK_VIOLATION` and
/// `ERROR_DIR_NOT_EMPTY`. Windows answers the first for a file that a program without delete
/// sharing has open; std has no stable `ErrorKind` for the second.
const BUSY_WINDOWS: [i32; 4] = [5, 32, 33, 145];

/// Codes of a sync that lost content: input or output failed, or there is no space.
const LOST_UNIX: [i32; 3] = [EIO, ENOSPC, EDQUOT];
/// `ERROR_CRC`, `ERROR_WRITE_FAULT`'s device form, `ERROR_HANDLE_DISK_FULL`, `ERROR_DISK_FULL` and
/// `ERROR_IO_DEVICE`.
const LOST_WINDOWS: [i32; 5] = [23, 29, 39, 112, 1117];

const EPERM: i32 = 1;
const EIO: i32 = 5;
const EBUSY: i32 = 16;
const ENOSPC: i32 = 28;
// These two have other numbers on the BSDs and macOS than on Linux.
const ENOTEMPTY: i32 = if cfg!(target_vendor = "apple") { 66 } else { 39 };
const EDQUOT: i32 = if cfg!(target_vendor = "apple") { 69 } else { 122 };

/// Returns whether a rename or a removal may succeed when it is tried again later.
#[must_use]
pub fn is_busy(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(windows) { &BUSY_WINDOWS } else { &BUSY_UNIX };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Returns whether a failed sync means that content is lost, and not that the platform refuses it.
#[must_use]
pub fn is_lost(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(windows) { &LOST_WINDOWS } else { &LOST_UNIX };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Reads at an offset without moving the position that other readers of the file share.
///
/// # Errors
/// The error of the system.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_at(file, buffer, offset);
    // The position moves on Windows. No caller reads the same handle in another way.
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_read(file, buffer, offset);
}

/// Reads as [`read_at`] until the buffer is full.
///
/// # Errors
/// The error of the system; `UnexpectedEof` when the file ends before.
pub fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match read_at(file, buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Makes the entries of a directory durable: a sync of a file does not cover its name. On Windows
/// the file system keeps names in its journal, and a directory cannot be synced without rights that
/// few users have, so nothing is done there.
///
/// # Errors
/// The error of the system.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(path)?.sync_all()
}

/// Returns whether two paths name one file. A missing file is no other's. On Unix the files are not
/// opened: closing them would release every POSIX lock that this process has on them.
#[must_use]
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let identity = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        identity(a).is_some_and(|found| Some(found) == identity(b))
    }
    #[cfg(windows)]
    same_file::is_same_file(a, b).unwrap_or(false)
}

/// Returns whether an open file is still the one that a path names. It may have been removed, or
/// replaced by another one, since it was opened.
#[must_use]
pub fn is_still_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let open = file.metadata().ok().map(identity);
        open.is_some() && open == path.metadata().ok().map(identity)
    }
    // A file that is open there is not replaced, but it may have been removed.
    #[cfg(windows)]
    {
        let _ = file;
        path.exists()
    }
}

/// What [`open_private`] does with a file that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refused,
    /// It is opened and emptied.
    Emptied,
    /// It is opened as it is.
    Kept,
}

/// Opens a file for writing. A new one can be read by its owner only, from its creation on; on
/// Windows SYSTEM and the administrators can read it, too. The rights of an existing file stay.
///
/// # Errors
/// `AlreadyExists` for [`Existing::Refused`], or the error of the system.
pub fn open_private(path: &Path, existing: Existing) -> io::Result<File> {
    #[cfg(unix)]
    {
        let mut options = OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.write(true).create_new(existing == Existing::Refused);
        options.create(true).truncate(existing == Existing::Emptied).open(path)
    }
    #[cfg(windows)]
    match crate::windows_access::create_file(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && existing != Existing::Refused => {
            let mut options = OpenOptions::new();
            // `create`: another process may have removed the file in between.
            options.write(true).create(true).truncate(existing == Existing::Emptied).open(path)
        }
        created => created,
    }
}

/// Creates a directory and its missing parents, accessible to the owner only; on Windows to SYSTEM
/// and the administrators, too.
///
/// # Errors
/// The error of the system.
pub fn create_private_dirs(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path)
    }
    #[cfg(windows)]
    {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        match crate::windows_access::create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(_) if path.is_dir() => return Ok(()),
            created => return created,
        }
        create_private_dirs(path.parent().ok_or(io::ErrorKind::NotFound)?)?;
        match crate::windows_access::create_dir(path) {
            Err(_) if path.is_dir() => Ok(()),
            created => created,
        }
    }
}

/// Returns the bytes that an ordinary user may still write on the disk of a directory.
///
/// # Errors
/// The error of the system.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    #[cfg(unix)]
    return Ok(rustix::fs::statvfs(dir).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))?);
    #[cfg(windows)]
    return fs4::available_space(dir);
}

/// Returns size and time of the last change of a file, the time since 1970 in seconds and
/// nanoseconds; `None` when the file is missing or the system does not tell.
#[must_use]
pub fn size_and_time(path: &Path) -> Option<(u64, i64, u32)> {
    let meta = path.metadata().ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        Some((meta.len(), meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap_or(0)))
    }
    #[cfg(windows)]
    {
        // In 100 ns since 1601. Its zero point is of no use to a comparison.
        let time = std::os::windows::fs::MetadataExt::last_write_time(&meta);
        let seconds = i64::try_from(time / 10_000_000).unwrap_or(i64::MAX);
        Some((meta.len(), seconds, u32::try_from(time % 10_000_000).unwrap_or(0) * 100))
    }
}

/// Opens a file so that no other process can open it until the returned handle is closed. Returns
/// whether it was created; a created one is removed when the handle is closed, also after a kill.
///
/// # Errors
/// The error of the system, such as a sharing violation.
#[cfg(windows)]
pub fn open_alone(path: &Path) -> io::Result<(File, bool)> {
    use std::os::windows::fs::OpenOptionsExt as _;
    const FILE_FLAG_DELETE_ON_CLOSE: u32 = 0x0400_0000;
    let mut options = File::options();
    options.read(true).write(true).share_mode(0);
    let created =
        options.clone().create_new(true).custom_flags(FILE_FLAG_DELETE_ON_CLOSE).open(path);
    match created {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            options.open(path).map(|file| (file, false))
        }
        other => other.map(|file| (file, true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both tables, so that the one of the other platform cannot rot.
    #[test]
    fn transient_and_fatal_codes_are_disjoint() {
        for (busy, lost) in [(&BUSY_UNIX[..], &LOST_UNIX[..]), (&BUSY_WINDOWS, &LOST_WINDOWS)] {
            assert!(busy.iter().all(|code| !lost.contains(code)));
        }
        let error = |code| io::Error::from_raw_os_error(code);
        assert_eq!(is_busy(&error(32)), cfg!(windows));
        assert_eq!(is_lost(&error(112)), cfg!(windows));
        assert_eq!(is_busy(&error(EBUSY)), cfg!(unix));
        assert_eq!(is_lost(&error(ENOSPC)), cfg!(unix));
    }

    /// Closing any descriptor of a file would release the locks of this process on it.
    #[cfg(target_os = "linux")]
    #[test]
    fn comparison_keeps_posix_locks() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let (path, other) = (dir.path().join("file"), dir.path().join("name"));
        let file = File::create(&path).expect("created");
        std::fs::hard_link(&path, &other).expect("linked");
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).expect("locked");
        assert!(is_same_file(&path, &other));
        assert!(!is_same_file(&path, dir.path()));
        let inode = format!(":{} ", file.metadata().expect("there").ino());
        // Read from the kernel: a process does not conflict with its own locks.
        let locks = std::fs::read_to_string("/proc/locks").expect("the system's locks");
        assert!(locks.lines().any(|line| line.contains(&inode)), "the lock is still held");
    }
}
