//! What several events carry: who asked, which repository, the plan of an environment.

use serde::{Deserialize, Serialize};

use crate::core::id::HostPath;

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Actor {
    /// The door it came through: `api`, `session`, `daemon`.
    pub door: String,
    /// User id of the peer process.
    pub uid: u32,
    /// Process id of the peer, 0 when it is not known.
    pub pid: u32,
}

/// The door of what the daemon does by itself.
pub const BY_DAEMON: &str = "daemon";

impl Actor {
    /// The daemon itself.
    #[must_use]
    pub fn daemon() -> Self {
        Self { door: BY_DAEMON.to_owned(), uid: 0, pid: 0 }
    }
}

/// A git repository, as found when it was named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Repository {
    /// The directory that all its worktrees share; real path. Identity of the repository.
    pub common_dir: HostPath,
    /// Where included files are copied from: the worktree the request named; empty when bare.
    pub source: HostPath,
    /// Last part of the worktree path that tools will show.
    pub name: String,
    /// `sha1` or `sha256`.
    pub object_format: String,
}

/// What a provision was asked to make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Where from.
    pub repository: Repository,
    /// Where to: inside the managed root, outside every repository.
    pub path: HostPath,
    /// Base revision as typed; none means the repository's default branch.
    pub base: Option<String>,
    /// Branch to check out, without `refs/heads/`.
    pub branch: String,
    /// Whether the branch must exist already; otherwise it must not.
    pub reuse_branch: bool,
    /// Whether to ask the remote before the base is resolved.
    pub fetch: bool,
    /// Most milliseconds the fetch may take.
    pub fetch_limit_ms: u64,
    /// Whether a failed setup leaves its worktree for inspection.
    pub keep_failed: bool,
    /// Path of the setup hook inside the worktree; empty means none is run.
    pub setup_path: String,
    /// Most milliseconds the setup hook may take.
    pub setup_limit_ms: u64,
}

/// A record of a kind or version that this program does not know and need not understand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opaque {
    /// Its kind number.
    pub kind: u32,
    /// Its kind version.
    pub version: u16,
    /// Its payload, kept as it was.
    pub payload: Vec<u8>,
}
