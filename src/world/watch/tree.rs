//! State of one watched tree: the changes collected until they are reported, and the rules by
//! which an event counts.
//!
//! It holds no watch and reads no file; directories that need a walk are queued for the tracker.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::rules::{IGNORE, Rules, kind_of_admin};
use crate::world::fs::file_id::FileId;
use crate::world::watch::backend::{Happened, Key, Kinds, Signal, What};

/// Quiet time after which a change is reported.
const QUIET: Duration = Duration::from_millis(75);
/// Longest time that a change is held back.
const LATEST: Duration = Duration::from_millis(500);
/// Bound on the new directories that wait for a walk; with more, the whole tree is walked again.
const PENDING_MAX: usize = 1_024;
/// Minimum interval between two walks of a whole tree.
const REWALK_EVERY: Duration = Duration::from_millis(500);
/// Bound on the refs that one notification names.
const REFS_MAX: usize = 64;
/// Name of the files that tell git how to compare and convert other files.
const ATTRIBUTES: &str = ".gitattributes";
/// Folder of the reflogs in a worktree's git directory; git records each move of HEAD there.
pub(super) const LOGS: &str = "logs";

#[derive(Debug)]
pub(super) struct Worktree {
    pub(super) key: Key,
    pub(super) root: PathBuf,
    pub(super) admin: PathBuf,
    pub(super) common: PathBuf,
    pub(super) identity: Identity,
}

/// Identity of a worktree's directory, and of its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) root: FileId,
    /// Device and inode of its `.git`, where that is a directory.
    pub(super) link: Option<FileId>,
    /// Device and inode of its repository; `None` while there is none, or another one.
    pub(super) repository: Option<FileId>,
}

impl Worktree {
    /// Returns a path from the top of the worktree. `None` for anything but a plain file or
    /// directory in it, and for files that determine the state of others.
    pub(super) fn file(&self, path: &Path) -> Option<Vec<u8>> {
        let inside = path.strip_prefix(&self.root).ok()?;
        let plain = |part: &OsStr| part != ".git" && part != IGNORE && part != ATTRIBUTES;
        let is_plain = !inside.as_os_str().is_empty() && inside.iter().all(plain);
        is_plain.then(|| inside.as_os_str().as_bytes().to_vec())
    }
}

#[derive(Debug)]
pub(super) enum About {
    Worktree(Worktree),
    Refs(PathBuf, BTreeSet<Key>),
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) about: About,
    pub(super) rules: Option<Rules>,
    pub(super) pending: VecDeque<PathBuf>,
    /// The whole tree must be walked again.
    pub(super) rewalk_wanted: bool,
    /// The index has changed: tracked files may lie where nothing is watched.
    pub(super) recheck: bool,
    /// The repository's exclude file has changed.
    pub(super) exclude: bool,
    /// Approximate number of watched directories of the working tree.
    pub(super) directories: usize,
    /// Time of the last walk of the whole tree.
    pub(super) walked_at: Option<Instant>,
    pub(super) kinds: Kinds,
    pub(super) refs: Option<BTreeSet<String>>,
    pub(super) since: Option<(Instant, Instant)>,
}

impl Tree {
    /// Creates a tree without directories.
    pub(super) fn new(about: About) -> Self {
        let (pending, kinds) = (VecDeque::new(), Kinds::default());
        Self {
            about,
            rules: None,
            pending,
            rewalk_wanted: false,
            recheck: false,
            exclude: false,
            directories: 0,
            walked_at: None,
            kinds,
            refs: None,
            since: None,
        }
    }

    pub(super) fn mark(&mut self, kinds: Kinds) {
        self.kinds = self.kinds.and(kinds);
    }

    /// Reports whether everything in it is watched.
    pub(super) fn is_settled(&self) -> bool {
        let is_walked = self.rules.is_some() || matches!(self.about, About::Refs(..));
        is_walked && !self.rewalk_wanted && !self.recheck && self.pending.is_empty()
    }

    /// Returns when a walk is due: at once for new directories, at intervals for the whole tree.
    pub(super) fn extension_due(&self, now: Instant) -> Option<Instant> {
        let is_walked = self.rules.is_some() || matches!(self.about, About::Refs(..));
        if !is_walked || self.is_settled() {
            return None;
        }
        let rest = self.walked_at.filter(|_| self.rewalk_wanted).map(|at| at + REWALK_EVERY);
        Some(rest.unwrap_or(now))
    }

    /// Records the time of a relevant change; returns whether the tree was quiet before.
    pub(super) fn mark_changed(&mut self) -> bool {
        let now = Instant::now();
        let first = self.since.map_or(now, |(first, _)| first);
        self.since.replace((first, now)).is_none()
    }

    /// Returns the refs that have changed; `None` when it is unknown which.
    pub(super) fn named_refs(&self) -> Option<Vec<String>> {
        let refs = self.refs.as_ref().filter(|_| self.kinds == Kinds::REFS);
        refs.map(|refs| refs.iter().cloned().collect())
    }

    /// Returns the one file or directory of the worktree that an event concerns, if any.
    pub(super) fn file_of(&self, happened: &Happened) -> Option<Vec<u8>> {
        let About::Worktree(worktree) = &self.about else { return None };
        let Happened::In { dir, name, .. } = happened else { return None };
        if dir.starts_with(&worktree.admin) {
            return None;
        }
        worktree.file(&dir.join(name))
    }

    /// Returns when the collected changes are due.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = self.since?;
        Some((last + QUIET).min(first + LATEST))
    }

    pub(super) fn take_signal(&mut self) -> Option<Signal> {
        self.since = None;
        let named = self.named_refs();
        self.refs = None;
        self.exclude = false;
        let kinds = std::mem::take(&mut self.kinds);
        self.recheck |= kinds.has(Kinds::INDEX) && self.rules.is_some();
        match &self.about {
            About::Worktree(w) => {
                (!kinds.is_empty()).then(|| Signal::Changed(w.key.clone(), kinds))
            }
            About::Refs(common, _) => Some(Signal::Refs(common.clone(), named)),
        }
    }

    /// Records one event; returns whether it counts.
    pub(super) fn note(&mut self, happened: &Happened) -> bool {
        match happened {
            Happened::Overflow => {
                self.rewalk_wanted = true;
                self.mark(Kinds::ANYTHING);
                true
            }
            Happened::Gone(dir) => {
                let own = match &self.about {
                    About::Worktree(w) => **dir == *w.root || **dir == *w.admin,
                    About::Refs(common, _) => **dir == *common,
                };
                if own {
                    self.mark(Kinds::ANYTHING.and(Kinds::HEAD));
                }
                own
            }
            Happened::In { dir, name, what, is_dir } => match &self.about {
                About::Refs(common, _) => {
                    let common = common.clone();
                    self.note_ref(&common, dir, name, *what, *is_dir)
                }
                About::Worktree(w) if **dir == *w.admin => {
                    let kinds = kind_of_admin(name.as_bytes());
                    if name == LOGS && *is_dir && *what == What::Made {
                        self.pending.push_back(dir.join(name));
                    }
                    self.mark(kinds);
                    !kinds.is_empty()
                }
                About::Worktree(w) if dir.starts_with(&w.admin) => {
                    let counts = name == "HEAD";
                    if counts {
                        self.mark(Kinds::HEAD);
                    }
                    counts
                }
                About::Worktree(w) => {
                    let is_root = **dir == *w.root;
                    self.note_file(is_root, dir, name, *what, *is_dir)
                }
            },
        }
    }

    fn note_file(
        &mut self,
        is_root: bool,
        dir: &Path,
        name: &OsStr,
        what: What,
        is_dir: bool,
    ) -> bool {
        if is_root && name == ".git" {
            self.mark(Kinds::ANYTHING.and(Kinds::HEAD));
            return true;
        }
        if name == IGNORE {
            self.rewalk_wanted = true;
            self.mark(Kinds::FILES);
            return true;
        }
        if is_dir {
            // git does not track a directory's attributes.
            if what == What::Changed {
                return false;
            }
            // A directory that was moved away is queued, too: the tracker forgets it and finds
            // nothing.
            if self.pending.len() < PENDING_MAX {
                self.pending.push_back(dir.join(name));
            } else {
                self.rewalk_wanted = true;
            }
        }
        // Once something counts, further events before the report make no difference.
        if self.kinds == Kinds::default() {
            let ignored = |rules: &Rules| rules.ignores(&dir.join(name), is_dir);
            if self.rules.as_ref().is_some_and(ignored) {
                return what == What::Made && is_dir;
            }
        }
        self.mark(Kinds::FILES);
        true
    }

    fn note_ref(
        &mut self,
        common: &Path,
        dir: &Path,
        name: &OsStr,
        what: What,
        is_dir: bool,
    ) -> bool {
        let bytes = name.as_bytes();
        if bytes.ends_with(b".lock") {
            return false;
        }
        if dir == common {
            // Other entries, such as `FETCH_HEAD`, mean no change of their own.
            let counts = matches!(bytes, b"packed-refs" | b"refs" | b"config" | b"logs");
            self.rewalk_wanted |= bytes == b"logs" && what == What::Made;
            if counts {
                self.mark(Kinds::REFS.and(Kinds::ANYTHING));
            }
            return counts;
        }
        if dir == common.join("info") || dir.starts_with(common.join("logs")) {
            // Of the reflogs only that of the stash counts, from which entries can be dropped.
            let counts = bytes == b"exclude" || bytes == b"stash";
            self.exclude |= bytes == b"exclude";
            if counts {
                self.mark(Kinds::REFS.and(Kinds::ANYTHING));
            }
            return counts;
        }
        // Our own refs: they change no distance, and would notify the daemon of its own work.
        if bytes == b"groundskeeper" || dir.starts_with(common.join("refs/groundskeeper")) {
            return false;
        }
        if is_dir && what == What::Made {
            if self.pending.len() < PENDING_MAX {
                self.pending.push_back(dir.join(name));
            } else {
                self.rewalk_wanted = true;
            }
        }
        let path = dir.join(name);
        let Ok(name) = path.strip_prefix(common) else { return false };
        let refs = self.refs.get_or_insert_default();
        if is_dir || refs.len() >= REFS_MAX || path == common.join("refs/stash") {
            self.mark(Kinds::REFS.and(Kinds::ANYTHING));
        } else {
            refs.insert(name.to_string_lossy().into_owned());
            self.mark(Kinds::REFS);
        }
        true
    }
}
