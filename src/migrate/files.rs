//! File operations of a migration, each durable and repeated where an error may pass.
//!
//! A [`Probe`] can make every call fail or be the last one before a power loss; each is tested that
//! way. Nothing here knows what a file is for.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::access;
use groundskeeper_core::Fault;
use groundskeeper_system::portable::{self, Existing};
use groundskeeper_system::{paths, real_dir::RealDir};

/// Waits before each further attempt of a rename or a removal that another program blocks: a
/// scanner that has the file open, a handle that is closed late. Nearly 8 s in total.
pub const WAITS: [Duration; 7] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Suffixes of the files that belong to a SQLite database. The empty one is the database itself.
pub const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Kind of a file system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Makes the content of a file durable.
    Sync,
    /// Makes the entries of a directory durable.
    SyncDir,
    /// Renames a file.
    Rename,
    /// Gives a file a second name.
    Link,
    /// Removes a name.
    Remove,
    /// Writes a small file.
    Write,
    /// Creates a directory.
    MakeDir,
}

impl Call {
    /// Returns the name of the call among the fault points; both syncs share one.
    fn name(self) -> &'static str {
        match self {
            Self::Sync | Self::SyncDir => "sync",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Remove => "remove",
            Self::Write => "write",
            Self::MakeDir => "make",
        }
    }
}

/// Observes every call and can make it fail. Tests only.
pub trait Probe: Send + Sync {
    /// Called before an attempt. An error replaces the attempt.
    ///
    /// # Errors
    /// The error that the call shall fail with.
    fn before(&self, call: Call, path: &Path) -> io::Result<()>;

    /// Called after an attempt that succeeded.
    fn after(&self, call: Call, path: &Path);
}

/// Access to files, with an optional probe.
#[derive(Clone)]
pub struct Files {
    probe: Option<Arc<dyn Probe>>,
    wait: fn(Duration),
}

impl Default for Files {
    fn default() -> Self {
        Self { probe: None, wait: pause }
    }
}

/// Waits by sleeping: no notification tells when the obstacle is gone.
#[expect(clippy::disallowed_methods, reason = "nothing but time can be waited for")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

impl Files {
    /// Creates an access that calls a probe and does not wait between attempts.
    #[must_use]
    pub fn probed(probe: Arc<dyn Probe>) -> Self {
        Self { probe: Some(probe), wait: |_| () }
    }

    fn call<T>(
        &self,
        call: Call,
        path: &Path,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if let Some(probe) = &self.probe {
            probe.before(call, path)?;
        }
        groundskeeper_failpoint::fault::call(call.name())?;
        let done = act()?;
        if let Some(probe) = &self.probe {
            probe.after(call, path);
        }
        Ok(done)
    }

    fn with_retries(
        &self,
        call: Call,
        path: &Path,
        act: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        for wait in WAITS {
            match self.call(call, path, &act) {
                Err(e) if portable::is_busy(&e) => (self.wait)(wait),
                done => return done,
            }
        }
        self.call(call, path, act)
    }

    /// Makes the content of a file durable, as far as the platform allows. A file that cannot be
    /// opened for writing or synced is left to the system; a missing file is a success.
    ///
    /// # Errors
    /// When the device reports that content is lost or that space is exhausted.
    pub fn sync(&self, path: &Path) -> io::Result<()> {
        let sync = || match File::options().read(true).write(true).open(path) {
            Ok(file) => file.sync_all(),
            Err(e) => Err(e),
        };
        self.call(Call::Sync, path, || lenient(sync()))
    }

    /// Like [`Self::sync`], for an open file. Opening and closing it once more would release every
    /// lock that this process has on it.
    ///
    /// # Errors
    /// When the device reports that content is lost or that space is exhausted.
    pub fn sync_open(&self, file: &File, path: &Path) -> io::Result<()> {
        self.call(Call::Sync, path, || lenient(file.sync_all()))
    }

    /// Makes the entries of the directory of `path` durable, as far as the platform allows.
    ///
    /// # Errors
    /// When the device reports that content is lost or that space is exhausted.
    pub fn sync_dir_of(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().unwrap_or_else(|| Path::new("."));
        self.call(Call::SyncDir, dir, || lenient(portable::sync_dir(dir)))
    }

    /// Renames a file with retries and makes the new name durable.
    ///
    /// # Errors
    /// The error of the last attempt, or of the sync.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with_retries(Call::Rename, to, || std::fs::rename(from, to))?;
        self.sync_dir_of(to)
    }

    /// Gives a file a second name. It does not make that name durable.
    ///
    /// # Errors
    /// When the name exists already, or the file system does not support hard links.
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Link, to, || std::fs::hard_link(from, to))
    }

    /// Opens a file as [`portable::open_alone`] does, with retries while another process has it
    /// open.
    ///
    /// # Errors
    /// The error of the last attempt.
    #[cfg(windows)]
    pub fn open_alone(&self, path: &Path) -> io::Result<(File, bool)> {
        let open = || self.call(Call::Write, path, || portable::open_alone(path));
        for wait in WAITS {
            match open() {
                Err(e) if portable::is_busy(&e) => (self.wait)(wait),
                done => return done,
            }
        }
        open()
    }

    /// Removes a file with retries. A missing file is a success.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.with_retries(Call::Remove, path, || match std::fs::remove_file(path) {
            Err(e) if is_absent(&e) => Ok(()),
            other => other,
        })
    }

    /// Removes a file of an opened directory as [`Self::remove`] does.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub fn remove_in(&self, dir: &RealDir, name: &OsStr) -> io::Result<()> {
        self.with_retries(Call::Remove, &dir.path().join(name), || dir.remove(name))
    }

    /// Removes a database and its sidecars. The sidecars go first, so that none outlives its base.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub fn remove_set(&self, base: &Path) -> io::Result<()> {
        SUFFIXES.iter().rev().try_for_each(|suffix| self.remove(&with_suffix(base, suffix)))
    }

    /// Writes a small file durably, whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// The error of the system. The old content is then still there, unless the last sync failed.
    pub fn write(&self, path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write_temporary(temporary, bytes)?;
        self.sync(temporary)?;
        self.rename(temporary, path)
    }

    /// Writes a small file as [`Self::write`] does, with the owner and the mode of another.
    pub(crate) fn write_like(
        &self,
        like: &Path,
        path: &Path,
        temporary: &Path,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        self.prepare_like(like, temporary, bytes)?;
        self.rename(temporary, path).map_err(paths::failed("write", path))
    }

    /// Writes a small file as [`Self::write`] does, with the owner of another, for that owner only.
    pub(crate) fn write_owned_like(
        &self,
        like: &Path,
        path: &Path,
        temporary: &Path,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        self.prepare_private(like, temporary, bytes)?;
        self.rename(temporary, path).map_err(paths::failed("write", path))
    }

    /// Writes a small file durably under a temporary name, with the owner and the mode of another.
    pub(crate) fn prepare_like(
        &self,
        like: &Path,
        temporary: &Path,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let failed = paths::failed("write", temporary);
        self.write_temporary(temporary, bytes).map_err(&failed)?;
        access::same_owner_and_mode(like, temporary)?;
        self.sync(temporary).map_err(&failed)
    }

    /// Writes a temporary file durably for the owner of a database alone, to be renamed later.
    pub(crate) fn prepare_private(
        &self,
        like: &Path,
        temporary: &Path,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let failed = paths::failed("write", temporary);
        self.write_temporary(temporary, bytes).map_err(&failed)?;
        access::same_owner(like, temporary)?;
        self.sync(temporary).map_err(&failed)
    }

    fn write_temporary(&self, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
        // A kill may have left one, and `create_new` alone guarantees the mode.
        self.remove(temporary)?;
        self.call(Call::Write, temporary, || {
            portable::open_private(temporary, Existing::Refused)?.write_all(bytes)
        })
    }

    /// Creates a directory and its parents, accessible to the owner only.
    ///
    /// # Errors
    /// The error of the system.
    pub fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Call::MakeDir, path, || portable::create_private_dirs(path))
    }
}

/// Returns a path with a suffix appended to its last component.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Ignores a refused sync, which is the platform's limit, and keeps errors that mean lost content.
fn lenient(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if portable::is_lost(&e) => Err(e),
        _ => Ok(()),
    }
}

// The codes that the probe answers with are those of Unix.
#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::io::Errno;

    use super::*;

    struct Failing(Call, Errno, AtomicU32);

    impl Probe for Failing {
        fn before(&self, call: Call, _: &Path) -> io::Result<()> {
            let left = call == self.0
                && self
                    .2
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_ok();
            if left { Err(self.1.into()) } else { Ok(()) }
        }

        fn after(&self, _: Call, _: &Path) {}
    }

    fn files(call: Call, errno: Errno, times: u32) -> Files {
        Files::probed(Arc::new(Failing(call, errno, AtomicU32::new(times))))
    }

    /// The number of retries is bounded, and a missing permission is not retried.
    #[test]
    fn rename_and_remove_retry_transient_errors() {
        let dir = tempfile::tempdir().expect("a folder");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for errno in [Errno::BUSY, Errno::PERM, Errno::NOTEMPTY] {
            std::fs::write(&a, "x").expect("written");
            files(Call::Rename, errno, 7).rename(&a, &b).expect("the eighth try");
            files(Call::Remove, errno, 7).remove(&b).expect("the eighth try");
            assert!(!b.exists());
            std::fs::write(&a, "x").expect("written");
            assert!(files(Call::Rename, errno, 8).rename(&a, &b).is_err(), "bounded");
            assert!(files(Call::Remove, errno, 8).remove(&a).is_err(), "bounded");
            assert!(a.exists());
        }
        let once = files(Call::Rename, Errno::ACCESS, 1).rename(&a, &b);
        assert!(once.is_err(), "a missing permission is not retried");
    }

    /// EINVAL and EPERM mean that the platform refuses the sync; EIO and ENOSPC mean lost data.
    #[test]
    fn sync_ignores_unsupported_not_lost() {
        assert!(lenient(Err(Errno::INVAL.into())).is_ok());
        assert!(lenient(Err(Errno::PERM.into())).is_ok());
        assert!(lenient(Err(Errno::IO.into())).is_err());
        assert!(lenient(Err(Errno::NOSPC.into())).is_err());
    }

    /// A leftover temporary file is no obstacle, and the mode is 0600.
    #[test]
    fn small_file_write_is_atomic() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, temporary) = (dir.path().join("f"), dir.path().join("f.tmp"));
        let files_ = Files::default();
        files_.write(&path, &temporary, b"old").expect("written");
        for call in [Call::Write, Call::Rename, Call::Sync] {
            let errno = if call == Call::Rename { Errno::ACCESS } else { Errno::IO };
            assert!(files(call, errno, 1).write(&path, &temporary, b"new").is_err());
            assert_eq!(std::fs::read(&path).expect("read"), b"old");
        }
        files_.write(&path, &temporary, b"new").expect("replaced");
        let mode = path.metadata().expect("there").permissions().mode();
        assert_eq!((std::fs::read(&path).expect("read"), mode & 0o777), (b"new".to_vec(), 0o600));
    }
}
