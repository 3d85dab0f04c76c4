//! Faults as data: a stable code, the whole cause chain, evidence, and the next step.
//!
//! A [`Fault`] is used three ways: as the outcome of an effect (and then it is in the log), as the
//! reply to a refused command, and as the body of an API error. It never says "unknown error":
//! every fault names its code, and there is no catch-all code.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest message, cause, evidence line or hint in bytes; longer text is cut and marked.
pub const FAULT_TEXT_BYTES_MAX: usize = 2_048;
/// Most causes or evidence lines that one fault carries.
pub const FAULT_LINES_MAX: usize = 64;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $exit:expr;)*) => {
        /// The stable code of a fault. Scripts match on it; codes are only ever added.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $variant),* }

        impl Code {
            /// All codes, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Returns the kind of the code, from which exit codes and HTTP statuses are derived.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(Self::$variant => $exit),* }
            }

            fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

/// The five kinds of replies that are not success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A rule forbids it; the request itself was understood. Exit code 1.
    Refused,
    /// An operation on the host failed. Exit code 2.
    Fault,
    /// The named thing does not exist (any more). Exit code 3.
    NotFound,
    /// It may work later without a change. Exit code 4.
    Busy,
    /// The request does not make sense. Exit code 64.
    Usage,
}

codes! {
    /// The environment's incarnation ended.
    EnvironmentDestroyed = "environment_destroyed", Kind::NotFound;
    /// No record of such an environment.
    EnvironmentNotFound = "environment_not_found", Kind::NotFound;
    /// In use, or another operation is in progress.
    EnvironmentBusy = "environment_busy", Kind::Busy;
    /// The id is taken by an environment that differs from the requested one.
    EnvironmentExists = "environment_exists", Kind::Refused;
    /// Work would become unreachable.
    UnsafeToRemove = "unsafe_to_remove", Kind::Refused;
    /// A path does not exist.
    PathNotFound = "path_not_found", Kind::NotFound;
    /// The path of the worktree is taken by something foreign.
    PathExists = "path_exists", Kind::Refused;
    /// Not inside a git repository.
    NotGitRepo = "not_git_repo", Kind::Refused;
    /// The repository has no commit to start from.
    NoCommits = "no_commits", Kind::Refused;
    /// The base names no commit.
    BaseNotFound = "base_not_found", Kind::Refused;
    /// The branch exists, or is in use elsewhere.
    BranchExists = "branch_exists", Kind::Refused;
    /// The branch to reuse does not exist.
    BranchNotFound = "branch_not_found", Kind::Refused;
    /// The user has not trusted the repository's hook.
    NotTrusted = "not_trusted", Kind::Refused;
    /// A setup or teardown hook failed.
    HookFailed = "hook_failed", Kind::Fault;
    /// Not proven to be made by this daemon.
    NotOurs = "not_ours", Kind::Refused;
    /// No disk space is left.
    DiskFull = "disk_full", Kind::Fault;
    /// A time limit passed.
    Timeout = "timeout", Kind::Fault;
    /// A user or client cancelled the operation.
    Cancelled = "cancelled", Kind::Refused;
    /// git ended with an error, or its result cannot be used.
    GitFailed = "git_failed", Kind::Fault;
    /// A lock file of git's is in the way.
    RepositoryLocked = "repository_locked", Kind::Busy;
    /// git is not installed or too old.
    GitMissing = "git_missing", Kind::Fault;
    /// The repository uses a feature that is not supported.
    UnsupportedRepository = "unsupported_repository", Kind::Refused;
    /// A file system operation failed.
    Io = "io_error", Kind::Fault;
    /// The file system denies access.
    PermissionDenied = "permission_denied", Kind::Fault;
    /// The request is malformed.
    InvalidRequest = "invalid_request", Kind::Usage;
    /// The request is larger than the limit.
    RequestTooLarge = "request_too_large", Kind::Usage;
    /// The idempotency key was used for another request.
    IdempotencyConflict = "idempotency_conflict", Kind::Refused;
    /// A configured limit is reached.
    LimitReached = "limit_reached", Kind::Busy;
    /// There is no such lease.
    LeaseNotFound = "lease_not_found", Kind::NotFound;
    /// The lease existed and has ended.
    LeaseEnded = "lease_ended", Kind::NotFound;
    /// There is no such thread or terminal.
    ThreadNotFound = "thread_not_found", Kind::NotFound;
    /// The thread or terminal existed and has ended.
    ThreadEnded = "thread_ended", Kind::NotFound;
    /// No process is registered to reply for it.
    NoHolder = "no_holder", Kind::Refused;
    /// The control server has no host of this name.
    HostNotFound = "host_not_found", Kind::NotFound;
    /// The host's daemon has no session with the control server.
    HostUnavailable = "host_unavailable", Kind::Busy;
    /// The two sides have no protocol version in common.
    ProtocolMismatch = "protocol_mismatch", Kind::Refused;
    /// The key was not issued.
    Unauthorized = "unauthorized", Kind::Refused;
    /// A command that this daemon does not know.
    UnsupportedCommand = "unsupported_command", Kind::Refused;
    /// The session was replaced by another one, or has ended.
    SessionEnded = "session_ended", Kind::Refused;
    /// No such address in the API.
    NotFound = "not_found", Kind::NotFound;
    /// The address exists, and has other methods.
    MethodNotAllowed = "method_not_allowed", Kind::Usage;
    /// The daemon cannot be reached.
    DaemonUnreachable = "daemon_unreachable", Kind::Fault;
    /// Another daemon owns the data directory.
    AlreadyRunning = "already_running", Kind::Busy;
    /// The configuration cannot be used.
    InvalidConfig = "invalid_config", Kind::Usage;
    /// The log cannot be read or written.
    JournalFailed = "journal_failed", Kind::Fault;
    /// The daemon is shutting down.
    ShuttingDown = "shutting_down", Kind::Busy;
    /// A database could not be read or written.
    SqliteFailed = "sqlite_failed", Kind::Fault;
    /// The file is not a database.
    NotADatabase = "not_a_database", Kind::Refused;
    /// A database of another application.
    DatabaseForeign = "database_foreign", Kind::Refused;
    /// A database of a later generation than this program knows.
    DatabaseNewer = "database_newer", Kind::Refused;
    /// Another process uses the database, or owns it.
    DatabaseInUse = "database_in_use", Kind::Busy;
    /// A database could not be carried to its next generation.
    MigrationFailed = "migration_failed", Kind::Fault;
    /// Two rows conflict: both cannot be kept as they are.
    MigrationConflict = "migration_conflict", Kind::Refused;
    /// There is no such migration.
    MigrationNotFound = "migration_not_found", Kind::NotFound;
    /// The system's keychain does not respond.
    KeychainFailed = "keychain_failed", Kind::Fault;
    /// A defect of the program; the message names the place.
    Defect = "defect", Kind::Fault;
}

impl Kind {
    /// Returns the exit code of a command line call that ends with it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Refused => 1,
            Self::Fault => 2,
            Self::NotFound => 3,
            Self::Busy => 4,
            Self::Usage => 64,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// Stored by name: an enum index would silently change its meaning when codes are reordered.
impl Serialize for Code {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let name = String::deserialize(d)?;
        Self::parse(&name).ok_or_else(|| serde::de::Error::custom(format!("no code {name:?}")))
    }
}

/// One failure or refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Stable code, for scripts.
    pub code: Code,
    /// One sentence for the user.
    pub message: String,
    /// The chain of causes, outermost first.
    pub causes: Vec<String>,
    /// Related facts: paths, commits, the last lines of a hook.
    pub evidence: Vec<String>,
    /// The next step for the user.
    pub hint: String,
    /// Whether another attempt without a change may succeed.
    pub transient: bool,
}

impl Fault {
    /// Creates a permanent fault with a message and a next step.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: cut(message.into()),
            causes: Vec::new(),
            evidence: Vec::new(),
            hint: cut(hint.into()),
            transient: false,
        }
    }

    /// Marks the fault as worth another attempt.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// Adds one more cause, deeper than those it has.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        if self.causes.len() < FAULT_LINES_MAX {
            self.causes.push(cut(cause.to_string()));
        }
        self
    }

    /// Adds an error and its whole source chain as causes.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(e) = next {
            self = self.because(e);
            next = e.source();
        }
        self
    }

    /// Adds evidence lines; past [`FAULT_LINES_MAX`] they are counted, not kept.
    #[must_use]
    pub fn with_evidence(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        let mut dropped = 0_usize;
        for line in lines {
            if self.evidence.len() < FAULT_LINES_MAX {
                self.evidence.push(cut(line));
            } else {
                dropped += 1;
            }
        }
        if dropped > 0 {
            self.evidence.push(format!("... and {dropped} more"));
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)?;
        for cause in &self.causes {
            write!(f, "; caused by: {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

fn cut(mut text: String) -> String {
    if text.len() > FAULT_TEXT_BYTES_MAX {
        let mut end = FAULT_TEXT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(" [cut]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_codes_round_trip_by_name() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
        }
        assert_eq!(Code::parse("unknown"), None);
    }

    #[test]
    fn fault_evidence_and_text_are_bounded() {
        let fault = Fault::new(Code::Io, "x".repeat(10_000), "")
            .with_evidence((0..200).map(|n| n.to_string()));
        assert!(fault.message.len() < FAULT_TEXT_BYTES_MAX + 16);
        assert_eq!(fault.evidence.len(), FAULT_LINES_MAX + 1);
        assert_eq!(fault.evidence.last().map(String::as_str), Some("... and 136 more"));
    }
}
