//! Writes a git index (version 2) for a working tree that this program has just written.
//!
//! `read` reads an index, and `racy` decides what its entries prove. Entries carry the stat data of
//! the files, so a `git status` reads no file that is older than the index. The tree extension
//! saves it from walking the commit's trees. Format: gitformat-index(5).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// Stat data and identity of one tracked path.
#[derive(Debug, Clone)]
pub(in crate::world) struct Entry {
    /// Path from the top of the working tree, without a leading slash.
    pub path: Vec<u8>,
    /// Mode as in the tree, for example `0o100644`.
    pub mode: u32,
    /// Object id of the blob or submodule commit, 20 or 32 bytes.
    pub oid: Vec<u8>,
    /// Stat data from `lstat` of the file; zeros for a submodule.
    pub stat: Stat,
}

/// The stat fields that an index stores, each truncated to 32 bits as git does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::world) struct Stat {
    /// Status change time (ctime): seconds, nanoseconds.
    pub ctime: (u32, u32),
    /// Modification time (mtime): seconds, nanoseconds.
    pub mtime: (u32, u32),
    /// Device number, low 32 bits.
    pub dev: u32,
    /// Inode number, low 32 bits.
    pub ino: u32,
    /// User id of the file's owner.
    pub uid: u32,
    /// Group id of the file.
    pub gid: u32,
    /// File size in bytes, modulo 2^32.
    pub size: u32,
}

impl Stat {
    /// Extracts the fields that an index stores.
    pub(in crate::world) fn of(found: &Metadata) -> Self {
        Self {
            ctime: (found.ctime() as u32, found.ctime_nsec() as u32),
            mtime: (found.mtime() as u32, found.mtime_nsec() as u32),
            dev: found.dev() as u32,
            ino: found.ino() as u32,
            uid: found.uid(),
            gid: found.gid(),
            size: found.size() as u32,
        }
    }

    /// Reports whether both describe the same file, unchanged. The device is ignored: some file
    /// systems get a new number at every mount.
    pub(in crate::world) fn is(&self, other: &Self) -> bool {
        Self { dev: other.dev, ..*self } == *other
    }

    /// Reports whether the ctime is more than one clock tick before `moment`: a change after that
    /// moment then has another ctime. A file system without nanoseconds never proves that.
    pub(in crate::world) fn is_before(&self, moment: (u32, u32)) -> bool {
        let nanos = |(second, nanos)| u64::from(second) * 1_000_000_000 + u64::from(nanos);
        self.ctime.1 != 0 && nanos(self.ctime) + TICK_NANOS < nanos(moment)
    }

    /// Replaces the stat data of the entry that starts at `at`; its mode stays.
    pub(in crate::world) fn put(&self, index: &mut [u8], at: usize) {
        let before = [self.ctime.0, self.ctime.1, self.mtime.0, self.mtime.1, self.dev, self.ino];
        // Word 6 is the mode, between the first six words and the last three.
        let after = [self.uid, self.gid, self.size];
        let numbered = before.into_iter().enumerate();
        for (n, word) in numbered.chain(after.into_iter().enumerate().map(|(n, w)| (n + 7, w))) {
            index[at + 4 * n..at + 4 * n + 4].copy_from_slice(&word.to_be_bytes());
        }
    }
}

/// One directory of the commit, for the tree extension.
#[derive(Debug, Clone)]
pub(in crate::world) struct Tree {
    /// Path from the top; empty for the top itself.
    pub path: Vec<u8>,
    /// Object id of the tree, 20 or 32 bytes.
    pub oid: Vec<u8>,
}

/// Hash function of the repository's object ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::world) enum Hash {
    /// SHA-1: object ids of 20 bytes.
    Sha1,
    /// SHA-256: object ids of 32 bytes.
    Sha256,
}

impl Hash {
    /// Returns the hash for git's name of the object format.
    #[must_use]
    pub(in crate::world) fn named(name: &str) -> Option<Self> {
        match name {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            _ => None,
        }
    }

    /// Returns the length of an object id in bytes.
    pub(in crate::world) fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Returns the hash of the concatenated parts.
    #[must_use]
    pub(in crate::world) fn of(self, parts: &[&[u8]]) -> Vec<u8> {
        fn all<D: sha1::Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut digest = D::new();
            for part in parts {
                digest.update(part);
            }
            digest.finalize().to_vec()
        }
        match self {
            Self::Sha1 => all::<sha1::Sha1>(parts),
            Self::Sha256 => all::<sha2::Sha256>(parts),
        }
    }

    /// Returns the object id that git gives a blob of these bytes.
    #[must_use]
    pub(in crate::world) fn of_blob(self, bytes: &[u8]) -> Vec<u8> {
        self.of(&[format!("blob {}\0", bytes.len()).as_bytes(), bytes])
    }
}

/// Longest tick of the clock that stamps files: 10 ms at 100 Hz, doubled for safety.
pub(super) const TICK_NANOS: u64 = 20_000_000;
/// Largest length that the 12-bit field of an entry stores; a longer name is NUL-terminated.
const NAME_BYTES_MAX: usize = 0xfff;

/// Builds the bytes of an index. `entries` and `trees` must be sorted by path, and `trees` must
/// start with the top. Returns `None` when something does not fit the format.
#[must_use]
pub(in crate::world) fn build(hash: Hash, entries: &[Entry], trees: &[Tree]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(entries.len() * 100);
    out.extend_from_slice(b"DIRC");
    out.extend_from_slice(&2_u32.to_be_bytes());
    out.extend_from_slice(&u32::try_from(entries.len()).ok()?.to_be_bytes());
    for entry in entries {
        put_entry(&mut out, entry);
    }
    let mut extension = Vec::new();
    put_trees(&mut extension, entries, trees)?;
    out.extend_from_slice(b"TREE");
    out.extend_from_slice(&u32::try_from(extension.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&extension);
    let sum = hash.of(&[&out]);
    out.extend_from_slice(&sum);
    Some(out)
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let start = out.len();
    let s = &entry.stat;
    for word in
        [s.ctime.0, s.ctime.1, s.mtime.0, s.mtime.1, s.dev, s.ino, entry.mode, s.uid, s.gid, s.size]
    {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&entry.oid);
    let length = entry.path.len().min(NAME_BYTES_MAX) as u16;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&entry.path);
    // One to eight zeros align the next entry and terminate the name.
    let used = out.len() - start;
    out.resize(start + (used + 8) / 8 * 8, 0);
}

/// Writes the trees in depth-first order: name, count of entries below, count of
/// subtrees, object id.
fn put_trees(out: &mut Vec<u8>, entries: &[Entry], trees: &[Tree]) -> Option<()> {
    let (top, rest) = trees.split_first().filter(|(top, _)| top.path.is_empty())?;
    let mut walk = TreeWalk { out, entries, trees: rest, next: 0 };
    walk.put(top, b"", 0)
}

struct TreeWalk<'a> {
    out: &'a mut Vec<u8>,
    entries: &'a [Entry],
    trees: &'a [Tree],
    next: usize,
}

/// Bound on the recursion; a deeper tree is left to git.
const DEPTH_MAX: usize = 512;

impl TreeWalk<'_> {
    fn put(&mut self, tree: &Tree, prefix: &[u8], depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        let below =
            if tree.path.is_empty() { Vec::new() } else { [tree.path.as_slice(), b"/"].concat() };
        let first = self.entries.partition_point(|e| e.path.as_slice() < below.as_slice());
        let inside = self.entries[first..].iter().take_while(|e| e.path.starts_with(&below));
        let children: Vec<Tree> = self.trees[self.next..]
            .iter()
            .take_while(|t| t.path.starts_with(&below))
            .filter(|t| !t.path[below.len()..].contains(&b'/'))
            .cloned()
            .collect();
        let name = tree.path.strip_prefix(prefix)?;
        self.out.extend_from_slice(name);
        self.out.push(0);
        self.out.extend_from_slice(format!("{} {}\n", inside.count(), children.len()).as_bytes());
        self.out.extend_from_slice(&tree.oid);
        for child in &children {
            // Trees come in the same depth-first order, so the child is the next one.
            if self.trees.get(self.next)?.path != child.path {
                return None;
            }
            self.next += 1;
            self.put(child, &below, depth + 1)?;
        }
        Some(())
    }
}
