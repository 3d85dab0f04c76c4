//! Parses `git status --porcelain=v2 --branch --show-stash -z`. Pure; keeps a bounded part.

/// Bound on the entries that are kept; all are counted.
const ENTRIES_MAX: usize = 500;

/// Parsed output of git's status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Commit of HEAD; `None` before the first commit.
    pub head: Option<String>,
    /// Branch that is checked out; `None` when HEAD is detached.
    pub branch: Option<String>,
    /// Upstream of the branch, if one is configured.
    pub upstream: Option<String>,
    /// Commits ahead of and behind the upstream; `None` when the upstream ref is missing.
    pub distance: Option<(u64, u64)>,
    /// Number of stashes in the repository, which all its worktrees share.
    pub stashes: u64,
    /// Number of entries with a staged change.
    pub staged: u64,
    /// Number of entries with an unstaged change.
    pub unstaged: u64,
    /// Number of entries that are new, staged or not. An entry counts once among `added`,
    /// `modified`, `deleted`, `renamed` and `retyped`.
    pub added: u64,
    /// Entries with changed content; see `added`.
    pub modified: u64,
    /// Entries that are deleted; see `added`.
    pub deleted: u64,
    /// Entries that are renamed or copied; see `added`.
    pub renamed: u64,
    /// Entries of another type than before; see `added`.
    pub retyped: u64,
    /// Number of unmerged paths.
    pub conflicts: u64,
    /// Number of untracked files, and of directories that contain nothing else.
    pub untracked: u64,
    /// Number of changed submodules.
    pub submodules: u64,
    /// The first entries, at most `ENTRIES_MAX`.
    pub entries: Vec<Entry>,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Code as in git's short format, for example `M.`, `.D`, `UU`, `??`.
    pub code: [u8; 2],
    /// Path from the top of the worktree; an untracked directory ends in a slash.
    pub path: Vec<u8>,
    /// Path it was renamed or copied from.
    pub from: Option<Vec<u8>>,
    /// Whether the path is a submodule.
    pub submodule: bool,
}

impl Entry {
    /// Reports whether the entry is unmerged.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code.contains(&b'U') || matches!(&self.code, b"AA" | b"DD")
    }

    /// Returns its path without the slash that ends an untracked directory.
    pub(super) fn place(&self) -> &[u8] {
        self.path.strip_suffix(b"/").unwrap_or(&self.path)
    }

    /// Returns the sort key of git's order: tracked, unmerged, untracked, each by path.
    pub(super) fn order(&self) -> (bool, bool, &[u8]) {
        (self.code == *b"??", self.is_conflict(), &self.path)
    }
}

impl Changes {
    /// Parses the output of one call. Lines of an unknown kind are skipped, as git's
    /// documentation demands.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut found = Self::default();
        let mut parts = text.split(|b| *b == 0);
        while let Some(line) = parts.next() {
            match line.first() {
                Some(b'#') => found.header(&String::from_utf8_lossy(line)),
                Some(b'1') => found.change(line, 8, None),
                Some(b'2') => found.change(line, 9, parts.next()),
                Some(b'u') => found.change(line, 10, None),
                Some(b'?') => {
                    let path = line.get(2..).unwrap_or_default().to_vec();
                    found.take(Entry { code: *b"??", path, from: None, submodule: false });
                }
                _ => {}
            }
        }
        found
    }

    /// Returns the number of entries that are not untracked.
    #[must_use]
    pub fn tracked(&self) -> u64 {
        self.added + self.modified + self.deleted + self.renamed + self.retyped + self.conflicts
    }

    /// Reports whether there is nothing to commit and nothing untracked.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.tracked() + self.untracked == 0
    }

    /// Reports whether all entries are kept.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.tracked() + self.untracked == self.entries.len() as u64
    }

    fn header(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ').skip(1);
        let (name, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match name {
            "branch.oid" if value != "(initial)" => self.head = Some(value.to_owned()),
            "branch.head" if value != "(detached)" => self.branch = Some(value.to_owned()),
            "branch.upstream" => self.upstream = Some(value.to_owned()),
            "branch.ab" => {
                let number = |text: &str| text.get(1..)?.parse::<u64>().ok();
                let pair = value.split_once(' ');
                self.distance = pair.and_then(|(a, b)| Some((number(a)?, number(b)?)));
            }
            "stash" => self.stashes = value.parse().unwrap_or(0),
            _ => {}
        }
    }

    /// Parses `<kind> <XY> <sub> ... <path>`, with `words` words before the path. A path may
    /// contain blanks, so it is the rest.
    fn change(&mut self, line: &[u8], words: usize, from: Option<&[u8]>) {
        let mut fields = line.splitn(words + 1, |b| *b == b' ').skip(1);
        let (code, sub) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (&[x, y], Some(path)) = (code, fields.nth(words - 3)) else { return };
        let from = from.map(<[u8]>::to_vec);
        let submodule = sub.first() == Some(&b'S');
        self.take(Entry { code: [x, y], path: path.to_vec(), from, submodule });
    }

    /// Counts an entry, and keeps it while the bound permits.
    pub(super) fn take(&mut self, entry: Entry) {
        let [x, y] = entry.code;
        let either = |letters: &[u8]| letters.contains(&x) || letters.contains(&y);
        let count = if entry.code == *b"??" {
            &mut self.untracked
        } else if entry.is_conflict() {
            &mut self.conflicts
        } else if either(b"RC") {
            &mut self.renamed
        } else if either(b"A") {
            &mut self.added
        } else if either(b"D") {
            &mut self.deleted
        } else if either(b"T") {
            &mut self.retyped
        } else {
            &mut self.modified
        };
        *count += 1;
        self.submodules += u64::from(entry.submodule);
        if entry.code != *b"??" && !entry.is_conflict() {
            self.staged += u64::from(x != b'.');
            self.unstaged += u64::from(y != b'.');
        }
        if self.entries.len() < ENTRIES_MAX {
            self.entries.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_line_kind_parses() {
        let text = b"# branch.oid 1111\0# branch.head topic/x y\0# branch.upstream origin/m\0\
            # branch.ab +3 -12\0# stash 2\0# something new\0\
            1 M. N... 100644 100644 100644 aa bb a file\0\
            1 .D S.M. 160000 160000 160000 aa bb sub\0\
            2 R. N... 100644 100644 100644 aa bb R100 new name\0old name\0\
            u UU N... 100644 100644 100644 100644 aa bb cc both ways\0\
            ? left \xff over/\0! ignored\0";
        let found = Changes::parse(text);
        assert_eq!(
            (found.head.as_deref(), found.branch.as_deref()),
            (Some("1111"), Some("topic/x y"))
        );
        assert_eq!((found.upstream.as_deref(), found.distance), (Some("origin/m"), Some((3, 12))));
        assert_eq!((found.stashes, found.staged, found.unstaged), (2, 2, 1));
        assert_eq!((found.modified, found.deleted, found.renamed), (1, 1, 1));
        assert_eq!((found.conflicts, found.untracked, found.submodules), (1, 1, 1));
        let shown: Vec<_> = found.entries.iter().map(|e| (e.code, e.path.as_slice())).collect();
        let wanted: [([u8; 2], &[u8]); 5] = [
            (*b"M.", b"a file"),
            (*b".D", b"sub"),
            (*b"R.", b"new name"),
            (*b"UU", b"both ways"),
            (*b"??", b"left \xff over/"),
        ];
        assert_eq!(shown, wanted);
        assert_eq!(found.entries[2].from.as_deref(), Some(b"old name".as_slice()));
        assert!(found.is_complete() && !found.is_clean());
    }

    /// The number of entries that are kept is bounded.
    #[test]
    fn malformed_status_never_panics() {
        let text = b"1 M. N... 100644 100644 100644 aa bb a file\0u UU\0? \0# \0#\x002 R.\0";
        for end in 0..=text.len() {
            let _read = Changes::parse(&text[..end]);
        }
        let many = b"? a\0".repeat(2 * ENTRIES_MAX);
        let found = Changes::parse(&many);
        assert_eq!((found.untracked, found.entries.len()), (1_000, ENTRIES_MAX));
        assert!(!found.is_complete());
    }
}
