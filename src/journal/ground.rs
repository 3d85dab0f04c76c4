//! Checks that an open log is still the file at its path, with the size that it had.
//!
//! An open file outlives its name: after the log was unlinked, replaced, or moved away with its
//! directory, commits still succeed, and are in no log at the next start. Reads file attributes
//! only.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::Error;
use groundskeeper_system::portable;

/// The log's place in the file system, as it was when the log was opened.
#[derive(Debug)]
pub(super) struct Ground {
    path: PathBuf,
    /// A second handle. It keeps the inode from being used for another file.
    file: File,
    /// Size in bytes after the last write of this process.
    bytes: u64,
}

impl Ground {
    /// Opens the file that is at `path` now. The caller opens the log after it, and calls
    /// [`Self::note`] before the first check.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn at(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { what: "open the log", path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        Ok(Self { path: path.to_owned(), file, bytes: 0 })
    }

    /// Checks the place, and the size that no other program may change. One system call each.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub(super) fn check(&self) -> Result<(), Error> {
        self.check_place()?;
        let found = self.size()?;
        if found == self.bytes {
            return Ok(());
        }
        Err(self.lost(format!("another program changed its size from {} to {found}", self.bytes)))
    }

    /// Checks the place, and remembers the size. Called after a write of this process.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub(super) fn note(&mut self) -> Result<(), Error> {
        self.check_place()?;
        self.bytes = self.size()?;
        Ok(())
    }

    fn check_place(&self) -> Result<(), Error> {
        if portable::is_still_at(&self.file, &self.path) {
            return Ok(());
        }
        Err(self.lost(match self.path.metadata() {
            Ok(_) => "another file has its name".to_owned(),
            Err(error) => format!("it is not at its path any more: {error}"),
        }))
    }

    fn size(&self) -> Result<u64, Error> {
        let found = self.file.metadata();
        found.map(|found| found.len()).map_err(|error| self.lost(format!("no size: {error}")))
    }

    fn lost(&self, what: String) -> Error {
        Error::Lost { path: self.path.clone(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn sample(dir: &Path) -> (PathBuf, Ground) {
        let path = dir.join("log");
        std::fs::write(&path, "content").expect("written");
        let mut ground = Ground::at(&path).expect("opened");
        ground.note().expect("noted");
        ground.check().expect("in place");
        (path, ground)
    }

    #[test]
    fn own_write_is_no_change() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, mut ground) = sample(dir.path());
        let mut file = File::options().append(true).open(&path).expect("opened");
        file.write_all(b"more").expect("written");
        ground.check().expect_err("not noted yet");
        ground.note().expect("noted");
        ground.check().expect("in place");
    }

    #[cfg(unix)]
    #[test]
    fn lost_ground_is_named() {
        type Change = fn(&Path);
        let changes: [(&str, Change, &str); 5] = [
            ("removed", |path| std::fs::remove_file(path).expect("removed"), "not at its path"),
            (
                "replaced",
                |path| {
                    let copy = path.with_extension("copy");
                    std::fs::copy(path, &copy).expect("copied");
                    std::fs::rename(&copy, path).expect("renamed");
                },
                "another file",
            ),
            (
                "cut",
                |path| {
                    let file = File::options().write(true).open(path).expect("opened");
                    file.set_len(3).expect("cut");
                },
                "changed its size from 7 to 3",
            ),
            (
                "emptied",
                |path| drop(File::create(path).expect("emptied")),
                "changed its size from 7 to 0",
            ),
            (
                "moved with its directory",
                |path| {
                    let dir = path.parent().expect("a folder");
                    std::fs::rename(dir, dir.with_extension("moved")).expect("moved");
                },
                "not at its path",
            ),
        ];
        for (name, change, wanted) in changes {
            let dir = tempfile::tempdir().expect("a folder");
            let inside = dir.path().join("data");
            std::fs::create_dir(&inside).expect("made");
            let (path, ground) = sample(&inside);
            change(&path);
            let error = ground.check().expect_err(name);
            assert!(error.to_string().contains(wanted), "{name}: {error}");
        }
    }
}
