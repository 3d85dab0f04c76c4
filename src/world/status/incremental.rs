//! Updates a status from the paths that have changed since it was computed.
//!
//! git is asked about the changed paths only, and its answer replaces the earlier entries of those
//! paths. Where the answer for one path could depend on another (renames, conflicts, intent-to-add
//! entries), or the index is not understood, the whole status must be computed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::world::git::index::format::Hash;
use crate::world::git::index::read;
use crate::world::status::parse::{Changes, Entry};
use crate::world::status::types::Status;

/// An earlier status, and the paths that have changed since.
#[derive(Debug, Clone)]
pub struct Since {
    /// The last complete status.
    pub before: Arc<Status>,
    /// Changed paths from the top of the worktree; a superset of the files that changed.
    pub paths: Vec<Vec<u8>>,
}

/// Position of a path relative to the index.
#[derive(Debug, Clone, Copy, Default)]
struct IndexPosition {
    /// The path itself is an entry of the index.
    exact: bool,
    /// The index has entries below the path.
    below: bool,
}

impl Since {
    /// Returns the paths to ask git about, if asking about them alone gives the same result as
    /// asking about everything. git reports a directory without any index entry as a whole, so it
    /// is queried as a whole.
    pub(super) fn paths_to_query(
        &self,
        index: &[u8],
        hash: Option<Hash>,
    ) -> Option<BTreeSet<Vec<u8>>> {
        let entries = &self.before.changes.entries;
        let paired = |e: &Entry| e.from.is_some() || e.is_conflict() || e.code[1] == b'A';
        if !self.before.changes.is_complete() || entries.iter().any(paired) {
            return None;
        }
        let mut known: BTreeMap<&[u8], IndexPosition> = BTreeMap::new();
        for path in &self.paths {
            known.extend(prefixes(path).map(|prefix| (prefix, IndexPosition::default())));
        }
        let (mut last_dir, mut unsettled) = (Vec::new(), false);
        read::each(index, hash?, |entry| {
            unsettled |= entry.unsettled;
            if let Some(found) = known.get_mut(entry.path) {
                found.exact = true;
            }
            let dir = parent(entry.path);
            if dir != last_dir {
                for above in prefixes(dir) {
                    if let Some(found) = known.get_mut(above) {
                        found.below = true;
                    }
                }
                dir.clone_into(&mut last_dir);
            }
        })?;
        let whole = |path: &&[u8]| known.get(path).is_some_and(|k| k.exact || !k.below);
        let ask = |path: &Vec<u8>| prefixes(path).find(whole).unwrap_or(path).to_vec();
        (!unsettled).then(|| self.paths.iter().map(ask).collect())
    }

    /// Merges git's answer `found` for the paths `queried` into the earlier status. `None` when the
    /// result depends on other paths.
    pub(super) fn with(&self, queried: &BTreeSet<Vec<u8>>, found: Changes) -> Option<Changes> {
        if !found.is_complete() || found.entries.iter().any(|e| e.from.is_some()) {
            return None;
        }
        let was_queried = |e: &Entry| prefixes(e.place()).any(|place| queried.contains(place));
        let before = &self.before.changes;
        let kept = before.entries.iter().filter(|e| !was_queried(e)).cloned();
        let mut entries: Vec<Entry> = kept.chain(found.entries).collect();
        // git's order, so that the result equals that of a complete status.
        entries.sort_by(|a, b| a.order().cmp(&b.order()));
        let header = Changes {
            head: before.head.clone(),
            branch: before.branch.clone(),
            upstream: before.upstream.clone(),
            distance: before.distance,
            stashes: before.stashes,
            ..Changes::default()
        };
        Some(entries.into_iter().fold(header, |mut all, entry| {
            all.take(entry);
            all
        }))
    }
}

fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    &path[..end]
}

/// Returns a path's leading directories, shortest first, then the path itself.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    slashes.chain([path.len()]).filter(|end| *end > 0).map(|end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_prefixes_are_whole_components() {
        let all: Vec<&[u8]> = prefixes(b"a/bc/d").collect();
        assert_eq!(all, [b"a".as_slice(), b"a/bc", b"a/bc/d"]);
        assert_eq!(prefixes(b"").count(), 0);
        assert_eq!((parent(b"a/bc/d"), parent(b"a")), (b"a/bc".as_slice(), b"".as_slice()));
    }

    #[test]
    fn only_queried_paths_are_replaced() {
        let entry = |code: &[u8; 2], path: &str| {
            format!("? {path}\0").replace("? ", &{
                if code == b"??" {
                    "? ".to_owned()
                } else {
                    let code = String::from_utf8_lossy(code);
                    format!("1 {code} N... 100644 100644 100644 aa bb ")
                }
            })
        };
        let text = entry(b".M", "a") + &entry(b".M", "dir/x") + &entry(b"??", "new/");
        let before = Status { changes: Changes::parse(text.as_bytes()), ..Status::default() };
        let since = Since { before: Arc::new(before), paths: Vec::new() };
        let queried = BTreeSet::from([b"dir".to_vec(), b"new".to_vec(), b"ab".to_vec()]);
        let found = Changes::parse((entry(b".D", "ab") + &entry(b"??", "dir/y")).as_bytes());
        let all = since.with(&queried, found).expect("unpaired");
        let shown: Vec<&[u8]> = all.entries.iter().map(|e| e.path.as_slice()).collect();
        assert_eq!(shown, [b"a".as_slice(), b"ab", b"dir/y"]);
        assert_eq!((all.modified, all.deleted, all.untracked, all.unstaged), (1, 1, 1, 2));
    }
}
