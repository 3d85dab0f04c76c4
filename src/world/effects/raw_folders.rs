//! The folders of raw copies, one for each rescue of an incarnation: lists and deletes them. Reads
//! none of the copies.

use std::path::{Path, PathBuf};

use crate::core::Fault;
use crate::core::event::RawCopies;
use crate::world::fs::{paths, remove_tree};
use crate::world::process::cancel::Cancel;

/// Returns the numbered folders of an incarnation, in order.
pub(super) fn generations(copies_dir: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(copies_dir).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path())));
    let mut all: Vec<(u64, PathBuf)> = numbered.collect();
    all.sort();
    all
}

/// Unlinks all copies of an incarnation.
///
/// # Errors
/// I/O errors, or a cancellation.
pub(in crate::world) fn forget(copies_dir: &Path, cancel: &Cancel) -> Result<(), Fault> {
    remove_tree::tree(copies_dir, &mut |_| cancel.check().map_err(Fault::from))?;
    Ok(())
}

/// Unlinks all copies of an incarnation except the known ones.
///
/// # Errors
/// I/O errors, or a cancellation.
pub(in crate::world) fn forget_unknown(
    copies_dir: &Path,
    known: Option<&RawCopies>,
    cancel: &Cancel,
) -> Result<(), Fault> {
    let Some(known) = known else { return forget(copies_dir, cancel) };
    let kept = paths::from_host(&known.folder);
    for (_, folder) in generations(copies_dir).into_iter().filter(|(_, folder)| *folder != kept) {
        remove_tree::tree(&folder, &mut |_| cancel.check().map_err(Fault::from))?;
    }
    Ok(())
}

/// As [`forget_unknown`], for an attempt that may have been cancelled: its copies
/// are unlinked all the same.
pub(in crate::world) fn forget_attempt(copies_dir: &Path, known: Option<&RawCopies>) {
    let forgotten = Cancel::new().map_err(paths::failed("delete the copies in", copies_dir));
    if let Err(fault) = forgotten.and_then(|free| forget_unknown(copies_dir, known, &free)) {
        tracing::warn!(%fault, "cannot delete the raw copies of an attempt; a sweep reports them");
    }
}
