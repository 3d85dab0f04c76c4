//! The status of a worktree, as data.

use crate::world::status::parse::Changes;

/// What a worktree looked like at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// What git said of files and branch.
    pub changes: Changes,
    /// Commits since the base; none when the base is not known here any more.
    pub ahead_of_base: Option<u64>,
    /// Commits that the base's branch has gained since.
    pub behind_base: Option<u64>,
    /// What is in progress: `merge`, `rebase`, `am`, `cherry-pick`, `revert`, `bisect`.
    pub operation: Option<&'static str>,
    /// Lines added and removed in tracked files, staged or not.
    pub insertions: u64,
    /// See `insertions`.
    pub deletions: u64,
    /// Whether these count everything: not untracked, binary or conflicted files, and no
    /// submodules.
    pub lines_complete: bool,
    /// Seconds since 1970 of the youngest change that was seen.
    pub last_change: i64,
}
