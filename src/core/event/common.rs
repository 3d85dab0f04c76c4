//! Types that several events carry: the actor, the repository, the plan of an environment.

use serde::{Deserialize, Serialize};

use crate::empty_is_none;
use crate::event::names::Origin;
use crate::id::HostPath;

/// The originator of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Actor {
    /// The channel of the request.
    #[serde(rename = "door")]
    pub origin: Origin,
    /// User id of the peer process.
    pub uid: u32,
    /// Process id of the peer; 0 when unknown.
    pub pid: u32,
}

impl Actor {
    /// Returns the actor for what the daemon does by itself.
    #[must_use]
    pub fn daemon() -> Self {
        Self { origin: Origin::Daemon, uid: 0, pid: 0 }
    }
}

/// A git repository, as found when a request named it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Repository {
    /// Real path of the directory that all its worktrees share; identifies the repository.
    pub common_dir: HostPath,
    /// The worktree that the request named, from which included files are copied; none when bare.
    #[serde(with = "empty_is_none")]
    pub source: Option<HostPath>,
    /// Last part of the worktree path, which tools show.
    pub name: String,
    /// Hash function of its objects: `sha1` or `sha256`.
    pub object_format: String,
}

/// The environment that a provision was asked to make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The repository that the worktree belongs to.
    pub repository: Repository,
    /// Path of the worktree: inside the managed root, outside every repository.
    pub path: HostPath,
    /// Base revision as typed; none means the repository's default branch.
    pub base: Option<String>,
    /// Branch to check out, without `refs/heads/`.
    pub branch: String,
    /// Whether the branch must exist already; otherwise it must not.
    pub reuse_branch: bool,
    /// Whether to fetch from the remote before the base is resolved.
    pub fetch: bool,
    /// Time limit of the fetch in milliseconds.
    pub fetch_limit_ms: u64,
    /// Whether a failed setup leaves its worktree for inspection.
    pub keep_failed: bool,
    /// Path of the setup hook inside the worktree, if one is run.
    #[serde(with = "empty_is_none")]
    pub setup_path: Option<String>,
    /// Time limit of the setup hook in milliseconds.
    pub setup_limit_ms: u64,
}

/// A record of a kind or version that this program does not know and need not understand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opaque {
    /// Its kind number.
    pub kind: u32,
    /// Its kind version.
    pub version: u16,
    /// Its encoded payload, unchanged.
    pub payload: Vec<u8>,
}
