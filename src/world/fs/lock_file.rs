//! Lock files that exist only while they are held: taken by name, and unlinked by their holder.
//!
//! Such a file is never unlinked by a process that does not hold its lock. A process that opened
//! the file before it was unlinked holds a lock that excludes no other process, so it checks after
//! locking that the path still names the locked file. A child that inherited the lock keeps the
//! file in place until it ends. Nothing here decides who may take a lock.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use groundskeeper_system::own_file::{self, Links};

use crate::world::fs::error::Error;
use crate::world::fs::file_id::FileId;

/// Attempts to lock a file that other processes unlink in between.
const RACES_MAX: usize = 64;

/// Attempts to unlink the file of a lock that was released, and the time between two.
const UNLINKS_MAX: usize = 50;
const UNLINK_AGAIN: Duration = Duration::from_millis(1);

/// A lock that this process holds; dropping it releases the lock and unlinks the file.
#[derive(Debug)]
pub(in crate::world) struct LockFile {
    /// Closed before the name is dropped: a child that inherited the lock still holds it then.
    file: File,
    _name: Name,
}

/// The path of a held lock; dropping it unlinks the file, unless a process still holds it.
#[derive(Debug)]
struct Name(PathBuf);

impl Drop for Name {
    /// A child of another thread that was forked and does not execute its program yet, or a sweep
    /// that looks, holds the lock for a moment more. A file that stays is unlinked by its next
    /// holder, or by a sweep.
    #[expect(clippy::disallowed_methods, reason = "a file lock cannot be awaited with a bound")]
    fn drop(&mut self) {
        for _ in 0..UNLINKS_MAX {
            if !matches!(remove_if_free(&self.0), Ok(false)) || !self.0.exists() {
                return;
            }
            std::thread::sleep(UNLINK_AGAIN);
        }
    }
}

impl LockFile {
    /// Takes the lock of a path; none while another process holds it.
    ///
    /// # Errors
    /// When the file cannot be created, opened or locked.
    pub(in crate::world) fn try_take(path: &Path) -> Result<Option<Self>, Error> {
        for _ in 0..RACES_MAX {
            let mut options = File::options();
            options.create(true).truncate(false).write(true).read(true);
            let open = own_file::open(path, &options, Links::Refused);
            let file = open.map_err(Error::about("open", path))?;
            match file.try_lock() {
                Ok(()) if is_at(&file, path) => {
                    return Ok(Some(Self { file, _name: Name(path.to_owned()) }));
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(Error::about("lock", path)(e)),
            }
        }
        Ok(None)
    }
}

impl Deref for LockFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

/// Unlinks a lock file that no process holds, and returns whether it did. A missing one is none.
///
/// # Errors
/// When the system refuses to open or unlink it.
pub(in crate::world) fn remove_if_free(path: &Path) -> io::Result<bool> {
    let file = match own_file::open(path, File::options().write(true), Links::Refused) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        open => open?,
    };
    if file.try_lock().is_err() || !is_at(&file, path) {
        return Ok(false);
    }
    // Under the lock, so that another process cannot have taken it in between.
    std::fs::remove_file(path).map(|()| true)
}

/// Returns whether an open file still is the file of this name.
fn is_at(file: &File, path: &Path) -> bool {
    let (open, there) = (file.metadata(), path.symlink_metadata());
    open.is_ok_and(|a| there.is_ok_and(|b| FileId::of(&a) == FileId::of(&b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_file_goes_with_its_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("demo");
        let held = LockFile::try_take(&path).expect("taken").expect("free");
        assert!(LockFile::try_take(&path).expect("asked").is_none(), "held once");
        assert!(!remove_if_free(&path).expect("asked") && path.exists(), "a held file stays");
        drop(held);
        assert!(!path.exists());
        assert!(LockFile::try_take(&path).expect("taken").is_some(), "it can be taken again");
    }

    /// Children of other threads hold it between fork and exec, and leave no file for that.
    #[test]
    fn starting_children_leave_no_lock_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("demo");
        std::thread::scope(|scope| {
            let start = || {
                for _ in 0..150 {
                    std::process::Command::new("true").status().expect("started");
                }
            };
            let starters = [scope.spawn(start), scope.spawn(start)];
            while !starters.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                drop(LockFile::try_take(&path).expect("taken").expect("free"));
                assert!(!path.exists());
            }
        });
    }

    #[test]
    fn inherited_lock_keeps_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("demo");
        let held = LockFile::try_take(&path).expect("taken").expect("free");
        let inherited = held.try_clone().expect("a second descriptor");
        drop(held);
        assert!(path.exists() && LockFile::try_take(&path).expect("asked").is_none());
        drop(inherited);
        // Children that other tests start may hold it for a moment.
        let free = |_: &i32| remove_if_free(&path).expect("asked");
        assert!((0..100_000).any(|n| free(&n)) && !path.exists());
    }

    /// Whatever the order of unlinks and takes, two holders never exist at once.
    #[test]
    fn concurrent_takers_exclude_each_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("demo");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let Some(_held) = LockFile::try_take(&path).expect("asked") else {
                            continue;
                        };
                        let before = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(before, 0, "another thread holds the lock");
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        // A child of another test that is not yet its program may have held the file of the last
        // holder, which then stays for the next one to unlink.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while path.exists() {
            assert!(std::time::Instant::now() < deadline, "the file stays");
            drop(LockFile::try_take(&path).expect("asked"));
        }
    }
}
