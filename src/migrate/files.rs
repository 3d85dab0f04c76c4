//! The few things that a migration does to files, each as durable and as patient as it can be.
//!
//! Every call can be made to fail or to be the last one before the power goes, by a [`Probe`]; that
//! is how each of them is tested. Nothing here knows what a file is for.

use std::fs::{File, Permissions};
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

/// How long to wait before each further try of a rename or a removal that something is in the way
/// of: a scanner that has the file open, a handle that is closed late.
pub const WAITS: [Duration; 7] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Names of the files that belong to a SQLite database, as suffixes; the database is the first.
pub const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// One kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A file's content is made durable.
    Sync,
    /// A directory's entries are made durable.
    SyncDir,
    /// A name is changed.
    Rename,
    /// A second name is made.
    Link,
    /// A name is removed.
    Remove,
    /// A file is written.
    Write,
    /// A directory is made.
    MakeDir,
}

impl Call {
    /// Its name among the fault points.
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

/// Stands beside every call; tests only.
pub trait Probe: Send + Sync {
    /// Before a try; an error takes the place of the call's own.
    ///
    /// # Errors
    /// What the call is to fail with.
    fn before(&self, call: Call, path: &Path) -> io::Result<()>;

    /// After a try that succeeded.
    fn after(&self, call: Call, path: &Path);
}

/// The way to files.
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

/// Whatever is in the way tells nobody when it is gone.
#[expect(clippy::disallowed_methods, reason = "nothing but time can be waited for")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

impl Files {
    /// One that a probe stands beside and that does not wait.
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
        crate::failpoint::fault::call(call.name())?;
        let done = act()?;
        if let Some(probe) = &self.probe {
            probe.after(call, path);
        }
        Ok(done)
    }

    fn patiently(
        &self,
        call: Call,
        path: &Path,
        act: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        for wait in WAITS {
            match self.call(call, path, &act) {
                Err(e) if is_in_the_way(&e) => (self.wait)(wait),
                done => return done,
            }
        }
        self.call(call, path, act)
    }

    /// Makes a file's content durable, as far as the platform lets us: one that cannot be opened
    /// for writing, or not be synced, is left to the system. A file that is not there is fine.
    ///
    /// # Errors
    /// When the device says that content was lost.
    pub fn sync(&self, path: &Path) -> io::Result<()> {
        let sync = || match File::options().read(true).write(true).open(path) {
            Ok(file) => file.sync_all(),
            Err(e) => Err(e),
        };
        self.call(Call::Sync, path, || lenient(sync()))
    }

    /// The same for a file that is open: to open and close it once more would give up every lock
    /// that this process has on it.
    ///
    /// # Errors
    /// When the device says that content was lost.
    pub fn sync_open(&self, file: &File, path: &Path) -> io::Result<()> {
        self.call(Call::Sync, path, || lenient(file.sync_all()))
    }

    /// Makes the entries of the directory that `path` lies in durable, as far as the platform does.
    ///
    /// # Errors
    /// When the device says that content was lost.
    pub fn sync_dir_of(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().unwrap_or_else(|| Path::new("."));
        self.call(Call::SyncDir, dir, || lenient(File::open(dir).and_then(|d| d.sync_all())))
    }

    /// Renames, patiently, and makes it durable.
    ///
    /// # Errors
    /// The last failure.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.patiently(Call::Rename, to, || std::fs::rename(from, to))?;
        self.sync_dir_of(to)
    }

    /// Gives a file a second name.
    ///
    /// # Errors
    /// When there is such a name, or the file system has no second names.
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Link, to, || std::fs::hard_link(from, to))
    }

    /// Removes a file, patiently; one that is not there is removed.
    ///
    /// # Errors
    /// The last failure.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.patiently(Call::Remove, path, || match std::fs::remove_file(path) {
            Err(e) if is_absent(&e) => Ok(()),
            other => other,
        })
    }

    /// Removes a database with all that belongs to it: what belongs to it first, so that it never
    /// outlives its base.
    ///
    /// # Errors
    /// The last failure.
    pub fn remove_set(&self, base: &Path) -> io::Result<()> {
        SUFFIXES.iter().rev().try_for_each(|suffix| self.remove(&with_suffix(base, suffix)))
    }

    /// Writes a small file whole or not at all, durable, for its owner only.
    ///
    /// # Errors
    /// What the system says; the old content is there then.
    pub fn write(&self, path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
        self.remove(temporary)?;
        self.call(Call::Write, temporary, || {
            let mut options = File::options();
            let mut file = options.write(true).create_new(true).mode(0o600).open(temporary)?;
            file.write_all(bytes)
        })?;
        self.sync(temporary)?;
        self.rename(temporary, path)
    }

    /// Makes a directory with its parents, for its owner only.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Call::MakeDir, path, || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
        })
    }

    /// Gives a file the mode of another one.
    ///
    /// # Errors
    /// What the system says.
    pub fn same_mode(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mode = from.metadata()?.permissions().mode() & 0o777;
        std::fs::set_permissions(to, Permissions::from_mode(mode))
    }
}

/// A path with something after its last character.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether waiting may help.
fn is_in_the_way(error: &io::Error) -> bool {
    let code = Errno::from_io_error(error);
    matches!(code, Some(Errno::BUSY | Errno::PERM | Errno::NOTEMPTY))
        || cfg!(windows) && error.kind() == io::ErrorKind::PermissionDenied
}

/// Refusals to sync are the platform's; lost content is not.
fn lenient(result: io::Result<()>) -> io::Result<()> {
    let fatal = [Errno::IO, Errno::NOSPC, Errno::DQUOT];
    match result {
        Err(e) if Errno::from_io_error(&e).is_some_and(|code| fatal.contains(&code)) => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

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

    #[test]
    fn a_rename_and_a_removal_wait_for_what_is_in_the_way() {
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
        assert!(once.is_err(), "waiting does not help against a missing right");
    }

    #[test]
    fn a_refused_sync_is_the_platforms_and_a_lost_one_is_not() {
        assert!(lenient(Err(Errno::INVAL.into())).is_ok());
        assert!(lenient(Err(Errno::PERM.into())).is_ok());
        assert!(lenient(Err(Errno::IO.into())).is_err());
        assert!(lenient(Err(Errno::NOSPC.into())).is_err());
    }

    #[test]
    fn a_small_file_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, temporary) = (dir.path().join("f"), dir.path().join("f.tmp"));
        let files_ = Files::default();
        files_.write(&path, &temporary, b"old").expect("written");
        for call in [Call::Write, Call::Rename, Call::Sync] {
            let errno = if call == Call::Rename { Errno::ACCESS } else { Errno::IO };
            assert!(files(call, errno, 1).write(&path, &temporary, b"new").is_err());
            assert_eq!(std::fs::read(&path).expect("read"), b"old");
        }
        files_.write(&path, &temporary, b"new").expect("what lies there is no hindrance");
        let mode = path.metadata().expect("there").permissions().mode();
        assert_eq!((std::fs::read(&path).expect("read"), mode & 0o777), (b"new".to_vec(), 0o600));
    }
}
