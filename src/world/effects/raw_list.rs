//! The list beside raw copies: the path, kind, mode, size and digest of each copied entry. Reads
//! and writes that format only; which entries are copied is decided elsewhere.

use std::path::{Component, PathBuf};

use sha2::Digest as _;

use crate::core::event::RawCopies;
use crate::core::{Code, Fault};
use crate::format;
use crate::world::fs::paths;

/// File name of the list in a folder of copies.
pub(super) const LIST: &str = "list";

/// Most entries of one list.
pub(super) const ENTRIES_MAX: usize = 1_000_000;

/// Most bytes of a list that are read.
pub(super) const LIST_BYTES_MAX: u64 = 1 << 30;

/// The kind of entry that a line describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Link,
    Folder,
    /// A mode that git does not keep; git holds the content.
    Mode,
}

impl Kind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::File, "file"),
        (Self::Link, "link"),
        (Self::Folder, "folder"),
        (Self::Mode, "mode"),
    ];

    pub(super) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) size: u64,
    /// SHA-256 of the content in hex; `-` if there is none.
    pub(super) digest: String,
    /// Path relative to the worktree.
    pub(super) path: PathBuf,
}

/// Serializes a list: `kind mode size digest path` and a NUL for each entry.
pub(super) fn write_list(entries: &[Entry]) -> Vec<u8> {
    let mut text = Vec::new();
    for e in entries {
        let facts = format!("{} {:o} {} {} ", e.kind.word(), e.mode, e.size, e.digest);
        text.extend(facts.into_bytes());
        text.extend(paths::to_host(&e.path).0);
        text.push(0);
    }
    text
}

/// Parses a list; none if any line is malformed.
pub(super) fn read_list(text: &[u8]) -> Option<Vec<Entry>> {
    let lines = text.split(|b| *b == 0).filter(|line| !line.is_empty());
    lines.map(read_line).collect()
}

pub(super) fn read_line(line: &[u8]) -> Option<Entry> {
    let mut fields = line.splitn(5, |b| *b == b' ');
    let mut word = || std::str::from_utf8(fields.next()?).ok();
    let name = word()?;
    let kind = Kind::ALL.iter().find(|(_, word)| *word == name)?.0;
    let mode = u32::from_str_radix(word()?, 8).ok()?;
    let (size, digest) = (word()?.parse().ok()?, word()?.to_owned());
    let path = paths::from_bytes(fields.next()?).to_owned();
    // A path that climbs or is absolute could lead outside the worktree when it is put back.
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    plain.then_some(Entry { kind, mode, size, digest, path })
}

/// Reads the list of a rescue's copies.
///
/// # Errors
/// When it cannot be read, or its digest is not the recorded one.
pub(super) fn list_of(raw: &RawCopies) -> Result<Vec<Entry>, Fault> {
    let path = paths::from_host(&raw.folder).join(LIST);
    let damaged = || {
        let message = format!("{} is damaged: it is not the list that was written", path.display());
        Fault::new(Code::PathNotFound, message, "restore its directory from a backup")
    };
    let size = path.symlink_metadata().map_err(paths::failed("read", &path))?.len();
    if size > LIST_BYTES_MAX {
        return Err(damaged());
    }
    let text = std::fs::read(&path).map_err(paths::failed("read", &path))?;
    if format::hex(&sha2::Sha256::digest(&text)) != raw.digest {
        return Err(damaged());
    }
    read_list(&text).ok_or_else(damaged)
}

/// Returns whether all copies of a rescue exist, each with the size that the list states.
pub(in crate::world) fn is_whole(raw: &RawCopies) -> bool {
    let folder = paths::from_host(&raw.folder);
    let Ok(entries) = list_of(raw) else { return false };
    entries.iter().enumerate().all(|(number, entry)| {
        let content = matches!(entry.kind, Kind::File | Kind::Link);
        let there = || folder.join(number.to_string()).symlink_metadata();
        !content || there().is_ok_and(|found| found.is_file() && found.len() == entry.size)
    })
}

/// Returns at most `most` paths of files and symlinks in the copies of a rescue, for display.
#[must_use]
pub fn names(raw: &RawCopies, most: usize) -> Vec<String> {
    let entries = list_of(raw).unwrap_or_default();
    let shown = entries.iter().filter(|e| matches!(e.kind, Kind::File | Kind::Link));
    shown.take(most).map(|e| e.path.display().to_string()).collect()
}

/// Returns whether two rescues have the same copies, by the digests of their lists.
pub(in crate::world) fn same(a: Option<&RawCopies>, b: Option<&RawCopies>) -> bool {
    a.map(|raw| raw.digest.as_str()) == b.map(|raw| raw.digest.as_str())
}
