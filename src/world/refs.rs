//! Refs, read and deleted without a process, where that is as safe as git itself: plain files
//! under git's own locks. Anything out of the ordinary is left to git, and said so.
//!
//! A removal would otherwise wait for three processes that each look at one line.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::git::Git;
use super::process::table;
use super::{exec, paths};
use crate::core::{Environment, Fault};

/// The beginning of what a lock of ours holds.
const HOLDER: &str = "held by groundskeeper ";
/// Where no refs but ours are.
const OURS: &str = "refs/groundskeeper/";

/// A lock of git's on one file: nobody else may replace that while it is there.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        drop_if_dead(&lock);
        let folder = lock.parent().unwrap_or(path);
        // It says whose it is from the first moment on, so that a successor can tell.
        match rustix::fs::openat(CWD, folder, OFlags::TMPFILE | OFlags::WRONLY, Mode::from(0o644)) {
            Ok(open) => {
                rustix::io::write(&open, holder().as_bytes())?;
                let open = format!("/proc/self/fd/{}", open.as_raw_fd());
                rustix::fs::linkat(CWD, open, CWD, &lock, AtFlags::SYMLINK_FOLLOW)?;
            }
            Err(Errno::NOENT) => return Err(io::ErrorKind::NotFound.into()),
            // Not every file system has files without a name.
            Err(_) => {
                let mut file = OpenOptions::new().write(true).create_new(true).open(&lock)?;
                file.write_all(holder().as_bytes())?;
            }
        }
        Ok(Self(lock))
    }
}

/// How a lock of ours names its holder: a process is known by its id and its start.
fn holder() -> String {
    let pid = std::process::id();
    format!("{HOLDER}{pid} {}\n", table::start_time(pid).unwrap_or_default())
}

/// Takes a lock away that a daemon held when it was killed; anybody else's is left alone.
fn drop_if_dead(lock: &Path) {
    let Ok(text) = std::fs::read_to_string(lock) else { return };
    let Some((pid, start)) = text.strip_prefix(HOLDER).and_then(|t| t.trim_end().split_once(' '))
    else {
        return;
    };
    if let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>())
        && table::start_time(pid) != Some(start)
    {
        tracing::warn!(lock = %lock.display(), "a killed daemon has left a lock; it is taken away");
        drop(std::fs::remove_file(lock));
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Age at which the lock of a ref that is there is nobody's: git holds one for an instant.
const STALE: Duration = Duration::from_secs(60);

/// Takes away the lock that a killed git left on a ref of ours, which would be in the way for ever.
/// Whoever calls holds the environment's lock, which every git of ours that works on it inherits. A
/// ref that is not there yet is of interest to nobody else; one that is may just be being packed.
pub(super) fn break_stale(common: &Path, reference: &str) {
    drop_if_dead(&common.join("packed-refs.lock"));
    drop_if_dead(&common.join(format!("{reference}.lock")));
    let file = common.join(reference);
    let lock = common.join(format!("{reference}.lock"));
    let is_stale = || {
        let age = lock.metadata().and_then(|m| m.modified()).ok()?.elapsed().ok()?;
        Some(!file.exists() || age >= STALE)
    };
    if reference.starts_with(OURS) && is_stale() == Some(true) {
        tracing::warn!(lock = %lock.display(), "a killed git has left a lock; it is taken away");
        drop(std::fs::remove_file(&lock));
    }
}

/// The commit that a ref is at, if it is a plain file; none when only git can tell.
pub(super) fn loose(common: &Path, reference: &str) -> Option<String> {
    let text = std::fs::read_to_string(common.join(reference)).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    is_object_id(text).then(|| text.to_owned())
}

/// The commit that a ref is at, loose or packed; none when it is neither, or only git can tell.
pub(super) fn tip(common: &Path, reference: &str) -> Option<String> {
    if common.join(reference).exists() {
        return loose(common, reference);
    }
    let packed = std::fs::read_to_string(common.join("packed-refs")).ok()?;
    let found = packed.lines().find_map(|line| line.strip_suffix(reference)?.strip_suffix(' '));
    found.filter(|commit| is_object_id(commit)).map(str::to_owned)
}

fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a branch, tag or remote branch other than `but` is at exactly this commit, as far as
/// one look tells. False says nothing.
pub(super) fn is_held(common: &Path, commit: &str, first: &str, but: &str) -> bool {
    let holds = |name: &str| {
        let kind = ["refs/heads/", "refs/tags/", "refs/remotes/"];
        name != but && kind.iter().any(|k| name.starts_with(k))
    };
    if holds(first) && loose(common, first).as_deref() == Some(commit) {
        return true;
    }
    let packed = std::fs::read_to_string(common.join("packed-refs")).unwrap_or_default();
    packed.lines().any(|line| {
        // A loose file of the same name would be what counts.
        let named = line.strip_prefix(commit).and_then(|rest| rest.strip_prefix(' '));
        named.is_some_and(|name| holds(name) && !common.join(name).exists())
    })
}

/// Whether the first line of a branch's history says that this life made it, or one that it goes on
/// with. Before lives had a nonce, name and log were all that told.
pub(super) fn is_made_by(common: &Path, reference: &str, env: &Environment, log: &str) -> bool {
    let history = std::fs::read_to_string(common.join("logs").join(reference));
    let history = history.unwrap_or_default();
    let first = history.lines().next().and_then(|line| line.split('\t').next());
    let signed = first.and_then(|line| line.split_once('<')?.1.split_once('>')).map(|(s, _)| s);
    let Some(life) = signed.and_then(|s| s.strip_suffix("@groundskeeper")) else { return false };
    let short = log.get(..8).unwrap_or(log);
    let Some(rest) = life.strip_prefix(&format!("{}.", env.id)) else { return false };
    let mut parts = rest.split('.');
    let number = parts.next().is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n <= env.incarnation));
    let known =
        |nonce: &str| env.nonce.iter().chain(&env.lineage).any(|known| known.as_str() == nonce);
    number
        && parts.next() == Some(short)
        && parts.next().is_none_or(known)
        && parts.next().is_none()
}

/// How often a lock that somebody holds is tried for, and how long it is waited in between: it is
/// held for an instant.
const TRIES_MAX: u32 = 20;
const TURN: Duration = Duration::from_millis(10);

/// Deletes a ref with its history, if it is at `expected` where that is given. git does it only where
/// we cannot: nobody could tell whose the locks are that a killed git leaves, one of which is in the
/// way of every other deletion in the repository.
///
/// # Errors
/// What git says; what the system says; the ref is there then.
pub(super) fn delete(
    git: &Git<'_>,
    common: &Path,
    reference: &str,
    expected: Option<&str>,
) -> Result<(), Fault> {
    break_stale(common, reference);
    let at = expected.map(str::to_owned).or_else(|| loose(common, reference));
    for _ in 0..if at.is_some() { TRIES_MAX } else { 0 } {
        let done = delete_loose(common, reference, at.as_deref().unwrap_or_default());
        match done.map_err(paths::failed("delete", &common.join(reference)))? {
            Deleted::Yes => return Ok(()),
            Deleted::No => break,
            Deleted::Held => {
                drop(exec::poll_all(&[git.cancel().as_fd()], TURN));
                git.cancel().check()?;
            }
        }
    }
    git.output(["update-ref", "-d", reference].into_iter().chain(expected)).map(drop)
}

/// Makes a ref that is not there yet, without a process where that is as safe: when it is certain that
/// the commit exists. True when it is at that commit now.
///
/// # Errors
/// What the system says.
pub(super) fn create(
    git: &Git<'_>,
    common: &Path,
    reference: &str,
    commit: &str,
) -> Result<bool, Fault> {
    break_stale(common, reference);
    if tip(common, reference).as_deref() == Some(commit) {
        return Ok(true);
    }
    if is_object_id(commit) && is_there(common, commit) && !exists(common, reference) {
        match create_loose(common, reference, commit) {
            Ok(()) => return Ok(true),
            // Somebody was quicker, or only git can: it is asked.
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                return Err(paths::fault("write", &common.join(reference), &e));
            }
            Err(_) => {}
        }
    }
    let zeros = "0".repeat(commit.len());
    let made = git.run(["update-ref", "-m", "groundskeeper", reference, commit, &zeros])?;
    Ok(made.status.success() || tip(common, reference).as_deref() == Some(commit))
}

/// Whether a commit exists for sure: as a loose object, or because some ref is at it.
fn is_there(common: &Path, commit: &str) -> bool {
    let (folder, name) = commit.split_at(2);
    common.join("objects").join(folder).join(name).exists() || is_held(common, commit, "", "")
}

/// A link to a file without a name: all of it at once, and never in the place of another one.
fn create_loose(common: &Path, reference: &str, commit: &str) -> io::Result<()> {
    let path = common.join(reference);
    let folder = path.parent().unwrap_or(common);
    for _ in 0..TRIES_MAX {
        std::fs::create_dir_all(folder)?;
        let _lock = match Lock::take(&path) {
            // The folder went again with another ref in it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            lock => lock?,
        };
        let mode = Mode::from(0o644);
        let open = rustix::fs::openat(CWD, folder, OFlags::TMPFILE | OFlags::WRONLY, mode)?;
        rustix::io::write(&open, format!("{commit}\n").as_bytes())?;
        rustix::fs::fdatasync(&open)?;
        let open = format!("/proc/self/fd/{}", open.as_raw_fd());
        return Ok(rustix::fs::linkat(CWD, open, CWD, &path, AtFlags::SYMLINK_FOLLOW)?);
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Whether a ref was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deleted {
    Yes,
    /// Somebody holds a lock.
    Held,
    /// Only git can tell.
    No,
}

/// Deletes a ref that is a plain file at this commit, as git does: under the lock of the packed refs
/// and its own, with its history.
fn delete_loose(common: &Path, reference: &str, commit: &str) -> io::Result<Deleted> {
    let file = common.join(reference);
    let packed = common.join("packed-refs");
    let mut locks = Vec::new();
    for path in [&packed, &file] {
        match Lock::take(path) {
            Ok(lock) => locks.push(lock),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(Deleted::Held),
            // The ref was packed and its folder went with it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Deleted::No),
            Err(e) => return Err(e),
        }
    }
    let is_packed = match std::fs::read_to_string(&packed) {
        Ok(text) => text.lines().any(|l| l.split(' ').nth(1) == Some(reference)),
        Err(e) => e.kind() != io::ErrorKind::NotFound,
    };
    if is_packed || loose(common, reference).as_deref() != Some(commit) {
        return Ok(Deleted::No);
    }
    paths::remove_file_if_any(&common.join("logs").join(reference))?;
    std::fs::remove_file(&file)?;
    drop(locks);
    if reference.starts_with(OURS) {
        // Nobody else would ever do it; somebody who needs it makes it again.
        let folders = Path::new(reference).ancestors().skip(1);
        for folder in folders.take_while(|folder| *folder != Path::new(OURS.trim_end_matches('/')))
        {
            drop(std::fs::remove_dir(common.join("logs").join(folder)));
            drop(std::fs::remove_dir(common.join(folder)));
        }
    }
    Ok(Deleted::Yes)
}

/// Whether there is a ref of this name, packed or not.
pub(super) fn exists(common: &Path, reference: &str) -> bool {
    common.join(reference).exists()
        || std::fs::read_to_string(common.join("packed-refs"))
            .is_ok_and(|text| text.lines().any(|l| l.split(' ').nth(1) == Some(reference)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_a_killed_daemon_is_taken_away_and_nobody_elses() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("packed-refs");
        let lock = dir.path().join("packed-refs.lock");
        let held = Lock::take(&file).expect("taken");
        assert_eq!(std::fs::read_to_string(&lock).expect("read"), holder());
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
    fn a_ref_is_deleted_with_its_history_and_folders_where_no_lock_is_in_the_way() {
        let dir = tempfile::tempdir().expect("a directory");
        let name = "refs/groundskeeper/trash/a/1";
        let commit = "1".repeat(40);
        let set = |text: &str, path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        set(&format!("{commit}\n"), name);
        set("history", &format!("logs/{name}"));
        let delete = |at: &str| delete_loose(dir.path(), name, at).expect("tried");
        set("", "packed-refs.lock");
        assert_eq!(delete(&commit), Deleted::Held, "somebody packs");
        std::fs::remove_file(dir.path().join("packed-refs.lock")).expect("removed");
        assert_eq!(delete(&"2".repeat(40)), Deleted::No, "it was moved");
        set(&format!("{commit} {name}\n"), "packed-refs");
        assert_eq!(delete(&commit), Deleted::No, "it is packed as well");
        std::fs::remove_file(dir.path().join("packed-refs")).expect("removed");
        assert_eq!(delete(&commit), Deleted::Yes);
        let left = |path: &str| dir.path().join(path).exists();
        assert!(left("refs/groundskeeper") && !left("refs/groundskeeper/trash"));
        assert!(!left("logs/refs/groundskeeper/trash") && !left("packed-refs.lock"));
    }

    #[test]
    fn a_lock_that_a_killed_git_left_on_a_ref_of_ours_is_taken_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, theirs) = ("refs/groundskeeper/rescue/a/1", "refs/heads/main");
        let lock = |reference: &str| dir.path().join(format!("{reference}.lock"));
        for reference in [ours, theirs] {
            std::fs::create_dir_all(lock(reference).parent().expect("a folder")).expect("made");
            std::fs::write(lock(reference), "").expect("written");
            break_stale(dir.path(), reference);
        }
        assert!(!lock(ours).exists(), "nobody else makes this ref");
        assert!(lock(theirs).exists(), "that is none of ours");
        std::fs::write(dir.path().join(ours), "").expect("written");
        std::fs::write(lock(ours), "").expect("written");
        break_stale(dir.path(), ours);
        assert!(lock(ours).exists(), "a ref that is there may be being packed");
        let lock = std::fs::File::options().write(true).open(lock(ours)).expect("opened");
        let then = std::time::SystemTime::now() - 2 * STALE;
        lock.set_modified(then).expect("set");
        break_stale(dir.path(), ours);
        assert!(!dir.path().join(format!("{ours}.lock")).exists(), "but not for a minute");
    }
}
