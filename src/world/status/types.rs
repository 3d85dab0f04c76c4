//! Data types of a worktree's status.

use crate::world::status::parse::Changes;

/// State of a worktree at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Branch and changed files, as git reported them.
    pub changes: Changes,
    /// Commits since the base; `None` when the base is no longer known in the repository.
    pub ahead_of_base: Option<u64>,
    /// Commits that the base's branch has gained since; `None` in the same case.
    pub behind_base: Option<u64>,
    /// Operation in progress: `merge`, `rebase`, `am`, `cherry-pick`, `revert`, `bisect`.
    pub operation: Option<&'static str>,
    /// Lines added in tracked files since HEAD, staged or not.
    pub insertions: u64,
    /// Lines removed in tracked files since HEAD, staged or not.
    pub deletions: u64,
    /// Whether both counts cover everything: false with untracked, binary or conflicted files,
    /// or with submodules.
    pub lines_complete: bool,
    /// Time of the newest change that was seen, in seconds since 1970.
    pub last_change: i64,
}
