//! How much space a tree takes. Reads only, follows nothing, enters no other file system.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::paths;
use crate::core::Fault;
use crate::core::event::Size;

/// Bytes in one of the kernel's blocks, whatever the file system's own are.
const BLOCK: u64 = 512;

/// Measures a tree. `each` is called now and then, and can stop it. `skip` leaves a directory out.
///
/// # Errors
/// When the tree itself cannot be looked at, or `each` says stop. What vanishes meanwhile, or may
/// not be read, does not count.
pub(super) fn of(
    path: &Path,
    skip: &dyn Fn(&Path) -> bool,
    each: &mut dyn FnMut(u64) -> Result<(), Fault>,
) -> Result<Size, Fault> {
    let top = path.symlink_metadata().map_err(paths::failed("look at", path))?;
    let (mut size, mut seen) = (Size::default(), BTreeSet::new());
    let mut todo: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(found) = path.symlink_metadata() else { continue };
        if found.dev() != top.dev() || found.is_dir() && skip(&path) {
            continue;
        }
        size.entries += 1;
        each(size.entries)?;
        size.apparent += if found.is_dir() { 0 } else { found.len() };
        if found.nlink() < 2 || found.is_dir() || seen.insert(found.ino()) {
            size.allocated += found.blocks() * BLOCK;
        }
        if found.is_dir() {
            todo.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        }
    }
    Ok(size)
}
