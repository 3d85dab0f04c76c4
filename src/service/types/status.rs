//! Wire types of the status of environments, and of their changes as a patch.

use serde::{Deserialize, Serialize};

use crate::core::{Environment, Time};
use crate::format::rfc3339;
use crate::service::types::environment::SummaryView;
use crate::service::types::problem::Problem;
use crate::world::status::parse::Entry;
use crate::world::status::types::Status;

/// What an environment looks like.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct StatusView {
    /// Its name.
    pub id: String,
    /// Which life of it.
    pub incarnation: u32,
    /// Where it stands.
    pub phase: String,
    /// Its directory.
    pub path: String,
    /// The branch; none when HEAD is detached.
    pub branch: Option<String>,
    /// Whether HEAD is detached.
    pub detached: bool,
    /// Whether there is no commit yet.
    pub unborn: bool,
    /// The commit that HEAD is at.
    pub head: Option<String>,
    /// The commit that it was made from.
    pub base: Option<String>,
    /// Commits since then.
    pub ahead_of_base: Option<u64>,
    /// Commits that the base's branch has gained since.
    pub behind_base: Option<u64>,
    /// The upstream of the branch.
    pub upstream: Option<String>,
    /// Commits that the upstream lacks; none without one.
    pub ahead: Option<u64>,
    /// Commits that the branch lacks.
    pub behind: Option<u64>,
    /// Whether there is nothing to commit and nothing untracked.
    pub clean: bool,
    /// The changes in short: `+` new, `~` changed, `>` renamed, `-` deleted, `!` unmerged, `?`
    /// untracked.
    pub changes: String,
    /// Entries with a staged change.
    pub staged: u64,
    /// Entries with a change that is not staged.
    pub unstaged: u64,
    /// New files that git knows of.
    pub added: u64,
    /// Changed files.
    pub modified: u64,
    /// Deleted files.
    pub deleted: u64,
    /// Renamed or copied files.
    pub renamed: u64,
    /// Files that became links, or the other way round.
    pub retyped: u64,
    /// Unmerged paths.
    pub conflicts: u64,
    /// Untracked files, and directories that hold nothing else.
    pub untracked: u64,
    /// Changed submodules.
    pub submodules: u64,
    /// What is in progress: `merge`, `rebase`, `am`, `cherry-pick`, `revert`, `bisect`.
    pub operation: Option<String>,
    /// Lines added in tracked files, staged or not.
    pub insertions: u64,
    /// Lines removed in them.
    pub deletions: u64,
    /// Whether these lines are all: nothing untracked, binary or in conflict.
    pub lines_complete: bool,
    /// Stashes of the repository.
    pub stashes: u64,
    /// The youngest change that was seen, RFC 3339.
    pub last_change: String,
    /// The changed paths, as far as they are listed.
    pub files: Vec<FileView>,
    /// Whether all are listed.
    pub files_complete: bool,
}

/// A changed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct FileView {
    /// As in git's short format: `M.`, `.D`, `UU`, `??`.
    pub code: String,
    /// From the top of the worktree.
    pub path: String,
    /// Where it was renamed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// The status of one environment among others, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct StatusEntry {
    /// Its name.
    pub id: String,
    /// What it looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusView>,
    /// Why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Whether its directory does not exist.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
}

impl FileView {
    pub(crate) fn of(entry: &Entry) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let from = entry.from.as_deref().map(text);
        Self { code: text(&entry.code), path: text(&entry.path), from }
    }
}

impl StatusView {
    pub(crate) fn of(env: &Environment, status: &Status) -> Self {
        let c = &status.changes;
        let base = env.base.as_ref().map(|b| b.commit.clone());
        let nanos = u64::try_from(status.last_change).unwrap_or(0).saturating_mul(1_000_000_000);
        Self {
            id: env.id.to_string(),
            incarnation: env.incarnation,
            phase: env.phase.as_str().to_owned(),
            path: env.plan.path.to_string(),
            branch: c.branch.clone(),
            detached: c.branch.is_none(),
            unborn: c.head.is_none(),
            head: c.head.clone(),
            base,
            ahead_of_base: status.ahead_of_base,
            behind_base: status.behind_base,
            upstream: c.upstream.clone(),
            ahead: c.distance.map(|d| d.0),
            behind: c.distance.map(|d| d.1),
            clean: c.is_clean(),
            changes: SummaryView::of(status).changes,
            staged: c.staged,
            unstaged: c.unstaged,
            added: c.added,
            modified: c.modified,
            deleted: c.deleted,
            renamed: c.renamed,
            retyped: c.retyped,
            conflicts: c.conflicts,
            untracked: c.untracked,
            submodules: c.submodules,
            operation: status.operation.map(str::to_owned),
            insertions: status.insertions,
            deletions: status.deletions,
            lines_complete: status.lines_complete,
            stashes: c.stashes,
            last_change: rfc3339(Time(nanos)),
            files: c.entries.iter().map(FileView::of).collect(),
            files_complete: c.is_complete(),
        }
    }
}

/// The changes in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DiffView {
    /// Its name.
    pub id: String,
    /// The commit that the patch applies to.
    pub from: String,
    /// The patch; bytes that are no UTF-8 are replaced.
    pub patch: String,
    /// Whether there is more than was asked for.
    pub truncated: bool,
    /// Untracked files and directories, which are not part of the patch.
    pub untracked: Vec<String>,
}
