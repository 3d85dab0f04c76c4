//! Events about the daemon, its data directory and trash limits, leases, trust, processes, sweeps.

use serde::{Deserialize, Serialize};

use crate::empty_is_none;
use crate::event::common::Actor;
use crate::id::{EnvironmentId, HostPath, LeaseId, Nonce, RequestId, Seq, Time};

/// Kind 1: a daemon opened the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStarted {
    /// Process id of the daemon.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
}

/// Kind 2: a daemon closed the log in an orderly way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStopped {
    /// Why: `signal`, `request`.
    pub reason: String,
}

/// Kind 3: the limits of the trash have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionChanged {
    /// The new limits.
    pub retention: Retention,
}

/// Kind 4: the data directory was moved; every path inside it moved along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDirectoryMoved {
    /// Its previous path.
    pub from: HostPath,
    /// Its present path.
    pub to: HostPath,
}

/// Kind 5: this data directory is a copy; everything its log describes belongs to the original. The
/// copy keeps only the history, and has an identity of its own from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDirectoryCopied {
    /// Path of the original.
    pub original: HostPath,
}

/// Kind 6: the log ends before records that were already acted on: it was restored from a backup.
/// Incarnations that began since are unknown to it, and nothing touches them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFoundOlder {
    /// The last record that the directory is known to have had.
    pub had: Seq,
}

/// Kind 7: the state forgets finished lives, the oldest first. What it must know of them later
/// comes from an index that is made of these records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivesForgotten {
    /// The forgotten lives.
    pub lives: Vec<FormerLife>,
}

/// Kind 8: the oldest records were trimmed: from here on the log begins after them, with the state
/// that they led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTrimmed {
    /// The last trimmed record.
    pub last: Seq,
    /// Why: `age` or `size`.
    pub reason: String,
    /// SHA-256 of the state after that record, in hex.
    pub state: String,
    /// The file that has the trimmed records; none where they are not kept.
    pub segment: Option<LogSegment>,
}

/// A file in `log-archive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSegment {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its content, in hex.
    pub sha256: String,
}

/// A life that is over and that the state has forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerLife {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Number of the incarnation; every earlier one is over, too.
    pub incarnation: u32,
    /// Nonce of the incarnation; none where an earlier version began it.
    pub nonce: Option<Nonce>,
    /// The record that began it.
    pub begun: Seq,
    /// The last record about it.
    pub last: Seq,
    /// When it ended.
    pub ended_at: Time,
    /// Whether it was never ready: its provision failed.
    pub failed: bool,
}

/// Kind 52: a repository was moved; marker and log prove that it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryMoved {
    /// Previous path of its common directory.
    pub from: HostPath,
    /// Present path of its common directory.
    pub to: HostPath,
}

/// Limits of the trash.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Retention {
    /// Seconds until a directory in the trash is unlinked.
    pub trash_seconds: u64,
    /// Most bytes in the trash; past it rebuildable output is unlinked first, then the oldest.
    pub trash_bytes: u64,
    /// Seconds until the output of a clean is unlinked.
    pub clean_seconds: u64,
    /// Seconds until a rescue is dropped, if that is more than `trash_seconds`; none for never.
    pub rescue_seconds: Option<u64>,
}

/// Kind 40: an environment is in use until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGranted {
    /// The leased environment.
    pub environment: EnvironmentId,
    /// The lease; granting it again moves its end.
    pub lease: LeaseId,
    /// When it ends by itself.
    pub until: Time,
    /// Reason, in the words of the holder.
    pub purpose: String,
    /// The actor of the request.
    pub actor: Actor,
    /// Idempotency key, when one was given.
    pub request: Option<RequestId>,
}

/// Kind 41: a lease was released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReleased {
    /// The leased environment.
    pub environment: EnvironmentId,
    /// The released lease.
    pub lease: LeaseId,
}

/// Kind 42: a lease reached its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseExpired {
    /// The leased environment.
    pub environment: EnvironmentId,
    /// The lease that ended.
    pub lease: LeaseId,
}

/// Kind 50: the user allowed hooks of this content in this repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryTrusted {
    /// Common directory of the repository.
    pub repository: HostPath,
    /// SHA-256 of the hook, in hex.
    pub hash: String,
    /// The user who allowed it.
    pub actor: Actor,
}

/// Kind 51: the user withdrew all trust in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryDistrusted {
    /// Common directory of the repository.
    pub repository: HostPath,
    /// The user who withdrew it.
    pub actor: Actor,
}

/// Kind 80: a command was started for an environment; it waits until this record is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStarted {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Process id of the command.
    pub pid: u32,
    /// Start time of that process as the kernel reports it.
    pub started: u64,
    /// Name of its program, without arguments, which may hold secrets.
    pub name: String,
    /// The actor of the request.
    pub actor: Actor,
}

/// Kind 81: a command that was started for an environment has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessExited {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Process id of the command.
    pub pid: u32,
}

/// Kind 90: a user or the start of a daemon requested a search for what no record explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepRequested {
    /// Whether findings that are proven managed are settled, or only reported.
    pub apply: bool,
    /// Most directories, registrations, refs and processes it may settle; with more it settles none
    /// of them and waits for another request.
    pub limit: u64,
    /// The actor of the request.
    pub actor: Actor,
}

/// Kind 91: a sweep has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SweepFinished {
    /// The findings; bounded.
    pub findings: Vec<Finding>,
    /// Number of findings.
    pub found: u64,
    /// Number of findings that were settled.
    pub settled: u64,
    /// Why it stopped before the end, if it did.
    #[serde(with = "empty_is_none")]
    pub held: Option<String>,
}

/// One thing that no record explains.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Finding {
    /// Kind of thing: `directory`, `registration`, `staging`, `lock`, `temporary`, `process`, ...
    pub kind: String,
    /// Its path on this host.
    pub path: HostPath,
    /// Whether marker and log prove that it is managed.
    pub ours: bool,
    /// Whether it was settled.
    pub settled: bool,
    /// What is known about it, and the next step.
    pub detail: String,
}

impl Finding {
    /// Returns whether the limit of a sweep counts it: a directory, a registration, a ref or a
    /// process. Lock files, staging names and the like hold nothing, so any number may go.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        matches!(self.kind.as_str(), "directory" | "trash" | "registration" | "ref" | "process")
    }
}
