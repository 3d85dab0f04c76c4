//! Seeing that worktrees change.
//!
//! A [`Backend`] tells what happens directly inside single directories; `inotify.rs` (Linux) and
//! `portable.rs` are two, and one conformance test holds for both. What is watched, what counts and
//! when it is told is decided above them: `rules.rs` prunes, `tracker.rs` keeps the trees. Nothing
//! here decides whether something is watched at all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::EnvironmentId;

/// One set of directories that come and go together; never used twice.
pub type TreeId = u64;

/// What a backend saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Something in a watched directory.
    In {
        /// The directory, as it was named.
        dir: Arc<Path>,
        /// The name inside.
        name: OsString,
        /// What happened to it.
        what: What,
        /// Whether it is a directory, as far as that is told.
        is_dir: bool,
    },
    /// A watched directory itself was deleted or moved.
    Gone(Arc<Path>),
    /// Something was missed.
    Overflow,
}

/// What happened to an entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It is there now: made, or moved in.
    Made,
    /// It is not there any more.
    Removed,
    /// Its content or its attributes are different.
    Changed,
}

/// Why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A limit of the system, or of the budget.
    #[error("{0}")]
    Limit(String),
    /// There is no such directory.
    #[error("{} is gone", .0.display())]
    Absent(PathBuf),
    /// It may not be watched (any more).
    #[error("it is not to be watched")]
    Refused,
    /// Anything else.
    #[error("cannot watch {}", .0.display())]
    Failed(PathBuf, #[source] std::io::Error),
}

/// Where a backend tells what it saw. Called on a thread of the backend's own.
pub type Sink = Arc<dyn Fn(TreeId, Happened) + Send + Sync>;

/// Watches single directories.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// Its name, for people.
    fn name(&self) -> &'static str;
    /// Begins a tree without directories.
    ///
    /// # Errors
    /// Limits of the system.
    fn open(&self, tree: TreeId) -> Result<(), Failure>;
    /// Watches one directory, nothing below it. What happens after this has returned is told.
    ///
    /// # Errors
    /// The directory is gone, the tree is closed, or a limit is reached.
    fn add(&self, tree: TreeId, dir: &Path) -> Result<(), Failure>;
    /// Lets go of a directory and of all below it.
    fn forget(&self, tree: TreeId, dir: &Path);
    /// Lets go of all directories of a tree, for good.
    fn close(&self, tree: TreeId);
    /// Returns when all that has happened so far is told, and in any case soon; whether it is. A
    /// backend that cannot know says that it is: what is on its way is told within moments, which
    /// is less than an answer about an unwatched worktree is kept.
    fn sync(&self) -> bool {
        true
    }
    /// Directories watched, and instances of the system's that this takes.
    fn counts(&self) -> (usize, usize);
}

/// What kinds of things changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u8);

impl Kinds {
    /// Files of the working tree.
    pub const FILES: Self = Self(1);
    /// What is staged.
    pub const INDEX: Self = Self(2);
    /// What HEAD is, or where its branch is.
    pub const HEAD: Self = Self(4);
    /// A merge, rebase or the like began or ended.
    pub const OPERATION: Self = Self(8);
    /// Refs that its distance depends on.
    pub const REFS: Self = Self(16);
    /// Something was missed; anything may have changed.
    pub const ANYTHING: Self = Self(32);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::FILES, "files"),
        (Self::INDEX, "index"),
        (Self::HEAD, "head"),
        (Self::OPERATION, "operation"),
        (Self::REFS, "refs"),
        (Self::ANYTHING, "anything"),
    ];

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has all of these.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.into_iter().filter(|(kind, _)| self.has(*kind)).map(|(_, name)| name).collect()
    }
}

/// One life of an environment.
pub type Key = (EnvironmentId, u32);

/// What the hub tells.
#[derive(Debug, Clone)]
pub enum Signal {
    /// Something has changed in a worktree this moment; told at once, and every time. A path from
    /// its top, if nothing but that file or directory has.
    Touched(Key, Option<Vec<u8>>),
    /// Things have changed in a worktree, which is quiet again.
    Changed(Key, Kinds),
    /// The same of refs of a repository.
    RefsTouched(PathBuf, Vec<String>),
    /// Refs of a repository have changed; none when it is not known which.
    Refs(PathBuf, Option<Vec<String>>),
    /// A watch ended without being asked to.
    Broken(Key, Arc<Failure>),
}

/// Where it is told. Called on threads that may not wait long.
pub type Signals = Box<dyn Fn(Signal) + Send + Sync>;
