//! Looking again at what has changed, and at nothing else.
//!
//! git is asked about the paths that were seen to change, and its answer replaces what was known
//! of them. Where one path's answer could depend on another's (renames, conflicts, files that are
//! only meant to be added), or the index is not understood, all of it has to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::world::git::index::format::Hash;
use crate::world::git::index::read;
use crate::world::status::parse::{Changes, Entry};
use crate::world::status::types::Status;

/// What was known, and the paths that have been seen to change since.
#[derive(Debug, Clone)]
pub struct Since {
    /// The last answer.
    pub before: Arc<Status>,
    /// From the top of the worktree.
    pub paths: Vec<Vec<u8>>,
}

/// What is known of a path in the index.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// It is an entry.
    exact: bool,
    /// There are entries below it.
    below: bool,
}

impl Since {
    /// What to ask git about, if asking about that alone gives the same as asking about all: a
    /// directory that holds nothing of the index is told of as one, so it is asked for as one.
    pub(super) fn asked(&self, index: &[u8], hash: Option<Hash>) -> Option<BTreeSet<Vec<u8>>> {
        let entries = &self.before.changes.entries;
        let paired = |e: &Entry| e.from.is_some() || e.is_conflict() || e.code[1] == b'A';
        if !self.before.changes.is_complete() || entries.iter().any(paired) {
            return None;
        }
        let mut known: BTreeMap<&[u8], Known> = BTreeMap::new();
        for path in &self.paths {
            known.extend(prefixes(path).map(|prefix| (prefix, Known::default())));
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

    /// All that is known now that git has said `found` of what it was `asked`; none when some of
    /// that depends on what it was not asked.
    pub(super) fn with(&self, asked: &BTreeSet<Vec<u8>>, found: Changes) -> Option<Changes> {
        if !found.is_complete() || found.entries.iter().any(|e| e.from.is_some()) {
            return None;
        }
        let was_asked = |e: &Entry| prefixes(e.place()).any(|place| asked.contains(place));
        let before = &self.before.changes;
        let kept = before.entries.iter().filter(|e| !was_asked(e)).cloned();
        let mut entries: Vec<Entry> = kept.chain(found.entries).collect();
        // As git orders them.
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

/// A path's leading directories, shortest first, and itself.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    slashes.chain([path.len()]).filter(|end| *end > 0).map(|end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_whole_names() {
        let all: Vec<&[u8]> = prefixes(b"a/bc/d").collect();
        assert_eq!(all, [b"a".as_slice(), b"a/bc", b"a/bc/d"]);
        assert_eq!(prefixes(b"").count(), 0);
        assert_eq!((parent(b"a/bc/d"), parent(b"a")), (b"a/bc".as_slice(), b"".as_slice()));
    }

    #[test]
    fn only_what_was_asked_is_replaced() {
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
        let asked = BTreeSet::from([b"dir".to_vec(), b"new".to_vec(), b"ab".to_vec()]);
        let found = Changes::parse((entry(b".D", "ab") + &entry(b"??", "dir/y")).as_bytes());
        let all = since.with(&asked, found).expect("nothing is paired");
        let shown: Vec<&[u8]> = all.entries.iter().map(|e| e.path.as_slice()).collect();
        assert_eq!(shown, [b"a".as_slice(), b"ab", b"dir/y"]);
        assert_eq!((all.modified, all.deleted, all.untracked, all.unstaged), (1, 1, 1, 2));
    }
}
