//! Reads an index without a process: its paths with git's stat data and flags; also
//! clears flags in a copy.
//!
//! An index of an unsupported kind (split, sparse, of an unknown version) yields `None`, and the
//! caller asks git instead. Reading verifies no checksum, as git does not either; [`is_summed`]
//! does.

use crate::world::git::index::format::{Hash, Stat};

/// Bytes of stat data before the object id in each entry.
const STAT_BYTES: usize = 40;
const ASSUME_VALID: u16 = 0x8000;
const EXTENDED: u16 = 0x4000;
const STAGE: u16 = 0x3000;
const SKIP_WORKTREE: u16 = 0x4000;
const INTENT_TO_ADD: u16 = 0x2000;

/// One entry of an index.
#[derive(Debug)]
pub(in crate::world) struct Listed<'a> {
    /// Offset of its stat data in the index.
    pub at: usize,
    /// Path from the top of the working tree, without a leading slash.
    pub path: &'a [u8],
    /// Mode as in the tree, for example `0o100644`.
    pub mode: u32,
    /// Object id of the staged content.
    pub oid: &'a [u8],
    /// Stat data of the file when git last refreshed the entry.
    pub stat: Stat,
    /// Whether status must not inspect the file: skip-worktree or assume-unchanged.
    pub hidden: bool,
    /// Whether it is not simply staged: part of a conflict, or intent-to-add.
    pub unsettled: bool,
}

/// Returns whether an index ends in the checksum of its content, or in zeros, which mean "no
/// checksum" (`index.skipHash`).
pub(in crate::world) fn is_summed(index: &[u8], hash: Hash) -> bool {
    let Some(end) = index.len().checked_sub(hash.bytes()) else { return false };
    let (body, sum) = index.split_at(end);
    body.starts_with(b"DIRC") && (sum.iter().all(|b| *b == 0) || hash.of(&[body]) == sum)
}

/// What an index says about all its entries together.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::world) struct Whole {
    /// Object id of the tree that equals the whole index, if git has recorded it.
    pub(in crate::world) tree: Option<Vec<u8>>,
}

/// Calls `each` with every entry in order. Returns `None` when the index is not understood; `each`
/// may have seen some entries by then.
pub(in crate::world) fn each(
    index: &[u8],
    hash: Hash,
    mut each: impl FnMut(Listed<'_>),
) -> Option<Whole> {
    let (version, count) = (word(index, 4)?, word(index, 8)?);
    if index.get(..4)? != b"DIRC" || !(2..=4).contains(&version) {
        return None;
    }
    let id_bytes = hash.bytes();
    let (mut at, mut path) = (12, Vec::new());
    for _ in 0..count {
        let start = at;
        at += STAT_BYTES + id_bytes;
        let flags = half(index, at)?;
        at += 2;
        let mut more = 0;
        if flags & EXTENDED != 0 {
            more = half(index, at)?;
            at += 2;
        }
        // Version 4 names only the part that differs from the previous path.
        if version == 4 {
            let strip = variable_length(index, &mut at)?;
            path.truncate(path.len().checked_sub(strip)?);
        } else {
            path.clear();
        }
        let rest = index.get(at..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        path.extend_from_slice(&rest[..end]);
        at += end + 1;
        if version < 4 {
            // Entries are padded with one to eight NULs.
            at = start + (at - 1 - start) / 8 * 8 + 8;
        }
        let (mode, stat) = stat_at(index, start)?;
        let hidden = flags & ASSUME_VALID != 0 || more & SKIP_WORKTREE != 0;
        let unsettled = flags & STAGE != 0 || more & INTENT_TO_ADD != 0;
        let oid = index.get(start + STAT_BYTES..start + STAT_BYTES + id_bytes)?;
        each(Listed { at: start, path: &path, mode, oid, stat, hidden, unsettled });
    }
    extensions(index, at, id_bytes)
}

/// Clears skip-worktree and assume-unchanged of the entry whose stat data starts at `at`.
pub(in crate::world) fn unmark(index: &mut [u8], at: usize, hash: Hash) {
    let place = at + STAT_BYTES + hash.bytes();
    let Some(flags) = half(index, place) else { return };
    put_half(index, place, flags & !ASSUME_VALID);
    if let Some(more) = half(index, place + 2).filter(|_| flags & EXTENDED != 0) {
        put_half(index, place + 2, more & !SKIP_WORKTREE);
    }
}

/// Rewrites the checksum of a changed index. All zeros mean that the repository has git omit it
/// (`index.skipHash`), so they stay.
pub(in crate::world) fn seal(index: &mut [u8], hash: Hash) {
    let body = index.len().saturating_sub(hash.bytes());
    let (body, sum) = index.split_at_mut(body);
    if sum.iter().any(|b| *b != 0) {
        sum.copy_from_slice(&hash.of(&[body]));
    }
}

fn put_half(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_be_bytes)
}

/// Returns mode and stat data of the entry that starts here.
fn stat_at(index: &[u8], start: usize) -> Option<(u32, Stat)> {
    let field = |n: usize| word(index, start + 4 * n);
    let stat = Stat {
        ctime: (field(0)?, field(1)?),
        mtime: (field(2)?, field(3)?),
        dev: field(4)?,
        ino: field(5)?,
        uid: field(7)?,
        gid: field(8)?,
        size: field(9)?,
    };
    Some((field(6)?, stat))
}

/// Reads the top tree of the cached-tree extension. `None` for a split index, which keeps entries
/// in another file, and for a sparse one, which collapses directories.
fn extensions(index: &[u8], mut at: usize, id_bytes: usize) -> Option<Whole> {
    let mut tree = None;
    while at + 8 + id_bytes <= index.len() {
        let (name, size) = (&index[at..at + 4], word(index, at + 4)? as usize);
        let body = index.get(at + 8..(at + 8).checked_add(size)?)?;
        match name {
            b"link" | b"sdir" => return None,
            b"TREE" => tree = top_tree(body, id_bytes),
            _ => {}
        }
        at += 8 + size;
    }
    (at + id_bytes == index.len()).then_some(Whole { tree })
}

/// Returns the object id of the first entry: no name, a count that is -1 when the tree is invalid,
/// subtrees, object id.
fn top_tree(body: &[u8], id_bytes: usize) -> Option<Vec<u8>> {
    let rest = body.strip_prefix(&[0])?;
    let end = rest.iter().position(|b| *b == b'\n')?;
    if rest.starts_with(b"-") {
        return None;
    }
    rest.get(end + 1..end + 1 + id_bytes).map(<[u8]>::to_vec)
}

/// Reads git's variable-length integer, in which each continuation adds one.
fn variable_length(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut next = || {
        let byte = bytes.get(*at).copied();
        *at += 1;
        byte
    };
    let mut byte = next()?;
    let mut value = usize::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        byte = next()?;
        value = value.checked_add(1)?.checked_mul(128)? | usize::from(byte & 0x7f);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn git(at: &Path, args: &[&str]) {
        let done = Command::new("git").arg("-C").arg(at).args(args).output().expect("git runs");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Returns the flagged paths; `None` when the index is not understood.
    fn hidden(index: &[u8], hash: Hash) -> Option<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        each(index, hash, |entry| found.extend(entry.hidden.then(|| entry.path.to_vec())))?;
        Some(found)
    }

    /// Returns the offsets of the flagged entries.
    fn places(index: &[u8], hash: Hash) -> Vec<usize> {
        let mut found = Vec::new();
        each(index, hash, |entry| found.extend(entry.hidden.then_some(entry.at)));
        found
    }

    #[test]
    fn hidden_flags_match_git() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path();
        git(at, &["init", "-q"]);
        for n in 0..40 {
            let folder = at.join(format!("folder{}", n / 9));
            std::fs::create_dir_all(&folder).expect("made");
            std::fs::write(folder.join("x".repeat(n + 1)), "x").expect("written");
        }
        git(at, &["add", "-A"]);
        git(at, &["update-index", "--assume-unchanged", "folder0/xxx"]);
        git(at, &["update-index", "--skip-worktree", "folder2/xxxxxxxxxxxxxxxxxxxx"]);
        let read = || hidden(&std::fs::read(at.join(".git/index")).expect("read"), Hash::Sha1);
        let wanted = vec![b"folder0/xxx".to_vec(), b"folder2/xxxxxxxxxxxxxxxxxxxx".to_vec()];
        for version in ["2", "3", "4"] {
            git(at, &["update-index", "--index-version", version]);
            assert_eq!(read().as_ref(), Some(&wanted), "version {version}");
            let mut bytes = std::fs::read(at.join(".git/index")).expect("read");
            for place in places(&bytes, Hash::Sha1) {
                unmark(&mut bytes, place, Hash::Sha1);
            }
            seal(&mut bytes, Hash::Sha1);
            assert_eq!(hidden(&bytes, Hash::Sha1).map(|all| all.len()), Some(0));
            std::fs::write(at.join(".git/copy"), &bytes).expect("written");
            let mut git = Command::new("git");
            git.env("GIT_INDEX_FILE", at.join(".git/copy")).arg("-C").arg(at);
            let listed = git.args(["ls-files", "-v"]).output().expect("git runs");
            let text = String::from_utf8_lossy(&listed.stdout).into_owned();
            assert_eq!(text.lines().filter(|l| l.starts_with("H ")).count(), 40, "{text}");
        }
        let mut bytes = std::fs::read(at.join(".git/index")).expect("read");
        for cut in 0..bytes.len() {
            assert_eq!(hidden(&bytes[..cut], Hash::Sha1), None, "cut at {cut}");
        }
        git(at, &["update-index", "--split-index"]);
        assert_eq!(read(), None, "a split index is left to git");
        bytes[4..8].copy_from_slice(&9_u32.to_be_bytes());
        assert_eq!(hidden(&bytes, Hash::Sha1), None);
    }
}
