//! Decides which paths of a worktree are output that tools can rebuild. Reads only.

use std::collections::BTreeSet;

use crate::core::Fault;
use crate::world::effects::context::World;
use crate::world::fs::paths;
use crate::world::git::command::Git;

/// Ignored files that tools write again. Losing them is no loss of work.
pub(in crate::world) const REBUILDABLE_FILES: [&str; 2] = [".DS_Store", ".eslintcache"];

/// The rebuildable directories of a worktree: named in the list, ignored by git,
/// and without a tracked file.
pub(in crate::world) struct Folders(BTreeSet<Vec<u8>>);

impl Folders {
    /// Selects them from the entries of a `git status --ignored=matching`.
    ///
    /// # Errors
    /// When git cannot be run.
    pub(in crate::world) fn of<'a>(
        world: &World,
        git: &Git<'_>,
        status: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, Fault> {
        let (mut whole, mut inside) = (BTreeSet::new(), BTreeSet::new());
        for path in status.filter_map(|entry| entry.strip_prefix(b"! ")) {
            let Some(folder) = listed_part(world, path) else { continue };
            // A directory that git reports as ignored as a whole holds no tracked file; only
            // the others need a query.
            if folder.len() == path.len() { &mut whole } else { &mut inside }.insert(folder);
        }
        for folder in inside {
            let mut command = git.command(["ls-files", "-z", "--"]);
            command.arg(paths::from_bytes(&folder));
            let tracked = git.run_command(command)?;
            // A failed query counts as "holds tracked files": the directory
            // then is not rebuildable.
            if tracked.status.success() && tracked.stdout.is_empty() {
                whole.insert(folder);
            }
        }
        Ok(Self(whole))
    }

    /// Returns whether a path is a rebuildable file or lies in a rebuildable directory.
    pub(in crate::world) fn hold(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        REBUILDABLE_FILES.iter().any(|file| file.as_bytes() == name)
            || self.0.iter().any(|folder| path.starts_with(folder))
    }

    /// Iterates over their names, each ending in a slash; none lies inside another.
    pub(in crate::world) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let outer = |f: &Vec<u8>| !self.0.iter().any(|o| o.len() < f.len() && f.starts_with(o));
        self.0.iter().filter(move |f| outer(f)).map(Vec::as_slice)
    }
}

/// Returns the path up to and including the first listed directory, with a slash at its end.
pub(in crate::world) fn listed_part(world: &World, path: &[u8]) -> Option<Vec<u8>> {
    let mut start = 0;
    for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
        let part = &path[start..at];
        if world.rebuildable.iter().any(|name| name.as_bytes() == part) {
            return Some(path[..=at].to_vec());
        }
        start = at + 1;
    }
    None
}
