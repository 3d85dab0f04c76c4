//! Which paths of a worktree are what tools rebuild. Reads only.

use std::collections::BTreeSet;

use crate::core::Fault;
use crate::world::effects::context::World;
use crate::world::fs::paths;
use crate::world::git::command::Git;

/// Ignored files that tools write again.
pub(in crate::world) const REBUILDABLE_FILES: [&str; 2] = [".DS_Store", ".eslintcache"];

/// The directories of a worktree that tools rebuild: named in the list, ignored by git, and
/// without a tracked file.
pub(in crate::world) struct Folders(BTreeSet<Vec<u8>>);

impl Folders {
    /// Those that the entries of a status with `--ignored=matching` name.
    pub(in crate::world) fn of<'a>(
        world: &World,
        git: &Git<'_>,
        status: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, Fault> {
        let (mut whole, mut inside) = (BTreeSet::new(), BTreeSet::new());
        for path in status.filter_map(|entry| entry.strip_prefix(b"! ")) {
            let Some(folder) = listed_part(world, path) else { continue };
            // One that git ignores as a whole holds nothing tracked.
            if folder.len() == path.len() { &mut whole } else { &mut inside }.insert(folder);
        }
        for folder in inside {
            let mut command = git.command(["ls-files", "-z", "--"]);
            command.arg(paths::from_bytes(&folder));
            let tracked = git.run_command(command)?;
            if tracked.status.success() && tracked.stdout.is_empty() {
                whole.insert(folder);
            }
        }
        Ok(Self(whole))
    }

    pub(in crate::world) fn hold(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        REBUILDABLE_FILES.iter().any(|file| file.as_bytes() == name)
            || self.0.iter().any(|folder| path.starts_with(folder))
    }

    /// Their names, each ending in a slash; none lies inside another.
    pub(in crate::world) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let outer = |f: &Vec<u8>| !self.0.iter().any(|o| o.len() < f.len() && f.starts_with(o));
        self.0.iter().filter(move |f| outer(f)).map(Vec::as_slice)
    }
}

/// The first directory on a path that the list names, with the slash at its end.
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
