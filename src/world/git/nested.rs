//! Finds nested repositories in a directory: worktrees with any kind of `.git`, and bare ones.
//!
//! Reads only. Each directory costs one open and one listing, and the listing itself gives the
//! types. No link is followed and no other file system entered. A directory that cannot be read is
//! reported as unknown, never as one without a repository.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use groundskeeper_system::linux_calls;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::world::fs::beneath::{self, Mounts};
use crate::world::fs::remove_tree::Stop;

/// Levels that one path descends; then a directory on the way is opened as base for deeper ones.
/// The kernel bounds a path, but not a tree.
const LEVELS_AT_ONCE: usize = 64;
/// Most programs, git included, cannot name a longer path (`PATH_MAX` is 4,096).
const PATH_BYTES_MAX: usize = 3_800;
/// Entries of one directory between two calls of the caller's callback.
const CHECK_EVERY: u64 = 1_024;
/// Size of the buffer for one `getdents` call.
const BUFFER_BYTES: usize = 64 << 10;

/// Bounds of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::world) struct Limits {
    /// Repositories after which the search ends.
    pub(in crate::world) repositories: usize,
    /// Levels below the root; anything deeper is unknown.
    pub(in crate::world) depth: usize,
    /// Entries in total; anything after them is unknown.
    pub(in crate::world) entries: u64,
}

impl Limits {
    /// Bounds of a search that lists all repositories.
    pub(in crate::world) const ALL: Self =
        Self { repositories: 1_000, depth: 100_000, entries: 20_000_000 };
    /// Bounds of a search that only asks whether there is any.
    pub(in crate::world) const ANY: Self = Self { repositories: 1, ..Self::ALL };
}

/// Result of a search, each list sorted. Paths begin with the root's path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::world) struct NestedRepositories {
    /// Directories that are repositories; at most [`Limits::repositories`].
    pub(in crate::world) repositories: Vec<PathBuf>,
    /// Directories that could not be read, with the reason: they may contain repositories.
    pub(in crate::world) unknown: Vec<(PathBuf, String)>,
    /// Entries whose name is `.git` in other case: where git ignores case it skips them.
    pub(in crate::world) disguised: Vec<PathBuf>,
}

/// Finds the repositories in a directory, which may be one itself. A worktree is searched
/// for further repositories inside; a bare repository and the content of `.git` are not.
/// Calls `each` with the number of entries so far, at least once per directory; an error
/// from it ends the search.
///
/// # Errors
/// The error of `each`.
pub(in crate::world) fn find<E>(
    root: &Path,
    limits: Limits,
    each: &mut dyn FnMut(u64) -> Result<(), E>,
) -> Result<NestedRepositories, E> {
    search(root, limits, each, true)
}

/// Searches like [`find`], but only below the root: the root itself is not reported.
///
/// # Errors
/// The error of `each`.
pub(in crate::world) fn below<E>(
    root: &Path,
    limits: Limits,
    each: &mut dyn FnMut(u64) -> Result<(), E>,
) -> Result<NestedRepositories, E> {
    search(root, limits, each, false)
}

fn search<E>(
    root: &Path,
    limits: Limits,
    each: &mut dyn FnMut(u64) -> Result<(), E>,
    with_root: bool,
) -> Result<NestedRepositories, E> {
    let mut found = NestedRepositories::default();
    let top = match open_top(root) {
        Ok(top) => top,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(found),
        Err(e) => {
            found.unknown.push((root.to_owned(), describe(e)));
            return Ok(found);
        }
    };
    let (todo, buffer) = (Vec::new(), Vec::new());
    let mut walk = Walk { root, limits, each, entries: 0, found, todo, buffer };
    walk.todo.push(PendingDir { base: Rc::new(top), below: PathBuf::new(), path: PathBuf::new() });
    while let Some(place) = walk.todo.pop() {
        if walk.found.repositories.len() >= limits.repositories {
            break;
        }
        let counts = with_root || !place.path.as_os_str().is_empty();
        walk.directory(&place, counts)?;
        if walk.entries > limits.entries {
            let why = format!("it has more than {} entries", limits.entries);
            walk.found.unknown.push((root.to_owned(), why));
            break;
        }
    }
    let mut found = walk.found;
    found.repositories.sort();
    found.unknown.sort();
    found.disguised.sort();
    Ok(found)
}

/// A directory that is still to be read.
struct PendingDir {
    /// Open directory on the way to it: a path from the root may be too long for one call.
    base: Rc<OwnedFd>,
    /// Path from `base`.
    below: PathBuf,
    /// Path from the root.
    path: PathBuf,
}

struct Walk<'a, E> {
    root: &'a Path,
    limits: Limits,
    each: &'a mut dyn FnMut(u64) -> Result<(), E>,
    entries: u64,
    found: NestedRepositories,
    todo: Vec<PendingDir>,
    /// Reused for the listings of all directories.
    buffer: Vec<u8>,
}

/// Names found in a directory that identify a repository.
#[derive(Default)]
struct Names {
    git: bool,
    head: bool,
    objects: bool,
    refs: bool,
}

/// Returns the base for the subdirectories of an open directory, and its path from there. Keeps the
/// path of one call short.
fn base_for(place: &PendingDir, open: &OwnedFd) -> Result<(Rc<OwnedFd>, PathBuf), Errno> {
    if place.below.components().count() < LEVELS_AT_ONCE {
        return Ok((Rc::clone(&place.base), place.below.clone()));
    }
    let base = open.try_clone().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    Ok((Rc::new(base), PathBuf::new()))
}

impl<E> Walk<'_, E> {
    fn directory(&mut self, place: &PendingDir, counts: bool) -> Result<(), E> {
        (self.each)(self.entries)?;
        let before = self.todo.len();
        let path = place.path.as_path();
        let names = match self.read(place) {
            Ok(names) => names,
            // It vanished, or was replaced by a file or link; a mount is not part of the tree.
            Err(Stop::System(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)) => {
                return Ok(());
            }
            Err(Stop::System(e)) => {
                self.unknown(path, describe(e));
                return Ok(());
            }
            Err(Stop::Caller(error)) => return Err(error),
        };
        let bare = names.head && names.objects && names.refs;
        if bare {
            // The directories of a bare repository are git's own.
            self.todo.truncate(before);
        }
        if counts && (bare || names.git) {
            self.found.repositories.push(self.whole(path));
        }
        Ok(())
    }

    /// Reads a directory and queues its subdirectories.
    fn read(&mut self, place: &PendingDir) -> Result<Names, Stop<E>> {
        let mut names = Names::default();
        let depth = place.path.components().count();
        let (mut too_deep, mut files) = (false, false);
        let open = open_below(&place.base, &place.below)?;
        let (base, below) = base_for(place, &open)?;
        // One buffer for all listings: tens of thousands of names are not copied one by one.
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.reserve(BUFFER_BYTES);
        let mut listing = linux_calls::list(open.as_fd(), buffer.spare_capacity_mut())?;
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.entries += 1;
            if self.entries.is_multiple_of(CHECK_EVERY) {
                (self.each)(self.entries).map_err(Stop::Caller)?;
            }
            match name.to_bytes() {
                b".git" => {
                    names.git = true;
                    continue;
                }
                name if name.eq_ignore_ascii_case(b".git") => self.disguised(place, name),
                b"HEAD" => names.head = true,
                b"objects" => names.objects = true,
                b"refs" => names.refs = true,
                _ => {}
            }
            let name = OsStr::from_bytes(name.to_bytes());
            let kind = entry.file_type();
            if kind != FileType::Directory && kind != FileType::Unknown {
                files = true;
                continue;
            }
            let inside = below.join(name);
            if !is_directory(&base, &inside, kind) {
                files = true;
            } else if depth < self.limits.depth {
                let (base, path) = (Rc::clone(&base), place.path.join(name));
                self.todo.push(PendingDir { base, below: inside, path });
            } else {
                too_deep = true;
            }
        }
        self.buffer = buffer;
        let path = place.path.as_path();
        if files && self.whole(path).as_os_str().len() > PATH_BYTES_MAX {
            self.unknown(path, "its path is too long for other programs".to_owned());
        }
        if too_deep {
            let levels = self.limits.depth;
            self.unknown(path, format!("it is {levels} levels deep and has subdirectories"));
        }
        Ok(names)
    }

    fn disguised(&mut self, place: &PendingDir, name: &[u8]) {
        let path = self.whole(&place.path).join(OsStr::from_bytes(name));
        self.found.disguised.push(path);
    }

    fn unknown(&mut self, path: &Path, why: String) {
        let path = self.whole(path);
        self.found.unknown.push((path, why));
    }

    fn whole(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() { self.root.to_owned() } else { self.root.join(path) }
    }
}

/// Opens a directory below another one, through no link and into no mount.
fn open_below(base: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    beneath::directory_in(base.as_fd(), path, Mounts::Refused)
}

fn is_directory(base: &OwnedFd, path: &Path, kind: FileType) -> bool {
    if kind != FileType::Unknown {
        return kind == FileType::Directory;
    }
    // Some file systems omit the type in a listing. If `fstatat` fails too, the entry counts as a
    // directory, and opening it decides.
    let found = rustix::fs::statat(base.as_fd(), path, AtFlags::SYMLINK_NOFOLLOW);
    found.map_or(true, |s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
}

fn open_top(root: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, root, flags(), Mode::empty())
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn describe(errno: Errno) -> String {
    match errno {
        Errno::XDEV => "another file system is mounted there".to_owned(),
        errno => format!("it cannot be read: {}", std::io::Error::from(errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::world::process;

    /// Answer to a search that may go on.
    type Checked = Result<(), process::Error>;

    fn tree(dirs: &[&str], files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for dir in dirs {
            std::fs::create_dir_all(root.path().join(dir)).expect("made");
        }
        for file in files {
            std::fs::write(root.path().join(file), "").expect("written");
        }
        root
    }

    fn names(root: &Path, found: &[PathBuf]) -> Vec<String> {
        let name = |p: &PathBuf| p.strip_prefix(root).expect("inside").display().to_string();
        found.iter().map(name).collect()
    }

    /// Worktrees, submodules and bare repositories; links are not followed.
    #[test]
    fn nested_repositories_found_at_any_depth() {
        let bare = ["deps/cache/x.git/objects", "deps/cache/x.git/refs"];
        let dirs = ["plain/HEAD/objects", "tool/.git/modules/m/objects", "tool/sub", "linked"];
        let files = ["deps/cache/x.git/HEAD", "tool/sub/.git"];
        let root = tree(&[&bare[..], &dirs].concat(), &files);
        std::os::unix::fs::symlink("/nowhere", root.path().join("linked/.git")).expect("linked");
        // A repository that only a link leads to is not nested.
        let outside = tree(&["repo/.git"], &[]);
        std::os::unix::fs::symlink(outside.path(), root.path().join("plain/out")).expect("linked");
        let found = find(root.path(), Limits::ALL, &mut |_| Checked::Ok(())).expect("searched");
        let there = names(root.path(), &found.repositories);
        assert_eq!(there, ["deps/cache/x.git", "linked", "tool", "tool/sub"]);
        assert_eq!(found.unknown, []);
    }

    #[test]
    fn root_counts_only_on_request() {
        let root = tree(&[".git", "inside/.git"], &[]);
        let found = find(root.path(), Limits::ALL, &mut |_| Checked::Ok(())).expect("searched");
        assert_eq!(names(root.path(), &found.repositories), ["", "inside"]);
        let found = below(root.path(), Limits::ALL, &mut |_| Checked::Ok(())).expect("searched");
        assert_eq!(names(root.path(), &found.repositories), ["inside"]);
        let any = find(root.path(), Limits::ANY, &mut |_| Checked::Ok(())).expect("searched");
        assert_eq!(any.repositories, [root.path()]);
    }

    #[test]
    fn unreadable_or_too_deep_is_unknown() {
        let root = tree(&["a/b/c/.git", "locked"], &[]);
        let limits = Limits { depth: 1, ..Limits::ALL };
        let found = find(root.path(), limits, &mut |_| Checked::Ok(())).expect("searched");
        assert_eq!(found.repositories, [] as [PathBuf; 0]);
        assert_eq!(found.unknown.len(), 1, "{found:?}");
        let locked = root.path().join("locked");
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).expect("locked");
        if std::fs::read_dir(&locked).is_err() {
            let found = find(root.path(), Limits::ALL, &mut |_| Checked::Ok(())).expect("searched");
            assert_eq!(found.unknown.len(), 1, "{found:?}");
        }
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o700)).expect("opened");
        let few = Limits { entries: 2, ..Limits::ALL };
        let found = find(root.path(), few, &mut |_| Checked::Ok(())).expect("searched");
        assert!(!found.unknown.is_empty(), "more entries than the limit: {found:?}");
        let missing = find(&root.path().join("missing"), Limits::ALL, &mut |_| Checked::Ok(()));
        assert_eq!(missing.expect("searched"), NestedRepositories::default(), "nothing is there");
    }

    #[test]
    fn search_stops_on_cancel() {
        let root = tree(&["a/b/c"], &[]);
        let mut left = 2;
        let stopped = find(root.path(), Limits::ALL, &mut |_| {
            left -= 1;
            if left == 0 { Err(process::Error::Cancelled) } else { Ok(()) }
        });
        assert!(stopped.is_err());
    }
}
