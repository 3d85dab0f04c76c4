//! Proves that a working tree is exactly the commit it was created from,
//! without starting a process.
//!
//! The proof holds only where git's status could not report anything: the index is the commit's
//! tree, every file has exactly the stat data of the index (or the same bytes, where it is so young
//! that a change could hide), and all other files are plainly ignored and can be rebuilt. Anything
//! unusual is not judged: the result is then "not proven", and the caller asks git.

use std::fs::DirEntry;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::world::effects::context::Task;
use crate::world::fs::paths;
use crate::world::git::index::format::{Entry, Hash};
use crate::world::git::index::racy::{IndexedFile, Judge};
use crate::world::git::index::read;
use crate::world::git::marker::{self, Marker};
use crate::world::git::refs;
use crate::world::status::included_files::IncludedFiles;

/// Above this number of entries, git's own threads are as fast.
const ENTRIES_MAX: u32 = 20_000;
const DEPTH_MAX: usize = 128;
/// A longer ignore file is left to git.
const IGNORE_BYTES_MAX: u64 = 64 * 1024;

/// Returns the commit that HEAD is at, if the working tree is exactly that;
/// none if that is not proven.
pub(in crate::world) fn untouched(task: &Task<'_>, admin: &Path, target: &Path) -> Option<String> {
    let repository = &task.env().plan.repository;
    let common = paths::from_host(&repository.common_dir);
    let marker = Marker::read(admin).ok()??;
    let head = head(admin, &common)?;
    if marker.tree.is_none() || marker.commit.as_deref() != Some(head.as_str()) {
        return None;
    }
    let index = admin.join("index");
    if crate::world::git::checkout::entry_count(&index)? > ENTRIES_MAX {
        return None;
    }
    let hash = Hash::named(&repository.object_format)?;
    // Before the index is read: if it is replaced in between, its entries only seem younger.
    let judge = Judge::of(&index, hash).ok()?;
    let bytes = std::fs::read(&index).ok()?;
    let made_at = marker::made_at(admin);
    let mut files = Vec::new();
    let mut plain = true;
    let whole = read::each(&bytes, hash, |entry| {
        // A file that was touched since the worktree was created may have bytes
        // that git's filters hide.
        let (seconds, nanos) = entry.stat.ctime;
        let changed = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        plain &= !(entry.hidden || entry.unsettled || changed > made_at);
        let (path, oid) = (entry.path.to_vec(), entry.oid.to_vec());
        files.push(Entry { path, mode: entry.mode, oid, stat: entry.stat });
    })?;
    if !plain || whole.tree.map(|tree| crate::format::hex(&tree)) != marker.tree {
        return None;
    }
    let source = repository.source.as_ref().map(paths::borrowed);
    let names = &task.world.rebuildable;
    let ours = IncludedFiles::new(source, target, admin);
    let walk = Walk { files: &files, judge: &judge, target, ours: &ours, names };
    let exclude = Ignore::read(&common.join("info/exclude"))?;
    walk.folder(&mut vec![exclude], b"", 0..files.len(), 0).then_some(head)
}

fn head(admin: &Path, common: &Path) -> Option<String> {
    let text = String::from_utf8(refs::head_text(admin).ok()?).ok()?;
    refs::loose(common, text.strip_prefix("ref: ")?.trim_end())
}

/// The tracked files under one name of a folder.
struct TrackedName {
    name: Vec<u8>,
    files: Range<usize>,
    is_folder: bool,
}

struct Walk<'a> {
    files: &'a [Entry],
    judge: &'a Judge,
    target: &'a Path,
    ours: &'a IncludedFiles,
    names: &'a [String],
}

impl Walk<'_> {
    /// Returns whether a folder holds exactly its tracked files, and
    /// otherwise only what may be there.
    fn folder(
        &self,
        ignores: &mut Vec<Ignore>,
        prefix: &[u8],
        files: Range<usize>,
        depth: usize,
    ) -> bool {
        let place = self.target.join(paths::from_bytes(prefix));
        let Some(ignore) = Ignore::read(&place.join(".gitignore")) else { return false };
        ignores.push(ignore);
        let known = self.known(prefix, files);
        let entries = std::fs::read_dir(&place).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let Ok(entries) = entries else { return false };
        let mut visited = 0;
        let all = entries.iter().all(|entry| {
            let name = entry.file_name();
            let at = known.binary_search_by(|k| k.name.as_slice().cmp(name.as_bytes()));
            let Ok(at) = at else {
                return (depth == 0 && name == ".git") || self.may_be(ignores, prefix, entry);
            };
            visited += 1;
            let known = &known[at];
            if !known.is_folder {
                let file = &self.files[known.files.start];
                let wanted = IndexedFile { mode: file.mode, stat: file.stat, oid: &file.oid };
                return self.judge.proves(&entry.path(), &wanted);
            }
            let below = [prefix, name.as_bytes(), b"/"].concat();
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            is_dir
                && depth < DEPTH_MAX
                && self.folder(ignores, &below, known.files.clone(), depth + 1)
        });
        ignores.pop();
        // A tracked file that is missing makes the counts differ.
        all && visited == known.len()
    }

    /// Returns the tracked names of a folder, sorted.
    fn known(&self, prefix: &[u8], mut files: Range<usize>) -> Vec<TrackedName> {
        let mut known = Vec::new();
        while let Some(file) = self.files[files.clone()].first() {
            let rest = &file.path[prefix.len()..];
            let slash = rest.iter().position(|b| *b == b'/');
            let name = &rest[..slash.unwrap_or(rest.len())];
            let below = slash.map(|at| &file.path[..=prefix.len() + at]);
            let count = below.map_or(1, |below| {
                self.files[files.clone()].iter().take_while(|f| f.path.starts_with(below)).count()
            });
            let inside = files.start..files.start + count;
            files.start += count;
            known.push(TrackedName {
                name: name.to_vec(),
                files: inside,
                is_folder: slash.is_some(),
            });
        }
        known.sort_by(|a, b| a.name.cmp(&b.name));
        known
    }

    /// Returns whether an untracked entry is certainly ignored, and no loss.
    fn may_be(&self, ignores: &[Ignore], prefix: &[u8], entry: &DirEntry) -> bool {
        let name = entry.file_name();
        let Ok(kind) = entry.file_type() else { return false };
        if !ignored(ignores, name.as_bytes(), kind.is_dir()) {
            return false;
        }
        if kind.is_dir() && self.names.iter().any(|n| n.as_bytes() == name.as_bytes()) {
            return true;
        }
        let end: &[u8] = if kind.is_dir() { b"/" } else { b"" };
        self.ours.holds(&[prefix, name.as_bytes(), end].concat())
    }
}

/// The lines of one ignore file.
struct Ignore(Vec<Vec<u8>>);

impl Ignore {
    /// Reads an ignore file; empty if there is none. None if only git can interpret it.
    fn read(path: &Path) -> Option<Self> {
        match path.symlink_metadata() {
            Ok(found) if found.is_file() && found.len() <= IGNORE_BYTES_MAX => {
                let text = std::fs::read(path).ok()?;
                let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
                Some(Self(text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect()))
            }
            Ok(_) => None,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some(Self(Vec::new())),
            Err(_) => None,
        }
    }
}

/// Returns whether a line ignores exactly this name and no line could re-include it. The last
/// ignore file is that of the folder itself.
fn ignored(ignores: &[Ignore], name: &[u8], is_dir: bool) -> bool {
    // A wildcard or an escape in a name or a negated line needs git's own matching.
    let odd = |b: u8| matches!(b, b'*' | b'?' | b'[' | b'\\' | b' ' | b'\r' | b'\t');
    if name.iter().any(|b| odd(*b)) || name.starts_with(b"#") {
        return false;
    }
    let takes_back = |line: &Vec<u8>| {
        let Some(pattern) = line.strip_prefix(b"!") else { return false };
        let last = pattern.split(|b| *b == b'/').rfind(|part| !part.is_empty());
        pattern.iter().any(|b| odd(*b)) || last.is_some_and(|last| last.eq_ignore_ascii_case(name))
    };
    if ignores.iter().flat_map(|ignore| &ignore.0).any(takes_back) {
        return false;
    }
    let own = ignores.len() - 1;
    ignores.iter().enumerate().any(|(n, ignore)| {
        ignore.0.iter().any(|line| {
            let line = line.strip_suffix(b"/").filter(|_| is_dir).unwrap_or(line);
            // A leading slash anchors the line to the folder of its ignore file. That is this
            // folder only for the last file.
            let line = line.strip_prefix(b"/").filter(|_| n == own).unwrap_or(line);
            line == name
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(files: &[&str]) -> Vec<Ignore> {
        let lines = |text: &&str| Ignore(text.lines().map(|l| l.as_bytes().to_vec()).collect());
        files.iter().map(lines).collect()
    }

    /// Any other pattern that could match yields "not proven".
    #[test]
    fn only_plain_ignore_patterns_count() {
        let holds =
            |files: &[&str], name: &str, is_dir| ignored(&chain(files), name.as_bytes(), is_dir);
        for line in ["target", "target/", "/target", "/target/"] {
            assert!(holds(&["", line], "target", true), "{line}");
        }
        assert!(holds(&["", "# built\ntarget/\n!keep.env\n", ""], "target", true));
        assert!(!holds(&["", "target/"], "target", false), "only a directory");
        assert!(!holds(&["", "/target/", ""], "target", true), "only at the top");
        assert!(!holds(&["", "a/target"], "target", true), "elsewhere");
        for back in ["!target", "!/target/", "!t*", "!a/target", "!targe[t]", "!x ", "!**"] {
            assert!(!holds(&["", &format!("target/\n{back}"), ""], "target", true), "{back}");
            assert!(!holds(&["", "target/", back], "target", true), "{back} below");
        }
        assert!(!holds(&["", "#target"], "#target", true), "a comment");
        assert!(!holds(&["", "target\r"], "target", true));
    }
}
