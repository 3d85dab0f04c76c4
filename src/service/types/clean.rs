//! Wire types of cleans.

use serde::{Deserialize, Serialize};

use crate::core::event::NotMoved;
use crate::service::types::contents::SizeView;

/// A directory that stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct NotMovedView {
    /// Relative to the worktree.
    pub path: String,
    /// Why.
    pub why: String,
}

impl NotMovedView {
    pub(crate) fn all(left: &[NotMoved]) -> Vec<Self> {
        left.iter().map(|n| Self { path: n.path.clone(), why: n.why.clone() }).collect()
    }
}

/// What was taken out of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct CleanedView {
    /// The environment.
    pub id: String,
    /// What was taken, relative to the worktree.
    pub paths: Vec<String>,
    /// How much that was.
    pub size: SizeView,
    /// What was left in its place, and why.
    pub left: Vec<NotMovedView>,
    /// Where it is now; null when nothing was taken, or when it was unlinked.
    pub trash: Option<String>,
    /// When that is unlinked, RFC 3339; until then it can be put back.
    pub expires_at: Option<String>,
}

/// What was put back into an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct UndoneView {
    /// The environment.
    pub id: String,
    /// What was put back, relative to the worktree.
    pub returned: Vec<String>,
    /// What stays in the trash, and why.
    pub left: Vec<NotMovedView>,
    /// Where that is; null when nothing stays.
    pub trash: Option<String>,
}
