//! Bundles: they carry the objects of a commit from one repository to another. Never changes a ref.

use std::path::Path;

use crate::world::git::command::Git;
use crate::world::git::error::Error;

/// Writes a bundle that holds everything a ref leads to.
///
/// # Errors
/// Those of git.
pub(in crate::world) fn create(git: &Git<'_>, bundle: &Path, reference: &str) -> Result<(), Error> {
    let mut command = git.command(["bundle", "create", "--quiet"]);
    command.arg(bundle).arg(reference);
    git.line_of("git bundle create", command).map(drop)
}

/// Adds the objects of a bundle to a repository, and flushes them to disk.
///
/// # Errors
/// Those of git.
pub(in crate::world) fn unbundle(git: &Git<'_>, bundle: &Path) -> Result<(), Error> {
    let settings = ["-c", "core.fsync=all", "-c", "core.fsyncMethod=batch"];
    let mut command = git.command(settings.into_iter().chain(["bundle", "unbundle"]));
    command.arg(bundle);
    git.line_of("git bundle unbundle", command).map(drop)
}
