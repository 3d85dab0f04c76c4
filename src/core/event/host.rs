//! What happens to the daemon itself, and the claims and consents of its users.

use serde::{Deserialize, Serialize};

use crate::core::event::common::Actor;
use crate::core::id::{EnvironmentId, HostPath, LeaseId, RequestId, Seq, Time};

/// Kind 1: a daemon opened the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStarted {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

/// Kind 2: a daemon closed the log in an orderly way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStopped {
    /// Why: `signal`, `request`.
    pub reason: String,
}

/// Kind 3: how long what was removed is kept, from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionChanged {
    /// The new limits.
    pub retention: Retention,
}

/// Kind 4: the data directory has another place than before; every path in it moved along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDirectoryMoved {
    /// Where it was.
    pub from: HostPath,
    /// Where it is.
    pub to: HostPath,
}

/// Kind 5: this data directory is a copy; what its log knows of is the original's. The copy has
/// nothing but history, and an identity of its own from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDirectoryCopied {
    /// Where the original is.
    pub original: HostPath,
}

/// Kind 6: the log is older than what was done by it: it was put back from a backup. Lives that
/// began since are unknown to it, and are touched by nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFoundOlder {
    /// The last record that the directory is known to have had.
    pub had: Seq,
}

/// Kind 52: a repository has another place than before; marker and log tell that it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryMoved {
    /// Its common directory, as it was.
    pub from: HostPath,
    /// Its common directory, as it is.
    pub to: HostPath,
}

/// How long what was removed is kept in the trash.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Retention {
    /// Seconds until a directory in the trash is unlinked.
    pub trash_seconds: u64,
    /// Bytes that the trash may hold; past that what can be rebuilt goes first, then the oldest.
    pub trash_bytes: u64,
    /// Seconds until what a clean took is unlinked.
    pub clean_seconds: u64,
}

/// Kind 40: an environment is in use until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGranted {
    /// Which environment.
    pub environment: EnvironmentId,
    /// The lease; granting it again moves its end.
    pub lease: LeaseId,
    /// When it ends by itself.
    pub until: Time,
    /// What for, in the words of the holder.
    pub purpose: String,
    /// Who asked.
    pub actor: Actor,
    /// Idempotency key, when one was given.
    pub request: Option<RequestId>,
}

/// Kind 41: a lease was given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReleased {
    /// Which environment.
    pub environment: EnvironmentId,
    /// Which lease.
    pub lease: LeaseId,
}

/// Kind 42: a lease reached its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseExpired {
    /// Which environment.
    pub environment: EnvironmentId,
    /// Which lease.
    pub lease: LeaseId,
}

/// Kind 50: the user allowed hooks of this content in this repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryTrusted {
    /// Common directory of the repository.
    pub repository: HostPath,
    /// SHA-256 of the hook, in hex.
    pub hash: String,
    /// Who allowed it.
    pub actor: Actor,
}

/// Kind 51: the user took all trust in a repository back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryDistrusted {
    /// Common directory of the repository.
    pub repository: HostPath,
    /// Who took it back.
    pub actor: Actor,
}

/// Kind 80: a command was started for an environment; it waits until this is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStarted {
    /// Which environment.
    pub environment: EnvironmentId,
    /// Process id.
    pub pid: u32,
    /// Start time of that process as the kernel tells it.
    pub started: u64,
    /// Name of its program, without arguments, which may hold secrets.
    pub name: String,
    /// Who started it.
    pub actor: Actor,
}

/// Kind 81: a command that was started for an environment is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessExited {
    /// Which environment.
    pub environment: EnvironmentId,
    /// Process id.
    pub pid: u32,
}

/// Kind 90: somebody (or the start of a daemon) asked to look for what no record explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepRequested {
    /// Whether what is proven ours is settled, or only named.
    pub apply: bool,
    /// Most things it may settle before it stops and asks.
    pub limit: u64,
    /// Who asked.
    pub actor: Actor,
}

/// Kind 91: a sweep has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SweepFinished {
    /// What was found, bounded.
    pub findings: Vec<Finding>,
    /// How many were found.
    pub found: u64,
    /// How many were settled.
    pub settled: u64,
    /// Why it stopped before the end; empty when it did not.
    pub held: String,
}

/// One thing that no record explains.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Finding {
    /// What it is: `directory`, `registration`, `staging`, `lock`, `temporary`, `process`, ...
    pub kind: String,
    /// Where it is.
    pub path: HostPath,
    /// Whether marker and log prove that it is ours.
    pub ours: bool,
    /// Whether it was settled.
    pub settled: bool,
    /// What is known of it, and what to do.
    pub detail: String,
}
