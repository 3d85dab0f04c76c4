//! Decides what an index proves about its files, and makes a fresh index prove all of them.
//!
//! git compares whole seconds: a file as young as the index may have changed unnoticed, so
//! each status reads it again ("racy git"). In a fresh checkout all files are that young.
//! [`settle`] proves once that none has changed, by nanoseconds and where those are not enough
//! by content, and then gives the index a newer time. It never changes an entry, a file or its
//! times. It never declares anything clean that it has not proven; the rest is left to git. It
//! takes none of git's locks.

use std::cell::Cell;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::failpoint::kill::point;
use crate::world::fs::paths;
use crate::world::git::index::format::{Hash, Stat};
use crate::world::git::index::read;
use crate::world::process::cancel::Cancel;

const GITLINK: u32 = 0o160_000;
/// Bounds on what is read to prove that files have not changed, per file and per index: about what
/// a disk can have received within a tick.
const FILE_BYTES_MAX: u64 = 1 << 20;
const BYTES_MAX: u64 = 64 << 20;

/// Judges files by an index of a certain age.
#[derive(Debug)]
pub(in crate::world) struct Judge {
    written: (u32, u32),
    hash: Hash,
    bytes_left: Cell<u64>,
}

impl Judge {
    /// Creates a judge for the index at this path. The index must be read afterwards: if it is
    /// replaced in between, its entries only seem younger.
    ///
    /// # Errors
    /// The error of the system.
    pub(in crate::world) fn of(index: &Path, hash: Hash) -> io::Result<Self> {
        Ok(Self::at(Stat::of(&index.metadata()?).mtime, hash))
    }

    fn at(written: (u32, u32), hash: Hash) -> Self {
        Self { written, hash, bytes_left: Cell::new(BYTES_MAX) }
    }

    /// Reports whether the file at `path` is proven to equal the entry.
    ///
    /// No program can set a ctime, so an equal ctime proves the file, except for a change within
    /// the same clock tick. Such a file is read. Its bytes are compared as they are stored: where
    /// git converts contents they differ, and nothing is proven.
    pub(in crate::world) fn proves(&self, path: &Path, entry: &IndexedFile<'_>) -> bool {
        let Ok(found) = path.symlink_metadata() else { return false };
        let mode = match entry.mode {
            0o120_000 => found.is_symlink(),
            0o100_644 => found.is_file() && found.mode() & 0o100 == 0,
            0o100_755 => found.is_file() && found.mode() & 0o100 != 0,
            // The content of a submodule is not judged here.
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

/// The recorded state of one file in the index.
#[derive(Debug)]
pub(in crate::world) struct IndexedFile<'a> {
    pub mode: u32,
    pub stat: Stat,
    pub oid: &'a [u8],
}

/// Returns the ctime in nanoseconds since 1970: the last change of any kind, which
/// no program can set.
pub(in crate::world) fn changed_at(found: &Metadata) -> i128 {
    i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec())
}

/// Returns the bytes that git stores for a small file or a link, without conversion.
///
/// # Errors
/// The error of the system.
pub(in crate::world) fn content(path: &Path, found: &Metadata) -> io::Result<Vec<u8>> {
    if found.is_symlink() {
        return Ok(std::fs::read_link(path)?.as_os_str().as_bytes().to_vec());
    }
    // `O_NONBLOCK`: a pipe may have taken the place of the file, and opening it would block.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = flags.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    // One byte more than allowed: a file that grew past the bound never hashes to its object.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Outcome of an attempt to settle an index.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::world) enum Settled {
    /// No later status has to read an unchanged file.
    Done,
    /// Another process is writing the index, or has just written it.
    LeftAlone,
    /// A file may have changed unnoticed, or something is not understood: git must check.
    Unproven,
}

/// Proves every entry that is as young as the index, and gives the index a newer time.
///
/// No lock is taken, so no git of the user is ever blocked. The only change is the modification
/// time of the index, set through the descriptor that was read. If git installs a new index
/// meanwhile, the time of the unlinked old one is set, which has no effect.
///
/// # Errors
/// The error of the system; the index stays intact.
pub(in crate::world) fn settle(
    admin_dir: &Path,
    target: &Path,
    hash: Hash,
    cancel: &Cancel,
) -> io::Result<Settled> {
    if admin_dir.join("index.lock").symlink_metadata().is_ok() {
        return Ok(Settled::LeftAlone);
    }
    // The clock of the file system lags by at most a tick. So a change from here on is never
    // stamped with an earlier second than this one.
    let tick = Duration::from_nanos(crate::world::git::index::format::TICK_NANOS);
    let since = crate::clock::since_epoch().saturating_sub(tick);
    let (now, second) = (SystemTime::UNIX_EPOCH + since, since.as_secs());
    let mut file = File::options().read(true).write(true).open(admin_dir.join("index"))?;
    let judge = Judge::at(Stat::of(&file.metadata()?).mtime, hash);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let Some(young) = young(&bytes, hash, judge.written.0) else { return Ok(Settled::Unproven) };
    if young.is_empty() {
        return Ok(Settled::Done);
    }
    // Added within this second: another process is still at work.
    if young.iter().any(|e| u64::from(e.stat.mtime.0.max(e.stat.ctime.0)) >= second) {
        return Ok(Settled::LeftAlone);
    }
    for (n, entry) in young.iter().enumerate() {
        let path = target.join(paths::from_bytes(&entry.path));
        let wanted = IndexedFile { mode: entry.mode, stat: entry.stat, oid: &entry.oid };
        let stopped = n % 256 == 0 && cancel.is_cancelled();
        if stopped || !(shows(&path, &entry.stat) || judge.proves(&path, &wanted)) {
            return Ok(Settled::Unproven);
        }
    }
    point("refresh.proven");
    file.set_modified(now)?;
    Ok(Settled::Done)
}

/// Reports whether git sees that a file has changed or is missing, whatever the age of its index
/// and its settings.
fn shows(path: &Path, stat: &Stat) -> bool {
    match path.symlink_metadata() {
        Ok(found) => {
            // Size and whole seconds of the mtime are compared by every git configuration.
            let found = Stat::of(&found);
            found.size != stat.size || found.mtime.0 != stat.mtime.0
        }
        Err(e) => matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

/// Returns the entries that git would read again by its own rule; `None` when this index
/// cannot be judged here.
fn young(
    index: &[u8],
    hash: Hash,
    written: u32,
) -> Option<Vec<crate::world::git::index::format::Entry>> {
    // The untracked cache trusts directories by the age of the index, and directories are
    // not checked here.
    if index.windows(4).any(|w| w == b"UNTR") {
        return None;
    }
    let (mut young, mut plain) = (Vec::new(), true);
    read::each(index, hash, |entry| {
        plain &= !entry.unsettled;
        // A submodule has no stat data to compare.
        if entry.stat.mtime.0 >= written && entry.mode != GITLINK {
            let (path, oid) = (entry.path.to_vec(), entry.oid.to_vec());
            young.push(crate::world::git::index::format::Entry {
                path,
                mode: entry.mode,
                oid,
                stat: entry.stat,
            });
        }
    })?;
    plain.then_some(young)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

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
        // Everything that follows happens within one second.
        wait_next_second();
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

    /// Waits until files made now belong to an earlier second.
    #[expect(clippy::disallowed_methods, reason = "time that passes is the input")]
    fn wait_next_second() {
        let dir = tempfile::tempdir().expect("a directory");
        let second = || {
            let file = dir.path().join("clock");
            std::fs::write(&file, "").expect("written");
            Stat::of(&file.metadata().expect("there")).mtime
        };
        let (now, _) = second();
        // One more tick, by which the clock of the file system may lag.
        while second() < (now + 1, 2 * crate::world::git::index::format::TICK_NANOS as u32) {
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

    /// Writes other bytes of the same size and restores the old mtime.
    fn edit(path: &Path) {
        let text = std::fs::read(path).expect("read");
        let time = path.metadata().expect("there").modified().expect("a time");
        std::fs::write(path, vec![b'#'; text.len()]).expect("written");
        File::options().write(true).open(path).and_then(|f| f.set_modified(time)).expect("dated");
    }

    /// The index keeps its bytes, and a later edit still shows.
    #[test]
    fn settled_index_matches_git_without_reads() {
        for (version, skip) in [("2", "false"), ("4", "false"), ("4", "true")] {
            let dir = fresh(version, skip);
            let at = dir.path();
            let before = std::fs::read(at.join(".git/index")).expect("read");
            wait_next_second();
            assert_eq!(settle_now(at), Settled::Done, "version {version}");
            assert_eq!(young_entries(at), 0, "version {version}");
            assert_eq!(before, std::fs::read(at.join(".git/index")).expect("read"));
            git(at, &["fsck"]);
            assert_eq!(git(at, &["status", "--porcelain"]), b"");
            edit(&at.join("a"));
            assert_eq!(git(at, &["status", "--porcelain"]), b" M a\n", "an edit after it");
            assert_eq!(settle_now(at), Settled::Done, "an index without young entries is settled");
            assert_eq!(git(at, &["status", "--porcelain"]), b" M a\n");
        }
    }

    #[test]
    fn edit_before_settling_stays_dirty() {
        let dir = fresh("2", "false");
        let at = dir.path();
        edit(&at.join("folder/b"));
        wait_next_second();
        assert_eq!(settle_now(at), Settled::Unproven);
        assert_eq!(git(at, &["status", "--porcelain"]), b" M folder/b\n");
    }

    /// A file of a later second, an untracked cache, a split index.
    #[test]
    fn unsupported_index_is_left_to_git() {
        let dir = fresh("2", "false");
        let at = dir.path();
        let file = at.join("a");
        let ahead = SystemTime::now() + Duration::from_secs(3_600);
        let opened = File::options().write(true).open(&file);
        opened.and_then(|f| f.set_modified(ahead)).expect("dated");
        git(at, &["update-index", "--refresh"]);
        wait_next_second();
        assert_eq!(settle_now(at), Settled::LeftAlone, "a file with a later mtime");
        let dir = fresh("2", "false");
        let at = dir.path();
        git(at, &["update-index", "--untracked-cache"]);
        wait_next_second();
        assert_eq!(settle_now(at), Settled::Unproven, "an untracked cache");
        git(at, &["update-index", "--no-untracked-cache", "--split-index"]);
        assert_eq!(settle_now(at), Settled::Unproven, "a split index");
    }

    #[test]
    fn visible_edit_does_not_block_settling() {
        let dir = fresh("2", "false");
        let at = dir.path();
        std::fs::write(at.join("a"), "longer").expect("written");
        std::fs::remove_file(at.join("folder/b")).expect("removed");
        wait_next_second();
        assert_eq!(settle_now(at), Settled::Done);
        assert_eq!(young_entries(at), 0);
        assert_eq!(git(at, &["status", "--porcelain"]), b" M a\n D folder/b\n");
    }

    #[test]
    fn locked_index_is_left_alone() {
        let dir = fresh("2", "false");
        let (at, lock) = (dir.path(), dir.path().join(".git/index.lock"));
        wait_next_second();
        std::fs::write(&lock, "theirs").expect("written");
        assert_eq!(settle_now(at), Settled::LeftAlone);
        assert_eq!(std::fs::read(&lock).expect("there"), b"theirs");
        std::fs::remove_file(&lock).expect("removed");
        assert_eq!(settle_now(at), Settled::Done);
    }

    #[test]
    fn same_tick_file_needs_equal_content() {
        let dir = fresh("2", "false");
        let file = dir.path().join("a");
        let found = file.symlink_metadata().expect("there");
        let stat = Stat::of(&found);
        let judge = |written| Judge::at(written, Hash::Sha1);
        let oid = |bytes: &[u8]| Hash::Sha1.of_blob(bytes);
        let proves = |written, oid: &[u8]| {
            judge(written).proves(&file, &IndexedFile { mode: 0o100_644, stat, oid })
        };
        let (second, nanos) = stat.ctime;
        // The stat is equal in all cases, as after an edit within the same tick.
        assert!(proves((second, nanos), &oid(b"a")), "same tick, same bytes");
        assert!(!proves((second, nanos), &oid(b"b")), "same tick, other bytes");
        assert!(
            proves((second + 1, nanos), &oid(b"b")),
            "an index of a later second is proof enough"
        );
        let wanted = IndexedFile { mode: 0o100_755, stat, oid: &oid(b"a") };
        assert!(!judge((second + 1, 0)).proves(&file, &wanted), "another mode");
    }
}
