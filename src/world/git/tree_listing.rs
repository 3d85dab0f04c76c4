//! The tracked paths of a commit, as `git ls-tree` lists them. Parses only, and refuses every path
//! that git itself would refuse to check out.

use std::collections::BTreeSet;

use crate::world::git::checkout_error::CheckoutError;
use crate::world::git::index::format::{Entry, Stat, Tree};

/// The tracked paths and the directories of a commit.
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    pub(super) trees: Vec<Tree>,
}

impl Listing {
    /// Parses `git ls-tree -r -t -z`; refuses whatever git itself would refuse to check out.
    pub(super) fn parse(bytes: &[u8], top: Vec<u8>) -> Result<Self, CheckoutError> {
        let odd = || CheckoutError::NeedsGit("an unexpected tree".into());
        let mut listing =
            Self { entries: Vec::new(), trees: vec![Tree { path: Vec::new(), oid: top }] };
        for line in bytes.split(|b| *b == 0).filter(|l| !l.is_empty()) {
            let tab = line.iter().position(|b| *b == b'\t').ok_or_else(odd)?;
            let (head, path) = (&line[..tab], line[tab + 1..].to_vec());
            let mut words = head.split(|b| *b == b' ');
            let mut word = || words.next().unwrap_or_default();
            let mode =
                std::str::from_utf8(word()).ok().and_then(|m| u32::from_str_radix(m, 8).ok());
            let (mode, _, oid) = (mode.ok_or_else(odd)?, word(), unhex(word()).ok_or_else(odd)?);
            if !is_safe(&path) {
                return Err(odd());
            }
            match mode {
                0o040_000 => listing.trees.push(Tree { path, oid }),
                0o100_644 | 0o100_755 | 0o120_000 | 0o160_000 => {
                    listing.entries.push(Entry { path, mode, oid, stat: Stat::default() });
                }
                _ => return Err(odd()),
            }
        }
        // A name that is both a link and a directory would lead files below it out of the tree.
        let folders: BTreeSet<&[u8]> = listing.trees.iter().map(|t| t.path.as_slice()).collect();
        let doubled = folders.len() != listing.trees.len()
            || listing.entries.iter().any(|e| folders.contains(e.path.as_slice()));
        let sorted = listing.entries.is_sorted_by(|a, b| a.path < b.path);
        if sorted && !doubled { Ok(listing) } else { Err(odd()) }
    }
}

/// Reports whether no component leaves the tree or reaches into git's own directory, in any
/// spelling that a file system may fold. git refuses the same names.
fn is_safe(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').all(|part| {
        let lower = part.to_ascii_lowercase();
        let git_like = lower.starts_with(b".git") && {
            let rest = &lower[4..];
            rest.is_empty() || rest.iter().all(|b| matches!(b, b' ' | b'.')) || !rest.is_ascii()
        };
        !part.is_empty() && part != b"." && part != b".." && !git_like && lower != b"git~1"
    })
}

pub(super) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_tree_are_refused() {
        for safe in ["a", "a/b.c", ".gitignore", ".gitattributes", "git", "a/.github/x"] {
            assert!(is_safe(safe.as_bytes()), "{safe}");
        }
        for bad in ["", "..", "a/../b", "./a", ".git", "a/.GIT/config", "a//b", ".git.", "GIT~1"] {
            assert!(!is_safe(bad.as_bytes()), "{bad}");
        }
        assert!(!is_safe(".g\u{200c}it".replace('\u{200c}', "").as_bytes()));
    }
}
