//! Events while an environment is made, restored or adopted.

use serde::{Deserialize, Serialize};

use crate::empty_is_none;
use crate::event::common::{Actor, Plan};
use crate::event::names::CheckoutMethod;
use crate::event::teardown::Rescue;
use crate::fault::Fault;
use crate::id::{EnvironmentId, HostPath, Nonce, RequestId, Time};

/// Kind 10: an environment was requested; a new incarnation begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionRequested {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Number of the new incarnation, counted from 1.
    pub incarnation: u32,
    /// The environment to make.
    pub plan: Plan,
    /// The actor of the request.
    pub actor: Actor,
    /// Idempotency key, when one was given.
    pub request: Option<RequestId>,
    /// Nonce of the new incarnation; none where an earlier version began it (since version 2).
    pub nonce: Option<Nonce>,
    /// The tree from which git reads attributes, if the request named one (since version 3).
    pub attributes: Option<String>,
}

/// Kind 11: the base is known and the branch is free (or present, when it is to be reused).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseResolved {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The base that was found.
    pub base: Base,
}

/// The commit that an environment starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Base {
    /// The commit, in hex.
    pub commit: String,
    /// The full ref it was read from; none where the request named a commit.
    #[serde(with = "empty_is_none")]
    pub reference: Option<String>,
    /// The upstream of that ref, if it has one.
    #[serde(with = "empty_is_none")]
    pub upstream: Option<String>,
    /// Commits of the upstream that the base lacks.
    pub behind: u64,
    /// Commits of the base that the upstream lacks.
    pub ahead: u64,
    /// Result of the fetch, if one was requested: `done`, or why it failed.
    #[serde(with = "empty_is_none")]
    pub fetch: Option<String>,
}

/// Kind 12: the worktree exists, is registered, locked, marked as managed and checked out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorktreeAdded {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Facts about the worktree.
    pub worktree: Worktree,
}

/// A worktree that belongs to an environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Worktree {
    /// Its administrative directory inside the repository.
    pub admin_dir: HostPath,
    /// Device of its root directory.
    pub device: u64,
    /// Inode of its root directory.
    pub inode: u64,
    /// How its files were put in place.
    pub checkout: CheckoutMethod,
    /// Why git's own checkout was used; none for `parallel`.
    #[serde(with = "empty_is_none")]
    pub checkout_reason: Option<String>,
    /// Number of tracked files written.
    pub files: u64,
    /// Whether index entries are as young as the index, so that every status re-reads the files
    /// until the index is refreshed once.
    pub racy: bool,
    /// Whether the repository names files to include.
    pub has_include: bool,
    /// Whether the worktree has the setup hook of the plan.
    pub has_setup: bool,
}

/// Kind 13: git-ignored files named by `.worktreeinclude` were copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesIncluded {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// What was copied and what was not.
    pub included: Included,
}

/// The result of an include copy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Included {
    /// Files and links made.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Number of files that share their blocks with the source.
    pub reflinked: u64,
    /// What was skipped and why; bounded.
    pub skipped: Vec<String>,
}

/// Kind 14: the setup hook's process exists and waits at its gate; it has not run yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupStarted {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Process and group id.
    pub pid: u32,
    /// Start time of that process as the kernel reports it, so that a reused pid is recognised.
    pub started: u64,
    /// SHA-256 of the hook, in hex.
    pub hash: String,
}

/// Kind 15: the setup hook succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupFinished {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Result of the hook.
    pub report: SetupReport,
    /// Last lines of its output; the transcript, which has more, is not kept for ever.
    pub tail: Vec<String>,
}

/// Result of a setup hook.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SetupReport {
    /// Duration in milliseconds.
    pub millis: u64,
    /// Bytes it printed; the transcript file keeps a bounded part.
    pub output_bytes: u64,
    /// Path of the transcript.
    pub transcript: HostPath,
}

/// Kind 16: the environment is in service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentReady {
    /// The environment's id.
    pub environment: EnvironmentId,
}

/// Kind 17: provisioning failed for good; its work is rolled back (or kept, when requested).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionFailed {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Name of the step that failed.
    pub step: String,
    /// The first error; later ones never replace it.
    pub fault: Fault,
    /// Whether the worktree stays for inspection.
    pub kept: bool,
}

/// Kind 18: a requester wants provisioning, or the retries of a failed teardown, to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequested {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The actor of the request.
    pub actor: Actor,
}

/// Kind 19: everything that the failed or cancelled provision made is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// What could not be removed after all attempts; usually empty.
    pub leftovers: Vec<String>,
    /// The directory's place in the trash, when it may hold work (since version 2).
    pub trash: Option<HostPath>,
    /// The commit at HEAD, if it is known (since version 3).
    #[serde(with = "empty_is_none")]
    pub head: Option<String>,
    /// The rescue of the work in it (since version 3).
    pub rescue: Option<Rescue>,
}

/// Kind 20: an attempt at a step failed and will be retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFailed {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Name of the step.
    pub step: String,
    /// Failed attempts, this one included.
    pub attempts: u32,
    /// When the next one may start.
    pub retry_at: Time,
    /// Why the attempt failed.
    pub fault: Fault,
}

/// Kind 21: the index was refreshed, so that later status calls are cheap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRefreshed {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Whether it was done; an index that another process has locked is left alone.
    pub done: bool,
}

/// Kind 22: a restore of an ended incarnation was requested; a new incarnation begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequested {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Number of the new incarnation.
    pub incarnation: u32,
    /// The archive it is restored from.
    pub from: RestoreFrom,
    /// The environment to make, should it have to be made anew.
    pub plan: Plan,
    /// The actor of the request.
    pub actor: Actor,
    /// Idempotency key, when one was given.
    pub request: Option<RequestId>,
    /// Nonce of the new incarnation (since version 2).
    pub nonce: Option<Nonce>,
}

/// The archive that an incarnation is restored from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestoreFrom {
    /// The ended incarnation.
    pub incarnation: u32,
    /// Its directory in the trash; none when only the rescue ref is left.
    pub trash: Option<HostPath>,
    /// The commit at HEAD, in hex; none where there was none.
    #[serde(with = "empty_is_none")]
    pub head: Option<String>,
    /// The commit that holds its working tree; none where there was nothing to rescue.
    #[serde(with = "empty_is_none")]
    pub rescue: Option<String>,
    /// Nonce of the ended incarnation (since version 2 of kind 22).
    pub nonce: Option<Nonce>,
    /// Everything that was saved of it (since version 2 of kind 22).
    pub saved: Option<Rescue>,
}

/// Kind 23: the directory is back from the trash, registered and locked as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Facts about the worktree.
    pub worktree: Worktree,
    /// The branch that is checked out; another one when the old name was taken meanwhile.
    pub branch: String,
}

/// Kind 24: the working tree and index that a rescue held are in the new worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueApplied {
    /// The environment's id.
    pub environment: EnvironmentId,
}

/// Kind 25: a foreign worktree is watched and leased from now on. It is never deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentAdopted {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Number of the new incarnation.
    pub incarnation: u32,
    /// Its repository and path, which lies outside the managed root.
    pub plan: Plan,
    /// The commit at HEAD.
    pub head: String,
    /// Facts about the worktree.
    pub worktree: Worktree,
    /// The actor of the request.
    pub actor: Actor,
    /// Nonce of the new incarnation (since version 2).
    pub nonce: Option<Nonce>,
}
