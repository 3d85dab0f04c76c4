//! The files of one ref: made, moved and deleted as git does it, under its own lock and, where it
//! may be packed, that of the packed ones.
//!
//! Each attempt is one try, without a wait and without git. It says when a lock is in the way, and
//! when only git can do it: a ref that points to another one, a file system without nameless files,
//! a name that cannot be beside another. Whether a ref may change is decided in `ref_changes.rs`.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::failpoint::kill::point;
use crate::world::fs::paths;
use crate::world::git::locks::Lock;
use crate::world::git::refs::{self, OURS};

/// How often a folder is made again that goes with another ref in it.
const RACES_MAX: u32 = 20;

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::world) enum Attempt {
    Done,
    /// Somebody holds a lock.
    Held,
    /// There is a ref of this name.
    Exists,
    /// Only git can do it, or say why not.
    LeftToGit,
}

/// A ref of a repository, by the places of its files.
#[derive(Debug, Clone, Copy)]
pub(in crate::world) struct RefFiles<'a> {
    pub(in crate::world) common: &'a Path,
    pub(in crate::world) reference: &'a str,
}

impl RefFiles<'_> {
    /// A link to a file without a name: all of it at once, and never in the place of another one.
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

    /// A new branch, whose history begins with this line; one that begins with a line of the same
    /// signature was begun by an attempt that was interrupted.
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
        // The history first: what has the name of a branch of ours can be proven to be ours.
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

    /// Whether another ref has the name of a folder on the way, or a name below this one.
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

    /// The lock of the ref, with the folders on its way.
    fn lock(&self) -> io::Result<Result<Lock, Attempt>> {
        let path = self.common.join(self.reference);
        for _ in 0..RACES_MAX {
            match self.make_folders(&path) {
                Err(e) if is_in_the_way(&e) => return Ok(Err(Attempt::LeftToGit)),
                // A folder went again with another ref in it.
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

    /// A repository that a group shares has folders which the group may write to.
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

    /// What others may do with a ref: as with the folder of all branches.
    fn file_mode(&self) -> u32 {
        let folder = self.common.join("refs/heads").metadata();
        folder.map_or(0o644, |found| found.mode() & 0o664 | 0o600)
    }

    /// False when only git can.
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
        let flags = OFlags::TMPFILE | OFlags::WRONLY;
        let mode = Mode::from(self.file_mode());
        let Ok(open) = rustix::fs::openat(CWD, folder, flags, mode) else {
            return Ok(Attempt::LeftToGit);
        };
        rustix::fs::fchmod(&open, mode)?;
        rustix::io::write(&open, format!("{commit}\n").as_bytes())?;
        rustix::fs::fdatasync(&open)?;
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

    /// Moves it to a commit, or makes it there.
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
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let time = since.unwrap_or_default().as_secs();
            let who = "groundskeeper <fetch@groundskeeper>";
            log.write_all(format!("{before} {commit} {who} {time} +0000\tfetch\n").as_bytes())?;
        }
        // A name that git takes for none of a ref, however long it stays.
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

    /// Deletes a ref that is at this commit, as git does: under the lock of the packed refs and its
    /// own, the packed one first, so that no earlier value of it shows in between.
    pub(in crate::world) fn delete(&self, commit: &str) -> io::Result<Attempt> {
        let file = self.common.join(self.reference);
        let packed = self.common.join("packed-refs");
        let mut held = Vec::new();
        for path in [&packed, &file] {
            match Lock::take(path) {
                Ok(lock) => held.push(lock),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(Attempt::Held),
                // The ref is packed and its folder went with it: there is nothing to lock.
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
        self.drop_folders();
        Ok(Attempt::Done)
    }

    /// Nobody else would ever remove the folders of our refs; who needs one makes it again.
    fn drop_folders(&self) {
        if !self.reference.starts_with(OURS) {
            return;
        }
        let top = Path::new(OURS.trim_end_matches('/'));
        for folder in Path::new(self.reference).ancestors().skip(1).take_while(|f| *f != top) {
            drop(std::fs::remove_dir(self.common.join("logs").join(folder)));
            drop(std::fs::remove_dir(self.common.join(folder)));
        }
    }
}

/// Something that is no folder has the name of one, or the other way round.
fn is_in_the_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotADirectory
}

/// Takes a ref out of the packed ones, with the commit that its tag points to. Whoever calls holds
/// their lock.
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
    // One that a killed git left: it was only ever anybody's who held the lock.
    paths::remove_file_if_any(&fresh)?;
    let mode = found.mode() & 0o777;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(&kept)?;
    file.sync_all()?;
    File::set_permissions(&file, std::fs::Permissions::from_mode(mode))?;
    paths::rename(&fresh, packed)?;
    Ok(Attempt::Done)
}
