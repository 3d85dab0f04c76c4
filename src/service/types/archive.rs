//! Wire types of archives: trash entries, rescue refs, and what a clean moved.

use serde::{Deserialize, Serialize};

use crate::core::event::NestedRescue;
use crate::core::{ArchivedIncarnation, CleanedOutput, State};
use crate::format::rfc3339;
use crate::service::types::problem::Problem;
use crate::world::copies_in;

/// Limit of the file names that a view lists of the raw copies of one rescue.
const NAMED_MAX: usize = 40;

/// What is kept of one incarnation that is over, or what a clean took from one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = RemainsView))]
pub struct ArchivedIncarnationView {
    /// `removed`, or `clean` for what a clean took.
    pub kind: String,
    /// Its name.
    pub id: String,
    /// Which life of it.
    pub incarnation: u32,
    /// When it was over, or the clean was asked for, RFC 3339.
    pub removed_at: String,
    /// Its directory in the trash.
    pub trash: Option<String>,
    /// When that is unlinked, RFC 3339.
    pub expires_at: Option<String>,
    /// Bytes on disk; null until it was measured.
    pub bytes: Option<u64>,
    /// Files, links and directories; null until it was measured.
    pub entries: Option<u64>,
    /// Why it is being unlinked, if it is.
    pub purge: Option<String>,
    /// Why the last attempt at that failed.
    pub error: Option<Problem>,
    /// When its rescue is dropped because of its age, RFC 3339; null for one that is kept until a
    /// request drops it.
    #[serde(default)]
    pub rescue_expires_at: Option<String>,
    /// Whether that was announced: it happens within about a day.
    #[serde(default)]
    pub rescue_expires_soon: bool,
    /// The ref that holds what no branch has: its own, or one that holds many rescues.
    pub rescue: Option<String>,
    /// The commit of the rescue, by which it is inspected.
    pub commit: Option<String>,
    /// What it holds, in words.
    pub holds: Vec<String>,
    /// What could not be put into it.
    pub lacks: Vec<String>,
    /// Why the directory in the trash is the only place of something; it goes only when it is named
    /// with `lose`.
    #[serde(default)]
    pub only_copy_of: Vec<String>,
    /// Bytes on disk that are pinned by that; 0 while nothing is.
    #[serde(default)]
    pub pinned_bytes: u64,
    /// Files that git would not have given back as they were, as far as they are named here.
    #[serde(default)]
    pub raw: Vec<String>,
    /// Repositories that were inside, and the refs that hold them; empty where only copies do.
    #[serde(default)]
    pub nested: Vec<NestedView>,
    /// Its repository: the common git directory.
    pub repo: String,
    /// The branch it was on.
    pub branch: String,
    /// What a clean took, relative to the worktree.
    pub paths: Vec<String>,
}

/// A repository that was inside a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct NestedView {
    /// Where it was, relative to the worktree.
    pub path: String,
    /// The ref that holds its commits and files; null where they are copies alone.
    pub reference: Option<String>,
    /// The commit that it is held at.
    #[serde(default)]
    pub commit: Option<String>,
}

/// A request to restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// Which life; the last one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u32>,
}

impl ArchivedIncarnationView {
    pub(crate) fn of(r: &ArchivedIncarnation, state: &State) -> Self {
        let last = r.is_last_copy_of();
        let kept = r.trash.is_some() && r.purge.is_none() && last.is_empty();
        let raw = r.rescue.as_ref().and_then(|rescue| rescue.raw.as_ref());
        let nested = r.rescue.iter().flat_map(|rescue| &rescue.nested);
        let trash_seconds = state.retention().trash_seconds;
        let expires = r.at.after(std::time::Duration::from_secs(trash_seconds));
        Self {
            kind: "removed".to_owned(),
            id: r.id.to_string(),
            incarnation: r.incarnation,
            removed_at: rfc3339(r.at),
            trash: r.trash.as_ref().map(ToString::to_string),
            expires_at: kept.then(|| rfc3339(expires)),
            bytes: r.size.map(|s| s.allocated),
            entries: r.size.map(|s| s.entries),
            purge: r.purge.as_ref().map(ToString::to_string),
            error: r.fault.as_ref().map(Problem::of),
            rescue_expires_at: state.rescue_ends(r).map(rfc3339),
            rescue_expires_soon: r.rescue_ends.is_some(),
            rescue: r.rescue.as_ref().and_then(|r| r.reference.clone()),
            commit: r.rescue.as_ref().and_then(|r| r.commit.clone()),
            holds: r.rescue.as_ref().map(|r| r.holds.clone()).unwrap_or_default(),
            lacks: r.rescue.as_ref().map(|r| r.lacks.clone()).unwrap_or_default(),
            pinned_bytes: if last.is_empty() { 0 } else { r.size.map_or(0, |s| s.allocated) },
            only_copy_of: last,
            raw: raw.map(|raw| copies_in(raw, NAMED_MAX)).unwrap_or_default(),
            nested: nested.map(NestedView::of).collect(),
            repo: r.plan.repository.common_dir.to_string(),
            branch: r.plan.branch.clone(),
            paths: Vec::new(),
        }
    }

    pub(crate) fn of_clean(o: &CleanedOutput, seconds: u64) -> Self {
        let kept = o.purge.is_none() && o.fault.is_none();
        Self {
            kind: "clean".to_owned(),
            id: o.id.to_string(),
            incarnation: o.incarnation,
            removed_at: rfc3339(o.at),
            trash: o.trash.as_ref().map(ToString::to_string),
            expires_at: kept.then(|| rfc3339(o.expires(seconds))),
            bytes: o.size.map(|s| s.allocated),
            entries: o.size.map(|s| s.entries),
            purge: o.purge.as_ref().map(ToString::to_string),
            error: o.fault.as_ref().map(Problem::of),
            rescue_expires_at: None,
            rescue_expires_soon: false,
            rescue: None,
            commit: None,
            holds: Vec::new(),
            lacks: Vec::new(),
            only_copy_of: Vec::new(),
            pinned_bytes: 0,
            raw: Vec::new(),
            nested: Vec::new(),
            repo: o.repository.to_string(),
            branch: o.branch.clone(),
            paths: o.paths.clone(),
        }
    }
}

impl NestedView {
    pub(crate) fn of(nested: &NestedRescue) -> Self {
        let (reference, commit) = (nested.reference.clone(), nested.commit.clone());
        Self { path: nested.path.to_string(), reference, commit }
    }
}
