//! What an inspection has seen so far: evidence lines, and the fingerprint of everything that they
//! are about. Only collects; where the evidence comes from is in `inspect.rs`.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sha2::Digest as _;

use crate::core::Inspection;
use crate::world::effects::nested_work;
use crate::world::effects::rebuildable::Folders;
use crate::world::fs::paths;
use crate::world::status::included_files::IncludedFiles;

/// Most evidence lines that are kept; further ones are counted.
pub(super) const LINES_MAX: usize = 40;

/// Entries after which the fingerprint descends into no further directory.
const FINGERPRINT_ENTRIES_MAX: u32 = 20_000;

/// The findings of an inspection so far.
pub(super) struct Seen {
    /// Evidence lines, at most [`LINES_MAX`].
    pub(super) kept: Vec<String>,
    /// Number of evidence lines beyond those.
    pub(super) dropped: usize,
    pub(super) head: Option<String>,
    /// Whether a rescue has anything to save.
    pub(super) rescue: bool,
    /// The fingerprint so far.
    pub(super) sum: sha2::Sha256,
    /// Entries left until the fingerprint descends into no further directory.
    pub(super) budget: u32,
    /// Time of the latest change, in seconds since 1970.
    pub(super) last_change: i64,
    /// Facts worth a mention that are no work at risk.
    pub(super) noted: Vec<String>,
    pub(super) branch: Option<String>,
    /// Whether a nested repository holds work.
    pub(super) nested: bool,
    /// Untracked and ignored directories, with the line that git's status gives for each; nested
    /// repositories are among them.
    pub(super) folders: Vec<(Vec<u8>, String)>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            dropped: 0,
            head: None,
            rescue: false,
            sum: sha2::Sha256::new(),
            budget: FINGERPRINT_ENTRIES_MAX,
            last_change: 0,
            noted: Vec::new(),
            branch: None,
            nested: false,
            folders: Vec::new(),
        }
    }
}

impl Seen {
    /// Adds the nested repositories. A directory that consists only of one
    /// without work is no work either.
    pub(super) fn inner(&mut self, search: &nested_work::Search, target: &Path) {
        for why in &search.unknown {
            self.push(format!("unknown: {why}"));
        }
        for path in &search.passed_over {
            self.rescue(format!(
                "{}: git treats it as its own directory and does not list it",
                path.display()
            ));
            self.stat(&target.join(path), 0);
        }
        let mut folders = std::mem::take(&mut self.folders);
        for inner in &search.found {
            let mut path = paths::to_host(&inner.path).0;
            path.push(b'/');
            folders.retain(|(folder, _)| *folder != path);
            if inner.work.is_some() {
                self.nested = true;
                self.rescue(nested_work::line(inner));
                self.stat(&target.join(&inner.path), 0);
            } else if self.noted.len() < LINES_MAX {
                self.noted.push(nested_work::line(inner));
            }
        }
        for (_, line) in folders {
            self.push(line);
        }
    }

    /// Records the commit that HEAD is at, or `(initial)`.
    pub(super) fn at(&mut self, oid: &str) {
        self.sum.update(oid.as_bytes());
        self.head = (!oid.starts_with('(')).then(|| oid.to_owned());
    }

    /// Adds work that a removal would take away.
    pub(super) fn push(&mut self, line: String) {
        self.sum.update(line.as_bytes());
        self.sum.update([0]);
        if self.kept.len() < LINES_MAX {
            self.kept.push(line);
        } else {
            self.dropped += 1;
        }
    }

    /// Adds work that a removal would take away and a rescue can save.
    pub(super) fn rescue(&mut self, line: String) {
        self.rescue = true;
        self.push(line);
    }

    /// Adds one entry of git's status.
    pub(super) fn take(
        &mut self,
        folders: &Folders,
        ours: &IncludedFiles,
        target: &Path,
        entry: &[u8],
    ) {
        if let Some(oid) = entry.strip_prefix(b"# branch.oid ") {
            return self.at(&String::from_utf8_lossy(oid));
        }
        let (kind, fields) = match entry {
            [b'#', ..] => return,
            [b'?' | b'!', b' ', ..] => (entry[0], 1),
            [b'u', b' ', ..] => (b'u', 10),
            _ => (b'1', 8),
        };
        let path = entry.splitn(fields + 1, |b| *b == b' ').nth(fields).unwrap_or_default();
        let shown = String::from_utf8_lossy(path).into_owned();
        match kind {
            // A repository; its content is inspected with the other nested ones.
            b'?' if path.ends_with(b"/") => {
                self.folders.push((path.to_owned(), format!("nested repository: {shown}")));
            }
            b'?' => self.rescue(format!("untracked: {shown}")),
            b'!' if folders.hold(path) || ours.holds(path) => return,
            b'!' if path.ends_with(b"/") => {
                self.folders.push((path.to_owned(), format!("ignored: {shown}")));
            }
            b'!' => self.push(format!("ignored: {shown}")),
            b'u' => self.rescue(format!("conflict: {shown}")),
            _ if entry.get(5) == Some(&b'S') => self.push(format!("submodule changed: {shown}")),
            _ => self.rescue(format!("changed: {shown}")),
        }
        self.sum.update(&entry[..entry.len() - path.len()]);
        self.stat(&target.join(paths::from_bytes(path)), 0);
    }

    /// Adds size, time and inode of a file to the fingerprint, and of everything in a directory.
    pub(super) fn stat(&mut self, path: &Path, depth: u32) {
        self.budget = self.budget.saturating_sub(1);
        let Ok(found) = path.symlink_metadata() else { return };
        self.last_change = self.last_change.max(found.mtime());
        for number in [found.ino(), found.size(), found.mtime().cast_unsigned()] {
            self.sum.update(number.to_le_bytes());
        }
        self.sum.update(found.mtime_nsec().to_le_bytes());
        if !found.is_dir() || self.budget == 0 || depth > 256 {
            return;
        }
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut inside: Vec<_> = entries.map(|e| e.path()).collect();
        inside.sort();
        for path in inside {
            self.stat(&path, depth + 1);
        }
    }

    pub(super) fn finish(mut self, has_hook: bool) -> Inspection {
        if self.dropped > 0 {
            self.kept.push(format!("... and {} more", self.dropped));
        }
        Inspection {
            unsaved: self.kept,
            fingerprint: Some(crate::format::hex(&self.sum.finalize())),
            head: self.head,
            rescue: self.rescue,
            has_hook,
            quiet: false,
            last_change: u64::try_from(self.last_change).unwrap_or(0),
            branch: self.branch,
            noted: self.noted,
            unseen: false,
            nested: self.nested,
            immovable: None,
        }
    }
}
