//! Parses the output of `git ls-files`.

use std::path::Path;

use crate::failpoint::guard;
use crate::world::fs::paths;

/// Returns the files of `git ls-files -v -z` that status must not show and that exist. A sparse
/// checkout flags omitted files the same way; those hide nothing.
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
