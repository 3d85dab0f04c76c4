//! Events while an environment is torn down.

use serde::{Deserialize, Serialize};

use crate::empty_is_none;
use crate::event::common::Actor;
use crate::event::names::TeardownReason;
use crate::fault::Fault;
use crate::id::{EnvironmentId, HostPath, RequestId, Time};
use crate::policy::BranchPolicy;

/// Kind 30: a teardown was requested, with a consent of this extent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyRequested {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Whether work at risk may go to the trash.
    pub force: bool,
    /// The actor of the request.
    pub actor: Actor,
    /// Idempotency key, when one was given.
    pub request: Option<RequestId>,
    /// Options of the teardown (since version 2).
    pub options: TeardownOptions,
}

/// Options of a teardown, kept for all its steps and retries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TeardownOptions {
    /// Policy for the branch.
    pub branch: BranchPolicy,
    /// Path of the teardown hook inside the worktree, if one is run.
    #[serde(with = "empty_is_none")]
    pub hook_path: Option<String>,
    /// Time limit of the teardown hook in milliseconds.
    pub hook_limit_ms: u64,
    /// Milliseconds that processes get to end by themselves.
    pub grace_ms: u64,
    /// Whether processes that merely have the directory as working directory are ended, too.
    pub end_bystanders: bool,
    /// Whether work is left to the trash alone, because a rescue is impossible (a full disk).
    pub no_rescue: bool,
    /// Why.
    pub reason: TeardownReason,
}

/// Kind 31: the destroy was refused for what was found; the environment is served as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyRefused {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Reason of the refusal, with the evidence.
    pub fault: Fault,
}

/// Kind 32: the worktree was inspected, and the teardown may go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownInspected {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Work that goes to the trash by consent; empty when nothing would be lost.
    pub unsaved: Vec<String>,
    /// SHA-256 over everything inspected, in hex: the consent covers exactly this. None where the
    /// tree could not be inspected (since version 2, as all that follows).
    #[serde(with = "empty_is_none")]
    pub fingerprint: Option<String>,
    /// The commit at HEAD, if there is one.
    #[serde(with = "empty_is_none")]
    pub head: Option<String>,
    /// Whether there is work for a rescue to save.
    pub rescue: bool,
    /// Whether the worktree has the teardown hook of the options.
    pub has_hook: bool,
    /// Whether no process uses the worktree.
    pub quiet: bool,
    /// Content that is removed with it and is not work, but is worth reporting: a clone with
    /// nothing of its own (since version 3, as all that follows).
    pub noted: Vec<String>,
    /// Whether its repository could not be read, so that it is unknown which content is saved.
    pub unseen: bool,
    /// The branch that is checked out, if there is one.
    #[serde(with = "empty_is_none")]
    pub branch: Option<String>,
}

/// Kind 33: the directory was moved out of its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryTrashed {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Its place in the trash; none when the directory was missing already.
    pub trash: Option<HostPath>,
}

/// Kind 34: git no longer has the worktree registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationRemoved {
    /// The environment's id.
    pub environment: EnvironmentId,
}

/// Kind 35: the branch was deleted or kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchSettled {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Why it was kept, or that it held nothing of its own.
    pub reason: String,
    /// Refs that hold work of the worktree that no branch holds.
    pub rescue: Vec<String>,
}

/// Kind 36: the incarnation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstoned {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// What could not be removed after all attempts; usually empty.
    pub leftovers: Vec<String>,
}

/// Kind 37: the teardown could not move the directory; the environment is served again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownGaveUp {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Name of the step.
    pub step: String,
    /// Why it was given up.
    pub fault: Fault,
}

/// Kind 60: the teardown hook's process exists and waits at its gate; it has not run yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownHookStarted {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Process and group id.
    pub pid: u32,
    /// Start time of that process as the kernel reports it.
    pub started: u64,
    /// SHA-256 of the hook, in hex.
    pub hash: String,
}

/// Kind 61: the teardown hook ended, or could not be run; the teardown goes on either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownHookFinished {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Duration in milliseconds.
    pub millis: u64,
    /// Why it failed; none when it succeeded.
    pub fault: Option<Fault>,
    /// Last lines of its output, when it succeeded; a fault has them as evidence.
    pub tail: Vec<String>,
}

/// One process, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessSeen {
    /// Process id; a later process may reuse it.
    pub pid: u32,
    /// Start time as the kernel reports it; with the pid it identifies one process for ever.
    pub started: u64,
    /// Name of its program, without arguments, which may hold secrets.
    pub name: String,
    /// Its tie to the environment: `cgroup`, `group`, `marker`, `child`, `cwd`, `root`, `file`.
    pub why: String,
}

/// Kind 62: the processes of the environment were ended, spared, or survived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessesEnded {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Processes that were ended and are proven to have exited.
    pub ended: Vec<ProcessSeen>,
    /// Processes that were left running: bystanders, and the daemon's and requester's ancestors.
    pub spared: Vec<ProcessSeen>,
    /// Processes alive after KILL; they delay the unlink and nothing else.
    pub survivors: Vec<ProcessSeen>,
}

/// Kind 63: a ref (since version 2: and copies) holds work that no branch holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkRescued {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// The ref and its content; none when there was nothing to save after all.
    pub rescue: Option<Rescue>,
}

/// Prefix of the refs that hold many rescues each: one for every log that has any.
pub const FOLDED: &str = "refs/groundskeeper/folded/";

/// A ref that holds work of a worktree that no branch holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rescue {
    /// Full name of the ref; none where raw copies are all that was saved.
    #[serde(with = "empty_is_none")]
    pub reference: Option<String>,
    /// The commit it is at: the working tree, with HEAD and the index as parents.
    #[serde(with = "empty_is_none")]
    pub commit: Option<String>,
    /// What it holds, in words.
    pub holds: Vec<String>,
    /// What it could not hold and is in the trash only, in words.
    pub lacks: Vec<String>,
    /// Copies of files that git would not return byte for byte; none where there are none (since
    /// version 2 of kinds 63 and 76, as all that follows).
    pub raw: Option<RawCopies>,
    /// Repositories that were nested in the worktree.
    pub nested: Vec<NestedRescue>,
}

impl Rescue {
    /// Returns whether any part of it has a ref of its own. One that was folded is held by the ref
    /// that all folded rescues of its repository and log share.
    #[must_use]
    pub fn has_own_ref(&self) -> bool {
        self.references().any(|(reference, _)| !is_folded(reference))
    }

    /// Returns the refs that hold it and its nested repositories, each with its commit.
    pub fn references(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = [(self.reference.as_deref(), self.commit.as_deref())];
        let nested = self.nested.iter().map(|n| (n.reference.as_deref(), n.commit.as_deref()));
        own.into_iter().chain(nested).filter_map(|(reference, commit)| Some((reference?, commit?)))
    }
}

/// Returns whether a ref holds many rescues, so that each of them is addressed by its commit.
#[must_use]
pub fn is_folded(reference: &str) -> bool {
    reference.starts_with(FOLDED)
}

/// Byte-for-byte copies of files, beside the log: those that a filter changes or git does not take.
/// They never become objects, since the filter may be there to keep a secret out of git.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RawCopies {
    /// The folder that holds the copies and their list.
    pub folder: HostPath,
    /// Number of files, links and modes in the list.
    pub files: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// SHA-256 of the list in hex; the list holds the hashes of the contents.
    pub digest: String,
}

/// The rescue of a nested repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NestedRescue {
    /// Its path, relative to the worktree.
    pub path: HostPath,
    /// The ref in the outer repository that holds its commits and files; none where they could not
    /// be transferred, and are among the raw copies alone.
    #[serde(with = "empty_is_none")]
    pub reference: Option<String>,
    /// The commit that the ref is at.
    #[serde(with = "empty_is_none")]
    pub commit: Option<String>,
    /// The commit at its HEAD, if there was one.
    #[serde(with = "empty_is_none")]
    pub head: Option<String>,
}

/// Kind 64: the tree differs from the one the consent covers; it is inspected again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectionOutdated {
    /// The environment's id.
    pub environment: EnvironmentId,
}

/// Kind 65: the teardown could not go on; the environment is served and a retry is due later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownPostponed {
    /// The environment's id.
    pub environment: EnvironmentId,
    /// Name of the step.
    pub step: String,
    /// Why it was postponed.
    pub fault: Fault,
    /// Failed teardowns in a row, this one included.
    pub failures: u32,
    /// When the next one may start.
    pub retry_at: Time,
}
