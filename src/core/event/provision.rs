//! What happens while an environment is made, brought back or adopted.

use serde::{Deserialize, Serialize};

use crate::core::event::common::{Actor, Plan};
use crate::core::event::teardown::Rescue;
use crate::core::fault::Fault;
use crate::core::id::{EnvironmentId, HostPath, Nonce, RequestId, Time};

/// Kind 10: somebody asked for an environment; a new incarnation begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionRequested {
    /// Its name.
    pub environment: EnvironmentId,
    /// Which life of the name this is, counted from 1.
    pub incarnation: u32,
    /// What to make.
    pub plan: Plan,
    /// Who asked.
    pub actor: Actor,
    /// Idempotency key, when one was given.
    pub request: Option<RequestId>,
    /// What tells this life from all others; none for one that an earlier version began (since
    /// version 2).
    pub nonce: Option<Nonce>,
    /// The tree from which whoever asked has git read attributes, if any (since version 3).
    pub attributes: Option<String>,
}

/// Kind 11: the base is known and the branch is free (or present, when it is to be reused).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseResolved {
    /// Whose.
    pub environment: EnvironmentId,
    /// What was found.
    pub base: Base,
}

/// Where an environment starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Base {
    /// The commit, in hex.
    pub commit: String,
    /// The full ref it was read from; empty when a commit was named.
    pub reference: String,
    /// The upstream of that ref; empty when it has none.
    pub upstream: String,
    /// Commits of the upstream that the base lacks.
    pub behind: u64,
    /// Commits of the base that the upstream lacks.
    pub ahead: u64,
    /// What the optional fetch did: empty when none was asked for, `done`, or why it failed.
    pub fetch: String,
}

/// Kind 12: the worktree exists, is registered, locked, marked as ours and checked out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorktreeAdded {
    /// Whose.
    pub environment: EnvironmentId,
    /// Its facts.
    pub worktree: Worktree,
}

/// A worktree that this daemon made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Worktree {
    /// Its administrative directory inside the repository.
    pub admin_dir: HostPath,
    /// Device of its root directory.
    pub device: u64,
    /// Inode of its root directory.
    pub inode: u64,
    /// How it was checked out: `parallel` (by us) or `git`.
    pub checkout: String,
    /// Why git's own checkout was used; empty for `parallel`.
    pub checkout_reason: String,
    /// Tracked files written.
    pub files: u64,
    /// Whether index entries are as young as the index, so that every status re-reads the files
    /// until the index is refreshed once.
    pub racy: bool,
    /// Whether the repository names files to include.
    pub has_include: bool,
    /// Whether the worktree has the setup hook that was planned.
    pub has_setup: bool,
}

/// Kind 13: git-ignored files named by `.worktreeinclude` were copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesIncluded {
    /// Whose.
    pub environment: EnvironmentId,
    /// What was copied and what was not.
    pub included: Included,
}

/// The result of an include copy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Included {
    /// Files and links made.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many files share their blocks with the source.
    pub reflinked: u64,
    /// What was skipped and why; bounded.
    pub skipped: Vec<String>,
}

/// Kind 14: the setup hook's process exists and waits at its gate; it has not run yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupStarted {
    /// Whose.
    pub environment: EnvironmentId,
    /// Process and group id.
    pub pid: u32,
    /// Start time of that process as the kernel tells it, so that a reused pid is recognised.
    pub started: u64,
    /// SHA-256 of the hook, in hex.
    pub hash: String,
}

/// Kind 15: the setup hook ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupFinished {
    /// Whose.
    pub environment: EnvironmentId,
    /// How it went.
    pub report: SetupReport,
}

/// How a setup hook ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SetupReport {
    /// Milliseconds it took.
    pub millis: u64,
    /// Bytes it printed; the transcript file keeps a bounded part.
    pub output_bytes: u64,
    /// Where the transcript is.
    pub transcript: HostPath,
}

/// Kind 16: the environment may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentReady {
    /// Which.
    pub environment: EnvironmentId,
}

/// Kind 17: provisioning cannot succeed; what it made is rolled back (or kept, when asked).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionFailed {
    /// Whose.
    pub environment: EnvironmentId,
    /// The step that failed.
    pub step: String,
    /// The first error; later ones never replace it.
    pub fault: Fault,
    /// Whether the worktree stays for inspection.
    pub kept: bool,
}

/// Kind 18: somebody asked to stop provisioning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequested {
    /// Of which environment.
    pub environment: EnvironmentId,
    /// Who asked.
    pub actor: Actor,
}

/// Kind 19: nothing that the failed or cancelled provision made is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// Whose.
    pub environment: EnvironmentId,
    /// What could not be removed after all attempts; empty in the ordinary case.
    pub leftovers: Vec<String>,
    /// Where its directory is, when somebody may have worked in it (since version 2).
    pub trash: Option<HostPath>,
    /// The commit that its HEAD was at; empty when that is not known (since version 3).
    pub head: String,
    /// What was saved of the work in it (since version 3).
    pub rescue: Option<Rescue>,
}

/// Kind 20: an attempt at a step failed and will be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFailed {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which step.
    pub step: String,
    /// How many attempts have failed now.
    pub attempts: u32,
    /// When the next one may start.
    pub retry_at: Time,
    /// Why.
    pub fault: Fault,
}

/// Kind 21: the index was refreshed, so that later status calls are cheap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRefreshed {
    /// Whose.
    pub environment: EnvironmentId,
    /// Whether it was done; an index locked by somebody else is left alone.
    pub done: bool,
}

/// Kind 22: somebody asked to have an incarnation back that is over; a new one begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequested {
    /// Its name.
    pub environment: EnvironmentId,
    /// Which life of the name begins.
    pub incarnation: u32,
    /// Where it comes from.
    pub from: RestoreFrom,
    /// What to make, should it have to be made anew.
    pub plan: Plan,
    /// Who asked.
    pub actor: Actor,
    /// Idempotency key, when one was given.
    pub request: Option<RequestId>,
    /// What tells this life from all others (since version 2).
    pub nonce: Option<Nonce>,
}

/// What an incarnation is restored from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestoreFrom {
    /// The life that is over.
    pub incarnation: u32,
    /// Its directory in the trash; none when only the rescue ref is left.
    pub trash: Option<HostPath>,
    /// The commit that its HEAD was at, in hex.
    pub head: String,
    /// The commit that holds its working tree; empty when there was nothing to rescue.
    pub rescue: String,
    /// What told the life that is over from all others (since version 2 of kind 22).
    pub nonce: Option<Nonce>,
    /// All that was saved of it (since version 2 of kind 22).
    pub saved: Option<Rescue>,
}

/// Kind 23: the directory is back from the trash, registered and locked as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Whose.
    pub environment: EnvironmentId,
    /// Its facts.
    pub worktree: Worktree,
    /// The branch that is checked out now; another one when the old name was taken meanwhile.
    pub branch: String,
}

/// Kind 24: the working tree and index that a rescue held are in the new worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueApplied {
    /// Whose.
    pub environment: EnvironmentId,
}

/// Kind 25: a worktree that somebody else made is watched and leased from now on. It is never
/// deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentAdopted {
    /// Its name.
    pub environment: EnvironmentId,
    /// Which life of the name this is.
    pub incarnation: u32,
    /// Where it is; the path lies outside the managed root.
    pub plan: Plan,
    /// The commit it was at.
    pub head: String,
    /// Its facts.
    pub worktree: Worktree,
    /// Who asked.
    pub actor: Actor,
    /// What tells this life from all others (since version 2).
    pub nonce: Option<Nonce>,
}
