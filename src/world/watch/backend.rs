//! Interface between the watch backends and the tracker.
//!
//! A [`Backend`] reports events directly inside single directories. `inotify.rs` (Linux) and
//! `portable.rs` implement it, and one conformance test covers both. The layers above decide which
//! directories are watched (`rules.rs`), which events count and when they are reported (`tree.rs`,
//! `tracker.rs`). Nothing here decides whether a worktree is watched at all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::EnvironmentId;

/// Id of one set of directories that is opened and closed together; never reused.
pub type TreeId = u64;

/// One event of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// An event at an entry of a watched directory.
    In {
        /// Watched directory, under the path that was added.
        dir: Arc<Path>,
        /// Name of the entry in it.
        name: OsString,
        /// Kind of the event.
        what: What,
        /// Whether the entry is a directory, as far as the system reports that.
        is_dir: bool,
    },
    /// A watched directory itself was deleted or moved.
    Gone(Arc<Path>),
    /// Events were lost: anything in the tree may have changed.
    Overflow,
}

/// Kind of an event at an entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The entry exists now: created, or moved in.
    Made,
    /// The entry no longer exists under this name.
    Removed,
    /// Its content or its attributes have changed.
    Changed,
}

/// Reason why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A limit of the system or of the budget is reached.
    #[error("{0}")]
    Limit(String),
    /// There is no such directory.
    #[error("{} does not exist", .0.display())]
    Absent(PathBuf),
    /// The tree is closed, or the gate forbids it.
    #[error("the watch was released")]
    Refused,
    /// Any other error of the system.
    #[error("cannot watch {}", .0.display())]
    Failed(PathBuf, #[source] std::io::Error),
}

/// Receiver of a backend's events. Called on a thread of the backend's own.
pub type Sink = Arc<dyn Fn(TreeId, Happened) + Send + Sync>;

/// Watches single directories, grouped into trees.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// Returns its name, for people.
    fn name(&self) -> &'static str;
    /// Opens a tree without directories.
    ///
    /// # Errors
    /// Limits of the system.
    fn open(&self, tree: TreeId) -> Result<(), Failure>;
    /// Watches one directory, but nothing below it. Every event after the return is reported.
    ///
    /// # Errors
    /// The directory is missing, the tree is closed, or a limit is reached.
    fn add(&self, tree: TreeId, dir: &Path) -> Result<(), Failure>;
    /// Stops watching a directory and everything below it.
    fn forget(&self, tree: TreeId, dir: &Path);
    /// Stops watching all directories of a tree, for good.
    fn close(&self, tree: TreeId);
    /// Waits until all past events are reported, for a bounded time; returns whether they are. A
    /// backend that cannot know returns true: its events arrive within moments, sooner than the
    /// cached status of an unwatched worktree expires.
    fn sync(&self) -> bool {
        true
    }
    /// Returns the number of watched directories, and of the system's instances in use.
    fn counts(&self) -> (usize, usize);
}

/// Set of the kinds of things that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u8);

impl Kinds {
    /// Files of the working tree.
    pub const FILES: Self = Self(1);
    /// The index, and so what is staged.
    pub const INDEX: Self = Self(2);
    /// The commit or branch that HEAD names, or where its branch is.
    pub const HEAD: Self = Self(4);
    /// A merge, rebase or similar operation began or ended.
    pub const OPERATION: Self = Self(8);
    /// Refs on which the worktree's distances (ahead and behind) depend.
    pub const REFS: Self = Self(16);
    /// Events were lost; anything may have changed.
    pub const ANYTHING: Self = Self(32);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::FILES, "files"),
        (Self::INDEX, "index"),
        (Self::HEAD, "head"),
        (Self::OPERATION, "operation"),
        (Self::REFS, "refs"),
        (Self::ANYTHING, "anything"),
    ];

    /// Returns the union of both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Reports whether all kinds of `other` are in the set.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Reports whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the names of the kinds, in a fixed order.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.into_iter().filter(|(kind, _)| self.has(*kind)).map(|(_, name)| name).collect()
    }
}

/// One incarnation of an environment.
pub type Key = (EnvironmentId, u32);

/// A notification of the tracker.
#[derive(Debug, Clone)]
pub enum Signal {
    /// Something changed in a worktree just now. Sent at once, for every event. The path from its
    /// top is given if nothing but that file or directory has changed.
    Touched(Key, Option<Vec<u8>>),
    /// Things have changed in a worktree, which is quiet again.
    Changed(Key, Kinds),
    /// Refs of a repository changed just now. Sent at once, like `Touched`.
    RefsTouched(PathBuf, Vec<String>),
    /// Refs of a repository have changed; `None` when it is unknown which.
    Refs(PathBuf, Option<Vec<String>>),
    /// A watch ended without a request.
    Broken(Key, Arc<Failure>),
}

/// Receiver of notifications. Called on threads that must not be blocked for long.
pub type Signals = Box<dyn Fn(Signal) + Send + Sync>;
