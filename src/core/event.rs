//! The facts: everything that ever happened, in the past tense, one payload struct per kind.
//!
//! An event carries all that [`State::apply`](super::State::apply) needs, so that a replay never
//! looks at the world. The structs are contracts: their encoding is frozen per kind and version
//! by the golden files in `schema/events/`. A changed payload is a new version with an upcaster
//! in the journal's codec, never an edit here. No enum is stored by index; choices are stored by
//! name or as plain booleans, because the codec would decode a reordered enum wrongly and without
//! a word. Secrets are never put into an event.

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::id::{EnvironmentId, HostPath, LeaseId, RequestId, Seq, Time};

/// One event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position; consecutive, starting at 1.
    pub seq: Seq,
    /// Wall clock of the daemon when it was decided. Never runs backwards within a log.
    pub at: Time,
    /// Which start of a daemon on this log wrote it, counted from 1.
    pub boot: u32,
    /// What happened.
    pub event: Event,
}

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

/// The catalogue, in one place: `variant = kind number`. The newest version of every kind is 1
/// until one changes. The journal's codec and the golden files are made from this list.
#[macro_export]
macro_rules! for_each_event {
    ($then:ident) => {
        $then! {
            DaemonStarted = 1, DaemonStopped = 2,
            ProvisionRequested = 10, BaseResolved = 11, WorktreeAdded = 12, FilesIncluded = 13,
            SetupStarted = 14, SetupFinished = 15, EnvironmentReady = 16, ProvisionFailed = 17,
            CancelRequested = 18, RolledBack = 19, AttemptFailed = 20, IndexRefreshed = 21,
            DestroyRequested = 30, DestroyRefused = 31, TeardownInspected = 32,
            DirectoryTrashed = 33, RegistrationRemoved = 34, BranchSettled = 35, Tombstoned = 36,
            TeardownGaveUp = 37,
            LeaseGranted = 40, LeaseReleased = 41, LeaseExpired = 42,
            RepositoryTrusted = 50, RepositoryDistrusted = 51,
        }
    };
}

macro_rules! event_enum {
    ($($kind:ident = $number:literal,)*) => {
        /// Anything that can happen.
        #[allow(missing_docs, reason = "each variant is documented at its payload")]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum Event {
            $($kind($kind),)*
            Opaque(Opaque),
        }

        impl Event {
            /// The stable number of the kind.
            #[must_use]
            pub fn kind_number(&self) -> u32 {
                match self { $(Self::$kind(_) => $number,)* Self::Opaque(o) => o.kind }
            }

            /// The kind as people and scripts read it.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$kind(_) => stringify!($kind),)* Self::Opaque(_) => "Opaque" }
            }
        }

        $(impl From<$kind> for Event {
            fn from(payload: $kind) -> Self { Self::$kind(payload) }
        })*
    };
}
for_each_event!(event_enum);

impl Event {
    /// The environment that the event is about, if it is about one.
    #[must_use]
    pub fn environment(&self) -> Option<&EnvironmentId> {
        Some(match self {
            Self::ProvisionRequested(e) => &e.environment,
            Self::BaseResolved(e) => &e.environment,
            Self::WorktreeAdded(e) => &e.environment,
            Self::FilesIncluded(e) => &e.environment,
            Self::SetupStarted(e) => &e.environment,
            Self::SetupFinished(e) => &e.environment,
            Self::EnvironmentReady(e) => &e.environment,
            Self::ProvisionFailed(e) => &e.environment,
            Self::CancelRequested(e) => &e.environment,
            Self::RolledBack(e) => &e.environment,
            Self::AttemptFailed(e) => &e.environment,
            Self::IndexRefreshed(e) => &e.environment,
            Self::DestroyRequested(e) => &e.environment,
            Self::DestroyRefused(e) => &e.environment,
            Self::TeardownInspected(e) => &e.environment,
            Self::DirectoryTrashed(e) => &e.environment,
            Self::RegistrationRemoved(e) => &e.environment,
            Self::BranchSettled(e) => &e.environment,
            Self::Tombstoned(e) => &e.environment,
            Self::TeardownGaveUp(e) => &e.environment,
            Self::LeaseGranted(e) => &e.environment,
            Self::LeaseReleased(e) => &e.environment,
            Self::LeaseExpired(e) => &e.environment,
            Self::DaemonStarted(_)
            | Self::DaemonStopped(_)
            | Self::RepositoryTrusted(_)
            | Self::RepositoryDistrusted(_)
            | Self::Opaque(_) => return None,
        })
    }
}
