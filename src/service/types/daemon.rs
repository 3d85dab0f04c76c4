//! Wire types that describe the daemon: its counters, its watches, its session.

use serde::{Deserialize, Serialize};

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DaemonView {
    /// The last record that the data directory is known to have had, when its log was put back from
    /// a backup that had fewer; null in the ordinary case.
    #[serde(default)]
    pub log_had: Option<u64>,
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How many daemons have started on this log.
    pub boot: u32,
    /// Its data directory.
    pub data_dir: String,
    /// The identity of its log, in hex.
    pub log_id: String,
    /// The last record.
    pub seq: u64,
    /// The git that it uses.
    pub git: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// Environments by phase.
    pub environments: std::collections::BTreeMap<String, usize>,
    /// Effects that are owed.
    pub owed: usize,
    /// Scheduling of the log writer: `real-time`, `short slice` or `ordinary`.
    pub priority: String,
    /// Processes that it has started, git's above all.
    pub processes_started: u64,
    /// How changes of worktrees are seen.
    pub watching: WatchingView,
    /// What the last sweep found; absent before the first one has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<LastSweepView>,
    /// How it stands with the control server, where there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionView>,
}

/// What the last sweep found, in short.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct LastSweepView {
    /// When it ended, RFC 3339.
    pub at: String,
    /// How many things that no record explains it found.
    pub found: u64,
    /// How many of them it settled.
    pub settled: u64,
    /// How many of the listed ones are proven managed and are not settled.
    pub unsettled: u64,
    /// Why it was held back; empty when it was not.
    pub held: String,
}

/// How it stands with the control server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct SessionView {
    /// Where the server is.
    pub address: String,
    /// `connecting`, `open`, `waiting`, `ended`.
    pub stage: String,
    /// The name of this host there.
    pub host: String,
    /// The last live set that was taken in.
    pub epoch: u64,
    /// Records that the server has taken in.
    pub acked: u64,
    /// Records that it refused for good.
    pub skipped: u64,
    /// Sessions that were opened.
    pub opened: u64,
    /// Why the last one ended, or could not be opened.
    pub error: String,
}

/// How changes of worktrees are seen, and how often somebody looked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct WatchingView {
    /// `inotify` or `notify`.
    pub backend: String,
    /// Worktrees that are watched.
    pub worktrees: usize,
    /// Directories that are watched.
    pub watches: usize,
    /// Most of them that this daemon takes.
    pub budget: usize,
    /// Most that the system allows the user.
    pub limit: usize,
    /// Instances of the system's in use.
    pub instances: usize,
    /// Who follows changes at the moment.
    pub followers: usize,
    /// Environments by how they are watched: `on`, `arming`, `waiting`, `polling`, `absent`,
    /// `gave_up`.
    pub stages: std::collections::BTreeMap<String, usize>,
    /// Watches of worktrees and repositories that were ever begun.
    pub begun: u64,
    /// Times that the system dropped news.
    pub overflows: u64,
    /// Looks at worktrees that cannot be watched.
    pub polls: u64,
    /// Times that a worktree had to be polled instead.
    pub degraded: u64,
    /// Watches that were given up.
    pub give_ups: u64,
    /// Looks at worktrees because somebody asked.
    pub statuses_computed: u64,
    /// Of these, looks at nothing but what had changed.
    #[serde(default)]
    pub statuses_partial: u64,
    /// Answers without a look.
    pub statuses_shared: u64,
}
