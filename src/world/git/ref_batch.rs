//! Deletes many refs of ours at once, so that the lock of `packed-refs` is held for milliseconds.
//!
//! The file without the deleted refs is written and flushed before the lock is taken. Under the
//! lock it is only put in place, if the file that it was made from is still the same one, and a
//! bounded number of loose files is unlinked. A ref is deleted only where it is at its expected
//! commit; any other one stays. Never touches a ref of another program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failpoint::kill::point;
use crate::world::fs;
use crate::world::fs::paths;
use crate::world::git::error::Error;
use crate::world::git::locks::{self, ExistingLock, Lock};
use crate::world::git::ref_files::drop_folders;
use crate::world::git::refs::{self, OURS};
use crate::world::process::cancel::Cancel;
use crate::world::process::subprocess;

/// Loose files that are unlinked under one lock: some milliseconds.
const FILES_MAX: usize = 32;
/// Longest time that the lock of `packed-refs` is held; what is left follows under the next one.
const HELD_MAX: Duration = Duration::from_millis(25);
/// Tries for a held lock or a file that changes, and the pause between two.
const TRIES_MAX: u32 = 50;
const TURN: Duration = Duration::from_millis(20);

/// Refs of one repository that are to be deleted.
pub(in crate::world) struct RefBatch<'a> {
    pub(in crate::world) common: &'a Path,
    /// Each ref with the commit that it is expected at.
    pub(in crate::world) refs: &'a BTreeMap<String, String>,
    /// Whose the temporary file is: the caller excludes other batches of the same log, and those of
    /// another log have a file of their own.
    pub(in crate::world) log: &'a str,
    pub(in crate::world) cancel: &'a Cancel,
}

/// Where the refs of a batch are found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::world) struct Standing {
    /// Those at their expected commit.
    pub(in crate::world) there: BTreeSet<String>,
    /// Those that do not exist.
    pub(in crate::world) absent: BTreeSet<String>,
}

impl RefBatch<'_> {
    /// Returns where the refs are, by one read of `packed-refs`.
    ///
    /// # Errors
    /// Those of the system.
    pub(in crate::world) fn standing(&self) -> Result<Standing, Error> {
        let packed = refs::packed(self.common);
        let packed = packed.map_err(fs::Error::about("read", &self.packed()))?;
        let mut at = BTreeMap::new();
        for (commit, name) in refs::entries(&packed) {
            let name = std::str::from_utf8(name).ok().filter(|name| self.refs.contains_key(*name));
            if let Some(name) = name {
                at.insert(name, String::from_utf8_lossy(commit).into_owned());
            }
        }
        let mut standing = Standing::default();
        for (name, expected) in self.refs {
            let file = self.common.join(name).symlink_metadata();
            let found = match file {
                // A loose ref overrides a packed one.
                Ok(found) if !found.is_dir() => refs::loose(self.common, name).unwrap_or_default(),
                _ => {
                    let Some(commit) = at.remove(name.as_str()) else {
                        standing.absent.insert(name.clone());
                        continue;
                    };
                    commit
                }
            };
            if found == *expected {
                standing.there.insert(name.clone());
            }
        }
        Ok(standing)
    }

    /// Deletes the refs with their histories, and what a killed attempt left. Returns the longest
    /// time that the lock of `packed-refs` was held.
    ///
    /// # Errors
    /// [`Error::Locked`] while a lock is in the way; those of the system. Some refs may be deleted.
    pub(in crate::world) fn delete(&self) -> Result<Duration, Error> {
        let deleted = self.delete_all();
        // Whatever the end is, the repository keeps no file of this batch.
        drop(paths::remove_file_if_any(&self.fresh()));
        deleted
    }

    fn delete_all(&self) -> Result<Duration, Error> {
        let mut longest = Duration::ZERO;
        let mut tries = 0;
        let mut left: Vec<&String> = self.refs.keys().filter(|r| r.starts_with(OURS)).collect();
        while !left.is_empty() {
            let (some, _) = left.split_at(left.len().min(FILES_MAX));
            match self.delete_some(some).map_err(fs::Error::about("delete refs", self.common))? {
                Some((done, held)) => {
                    longest = longest.max(held);
                    left.drain(..done);
                    tries = 0;
                }
                None if tries >= TRIES_MAX => return Err(self.locked()),
                None => tries += 1,
            }
            self.cancel.check()?;
            if tries > 0 {
                drop(subprocess::poll_all(&[self.cancel.as_fd()], TURN));
            }
        }
        Ok(longest)
    }

    /// Deletes up to [`FILES_MAX`] refs under one lock. Returns how many of them are settled; none
    /// if another process holds the lock or has changed `packed-refs` meanwhile.
    fn delete_some(&self, some: &[&String]) -> io::Result<Option<(usize, Duration)>> {
        // All that is packed of the whole batch goes at once, so that the file is written once.
        let prepared = self.prepare()?;
        let packed = self.packed();
        let lock = match Lock::take(&packed) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            lock => lock?,
        };
        let since = Instant::now();
        if signature(&packed)? != prepared.seen {
            return Ok(None);
        }
        if prepared.is_smaller {
            paths::rename(self.fresh(), &packed)?;
            point("fold.unpacked");
        }
        let mut done = 0;
        for name in some {
            self.unlink(name)?;
            point("fold.unlinked_one");
            done += 1;
            if since.elapsed() >= HELD_MAX {
                break;
            }
        }
        let held = since.elapsed();
        drop(lock);
        some.iter().take(done).for_each(|name| drop_folders(self.common, name));
        Ok(Some((done, held)))
    }

    /// Unlinks the file and the history of a loose ref that is at its expected commit.
    fn unlink(&self, name: &str) -> io::Result<()> {
        let file = self.common.join(name);
        if !file.symlink_metadata().is_ok_and(|found| found.is_file()) {
            if !refs::exists(self.common, name) {
                // It was packed: its history would hold the content.
                paths::remove_file_if_any(&self.common.join("logs").join(name))?;
            }
            return Ok(());
        }
        let _own = match Lock::take(&file) {
            // Another process of ours is moving it: then it does not stay at this commit.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            lock => lock?,
        };
        if refs::loose(self.common, name).as_ref() == self.refs.get(name) {
            paths::remove_file_if_any(&self.common.join("logs").join(name))?;
            paths::remove_file_if_any(&file)?;
        }
        Ok(())
    }

    /// Writes `packed-refs` as it will be without the refs of this batch, beside it.
    fn prepare(&self) -> io::Result<Prepared> {
        let packed = self.packed();
        let seen = signature(&packed)?;
        let Some((.., mode)) = seen else { return Ok(Prepared { seen, is_smaller: false }) };
        let text = std::fs::read(&packed)?;
        let mut kept = Vec::with_capacity(text.len());
        let mut drops = false;
        for line in text.split_inclusive(|b| *b == b'\n') {
            // A line that begins with `^` peels the tag in the line before.
            if !line.starts_with(b"^") {
                drops = self.is_to_go(line);
            }
            if !drops {
                kept.extend_from_slice(line);
            }
        }
        let is_smaller = kept.len() < text.len();
        if is_smaller {
            let fresh = self.fresh();
            // Left by a daemon that was killed.
            paths::remove_file_if_any(&fresh)?;
            let mode = mode & 0o777;
            let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh);
            let mut file = open?;
            file.write_all(&kept)?;
            File::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
            file.sync_all()?;
        }
        Ok(Prepared { seen, is_smaller })
    }

    /// Returns whether a line of `packed-refs` is a ref of this batch at its expected commit, or an
    /// older value of it, which would show again without the loose one.
    fn is_to_go(&self, line: &[u8]) -> bool {
        let Ok(line) = std::str::from_utf8(line) else { return false };
        let Some((commit, name)) = line.trim_end().split_once(' ') else { return false };
        let is_loose = || refs::loose(self.common, name).as_ref() == self.refs.get(name);
        name.starts_with(OURS)
            && self.refs.get(name).is_some_and(|expected| expected == commit || is_loose())
    }

    fn packed(&self) -> PathBuf {
        self.common.join("packed-refs")
    }

    fn fresh(&self) -> PathBuf {
        self.common.join(format!("packed-refs.groundskeeper-{}", self.log))
    }

    fn locked(&self) -> Error {
        let what = "delete folded refs".to_owned();
        match ExistingLock::at(&locks::of(&self.packed())) {
            Some(lock) => {
                let is_lasting = lock.is_lasting(0);
                Error::Locked { what, lock: Box::new(lock), is_lasting }
            }
            None => Error::Defect("packed-refs changes all the time"),
        }
    }
}

/// A new `packed-refs`, and what it was made from.
struct Prepared {
    seen: Option<Signature>,
    /// Whether it lacks any ref, so that it has to be put in place.
    is_smaller: bool,
}

/// Inode, size, modification and change time in nanoseconds, and mode.
type Signature = (u64, u64, (i64, i64), (i64, i64), u32);

fn signature(path: &Path) -> io::Result<Option<Signature>> {
    let of = |m: &Metadata| {
        (m.ino(), m.size(), (m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()), m.mode())
    };
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(found) if !found.is_file() => Err(io::Error::other("packed-refs is not a plain file")),
        found => found.as_ref().map(of).map(Some).map_err(|e| io::Error::from(e.kind())),
    }
}
