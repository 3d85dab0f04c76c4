//! Wire types of the contents of environments: removal evidence, sizes, adoption.

use serde::{Deserialize, Serialize};

use crate::core::event::Size;

/// Whether an environment may go, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct EvidenceView {
    /// Its name.
    pub id: String,
    /// Whether nothing would be lost and nobody uses it.
    pub safe: bool,
    /// Whether it is adopted: a removal releases it, and leaves its directory where it is.
    #[serde(default)]
    pub adopted: bool,
    /// Work that a removal would take away.
    pub unsaved: Vec<String>,
    /// Who uses it: leases, and processes that a removal would end.
    pub in_use: Vec<String>,
    /// The commit that HEAD is at.
    pub head: String,
    /// When something in it last changed, RFC 3339.
    pub last_change: String,
    /// The command that resolves it.
    pub hint: String,
}

/// How much space something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct SizeView {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes as their lengths say.
    pub apparent: u64,
    /// Bytes of the blocks they take.
    pub allocated: u64,
}

impl From<Size> for SizeView {
    fn from(size: Size) -> Self {
        Self { entries: size.entries, apparent: size.apparent, allocated: size.allocated }
    }
}

/// How much space an environment takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct UsageView {
    /// Its name.
    pub id: String,
    /// All of it.
    pub total: SizeView,
    /// The part that tools rebuild, which `clean` drops.
    pub rebuildable: SizeView,
}

/// A request to adopt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Adoption {
    /// The worktree, absolute.
    pub path: String,
    /// Its name; made up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}
