//! Deciding what an index proves about its files, and making a fresh index prove all of them.
//!
//! git compares whole seconds: a file as young as the index may have changed unseen, so each status
//! reads it again ("racy git"). A fresh checkout is all such files. [`settle`] proves once, by
//! nanoseconds and where those cannot tell by content, that none has changed, and gives the index
//! a new age. It never changes an entry, a file or its times, and never declares anything clean
//! that it has not proven; the rest is left to git.

use std::cell::Cell;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Hash, Stat, read};
use crate::killpoint::point;
use crate::world::cancel::Cancel;
use crate::world::paths;

const GITLINK: u32 = 0o160_000;
/// Largest file that is read to prove that it has not changed, and most bytes for one index: what
/// a disk can have been given within a tick.
const FILE_BYTES_MAX: u64 = 1 << 20;
const BYTES_MAX: u64 = 64 << 20;
/// The index under its own name while it is being settled. `index.lock` is a second name of it, so
/// that after a kill a lock of ours is told from that of a living git.
const OWN: &str = "groundskeeper.index";

/// What an index of a certain age can prove about files.
#[derive(Debug)]
pub(in crate::world) struct Judge {
    written: (u32, u32),
    hash: Hash,
    bytes_left: Cell<u64>,
}

impl Judge {
    /// For the index at this path, which must be read afterwards: were it replaced in between, its
    /// entries would only seem younger.
    ///
    /// # Errors
    /// What the system says.
    pub(in crate::world) fn of(index: &Path, hash: Hash) -> io::Result<Self> {
        let written = Stat::of(&index.symlink_metadata()?).mtime;
        Ok(Self { written, hash, bytes_left: Cell::new(BYTES_MAX) })
    }

    /// Whether the file at `path` is proven to be what the entry says.
    ///
    /// Nobody can set a ctime, so an equal one proves the file, but for a change in the very tick
    /// of the clock that it was written in. Such a file is read. Its bytes are compared as they
    /// are stored: where git converts on the way they differ, and nothing is proven.
    pub(in crate::world) fn proves(&self, path: &Path, entry: &Wanted<'_>) -> bool {
        let Ok(found) = path.symlink_metadata() else { return false };
        let mode = match entry.mode {
            0o120_000 => found.is_symlink(),
            0o100_644 => found.is_file() && found.mode() & 0o100 == 0,
            0o100_755 => found.is_file() && found.mode() & 0o100 != 0,
            // A submodule: who knows what is inside.
            _ => false,
        };
        mode && Stat::of(&found).is(&entry.stat)
            && (entry.stat.is_before(self.written) || self.has_bytes(path, &found, entry.oid))
    }

    fn has_bytes(&self, path: &Path, found: &Metadata, oid: &[u8]) -> bool {
        let size = found.len();
        let Some(left) = self.bytes_left.get().checked_sub(size) else { return false };
        self.bytes_left.set(left);
        size <= FILE_BYTES_MAX
            && content(path, found).is_ok_and(|bytes| self.hash.of_blob(&bytes) == oid)
    }
}

/// What the index says of one file.
#[derive(Debug)]
pub(in crate::world) struct Wanted<'a> {
    pub mode: u32,
    pub stat: Stat,
    pub oid: &'a [u8],
}

/// The bytes that git stores for a small file or a link.
///
/// # Errors
/// What the system says.
pub(in crate::world) fn content(path: &Path, found: &Metadata) -> io::Result<Vec<u8>> {
    if found.is_symlink() {
        return Ok(std::fs::read_link(path)?.as_os_str().as_bytes().to_vec());
    }
    // Not blocking: something else may have taken the place of a file, a pipe for example.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = flags.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What became of an attempt to settle an index.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::world) enum Settled {
    /// No later status has to read a file.
    Done,
    /// Somebody else is about to write the index.
    Held,
    /// Something differs, or is not understood: git has to look.
    Unproven,
}

/// Proves every entry that is as young as the index, and gives the index a new age.
///
/// # Errors
/// What the system says; the index is whole all the same.
pub(in crate::world) fn settle(
    admin_dir: &Path,
    target: &Path,
    hash: Hash,
    cancel: &Cancel,
) -> io::Result<Settled> {
    let path = admin_dir.join("index");
    let Some(mut lock) = Lock::take(admin_dir)? else { return Ok(Settled::Held) };
    point("refresh.locked");
    let judge = Judge::of(&path, hash)?;
    let bytes = std::fs::read(&path)?;
    let Some(young) = young(&bytes, hash, judge.written.0) else { return Ok(Settled::Unproven) };
    if young.is_empty() {
        return Ok(Settled::Done);
    }
    for (n, entry) in young.iter().enumerate() {
        if n % 256 == 0 && cancel.is_cancelled() {
            return Ok(Settled::Unproven);
        }
        // An edit from now on shows by whole seconds only if the file is of an earlier one.
        let early = entry.stat.mtime.0 < lock.second && entry.stat.ctime.0 < lock.second;
        let wanted = Wanted { mode: entry.mode, stat: entry.stat, oid: &entry.oid };
        if !early || !judge.proves(&target.join(paths::from_bytes(&entry.path)), &wanted) {
            return Ok(Settled::Unproven);
        }
    }
    lock.install(&bytes, &path)?;
    point("refresh.installed");
    Ok(Settled::Done)
}

/// The entries that git would read again, as it tells them; none when the index is not one to
/// judge here.
fn young(index: &[u8], hash: Hash, written: u32) -> Option<Vec<super::Entry>> {
    // The untracked cache trusts folders by the age of the index, and those are not looked at here.
    if index.windows(4).any(|w| w == b"UNTR") {
        return None;
    }
    let (mut young, mut plain) = (Vec::new(), true);
    read::each(index, hash, |entry| {
        plain &= !entry.unsettled;
        // A submodule has no stat data to compare.
        if entry.stat.mtime.0 >= written && entry.mode != GITLINK {
            let (path, oid) = (entry.path.to_vec(), entry.oid.to_vec());
            young.push(super::Entry { path, mode: entry.mode, oid, stat: entry.stat });
        }
    })?;
    plain.then_some(young)
}

/// The lock of an index, held as git holds it. Dropped, it is free again.
struct Lock {
    own: PathBuf,
    name: PathBuf,
    file: File,
    /// The second that it was taken in, by the clock of the file system.
    second: u32,
    is_held: bool,
}

impl Lock {
    /// None when somebody else holds it.
    fn take(admin_dir: &Path) -> io::Result<Option<Self>> {
        let (own, lock) = (admin_dir.join(OWN), admin_dir.join("index.lock"));
        break_stale(&own, &lock)?;
        let file = OpenOptions::new().write(true).create_new(true).open(&own)?;
        let second = Stat::of(&file.metadata()?).mtime.0;
        let mut taken = Self { own, name: lock, file, second, is_held: false };
        match std::fs::hard_link(&taken.own, &taken.name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            linked => linked?,
        }
        taken.is_held = true;
        Ok(Some(taken))
    }

    /// The same bytes as a new index: what makes a difference is its age.
    fn install(&mut self, bytes: &[u8], index: &Path) -> io::Result<()> {
        // In a shared repository others may write it, too.
        self.file.set_permissions(index.metadata()?.permissions())?;
        self.file.write_all(bytes)?;
        paths::rename(&self.name, index)?;
        // From here on the name is anybody's.
        self.is_held = false;
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Left behind, it would stand in the way of every later git.
        if self.is_held {
            drop(std::fs::remove_file(&self.name));
        }
        drop(std::fs::remove_file(&self.own));
    }
}

/// Removes what a killed daemon left: only one works on an environment at a time, so our own name
/// there is a dead one's, and so is the lock that is the same file.
fn break_stale(own: &Path, lock: &Path) -> io::Result<()> {
    let identity = |path: &Path| path.symlink_metadata().map(|m| (m.dev(), m.ino()));
    let Ok(left) = identity(own) else { return Ok(()) };
    if identity(lock).is_ok_and(|held| held == left) {
        paths::remove_file_if_any(lock)?;
    }
    paths::remove_file_if_any(own)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn git(at: &Path, args: &[&str]) -> Vec<u8> {
        let done = Command::new("git").arg("-C").arg(at).args(args).output().expect("git runs");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    /// A repository whose index is as young as its files.
    fn fresh(version: &str, skip: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path();
        git(at, &["init", "-q"]);
        // All that follows is done in one second.
        pass_the_second();
        git(at, &["config", "index.version", version]);
        git(at, &["config", "index.skipHash", skip]);
        std::fs::create_dir_all(at.join("folder")).expect("made");
        for name in ["a", "folder/b", "folder/ü"] {
            std::fs::write(at.join(name), name).expect("written");
        }
        std::os::unix::fs::symlink("nowhere", at.join("link")).expect("linked");
        git(at, &["add", "-A"]);
        git(at, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]);
        dir
    }

    /// Waits until files of now are of an earlier second.
    #[expect(clippy::disallowed_methods, reason = "time that passes is the input")]
    fn pass_the_second() {
        let dir = tempfile::tempdir().expect("a directory");
        let second = || {
            let file = dir.path().join("clock");
            std::fs::write(&file, "").expect("written");
            Stat::of(&file.metadata().expect("there")).mtime.0
        };
        let now = second();
        while second() == now {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn settle_now(at: &Path) -> Settled {
        let cancel = Cancel::new().expect("a cancel");
        settle(&at.join(".git"), at, Hash::Sha1, &cancel).expect("tried")
    }

    fn young_entries(at: &Path) -> usize {
        let bytes = std::fs::read(at.join(".git/index")).expect("read");
        let written = Stat::of(&at.join(".git/index").metadata().expect("there")).mtime.0;
        young(&bytes, Hash::Sha1, written).expect("understood").len()
    }

    fn leaves_nothing(at: &Path) {
        assert!(!at.join(".git/index.lock").exists() && !at.join(".git").join(OWN).exists());
    }

    /// Other bytes of the same size, with the old time put back.
    fn edit(path: &Path) {
        let text = std::fs::read(path).expect("read");
        let time = path.metadata().expect("there").modified().expect("a time");
        std::fs::write(path, vec![b'#'; text.len()]).expect("written");
        File::options().write(true).open(path).and_then(|f| f.set_modified(time)).expect("dated");
    }

    #[test]
    fn settled_index_is_gits_own_and_reads_no_file() {
        for (version, skip) in [("2", "false"), ("4", "false"), ("4", "true")] {
            let dir = fresh(version, skip);
            let at = dir.path();
            let before = std::fs::read(at.join(".git/index")).expect("read");
            pass_the_second();
            assert_eq!(settle_now(at), Settled::Done, "version {version}");
            assert_eq!(young_entries(at), 0, "version {version}");
            assert_eq!(before, std::fs::read(at.join(".git/index")).expect("read"));
            leaves_nothing(at);
            git(at, &["fsck"]);
            assert_eq!(git(at, &["status", "--porcelain"]), b"");
            edit(&at.join("a"));
            assert_eq!(git(at, &["status", "--porcelain"]), b" M a\n", "an edit after it");
            assert_eq!(settle_now(at), Settled::Done, "nothing is young, nothing is to do");
            assert_eq!(git(at, &["status", "--porcelain"]), b" M a\n");
        }
    }

    #[test]
    fn edit_before_settling_is_never_declared_clean() {
        let dir = fresh("2", "false");
        let at = dir.path();
        edit(&at.join("folder/b"));
        pass_the_second();
        assert_eq!(settle_now(at), Settled::Unproven);
        leaves_nothing(at);
        assert_eq!(git(at, &["status", "--porcelain"]), b" M folder/b\n");
    }

    #[test]
    fn index_of_this_second_or_with_odd_parts_is_left_to_git() {
        let dir = fresh("2", "false");
        let at = dir.path();
        let file = at.join("a");
        let ahead = SystemTime::now() + Duration::from_secs(3_600);
        let opened = File::options().write(true).open(&file);
        opened.and_then(|f| f.set_modified(ahead)).expect("dated");
        git(at, &["update-index", "--refresh"]);
        pass_the_second();
        assert_eq!(settle_now(at), Settled::Unproven, "a file of a later second");
        let dir = fresh("2", "false");
        let at = dir.path();
        git(at, &["update-index", "--untracked-cache"]);
        pass_the_second();
        assert_eq!(settle_now(at), Settled::Unproven, "an untracked cache");
        git(at, &["update-index", "--no-untracked-cache", "--split-index"]);
        assert_eq!(settle_now(at), Settled::Unproven, "a split index");
        leaves_nothing(at);
    }

    #[test]
    fn lock_of_another_is_left_alone_and_one_of_a_dead_daemon_is_not() {
        let dir = fresh("2", "false");
        let (at, lock) = (dir.path(), dir.path().join(".git/index.lock"));
        pass_the_second();
        std::fs::write(&lock, "theirs").expect("written");
        assert_eq!(settle_now(at), Settled::Held);
        assert_eq!(std::fs::read(&lock).expect("there"), b"theirs");
        std::fs::write(at.join(".git").join(OWN), "").expect("written");
        assert_eq!(settle_now(at), Settled::Held, "a lock that is another file");
        std::fs::remove_file(&lock).expect("removed");
        let left = at.join(".git").join(OWN);
        std::fs::write(&left, "half").expect("written");
        std::fs::hard_link(&left, &lock).expect("linked");
        assert_eq!(settle_now(at), Settled::Done);
        leaves_nothing(at);
    }

    #[test]
    fn file_of_the_tick_of_the_index_is_proven_by_its_bytes() {
        let dir = fresh("2", "false");
        let file = dir.path().join("a");
        let found = file.symlink_metadata().expect("there");
        let stat = Stat::of(&found);
        let judge = |written| Judge { written, hash: Hash::Sha1, bytes_left: Cell::new(BYTES_MAX) };
        let oid = |bytes: &[u8]| Hash::Sha1.of_blob(bytes);
        let proves = |written, oid: &[u8]| {
            judge(written).proves(&file, &Wanted { mode: 0o100_644, stat, oid })
        };
        let (second, nanos) = stat.ctime;
        // The stat is equal in all cases: what an edit in the same tick would look like.
        assert!(proves((second, nanos), &oid(b"a")), "same tick, same bytes");
        assert!(!proves((second, nanos), &oid(b"b")), "same tick, other bytes");
        assert!(proves((second + 1, nanos), &oid(b"b")), "a second later the ctime proves it");
        let wanted = Wanted { mode: 0o100_755, stat, oid: &oid(b"a") };
        assert!(!judge((second + 1, 0)).proves(&file, &wanted), "another mode");
    }
}
