//! How much space a tree takes. Reads only, follows nothing, enters no other file system.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::core::Fault;
use crate::core::event::Size;
use crate::world::fs::paths;

/// Bytes in one of the kernel's blocks, whatever the file system's own are.
const BLOCK: u64 = 512;

/// What was found of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::world) struct Measured {
    pub(in crate::world) size: Size,
    /// When anything in it was last changed, in nanoseconds since 1970; the tree's own directory
    /// does not count.
    pub(in crate::world) last_change: u64,
    /// The same of the tree's own directory, which a move changes.
    pub(in crate::world) moved: u64,
}

/// How much space a tree takes.
///
/// # Errors
/// As [`measure`].
pub(in crate::world) fn of(
    path: &Path,
    each: &mut dyn FnMut(u64) -> Result<(), Fault>,
) -> Result<Size, Fault> {
    measure(path, each).map(|measured| measured.size)
}

/// Measures a tree. `each` is called with the count of entries so far, and can stop it.
///
/// # Errors
/// When the tree itself cannot be looked at, or `each` says stop. What vanishes meanwhile, or may
/// not be read, does not count.
pub(in crate::world) fn measure(
    path: &Path,
    each: &mut dyn FnMut(u64) -> Result<(), Fault>,
) -> Result<Measured, Fault> {
    let top = path.symlink_metadata().map_err(paths::failed("look at", path))?;
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
        if found.nlink() < 2 || found.is_dir() || seen.insert(found.ino()) {
            size.allocated += found.blocks() * BLOCK;
        }
        if found.is_dir() {
            match std::fs::read_dir(&path) {
                Ok(entries) => todo.extend(entries.flatten().map(|e| e.path())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                // Whatever is in there, it may have been changed just now.
                Err(_) => last_change = u64::MAX,
            }
        }
    }
    Ok(Measured { size, last_change, moved: changed(&top) })
}

/// When a file, or what is known of it, was changed. No program can set it back.
fn changed(found: &std::fs::Metadata) -> u64 {
    let nanos = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
    u64::try_from(nanos).unwrap_or(0)
}
