//! Finds the repositories inside a directory: worktrees with a `.git` of whatever kind, and bare
//! repositories.
//!
//! Reads only. One open and one listing per directory, on the types that the listing itself gives;
//! no link is followed and no other file system entered. A directory that cannot be read is
//! reported as unknown, never as one without a repository.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::core::Fault;
use crate::world::fs::beneath::{self, Mounts};
use crate::world::fs::remove_tree::Stop;

/// Levels that one path leads down; then a directory on the way is opened for the next ones.
const LEVELS_AT_ONCE: usize = 64;
/// A longer path most programs cannot name, git among them.
const PATH_BYTES_MAX: usize = 3_800;
/// Entries of one directory after which the caller is asked again.
const ASK_EVERY: u64 = 1_024;
/// What one call of a listing can give.
const BUFFER_BYTES: usize = 64 << 10;

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::world) struct Limits {
    /// Repositories after which it ends.
    pub(in crate::world) repositories: usize,
    /// Levels below the root; what lies deeper is unknown.
    pub(in crate::world) depth: usize,
    /// Entries in all; what comes after them is unknown.
    pub(in crate::world) entries: u64,
}

impl Limits {
    /// The search that lists what there is.
    pub(in crate::world) const ALL: Self =
        Self { repositories: 1_000, depth: 100_000, entries: 20_000_000 };
    /// The search that only asks whether there is any.
    pub(in crate::world) const ANY: Self = Self { repositories: 1, ..Self::ALL };
}

/// What a search found, each in order. The paths begin with the root's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::world) struct Found {
    /// Directories that are repositories; at most [`Limits::repositories`].
    pub(in crate::world) repositories: Vec<PathBuf>,
    /// What could not be read, and why: there may be repositories in it.
    pub(in crate::world) unknown: Vec<(PathBuf, String)>,
    /// What has the name `.git` in other letters: where git ignores case it passes over it.
    pub(in crate::world) disguised: Vec<PathBuf>,
}

/// The repositories in a directory, which may be one itself. A worktree is searched for others
/// inside it; a bare repository and the insides of `.git` are not. `each` is called with the number
/// of entries so far, at least once per directory, and can stop it.
///
/// # Errors
/// What `each` says.
pub(in crate::world) fn find(
    root: &Path,
    limits: Limits,
    each: &mut dyn FnMut(u64) -> Result<(), Fault>,
) -> Result<Found, Fault> {
    search(root, limits, each, true)
}

/// As [`find`], of what lies below the root: whether that is a repository itself does not count.
///
/// # Errors
/// What `each` says.
pub(in crate::world) fn below(
    root: &Path,
    limits: Limits,
    each: &mut dyn FnMut(u64) -> Result<(), Fault>,
) -> Result<Found, Fault> {
    search(root, limits, each, false)
}

fn search(
    root: &Path,
    limits: Limits,
    each: &mut dyn FnMut(u64) -> Result<(), Fault>,
    with_root: bool,
) -> Result<Found, Fault> {
    let mut found = Found::default();
    let top = match open_top(root) {
        Ok(top) => top,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(found),
        Err(e) => {
            found.unknown.push((root.to_owned(), words(e)));
            return Ok(found);
        }
    };
    let (todo, buffer) = (Vec::new(), Vec::new());
    let mut walk = Walk { root, limits, each, entries: 0, found, todo, buffer };
    walk.todo.push(Place { base: Rc::new(top), below: PathBuf::new(), path: PathBuf::new() });
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
struct Place {
    /// An open directory on the way to it: a path from the root may be longer than any that can be
    /// named.
    base: Rc<OwnedFd>,
    /// The way from there.
    below: PathBuf,
    /// The way from the root.
    path: PathBuf,
}

struct Walk<'a> {
    root: &'a Path,
    limits: Limits,
    each: &'a mut dyn FnMut(u64) -> Result<(), Fault>,
    entries: u64,
    found: Found,
    todo: Vec<Place>,
    /// For listings.
    buffer: Vec<u8>,
}

/// What the names in a directory say of it.
#[derive(Default)]
struct Names {
    git: bool,
    head: bool,
    objects: bool,
    refs: bool,
}

impl Walk<'_> {
    fn directory(&mut self, place: &Place, counts: bool) -> Result<(), Fault> {
        (self.each)(self.entries)?;
        let before = self.todo.len();
        let path = place.path.as_path();
        let names = match self.read(place) {
            Ok(names) => names,
            // Gone, or replaced by something that is not entered; a mount is not part of the tree.
            Err(Stop::System(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)) => {
                return Ok(());
            }
            Err(Stop::System(e)) => {
                self.unknown(path, words(e));
                return Ok(());
            }
            Err(Stop::SyncCursor(fault)) => return Err(fault),
        };
        let bare = names.head && names.objects && names.refs;
        if bare {
            self.todo.truncate(before);
        }
        if counts && (bare || names.git) {
            self.found.repositories.push(self.whole(path));
        }
        Ok(())
    }

    /// Reads a directory; the directories in it are remembered for later.
    fn read(&mut self, place: &Place) -> Result<Names, Stop> {
        let mut names = Names::default();
        let depth = place.path.components().count();
        let (mut too_deep, mut files) = (false, false);
        let open = open_below(&place.base, &place.below)?;
        // The way that one call is given stays short.
        let rebase = place.below.components().count() >= LEVELS_AT_ONCE;
        let (base, below) = if rebase {
            (
                Rc::new(
                    open.try_clone().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?,
                ),
                PathBuf::new(),
            )
        } else {
            (Rc::clone(&place.base), place.below.clone())
        };
        // Lent to each listing, as tens of thousands of names are not to be copied one by one.
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.reserve(BUFFER_BYTES);
        let mut listing = RawDir::new(&open, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.entries += 1;
            if self.entries.is_multiple_of(ASK_EVERY) {
                (self.each)(self.entries).map_err(Stop::SyncCursor)?;
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
                self.todo.push(Place { base, below: inside, path });
            } else {
                too_deep = true;
            }
        }
        self.buffer = buffer;
        let path = place.path.as_path();
        if files && self.whole(path).as_os_str().len() > PATH_BYTES_MAX {
            self.unknown(path, "its path is longer than other programs can name".to_owned());
        }
        if too_deep {
            let levels = self.limits.depth;
            self.unknown(path, format!("it lies {levels} levels deep and has directories"));
        }
        Ok(names)
    }

    fn disguised(&mut self, place: &Place, name: &[u8]) {
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

/// Opens a directory below another one: through no link and into no mount.
fn open_below(base: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    beneath::directory_in(base.as_fd(), path, Mounts::Refused)
}

fn is_directory(base: &OwnedFd, path: &Path, kind: FileType) -> bool {
    if kind != FileType::Unknown {
        return kind == FileType::Directory;
    }
    // Some file systems do not tell in the listing. Where it cannot be told it is tried, and found
    // out then.
    let found = rustix::fs::statat(base.as_fd(), path, AtFlags::SYMLINK_NOFOLLOW);
    found.map_or(true, |s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
}

fn open_top(root: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, root, flags(), Mode::empty())
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn words(errno: Errno) -> String {
    match errno {
        Errno::XDEV => "another file system is mounted there".to_owned(),
        errno => format!("it cannot be read: {}", std::io::Error::from(errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

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

    #[test]
    fn worktrees_submodules_and_bare_repositories_are_found_at_any_depth() {
        let bare = ["deps/cache/x.git/objects", "deps/cache/x.git/refs"];
        let dirs = ["plain/HEAD/objects", "tool/.git/modules/m/objects", "tool/sub", "linked"];
        let files = ["deps/cache/x.git/HEAD", "tool/sub/.git"];
        let root = tree(&[&bare[..], &dirs].concat(), &files);
        std::os::unix::fs::symlink("/nowhere", root.path().join("linked/.git")).expect("linked");
        // One that only a link leads to is not inside.
        let outside = tree(&["repo/.git"], &[]);
        std::os::unix::fs::symlink(outside.path(), root.path().join("plain/out")).expect("linked");
        let found = find(root.path(), Limits::ALL, &mut |_| Ok(())).expect("searched");
        let there = names(root.path(), &found.repositories);
        assert_eq!(there, ["deps/cache/x.git", "linked", "tool", "tool/sub"]);
        assert_eq!(found.unknown, []);
    }

    #[test]
    fn the_root_counts_only_when_it_is_asked_for() {
        let root = tree(&[".git", "inside/.git"], &[]);
        let found = find(root.path(), Limits::ALL, &mut |_| Ok(())).expect("searched");
        assert_eq!(names(root.path(), &found.repositories), ["", "inside"]);
        let found = below(root.path(), Limits::ALL, &mut |_| Ok(())).expect("searched");
        assert_eq!(names(root.path(), &found.repositories), ["inside"]);
        let any = find(root.path(), Limits::ANY, &mut |_| Ok(())).expect("searched");
        assert_eq!(any.repositories, [root.path()]);
    }

    #[test]
    fn what_cannot_be_read_or_lies_too_deep_is_unknown() {
        let root = tree(&["a/b/c/.git", "locked"], &[]);
        let limits = Limits { depth: 1, ..Limits::ALL };
        let found = find(root.path(), limits, &mut |_| Ok(())).expect("searched");
        assert_eq!(found.repositories, [] as [PathBuf; 0]);
        assert_eq!(found.unknown.len(), 1, "{found:?}");
        let locked = root.path().join("locked");
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).expect("locked");
        if std::fs::read_dir(&locked).is_err() {
            let found = find(root.path(), Limits::ALL, &mut |_| Ok(())).expect("searched");
            assert_eq!(found.unknown.len(), 1, "{found:?}");
        }
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o700)).expect("opened");
        let few = Limits { entries: 2, ..Limits::ALL };
        let found = find(root.path(), few, &mut |_| Ok(())).expect("searched");
        assert!(!found.unknown.is_empty(), "more than it may look at: {found:?}");
        let missing = find(&root.path().join("missing"), Limits::ALL, &mut |_| Ok(()));
        assert_eq!(missing.expect("searched"), Found::default(), "nothing is there");
    }

    #[test]
    fn it_stops_when_it_is_told() {
        let root = tree(&["a/b/c"], &[]);
        let mut left = 2;
        let stopped = find(root.path(), Limits::ALL, &mut |_| {
            left -= 1;
            if left == 0 { Err(crate::world::process::cancel::Cancel::fault()) } else { Ok(()) }
        });
        assert!(stopped.is_err());
    }
}
