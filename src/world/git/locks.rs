//! git's lock files: takes them with the holder's name inside, and finds those that others left.
//!
//! git creates `NAME.lock` before it replaces `NAME`, and every git that finds one gives up. A
//! killed process leaves its lock for ever. Locks of this program name their process, so a
//! successor can tell that the holder has died. Where this program can make a change itself, it
//! starts no git that would lock the user's repository. A foreign lock is never removed here: it is
//! reported, with its age and what is known of its holder.

use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use groundskeeper_system::linux_calls;
use rustix::fs::{AtFlags, CWD, OFlags};

use crate::failpoint::guard;
use crate::world::process::table;

/// First words of the content of our locks.
const HOLDER: &str = "held by groundskeeper ";
const HOLDER_BYTES_MAX: u64 = 128;
/// Age from which a lock counts as lasting and is not waited for: git holds one for an instant.
const LASTING_AGE: Duration = Duration::from_secs(3);
/// Attempts of one step after which a lock is not waited for, whatever its age.
const ATTEMPTS_MAX: u32 = 5;
/// Bounds of one search: locks found, directory entries read, and depth.
const FOUND_MAX: usize = 200;
const LISTED_MAX: usize = 20_000;
const DEPTH_MAX: usize = 64;

/// A held lock of git's protocol on one file; until it is dropped no git replaces that file.
pub(in crate::world) struct Lock(PathBuf);

impl Lock {
    /// Takes the lock of a file; a lock that this program held when it was killed is replaced.
    ///
    /// # Errors
    /// `AlreadyExists` when a process holds it, `NotFound` when the folder is missing.
    pub(in crate::world) fn take(path: &Path) -> io::Result<Self> {
        let lock = of(path);
        let holder = holder()?;
        drop_if_dead(&lock);
        let folder = lock.parent().unwrap_or(path);
        // An unnamed file is linked only after it names its holder, so a kill never leaves an
        // anonymous lock. `linkat` fails if the name exists, which is what makes it a lock.
        match linux_calls::unnamed_file(folder, 0o644) {
            Ok(open) => {
                rustix::io::write(&open, holder.as_bytes())?;
                let open = format!("/proc/self/fd/{}", open.as_raw_fd());
                rustix::fs::linkat(CWD, open, CWD, &lock, AtFlags::SYMLINK_FOLLOW)?;
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                return Err(e);
            }
            // Not every file system supports `O_TMPFILE`; then a kill between both calls
            // leaves an empty lock.
            Err(_) => {
                let mut file = OpenOptions::new().write(true).create_new(true).open(&lock)?;
                file.write_all(holder.as_bytes())?;
            }
        }
        Ok(Self(lock))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Returns the path of the lock of a file.
pub(in crate::world) fn of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Returns the content of our locks. Pids are reused, so the start time follows the pid.
fn holder() -> io::Result<String> {
    let pid = std::process::id();
    let started = table::start_time(pid).map_err(io::Error::other)?.unwrap_or_default();
    Ok(format!("{HOLDER}{pid} {started}\n"))
}

/// Returns the process that one of our locks names, and its start time; `None` for a foreign lock.
fn named_holder(lock: &Path) -> Option<(u32, u64)> {
    // Any file may have this name: a link and a pipe are not followed or waited for, and no more is
    // read than one of our locks holds.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(lock).ok()?;
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut text = String::new();
    file.take(HOLDER_BYTES_MAX).read_to_string(&mut text).ok()?;
    let (pid, start) = text.strip_prefix(HOLDER)?.trim_end().split_once(' ')?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

/// Removes a lock that this program held when it was killed; a foreign one is left alone.
pub(in crate::world) fn drop_if_dead(lock: &Path) {
    let Some((pid, start)) = named_holder(lock) else { return };
    if table::has_ended(pid, start) {
        tracing::warn!(lock = %lock.display(), "removed the lock of a killed daemon");
        drop(std::fs::remove_file(lock));
    }
}

/// An existing lock file, as found at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingLock {
    /// Path of the lock file.
    pub path: PathBuf,
    /// Time since its last change, by its ctime.
    pub age: Duration,
    /// Pid and name of the process that holds it; `None` when no visible process does.
    pub holder: Option<(u32, String)>,
    /// Whether it names a daemon that has died.
    pub is_ours_and_dead: bool,
}

impl ExistingLock {
    /// Inspects the lock at this path, if there is one.
    pub(in crate::world) fn at(lock: &Path) -> Option<Self> {
        let found = lock.symlink_metadata().ok()?;
        // Unlike the mtime, no program can set the ctime.
        let made = u64::try_from(found.ctime()).unwrap_or(0);
        let age = crate::clock::since_epoch().saturating_sub(Duration::from_secs(made));
        let dead = |(pid, start)| table::has_ended(pid, start);
        let is_ours_and_dead = named_holder(lock).is_some_and(dead);
        Some(Self { path: lock.to_owned(), age, holder: holder_of(lock), is_ours_and_dead })
    }

    /// Reports whether waiting for it is useless.
    pub(in crate::world) fn is_lasting(&self, attempts: u32) -> bool {
        (self.age >= LASTING_AGE || attempts >= ATTEMPTS_MAX) && guard::stands("standing")
    }

    /// Returns one line for people: path, age, holder.
    #[must_use]
    pub fn line(&self) -> String {
        let holder = match &self.holder {
            Some((pid, name)) => format!("held by {name} (pid {pid})"),
            None => "no process is known to hold it".to_owned(),
        };
        format!("{} is {} old, {holder}", self.path.display(), age_text(self.age))
    }

    /// Returns what to do about it, as a command.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.holder {
            Some((pid, name)) => format!("retry when {name} (pid {pid}) has ended"),
            None => format!(
                "if no git process works in that repository, run `rm '{}'`, then retry",
                self.path.display()
            ),
        }
    }
}

fn age_text(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Returns the living process that holds a lock: the named one, or one that has the file open.
fn holder_of(lock: &Path) -> Option<(u32, String)> {
    let named = named_holder(lock).filter(|(pid, start)| table::is_alive(*pid, *start));
    let open = || {
        // `/proc/PID/fd` shows real paths.
        let real = lock.parent()?.canonicalize().ok()?.join(lock.file_name()?);
        table::pids().ok()?.into_iter().find(|pid| table::files(*pid).any(|(_, file)| file == real))
    };
    let pid = named.map(|(pid, _)| pid).or_else(open)?;
    Some((pid, table::read(pid).ok()??.name))
}

/// Returns the locks in a repository: own files, refs and worktrees; at most `FOUND_MAX`.
pub(in crate::world) fn in_repository(common: &Path) -> Vec<ExistingLock> {
    let mut search = Search { found: Vec::new(), listed: 0 };
    search.folder(common, 1);
    search.folder(&common.join("objects/info"), 1);
    search.folder(&common.join("refs"), DEPTH_MAX);
    search.folder(&common.join("worktrees"), 2);
    search.found.iter().filter_map(|path| ExistingLock::at(path)).collect()
}

struct Search {
    found: Vec<PathBuf>,
    listed: usize,
}

impl Search {
    fn folder(&mut self, folder: &Path, depth: usize) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            self.listed += 1;
            if self.listed > LISTED_MAX || self.found.len() >= FOUND_MAX {
                return;
            }
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir && depth > 1 {
                self.folder(&entry.path(), depth - 1);
            } else if !is_dir && entry.path().extension().is_some_and(|e| e == "lock") {
                self.found.push(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A foreign lock or an empty one stays.
    #[test]
    fn only_dead_daemon_lock_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("packed-refs");
        let lock = dir.path().join("packed-refs.lock");
        let held = Lock::take(&file).expect("taken");
        assert_eq!(std::fs::read_to_string(&lock).expect("read"), holder().expect("seen"));
        let again = Lock::take(&file).map(drop).expect_err("it is held");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        drop(held);
        assert!(!lock.exists());
        for (text, goes) in [("", false), ("theirs", false), ("held by groundskeeper 1 1\n", true)]
        {
            std::fs::write(&lock, text).expect("written");
            assert_eq!(Lock::take(&file).is_ok(), goes, "{text:?}");
        }
    }

    #[test]
    fn locks_are_listed_with_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let common = dir.path();
        for name in ["refs/heads/gk", "worktrees/a", "objects/info"] {
            std::fs::create_dir_all(common.join(name)).expect("made");
        }
        let names = ["HEAD", "objects/info/x", "refs/heads/gk/a", "worktrees/a/index"];
        for name in names {
            std::fs::write(of(&common.join(name)), "").expect("written");
        }
        let mut found = in_repository(common);
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let paths: Vec<PathBuf> = found.iter().map(|existing| existing.path.clone()).collect();
        assert_eq!(paths, names.map(|name| of(&common.join(name))));
        assert!(found.iter().all(|existing| existing.holder.is_none()));
        let _open = std::fs::File::open(of(&common.join("HEAD"))).expect("open");
        let held = ExistingLock::at(&of(&common.join("HEAD"))).expect("there");
        assert_eq!(held.holder.map(|(pid, _)| pid), Some(std::process::id()));
        let ours = Lock::take(&common.join("config")).expect("taken");
        let held = ExistingLock::at(&ours.0).expect("there");
        assert_eq!(held.holder.as_ref().map(|(pid, _)| *pid), Some(std::process::id()));
        assert!(!held.is_lasting(1) && held.is_lasting(ATTEMPTS_MAX), "{held:?}");
    }
}
