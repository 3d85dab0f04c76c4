//! A directory that is reached step by step without following a link, and what is in it. Whatever
//! replaces a directory on the way afterwards, every action stays in the directory that was opened.
//!
//! Windows has no such calls in std: there each part of the path is checked, and then used.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// An opened directory.
#[derive(Debug)]
pub struct RealDir {
    path: PathBuf,
    #[cfg(unix)]
    handle: rustix::fd::OwnedFd,
}

/// One entry of a directory. A link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Its size in bytes.
    pub bytes: u64,
    /// Time of its last change, in milliseconds since 1970.
    pub changed_ms: u64,
    /// Whether it has other names; false where the system does not tell.
    pub has_other_names: bool,
    /// The user that owns it; `None` where the system has no such number.
    pub owner: Option<u32>,
}

impl RealDir {
    /// Returns the path at which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(unix)]
impl RealDir {
    /// Opens a directory by its absolute path; `None` when there is nothing at this path.
    ///
    /// # Errors
    /// `NotADirectory` for a link or another file on the way; the error of the system.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        use std::path::Component;
        let read = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A directory on the way need not be readable.
        #[cfg(target_os = "linux")]
        let pass = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        #[cfg(not(target_os = "linux"))]
        let pass = read;
        let mut handle = openat(CWD, "/", pass, Mode::empty())?;
        for part in path.components() {
            let name = match part {
                Component::RootDir => continue,
                Component::Normal(name) => name,
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            };
            handle = match openat(&handle, name, pass, Mode::empty()) {
                Ok(next) => next,
                Err(rustix::io::Errno::NOENT) => return Ok(None),
                Err(rustix::io::Errno::LOOP) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(e) => return Err(e.into()),
            };
        }
        let handle = openat(&handle, ".", read, Mode::empty())?;
        Ok(Some(Self { path: path.to_owned(), handle }))
    }

    /// Returns the names in it, at most `max`.
    ///
    /// # Errors
    /// The error of the system.
    pub fn names(&self, max: usize) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStrExt as _;
        let entries = rustix::fs::Dir::read_from(&self.handle)?;
        let names = entries.take(max.saturating_add(2)).map(|entry| {
            entry.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        });
        let names: Vec<OsString> = names.collect::<Result<_, _>>()?;
        Ok(names.into_iter().filter(|name| name != "." && name != "..").take(max).collect())
    }

    /// Returns an entry; `None` when there is none of this name.
    ///
    /// # Errors
    /// The error of the system.
    pub fn entry(&self, name: &OsStr) -> io::Result<Option<Entry>> {
        use rustix::fs::{AtFlags, FileType, statat};
        let found = match statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let seconds = u64::try_from(found.st_mtime).unwrap_or(0);
        Ok(Some(Entry {
            is_file: FileType::from_raw_mode(found.st_mode) == FileType::RegularFile,
            bytes: u64::try_from(found.st_size).unwrap_or(0),
            changed_ms: seconds.saturating_mul(1_000),
            has_other_names: found.st_nlink > 1,
            owner: Some(found.st_uid),
        }))
    }

    /// Removes a file; a missing one is a success.
    ///
    /// # Errors
    /// The error of the system.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.handle, name, rustix::fs::AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            removed => Ok(removed?),
        }
    }
}

#[cfg(not(unix))]
impl RealDir {
    /// Opens a directory by its absolute path; `None` when there is nothing at this path.
    ///
    /// # Errors
    /// `NotADirectory` for a link or another file on the way; the error of the system.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        for part in path.ancestors() {
            match part.symlink_metadata() {
                Ok(found) if found.is_dir() && !found.is_symlink() => {}
                Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        Ok(Some(Self { path: path.to_owned() }))
    }

    /// Returns the names in it, at most `max`.
    ///
    /// # Errors
    /// The error of the system.
    pub fn names(&self, max: usize) -> io::Result<Vec<OsString>> {
        let entries = std::fs::read_dir(&self.path)?.take(max);
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    /// Returns an entry; `None` when there is none of this name.
    ///
    /// # Errors
    /// The error of the system.
    pub fn entry(&self, name: &OsStr) -> io::Result<Option<Entry>> {
        let found = match self.path.join(name).symlink_metadata() {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let changed = found.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let changed_ms = u64::try_from(changed.as_millis()).unwrap_or(u64::MAX);
        let is_file = found.is_file() && !found.is_symlink();
        let (bytes, has_other_names, owner) = (found.len(), false, None);
        Ok(Some(Entry { is_file, bytes, changed_ms, has_other_names, owner }))
    }

    /// Removes a file; a missing one is a success.
    ///
    /// # Errors
    /// The error of the system.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn link_on_the_way_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("real");
        std::fs::create_dir_all(root.join("a/b")).expect("made");
        std::fs::write(root.join("a/b/file"), "text").expect("written");
        std::os::unix::fs::symlink(root.join("a"), root.join("link")).expect("linked");
        std::os::unix::fs::symlink("file", root.join("a/b/alias")).expect("linked");
        let kind = |path: &str| RealDir::open(&root.join(path)).map_err(|e| e.kind());
        assert_eq!(kind("link/b").err(), Some(io::ErrorKind::NotADirectory));
        assert_eq!(kind("link").err(), Some(io::ErrorKind::NotADirectory));
        assert!(kind("a/none").expect("missing").is_none());
        let found = kind("a/b").expect("real").expect("there");
        let mut names = found.names(10).expect("listed");
        names.sort();
        assert_eq!(names, ["alias", "file"]);
        let entry = |name: &str| found.entry(OsStr::new(name)).expect("inspected");
        assert!(!entry("alias").expect("there").is_file, "it is not followed");
        assert!(entry("file").is_some_and(|e| e.is_file && e.bytes == 4 && !e.has_other_names));
        // What takes the place of the directory afterwards is not touched.
        std::fs::rename(root.join("a/b"), root.join("a/c")).expect("moved");
        std::fs::create_dir(root.join("a/b")).expect("made");
        std::fs::write(root.join("a/b/file"), "other").expect("written");
        found.remove(OsStr::new("file")).expect("removed");
        found.remove(OsStr::new("file")).expect("it is gone");
        assert!(root.join("a/b/file").exists() && !root.join("a/c/file").exists());
    }
}
