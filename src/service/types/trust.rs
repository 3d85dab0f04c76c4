//! Wire types of the trust in hooks.

use serde::{Deserialize, Serialize};

/// A request to trust the hooks that a repository has now, or to take trust back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustRequest {
    /// A directory inside the repository, absolute.
    pub repo: String,
    /// The hash that was shown to the user; none takes all trust back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What is trusted in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct TrustView {
    /// Its common git directory.
    pub repo: String,
    /// SHA-256 of each trusted hook, oldest first.
    pub trusted: Vec<String>,
    /// The setup hook that its worktree has now, if any.
    pub hook: Option<String>,
    /// SHA-256 of that hook.
    pub hash: Option<String>,
}
