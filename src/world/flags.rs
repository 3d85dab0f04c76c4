//! Reading from an index which files git's status is told not to show, without a process.
//!
//! Only the flags are read. An index of a kind that is not understood here (split, sparse, of an
//! unknown version) is none, and git is asked instead.

use super::index::Hash;

/// Stat data before the object id in each entry.
const STAT_BYTES: usize = 40;
const ASSUME_VALID: u16 = 0x8000;
const EXTENDED: u16 = 0x4000;
const SKIP_WORKTREE: u16 = 0x4000;

/// The paths that are marked skip-worktree or assume-unchanged; none when the index is of a kind
/// that is not understood.
pub(super) fn hidden(index: &[u8], hash: Hash) -> Option<Vec<Vec<u8>>> {
    let word = |at: usize| index.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let (version, count) = (word(4)?, word(8)?);
    if index.get(..4)? != b"DIRC" || !(2..=4).contains(&version) {
        return None;
    }
    let id_bytes = match hash {
        Hash::Sha1 => 20,
        Hash::Sha256 => 32,
    };
    let (mut at, mut path, mut found) = (12, Vec::new(), Vec::new());
    for _ in 0..count {
        let start = at;
        at += STAT_BYTES + id_bytes;
        let half = |at: usize| index.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
        let flags = half(at)?;
        at += 2;
        let mut skip = false;
        if flags & EXTENDED != 0 {
            skip = half(at)? & SKIP_WORKTREE != 0;
            at += 2;
        }
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
            // Padded with one to eight NULs.
            at = start + (at - 1 - start) / 8 * 8 + 8;
        }
        if skip || flags & ASSUME_VALID != 0 {
            found.push(path.clone());
        }
    }
    only_known_extensions(index, at, id_bytes).then_some(found)
}

/// A split index keeps entries elsewhere, a sparse one leaves directories whole.
fn only_known_extensions(index: &[u8], mut at: usize, id_bytes: usize) -> bool {
    while at + 8 + id_bytes <= index.len() {
        let (name, size) = (&index[at..at + 4], &index[at + 4..at + 8]);
        if name == b"link" || name == b"sdir" {
            return false;
        }
        let Ok(size) = size.try_into().map(u32::from_be_bytes) else { return false };
        at = at.saturating_add(8).saturating_add(size as usize);
    }
    at + id_bytes == index.len()
}

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

    #[test]
    fn flags_are_read_as_git_writes_them() {
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
