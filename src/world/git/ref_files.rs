//! Creates, moves and deletes the files of one ref as git does: under the ref's own lock and, where
//! the ref may be packed, under the lock of `packed-refs`.
//!
//! Each attempt is one try, without a wait and without git. It reports when a lock is in the way,
//! and when only git can do it: a symbolic ref, a file system without `O_TMPFILE`, a name that
//! conflicts with another ref. `ref_changes.rs` decides whether a ref may change.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use groundskeeper_system::linux_calls;
use rustix::fs::{AtFlags, CWD};

use crate::failpoint::kill::point;
use crate::world::fs::paths;
use crate::world::git::locks::Lock;
use crate::world::git::refs::{self, OURS};

/// Attempts to create a folder that vanishes because another ref in it was deleted.
const RACES_MAX: u32 = 20;

/// Outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::world) enum Attempt {
    Done,
    /// Another process holds a lock.
    Held,
    /// A ref of this name exists already.
    Exists,
    /// Only git can do it, or report why it is impossible.
    LeftToGit,
}

/// A ref of a repository, addressed by its files.
#[derive(Debug, Clone, Copy)]
pub(in crate::world) struct RefFiles<'a> {
    pub(in crate::world) common: &'a Path,
    pub(in crate::world) reference: &'a str,
}

impl RefFiles<'_> {
    /// Creates the ref by linking an unnamed file to its name: the content appears at once, and an
    /// existing file is never replaced.
    pub(in crate::world) fn create(&self, commit: &str) -> io::Result<Attempt> {
        if refs::exists(self.common, self.reference) {
            return Ok(Attempt::Exists);
        }
        let lock = match self.lock()? {
            Ok(lock) => lock,
            Err(attempt) => return Ok(attempt),
        };
        let made = self.link_file(commit);
        drop(lock);
        made
    }

    /// Creates a branch whose reflog begins with `line`. A reflog that already begins with a line
    /// of the same signature comes from an interrupted attempt and is kept.
    pub(in crate::world) fn create_branch(
        &self,
        commit: &str,
        signature: &str,
        line: &str,
    ) -> io::Result<Attempt> {
        if !refs::is_plain_name(self.reference) || self.is_beside_another()? {
            return Ok(Attempt::LeftToGit);
        }
        let lock = match self.lock()? {
            Ok(lock) => lock,
            Err(attempt) => return Ok(attempt),
        };
        if refs::exists(self.common, self.reference) {
            return Ok(Attempt::Exists);
        }
        // The reflog goes first: a branch of ours can then be proven ours at any instant.
        if refs::signed_by(self.common, self.reference).as_deref() != Some(signature)
            && !self.begin_history(line)?
        {
            return Ok(Attempt::LeftToGit);
        }
        point("branch.history");
        let made = self.link_file(commit);
        drop(lock);
        made
    }

    /// Reports whether another ref's name is a folder of this name, or lies below this name.
    fn is_beside_another(&self) -> io::Result<bool> {
        let below = format!("{}/", self.reference);
        let packed = refs::packed(self.common)?;
        let names = refs::entries(&packed).map(|(_, name)| name);
        let above = |name: &[u8]| {
            let rest = self.reference.as_bytes().strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let packed =
            names.into_iter().any(|name| name.starts_with(below.as_bytes()) || above(name));
        Ok(packed || self.common.join(self.reference).is_dir())
    }

    /// Takes the lock of the ref and creates the folders on its path.
    fn lock(&self) -> io::Result<Result<Lock, Attempt>> {
        let path = self.common.join(self.reference);
        for _ in 0..RACES_MAX {
            match self.make_folders(&path) {
                Err(e) if is_in_the_way(&e) => return Ok(Err(Attempt::LeftToGit)),
                // A folder vanished with another ref in it: git removes empty ref folders.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                made => made?,
            }
            match Lock::take(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    return Ok(Err(Attempt::Held));
                }
                Err(e) if is_in_the_way(&e) => return Ok(Err(Attempt::LeftToGit)),
                lock => return lock.map(Ok),
            }
        }
        Ok(Err(Attempt::LeftToGit))
    }

    /// Creates missing folders with the mode of their parent: in a group-shared repository the
    /// group must be able to write to them.
    fn make_folders(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<PathBuf> = path
            .ancestors()
            .skip(1)
            .take_while(|folder| !folder.exists())
            .map(Path::to_owned)
            .collect();
        for folder in missing.into_iter().rev() {
            match std::fs::create_dir(&folder) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
                Ok(()) => {
                    let above = folder.parent().unwrap_or(self.common);
                    let mode = above.metadata()?.permissions().mode() & 0o7777;
                    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode))?;
                }
            }
        }
        Ok(())
    }

    /// Returns the mode of a new ref file, derived from that of `refs/heads`.
    fn file_mode(&self) -> u32 {
        let folder = self.common.join("refs/heads").metadata();
        folder.map_or(0o644, |found| found.mode() & 0o664 | 0o600)
    }

    /// Appends the first reflog line; returns false when only git can do it.
    fn begin_history(&self, line: &str) -> io::Result<bool> {
        let log = self.common.join("logs").join(self.reference);
        match self.make_folders(&log) {
            Err(e) if is_in_the_way(&e) => return Ok(false),
            made => made?,
        }
        let mut file = match OpenOptions::new().append(true).create(true).open(&log) {
            Err(e) if is_in_the_way(&e) || e.kind() == io::ErrorKind::IsADirectory => {
                return Ok(false);
            }
            open => open?,
        };
        file.set_permissions(std::fs::Permissions::from_mode(self.file_mode()))?;
        file.write_all(line.as_bytes()).map(|()| true)
    }

    fn link_file(&self, commit: &str) -> io::Result<Attempt> {
        let path = self.common.join(self.reference);
        let folder = path.parent().unwrap_or(self.common);
        let mode = self.file_mode();
        // The mode argument is subject to the umask, hence the `fchmod` below.
        let Ok(open) = linux_calls::unnamed_file(folder, mode) else {
            return Ok(Attempt::LeftToGit);
        };
        rustix::fs::fchmod(&open, linux_calls::mode(mode))?;
        rustix::io::write(&open, format!("{commit}\n").as_bytes())?;
        // Synced before the link: after a power loss an empty ref file would be a broken ref.
        let open = std::fs::File::from(open);
        open.sync_data()?;
        let open = format!("/proc/self/fd/{}", open.as_raw_fd());
        match rustix::fs::linkat(CWD, open, CWD, &path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(Attempt::Done),
            Err(e) => match io::Error::from(e) {
                e if e.kind() == io::ErrorKind::AlreadyExists => Ok(Attempt::Exists),
                e if e.kind() == io::ErrorKind::StorageFull => Err(e),
                _ => Ok(Attempt::LeftToGit),
            },
        }
    }

    /// Moves the ref to a commit, or creates it there.
    pub(in crate::world) fn advance(&self, commit: &str) -> io::Result<Attempt> {
        let path = self.common.join(self.reference);
        let plain = !path.exists() || refs::loose(self.common, self.reference).is_some();
        if !refs::is_plain_name(self.reference) || !plain || self.is_beside_another()? {
            return Ok(Attempt::LeftToGit);
        }
        let lock = match self.lock()? {
            Ok(lock) => lock,
            Err(attempt) => return Ok(attempt),
        };
        let before = refs::tip(self.common, self.reference);
        if before.as_deref() == Some(commit) {
            return Ok(Attempt::Done);
        }
        let log = self.common.join("logs").join(self.reference);
        if let Ok(mut log) = OpenOptions::new().append(true).open(log) {
            let before = before.unwrap_or_else(|| "0".repeat(commit.len()));
            let time = crate::clock::since_epoch().as_secs();
            let who = "groundskeeper <fetch@groundskeeper>";
            log.write_all(format!("{before} {commit} {who} {time} +0000\tfetch\n").as_bytes())?;
        }
        // git skips ref files that start with a dot, however long this one stays after a crash.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fresh = path.with_file_name(format!(".{name}.groundskeeper"));
        let mut file = File::create(&fresh)?;
        file.set_permissions(std::fs::Permissions::from_mode(self.file_mode()))?;
        file.write_all(format!("{commit}\n").as_bytes())?;
        file.sync_all()?;
        paths::rename(&fresh, &path)?;
        drop(lock);
        Ok(Attempt::Done)
    }

    /// Deletes a ref that points to this commit, as git does: under the lock of `packed-refs` and
    /// its own. The packed entry goes first; git sees the loose value until the end, never an
    /// older packed one.
    pub(in crate::world) fn delete(&self, commit: &str) -> io::Result<Attempt> {
        let file = self.common.join(self.reference);
        let packed = self.common.join("packed-refs");
        let mut held = Vec::new();
        for path in [&packed, &file] {
            match Lock::take(path) {
                Ok(lock) => held.push(lock),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(Attempt::Held),
                // The ref is packed and its folder was removed with it: there is nothing to lock.
                Err(e) if e.kind() == io::ErrorKind::NotFound && path == &file => {}
                Err(e) if is_in_the_way(&e) => return Ok(Attempt::LeftToGit),
                Err(e) => return Err(e),
            }
        }
        if refs::tip(self.common, self.reference).as_deref() != Some(commit) {
            return Ok(Attempt::LeftToGit);
        }
        match unpack(&packed, self.reference)? {
            Attempt::Done => {}
            other => return Ok(other),
        }
        point("ref.unpacked");
        paths::remove_file_if_any(&self.common.join("logs").join(self.reference))?;
        paths::remove_file_if_any(&file)?;
        drop(held);
        drop_folders(self.common, self.reference);
        Ok(Attempt::Done)
    }
}

/// Removes the empty folders of a ref of ours. No other program would ever remove them, and a later
/// creation makes them again.
pub(in crate::world) fn drop_folders(common: &Path, reference: &str) {
    if !reference.starts_with(OURS) {
        return;
    }
    let top = Path::new(OURS.trim_end_matches('/'));
    for folder in Path::new(reference).ancestors().skip(1).take_while(|f| *f != top) {
        drop(std::fs::remove_dir(common.join("logs").join(folder)));
        drop(std::fs::remove_dir(common.join(folder)));
    }
}

/// A file has the name of a needed folder, or the other way round.
fn is_in_the_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotADirectory
}

/// Removes a ref from `packed-refs`, with the following `^` line that peels its tag. The caller
/// holds the lock of that file.
fn unpack(packed: &Path, reference: &str) -> io::Result<Attempt> {
    let found = match packed.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Attempt::Done),
        found => found?,
    };
    if !found.is_file() {
        return Ok(Attempt::LeftToGit);
    }
    let text = std::fs::read(packed)?;
    let mut kept = Vec::with_capacity(text.len());
    let mut drops = false;
    for line in text.split_inclusive(|b| *b == b'\n') {
        if !line.starts_with(b"^") {
            let name = line.splitn(2, |b| *b == b' ').nth(1).unwrap_or_default().trim_ascii_end();
            drops = !line.starts_with(b"#") && name == reference.as_bytes();
        }
        if !drops {
            kept.extend_from_slice(line);
        }
    }
    if kept.len() == text.len() {
        return Ok(Attempt::Done);
    }
    let fresh = packed.with_extension("new");
    // Left by a killed git. Only the holder of the lock, which is now us, uses this file.
    paths::remove_file_if_any(&fresh)?;
    let mode = found.mode() & 0o777;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(&kept)?;
    file.sync_all()?;
    File::set_permissions(&file, std::fs::Permissions::from_mode(mode))?;
    paths::rename(&fresh, packed)?;
    Ok(Attempt::Done)
}
