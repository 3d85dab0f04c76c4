//! Records which files the copy of included files put into a worktree, and checks later whether
//! they are unchanged.
//!
//! The copy writes a list of its files into the worktree's administrative directory, which moves
//! with the worktree to the trash and back. An ignored file, link or directory that matches the
//! list, or that equals the source byte for byte, is no work at risk. Everything else is: files
//! that were edited, added or removed, repositories, and whatever would take too long to check.
//! Only the list is written here, and only by the copy.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::world::fs::paths;
use crate::world::git::index::format::Stat;
use crate::world::status::copied_list::{
    ENTRIES_MAX, LIST, LIST_BYTES_MAX, Made, Proof, digest, parse,
};

const DEPTH_MAX: usize = 256;
/// Bound on the bytes that one check compares with the source.
const COMPARED_BYTES_MAX: u64 = 1 << 30;

/// Judges for one check which paths are ours.
#[derive(Debug)]
pub(in crate::world) struct IncludedFiles {
    source: Option<PathBuf>,
    target: PathBuf,
    admin: PathBuf,
    /// Read on first use; empty when there is no list.
    list: OnceCell<BTreeMap<Vec<u8>, Made>>,
    entries_left: Cell<usize>,
    bytes_left: Cell<u64>,
}

impl IncludedFiles {
    pub(in crate::world) fn new(source: Option<&Path>, target: &Path, admin: &Path) -> Self {
        Self {
            source: source.map(Path::to_owned),
            target: target.to_owned(),
            admin: admin.to_owned(),
            list: OnceCell::new(),
            entries_left: Cell::new(ENTRIES_MAX),
            bytes_left: Cell::new(COMPARED_BYTES_MAX),
        }
    }

    /// Reports whether an ignored path (a directory ends in a slash) is no work at risk: it
    /// contains only what the copy made or the source has, and nothing on the list is missing.
    pub(in crate::world) fn holds(&self, path: &[u8]) -> bool {
        if !path.ends_with(b"/") {
            return self.leaf(path).is_some();
        }
        let mut visited = 0;
        self.folder(path, &mut visited, 0) && visited == self.below(path).count()
    }

    /// Returns the listed paths below a directory.
    fn below<'a>(&'a self, folder: &'a [u8]) -> impl Iterator<Item = &'a Vec<u8>> {
        let from = self.list().range(folder.to_vec()..).map(|(path, _)| path);
        from.take_while(move |path| path.starts_with(folder))
    }

    fn list(&self) -> &BTreeMap<Vec<u8>, Made> {
        self.list.get_or_init(|| {
            let place = self.admin.join(LIST);
            let fits =
                place.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() <= LIST_BYTES_MAX);
            let text = fits.then(|| std::fs::read(&place).ok()).flatten();
            text.and_then(|text| parse(&text)).unwrap_or_default()
        })
    }

    /// Reports whether everything in a directory is ours; adds the listed files found to `visited`.
    fn folder(&self, folder: &[u8], visited: &mut usize, depth: usize) -> bool {
        let place = self.target.join(paths::from_bytes(folder));
        // A link in place of the directory leads elsewhere.
        let is_dir = place.parent().zip(place.file_name()).is_some_and(|(parent, name)| {
            parent.join(name).symlink_metadata().is_ok_and(|found| found.is_dir())
        });
        let Ok(entries) = std::fs::read_dir(&place) else { return false };
        if depth > DEPTH_MAX || !is_dir {
            return false;
        }
        entries.into_iter().all(|entry| {
            let Some(left) = self.entries_left.get().checked_sub(1) else { return false };
            self.entries_left.set(left);
            let Ok(entry) = entry else { return false };
            let name = entry.file_name();
            // A repository is always work at risk.
            if name.as_bytes().eq_ignore_ascii_case(b".git") {
                return false;
            }
            let path = [folder, name.as_bytes()].concat();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                return self.folder(&[path.as_slice(), b"/"].concat(), visited, depth + 1);
            }
            let leaf = self.leaf(&path);
            *visited += usize::from(leaf == Some(Origin::Listed));
            leaf.is_some()
        })
    }

    /// Returns where an unchanged file or link comes from; `None` when it was edited.
    fn leaf(&self, path: &[u8]) -> Option<Origin> {
        let place = self.target.join(paths::from_bytes(path));
        let found = place.symlink_metadata().ok()?;
        let made = self.list().get(path);
        let origin = if made.is_some() { Origin::Listed } else { Origin::Source };
        let proven = made.filter(|made| made.stat.is(&Stat::of(&found))).is_some_and(|made| {
            match &made.proof {
                Proof::Stat => true,
                Proof::Bytes(wanted) => digest(&place).is_some_and(|bytes| bytes == *wanted),
                // The comparison with the source below decides.
                Proof::Source => false,
            }
        });
        (proven || self.is_copy(path, &place, found.len())).then_some(origin)
    }

    /// Reports whether the source has the same content at the same path, so that nothing is lost.
    fn is_copy(&self, path: &[u8], place: &Path, size: u64) -> bool {
        let Some(source) = &self.source else { return false };
        let Some(left) = self.bytes_left.get().checked_sub(size) else { return false };
        self.bytes_left.set(left);
        is_same(&source.join(paths::from_bytes(path)), place).unwrap_or(false)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// On the list: the copy made it.
    Listed,
    /// Not on the list, but the source has the same content.
    Source,
}

/// Reports whether two files have the same bytes, or two links the same target.
pub(in crate::world) fn is_same(a: &Path, b: &Path) -> io::Result<bool> {
    let (left, right) = (a.symlink_metadata()?, b.symlink_metadata()?);
    if left.is_symlink() && right.is_symlink() {
        return Ok(std::fs::read_link(a)? == std::fs::read_link(b)?);
    }
    if !left.is_file() || !right.is_file() || left.len() != right.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (BufReader::new(File::open(a)?), BufReader::new(File::open(b)?));
    let (mut left, mut right) = ([0; 8192], [0; 8192]);
    loop {
        let n = a.read(&mut left)?;
        b.read_exact(&mut right[..n])?;
        if n == 0 || left[..n] != right[..n] {
            return Ok(n == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::status::copied_list::Recorder;

    struct Place(tempfile::TempDir);

    impl Place {
        /// Creates a source and a target with the same files, and their list.
        fn new(files: &[&str]) -> Self {
            let place = Self(tempfile::tempdir().expect("a directory"));
            let mut recorder = Recorder::default();
            std::fs::create_dir(place.at("admin")).expect("made");
            for file in files {
                for side in ["source", "target"] {
                    place.write(&format!("{side}/{file}"), file);
                }
                recorder.note(&place.at("target"), Path::new(file)).expect("noted");
            }
            recorder.write(&place.at("admin"), &place.at("target")).expect("written");
            place
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.at(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }

        fn holds(&self, path: &str) -> bool {
            let ours =
                IncludedFiles::new(Some(&self.at("source")), &self.at("target"), &self.at("admin"));
            ours.holds(path.as_bytes())
        }
    }

    /// The source has changed since the copy.
    #[test]
    fn untouched_copy_is_ours_despite_source() {
        let place = Place::new(&["one", "d/a", "d/e/b"]);
        for file in ["one", "d/a", "d/e/b"] {
            place.write(&format!("source/{file}"), "changed since");
        }
        assert!(place.holds("one") && place.holds("d/") && place.holds("d/e/"));
        std::fs::create_dir(place.at("target/d/empty")).expect("made");
        assert!(place.holds("d/"), "an empty directory is no work");
    }

    #[test]
    fn edited_added_removed_copies_are_work() {
        let place = Place::new(&["one", "d/a", "d/e/b", "f/a", "g/a", "h/a"]);
        place.write("target/one", "eno");
        assert!(!place.holds("one"), "same size, same tick at best");
        place.write("target/d/e/b", "edited");
        assert!(!place.holds("d/") && !place.holds("d/e/"));
        place.write("target/f/new", "added");
        assert!(!place.holds("f/"));
        std::fs::remove_file(place.at("target/g/a")).expect("removed");
        assert!(!place.holds("g/"));
        place.write("target/h/inner/.git/HEAD", "a repository");
        place.write("source/h/inner/.git/HEAD", "a repository");
        assert!(!place.holds("h/"));
    }

    /// This holds without the list of copied files, too.
    #[test]
    fn copy_equal_to_source_is_ours() {
        let place = Place::new(&["one", "d/a"]);
        for side in ["source", "target"] {
            std::os::unix::fs::symlink("a", place.at(&format!("{side}/d/link"))).expect("linked");
        }
        std::fs::remove_file(place.at("admin").join(LIST)).expect("removed");
        assert!(place.holds("one") && place.holds("d/") && place.holds("d/link"));
        std::fs::remove_file(place.at("target/d/link")).expect("removed");
        std::os::unix::fs::symlink("b", place.at("target/d/link")).expect("linked");
        assert!(!place.holds("d/") && !place.holds("d/link"));
        std::fs::rename(place.at("target/d"), place.at("target/moved")).expect("moved");
        std::os::unix::fs::symlink("moved", place.at("target/d")).expect("linked");
        assert!(!place.holds("d/"), "a link replaced the directory");
    }

    #[test]
    fn copies_over_bound_are_not_judged() {
        let place = Place::new(&["d/a"]);
        let ours =
            IncludedFiles::new(Some(&place.at("source")), &place.at("target"), &place.at("admin"));
        ours.entries_left.set(0);
        assert!(!ours.holds(b"d/"));
        let recorder = Recorder { overflowed: true, ..Recorder::default() };
        recorder.write(&place.at("admin"), &place.at("target")).expect("written");
        assert!(!place.at("admin").join(LIST).exists());
    }
}
