//! Measures the space that a tree takes. Reads only, follows no link, enters no other file system.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::core::event::Size;
use crate::world::fs::error::Error;

/// Unit of `st_blocks` in bytes: always 512, independent of the file system's block size.
const BLOCK: u64 = 512;

/// Size and last change of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::world) struct Measured {
    pub(in crate::world) size: Size,
    /// Newest ctime of any entry, in nanoseconds since 1970, without the tree's own directory;
    /// `u64::MAX` if a directory could not be read.
    pub(in crate::world) last_change: u64,
    /// Ctime of the tree's own directory, in the same unit. A move of the tree changes it.
    pub(in crate::world) moved: u64,
}

/// Returns the space that a tree takes.
///
/// # Errors
/// As [`measure`].
pub(in crate::world) fn of<E: From<Error>>(
    path: &Path,
    each: &mut dyn FnMut(u64) -> Result<(), E>,
) -> Result<Size, E> {
    measure(path, each).map(|measured| measured.size)
}

/// Measures a tree. Calls `each` with the count of entries so far; an error from it stops the walk.
///
/// # Errors
/// When the tree itself cannot be inspected, or `each` returns an error. Entries that vanish during
/// the walk, or cannot be read, do not count.
pub(in crate::world) fn measure<E: From<Error>>(
    path: &Path,
    each: &mut dyn FnMut(u64) -> Result<(), E>,
) -> Result<Measured, E> {
    let top = path.symlink_metadata().map_err(Error::about("inspect", path))?;
    let (mut size, mut seen, mut last_change) = (Size::default(), BTreeSet::new(), 0);
    let mut todo: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(found) = path.symlink_metadata() else { continue };
        if found.dev() != top.dev() {
            continue;
        }
        if found.ino() != top.ino() {
            last_change = last_change.max(changed(&found));
        }
        size.entries += 1;
        each(size.entries)?;
        size.apparent += if found.is_dir() { 0 } else { found.len() };
        // A file with several hard links takes its blocks once.
        if found.nlink() < 2 || found.is_dir() || seen.insert(found.ino()) {
            size.allocated += found.blocks() * BLOCK;
        }
        if found.is_dir() {
            match std::fs::read_dir(&path) {
                Ok(entries) => todo.extend(entries.flatten().map(|e| e.path())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                // The content is unknown, so it counts as changed just now.
                Err(_) => last_change = u64::MAX,
            }
        }
    }
    Ok(Measured { size, last_change, moved: changed(&top) })
}

/// Returns the ctime, which covers content and metadata. No program can set it back.
fn changed(found: &std::fs::Metadata) -> u64 {
    let nanos = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
    u64::try_from(nanos).unwrap_or(0)
}
