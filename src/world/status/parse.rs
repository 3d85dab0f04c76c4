//! Reading `git status --porcelain=v2 --branch --show-stash -z`. Pure; keeps a bounded part.

/// Entries that are kept; all are counted.
const ENTRIES_MAX: usize = 500;

/// What git's status says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The commit that HEAD is at; empty before the first one.
    pub head: String,
    /// The branch; none when HEAD is detached.
    pub branch: Option<String>,
    /// The upstream of the branch, if it has one.
    pub upstream: Option<String>,
    /// Commits that the upstream lacks, and that the branch lacks; none when the upstream is gone.
    pub distance: Option<(u64, u64)>,
    /// Stashes of the repository.
    pub stashes: u64,
    /// Entries with a staged change.
    pub staged: u64,
    /// Entries with a change that is not staged.
    pub unstaged: u64,
    /// By what happened to them, staged or not: new, changed, deleted, renamed or copied, and of
    /// another type.
    pub added: u64,
    /// See `added`.
    pub modified: u64,
    /// See `added`.
    pub deleted: u64,
    /// See `added`.
    pub renamed: u64,
    /// See `added`.
    pub retyped: u64,
    /// Unmerged paths.
    pub conflicts: u64,
    /// Untracked files, and directories that hold nothing else.
    pub untracked: u64,
    /// Changed submodules.
    pub submodules: u64,
    /// The entries, as far as they are kept.
    pub entries: Vec<Entry>,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As in git's short format, for example `M.`, `.D`, `UU`, `??`.
    pub code: [u8; 2],
    /// From the top of the worktree.
    pub path: Vec<u8>,
    /// Where it was renamed or copied from.
    pub from: Option<Vec<u8>>,
    /// Whether it is a submodule.
    pub submodule: bool,
}

impl Entry {
    /// Whether it is unmerged.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code.contains(&b'U') || matches!(&self.code, b"AA" | b"DD")
    }

    /// Its path without the slash that an untracked directory ends with.
    pub(super) fn place(&self) -> &[u8] {
        self.path.strip_suffix(b"/").unwrap_or(&self.path)
    }

    /// Where it comes in git's order.
    pub(super) fn order(&self) -> (bool, bool, &[u8]) {
        (self.code == *b"??", self.is_conflict(), &self.path)
    }
}

impl Changes {
    /// Reads the output of one call. Lines of a kind that is not known are passed over, as git
    /// asks of its readers.
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

    /// Entries that are not simply untracked.
    #[must_use]
    pub fn tracked(&self) -> u64 {
        self.added + self.modified + self.deleted + self.renamed + self.retyped + self.conflicts
    }

    /// Whether there is nothing to commit and nothing untracked.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.tracked() + self.untracked == 0
    }

    /// Whether all entries are kept.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.tracked() + self.untracked == self.entries.len() as u64
    }

    fn header(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ').skip(1);
        let (name, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match name {
            "branch.oid" if value != "(initial)" => value.clone_into(&mut self.head),
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

    /// `<kind> <XY> <sub> ... <path>`, with so many words before the path.
    fn change(&mut self, line: &[u8], words: usize, from: Option<&[u8]>) {
        let mut fields = line.splitn(words + 1, |b| *b == b' ').skip(1);
        let (code, sub) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (&[x, y], Some(path)) = (code, fields.nth(words - 3)) else { return };
        let from = from.map(<[u8]>::to_vec);
        let submodule = sub.first() == Some(&b'S');
        self.take(Entry { code: [x, y], path: path.to_vec(), from, submodule });
    }

    /// Counts an entry, and keeps it while there is room.
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
    fn every_kind_of_line_is_understood() {
        let text = b"# branch.oid 1111\0# branch.head topic/x y\0# branch.upstream origin/m\0\
            # branch.ab +3 -12\0# stash 2\0# something new\0\
            1 M. N... 100644 100644 100644 aa bb a file\0\
            1 .D S.M. 160000 160000 160000 aa bb sub\0\
            2 R. N... 100644 100644 100644 aa bb R100 new name\0old name\0\
            u UU N... 100644 100644 100644 100644 aa bb cc both ways\0\
            ? left \xff over/\0! ignored\0";
        let found = Changes::parse(text);
        assert_eq!((found.head.as_str(), found.branch.as_deref()), ("1111", Some("topic/x y")));
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

    #[test]
    fn no_input_is_too_odd() {
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
