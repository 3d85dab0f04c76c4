//! What `git ls-files` prints, read.

use std::path::Path;

use crate::failpoint::guard;
use crate::world::fs::paths;

/// The files in `git ls-files -v -z` that status is told not to show and that are there. A sparse
/// checkout leaves files out and marks them the same way; those hide nothing.
pub(in crate::world) fn hidden<'a>(
    listed: &'a [u8],
    target: &'a Path,
) -> impl Iterator<Item = &'a [u8]> {
    listed.split(|b| *b == 0).filter(|e| e.len() > 2).filter_map(move |entry| {
        let marked = entry[0] == b'S' || entry[0].is_ascii_lowercase();
        let there = || target.join(paths::from_bytes(&entry[2..])).symlink_metadata().is_ok();
        (marked && there() && guard::stands("hidden")).then_some(&entry[2..])
    })
}
