//! What happens while an environment is taken apart.

use serde::{Deserialize, Serialize};

use crate::core::event::common::Actor;
use crate::core::fault::Fault;
use crate::core::id::{EnvironmentId, HostPath, RequestId, Time};
use crate::core::policy::BranchPolicy;

/// Kind 30: somebody asked to destroy an environment, and agreed to this much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyRequested {
    /// Which.
    pub environment: EnvironmentId,
    /// Whether unsaved work may go to the trash.
    pub force: bool,
    /// Who asked.
    pub actor: Actor,
    /// Idempotency key, when one was given.
    pub request: Option<RequestId>,
    /// How it is to be done (since version 2).
    pub options: TeardownOptions,
}

/// How a teardown is to be done; it travels with the operation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TeardownOptions {
    /// What becomes of the branch.
    pub branch: BranchPolicy,
    /// Path of the teardown hook inside the worktree; empty means none is run.
    pub hook_path: String,
    /// Most milliseconds the teardown hook may take.
    pub hook_limit_ms: u64,
    /// Milliseconds that processes get to end by themselves.
    pub grace_ms: u64,
    /// Whether processes that merely stand in the directory are ended, too.
    pub end_bystanders: bool,
    /// Whether work is left to the trash alone, because a rescue cannot be had (a full disk).
    pub no_rescue: bool,
    /// Why: `request`, `gc`, `sweep`, `reconcile`.
    pub reason: String,
}

/// Kind 31: the destroy was refused by what was found; the environment is served as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyRefused {
    /// Which.
    pub environment: EnvironmentId,
    /// What was found.
    pub fault: Fault,
}

/// Kind 32: the worktree was looked at, and the destroy may go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownInspected {
    /// Which.
    pub environment: EnvironmentId,
    /// Work that goes to the trash by consent; empty when nothing would be lost.
    pub unsaved: Vec<String>,
    /// SHA-256 over all that was looked at, in hex: the consent is about exactly this (since
    /// version 2, as all that follows).
    pub fingerprint: String,
    /// The commit that HEAD is at; empty when there is none.
    pub head: String,
    /// Whether there is anything that a rescue would save.
    pub rescue: bool,
    /// Whether the worktree has the teardown hook that was planned.
    pub has_hook: bool,
    /// Whether no process had anything to do with it.
    pub quiet: bool,
    /// What goes with it and is no work, and yet worth a word: a clone that has nothing of its own
    /// (since version 3, as all that follows).
    pub noted: Vec<String>,
    /// Whether its repository could not be looked into, so that nobody knows what is saved.
    pub unseen: bool,
    /// The branch that is checked out; empty when there is none.
    pub branch: String,
}

/// Kind 33: the directory has left its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryTrashed {
    /// Which.
    pub environment: EnvironmentId,
    /// Where it is now; none when it was gone already.
    pub trash: Option<HostPath>,
}

/// Kind 34: git no longer knows the worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationRemoved {
    /// Which.
    pub environment: EnvironmentId,
}

/// Kind 35: what became of the branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchSettled {
    /// Which.
    pub environment: EnvironmentId,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Why it was kept, or that it held nothing of its own.
    pub reason: String,
    /// Refs that hold what the worktree had and no branch has.
    pub rescue: Vec<String>,
}

/// Kind 36: the incarnation is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstoned {
    /// Which.
    pub environment: EnvironmentId,
    /// What could not be removed after all attempts; empty in the ordinary case.
    pub leftovers: Vec<String>,
}

/// Kind 37: the teardown could not move the directory; the environment is served again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownGaveUp {
    /// Which.
    pub environment: EnvironmentId,
    /// Which step.
    pub step: String,
    /// Why.
    pub fault: Fault,
}

/// Kind 60: the teardown hook's process exists and waits at its gate; it has not run yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownHookStarted {
    /// Whose.
    pub environment: EnvironmentId,
    /// Process and group id.
    pub pid: u32,
    /// Start time of that process as the kernel tells it.
    pub started: u64,
    /// SHA-256 of the hook, in hex.
    pub hash: String,
}

/// Kind 61: the teardown hook ended, or could not be run; the teardown goes on either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownHookFinished {
    /// Whose.
    pub environment: EnvironmentId,
    /// Milliseconds it took.
    pub millis: u64,
    /// Why it did not end well; none when it did.
    pub fault: Option<Fault>,
}

/// One process, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessSeen {
    /// Process id.
    pub pid: u32,
    /// Start time as the kernel tells it; with the pid it names one process for ever.
    pub started: u64,
    /// Name of its program, without arguments, which may hold secrets.
    pub name: String,
    /// What ties it to the environment: `cgroup`, `group`, `marker`, `child`, `cwd`, `root`,
    /// `file`.
    pub why: String,
}

/// Kind 62: what lived in the environment was ended, or spared, or survived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessesEnded {
    /// Whose.
    pub environment: EnvironmentId,
    /// Ended, and seen to be gone.
    pub ended: Vec<ProcessSeen>,
    /// Left alone: bystanders, and our own ancestors.
    pub spared: Vec<ProcessSeen>,
    /// Alive after KILL; they hold up the unlink and nothing else.
    pub survivors: Vec<ProcessSeen>,
}

/// Kind 63: what no branch has is held by a ref (since version 2: and by copies).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkRescued {
    /// Whose.
    pub environment: EnvironmentId,
    /// The ref and what it holds; none when there was nothing to save after all.
    pub rescue: Option<Rescue>,
}

/// A ref that holds what a worktree had and no branch has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rescue {
    /// Its name.
    pub reference: String,
    /// The commit it is at: the working tree, with HEAD and the index as parents.
    pub commit: String,
    /// What it holds, in words.
    pub holds: Vec<String>,
    /// What could not be put into it; it is in the trash only.
    pub lacks: Vec<String>,
    /// Copies of files that git would not give back as they are; none where there are no such files
    /// (since version 2 of kinds 63 and 76, as all that follows).
    pub raw: Option<RawCopies>,
    /// Repositories that were inside the worktree.
    pub nested: Vec<NestedRescue>,
}

/// Files as they were, byte for byte, beside the log: what a filter changes, or git does not take.
/// They never become objects, for a filter may be there to keep a secret out of git.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RawCopies {
    /// The folder that holds them and the list of them.
    pub folder: HostPath,
    /// How many files, links and modes are listed.
    pub files: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// SHA-256 of the list in hex; the list has those of the contents.
    pub digest: String,
}

/// What was saved of a repository inside a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NestedRescue {
    /// Where it was, relative to the worktree.
    pub path: HostPath,
    /// The ref in the outer repository that holds its commits and its files; empty when they could
    /// not be brought there, and are among the raw copies alone.
    pub reference: String,
    /// The commit that ref is at.
    pub commit: String,
    /// The commit that its HEAD was at; empty when there was none.
    pub head: String,
}

/// Kind 64: the tree is not the one that was consented to; it is looked at again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectionOutdated {
    /// Whose.
    pub environment: EnvironmentId,
}

/// Kind 65: the teardown could not go on; the environment is served and it is tried again later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownPostponed {
    /// Which.
    pub environment: EnvironmentId,
    /// Which step.
    pub step: String,
    /// Why.
    pub fault: Fault,
    /// How many teardowns of it have failed now.
    pub failures: u32,
    /// When the next one may start.
    pub retry_at: Time,
}
