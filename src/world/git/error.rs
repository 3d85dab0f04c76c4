//! The errors of this layer, by what callers distinguish, and what the user is told about each. The
//! English text of git is read here alone; no caller reads the text of an error.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::core::{Code, Fault};
use crate::world::fs;
use crate::world::git::doubt::Doubt;
use crate::world::git::locks::ExistingLock;
use crate::world::process;
use crate::world::process::redact;
use crate::world::process::subprocess::Finished;

/// A failed operation on a repository.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// git could not be run to its end.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// A file of the repository could not be read or written.
    #[error(transparent)]
    Fs(#[from] fs::Error),
    /// git ended with a failing exit status.
    #[error("`{}` failed ({})", .0.what, .0.status)]
    Failed(Box<Failure>),
    /// Another user owns the repository, and git was not told to trust it.
    #[error("git does not trust the owner of {}", place.display())]
    Untrusted {
        /// Path of the repository.
        place: PathBuf,
        /// What git printed.
        lines: Vec<String>,
    },
    /// A lock file of a repository is in the way.
    #[error("cannot {what}: the repository is locked")]
    Locked {
        /// The change that is blocked, for people.
        what: String,
        /// The lock, as it was found.
        lock: Box<ExistingLock>,
        /// Whether waiting for it is useless.
        is_lasting: bool,
    },
    /// The path is not inside a repository.
    #[error("{} is not inside a git repository", path.display())]
    NotARepository {
        /// The path.
        path: PathBuf,
    },
    /// The path is not a directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The installed git is missing a needed feature.
    #[error("git {}.{} or newer is needed, found {found:?}", least.0, least.1)]
    TooOld {
        /// Oldest supported version.
        least: (u32, u32),
        /// What git printed as its version.
        found: String,
    },
    /// A ref that is to be moved only leads to another ref.
    #[error("{reference} is a symbolic ref to another ref")]
    SymbolicRef {
        /// Name of the ref.
        reference: String,
    },
    /// A ref that should hold folded rescues holds something else.
    #[error("{reference} is not at a commit that groundskeeper made")]
    NotAFold {
        /// Name of the ref.
        reference: String,
    },
    /// A defect of this program.
    #[error("{0}")]
    Defect(&'static str),
    /// No remote has a branch configured for this ref.
    #[error("the base has no upstream to fetch from")]
    NoUpstream,
    /// git printed something else than the number that it was asked for.
    #[error("`{what}` printed {text:?}, not a number")]
    NotANumber {
        /// The command.
        what: &'static str,
        /// What git printed.
        text: String,
    },
    /// The marker in an administrative directory cannot be one of ours.
    #[error("{} is not a valid marker of groundskeeper", path.display())]
    MalformedMarker {
        /// Path of the marker.
        path: PathBuf,
        /// What the parser said, if the file was read.
        why: Option<String>,
    },
    /// Something else has the name of a directory.
    #[error("{} is no longer a directory", path.display())]
    Replaced {
        /// Path of the directory.
        path: PathBuf,
    },
    /// A witness of ownership is missing or disagrees.
    #[error("{} is not proven to be created by groundskeeper", path.display())]
    NotProven {
        /// Path of the directory.
        path: PathBuf,
        /// What is wrong with the proof.
        doubt: Doubt,
    },
    /// A folder of the repository vanishes as often as it is made.
    #[error("another program keeps removing {}", folder.display())]
    Vanishing {
        /// Path of the folder.
        folder: PathBuf,
    },
    /// All names for an archived registration are taken.
    #[error("{} holds too many entries of {name}", folder.display())]
    NamesTaken {
        /// Folder of the archived registrations.
        folder: PathBuf,
        /// Name of the registration.
        name: String,
    },
}

/// A git that ended with a failing exit status, and what it printed.
#[derive(Debug)]
pub struct Failure {
    /// The command, for people.
    pub what: String,
    /// Exit status of git.
    pub status: ExitStatus,
    /// What git printed, without passwords.
    pub lines: Vec<String>,
    /// What git said, as far as a caller distinguishes it.
    pub reason: Reason,
    /// Whether another git was in the way, which ends by itself.
    pub is_busy: bool,
}

/// What git said about its failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No disk space is left.
    DiskFull,
    /// A ref of another name stands in the way: one of both would be a directory.
    NameTaken,
    /// git does not allow the name.
    BadName,
    /// The directory is not inside a repository.
    NotARepository,
    /// Another user owns the repository.
    Untrusted,
    /// Anything else.
    Other,
}

impl Reason {
    /// Finds the reason in what git printed in its plain locale.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let says = |part: &str| text.contains(part);
        // First: whether a repository is trusted must not depend on what else git says.
        if says("dubious ownership") {
            Self::Untrusted
        } else if says("No space left on device") {
            Self::DiskFull
        } else if says("' exists; cannot create") {
            Self::NameTaken
        } else if says("with bad name") || says("is not a valid branch name") {
            Self::BadName
        } else if says("not a git repository") {
            Self::NotARepository
        } else {
            Self::Other
        }
    }
}

impl Error {
    /// Describes a git call that failed.
    #[must_use]
    pub fn failed(what: &str, finished: &Finished) -> Self {
        // A URL may contain a password, and this text goes into the log.
        let text = redact::text(&String::from_utf8_lossy(&finished.stderr));
        let lines = text.lines().map(str::to_owned).collect();
        let (what, status, reason) = (what.to_owned(), finished.status, Reason::of(&text));
        // Both texts mean a race with another git.
        let is_busy = text.contains(".lock'") || text.contains("unable to create directory");
        Self::Failed(Box::new(Failure { what, status, lines, reason, is_busy }))
    }

    /// Describes a repository whose owner git was not told to trust.
    #[must_use]
    pub fn untrusted(place: &Path, text: &str) -> Self {
        let lines = text.lines().map(str::to_owned).collect();
        Self::Untrusted { place: place.to_owned(), lines }
    }

    /// Returns what git said, if it ended with a failing exit status.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Failed(failure) => Some(failure.reason),
            _ => None,
        }
    }

    /// Reports whether git itself refused, for another reason than a full disk: a caller may then
    /// try another way.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.reason().is_some_and(|reason| reason != Reason::DiskFull)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Process(error) => error.into(),
            Error::Fs(error) => error.into(),
            Error::Failed(failure) => of_failure(*failure, message),
            Error::Untrusted { lines, .. } => {
                let hint = "give it the owner of the daemon, or run the `git config` command that \
                            git names";
                Self::new(Code::PermissionDenied, message, hint).with_evidence(lines)
            }
            Error::Locked { lock, is_lasting, .. } => {
                let fault = Self::new(Code::RepositoryLocked, message, lock.hint());
                let path = lock.path.display().to_string();
                let fault = fault.because(lock.line()).with_evidence([path]);
                if is_lasting { fault } else { fault.transient() }
            }
            Error::NotARepository { .. } => {
                let hint = "run `git init` there, or name a directory inside a git repository";
                Self::new(Code::NotGitRepo, message, hint)
            }
            Error::NotADirectory { .. } => {
                let hint = "name a directory inside a git repository";
                Self::new(Code::NotGitRepo, message, hint)
            }
            Error::TooOld { least: (major, minor), .. } => {
                let hint = format!("install git {major}.{minor} or newer");
                Self::new(Code::GitMissing, message, hint)
            }
            Error::SymbolicRef { reference } => {
                let hint = format!("run `git symbolic-ref --delete {reference}`, then fetch again");
                Self::new(Code::GitFailed, message, hint)
            }
            Error::NotAFold { reference } => {
                let hint = format!("see what `git log {reference}` shows; rescues depend on it");
                Self::new(Code::NotOurs, message, hint)
            }
            Error::Defect(_) => {
                Self::new(Code::Defect, message, "report this defect with the daemon log")
            }
            Error::NoUpstream => {
                let hint = "name a remote branch as --base, or omit --fetch";
                Self::new(Code::BaseNotFound, message, hint)
            }
            Error::NotANumber { .. } => {
                Self::new(Code::GitFailed, message, "run `git fsck` in the repository")
            }
            Error::MalformedMarker { .. } | Error::Replaced { .. } | Error::NotProven { .. } => {
                of_ownership(error, message)
            }
            Error::Vanishing { .. } => {
                let hint = "find and stop that program; the step is retried";
                Self::new(Code::Io, message, hint).transient()
            }
            Error::NamesTaken { .. } => {
                Self::new(Code::LimitReached, message, "inspect these entries, and remove them")
            }
        }
    }
}

fn of_ownership(error: Error, message: String) -> Fault {
    let (hint, cause) = match error {
        Error::MalformedMarker { why, .. } => ("inspect it; groundskeeper does not change it", why),
        Error::NotProven { doubt, .. } => {
            let hint = "run `groundskeeper sweep` to see what is known of it; nothing was changed";
            (hint, Some(doubt.to_string()))
        }
        _ => ("move it away; groundskeeper removes only what it created", None),
    };
    cause.into_iter().fold(Fault::new(Code::NotOurs, message, hint), Fault::because)
}

fn of_failure(failure: Failure, message: String) -> Fault {
    let Failure { status, lines, reason, is_busy, .. } = failure;
    let first = lines.first().cloned().unwrap_or_else(|| status.to_string());
    let fault = if reason == Reason::DiskFull {
        Fault::new(Code::DiskFull, message, "free disk space")
    } else {
        Fault::new(Code::GitFailed, message, "fix the error that git reports")
    };
    let fault = fault.because(first).with_evidence(lines);
    if is_busy { fault.transient() } else { fault }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn failed(stderr: &str) -> Error {
        let status = ExitStatus::from_raw(128 << 8);
        let finished = Finished { status, stdout: Vec::new(), stderr: stderr.as_bytes().to_vec() };
        Error::failed("git update-ref", &finished)
    }

    #[test]
    fn text_of_git_gives_reason() {
        for (text, reason) in [
            ("error: unable to write file: No space left on device", Reason::DiskFull),
            ("fatal: 'refs/heads/a' exists; cannot create 'refs/heads/a/b'", Reason::NameTaken),
            ("fatal: update_ref failed: refusing to update ref with bad name 'x'", Reason::BadName),
            ("fatal: not a git repository: '/x'", Reason::NotARepository),
            ("fatal: detected dubious ownership in repository at '/x'", Reason::Untrusted),
            ("fatal: bad object HEAD", Reason::Other),
        ] {
            assert_eq!(failed(text).reason(), Some(reason), "{text}");
        }
    }

    /// The hints differ; the code and the place of the reason do not.
    #[test]
    fn unproven_ownership_names_its_reason() {
        let path = || PathBuf::from("/w/a");
        let fault = Fault::from(Error::NotProven { path: path(), doubt: Doubt::NoMarker });
        assert_eq!((fault.code, fault.transient), (Code::NotOurs, false));
        assert_eq!(fault.message, "/w/a is not proven to be created by groundskeeper");
        assert_eq!(fault.causes, [Doubt::NoMarker.to_string()]);
        let replaced = Fault::from(Error::Replaced { path: path() });
        assert_eq!((replaced.code, replaced.causes.len()), (Code::NotOurs, 0));
        let malformed = Error::MalformedMarker { path: path(), why: Some("eof".to_owned()) };
        let malformed = Fault::from(malformed);
        assert_eq!(malformed.message, "/w/a is not a valid marker of groundskeeper");
        assert_eq!(malformed.causes, ["eof"]);
        let hints = [fault, replaced, malformed].map(|fault| fault.hint);
        assert!(hints[0] != hints[1] && hints[1] != hints[2], "{hints:?}");
    }

    /// Only a full disk gives another code; only a lock of another git makes it transient.
    #[test]
    fn failure_becomes_fault_with_text_of_git() {
        let fault = Fault::from(failed("fatal: bad object\nhint: run fsck\n"));
        assert_eq!((fault.code, fault.transient), (Code::GitFailed, false));
        assert_eq!(fault.message, "`git update-ref` failed (exit status: 128)");
        assert_eq!(fault.causes, ["fatal: bad object"]);
        assert_eq!(fault.evidence, ["fatal: bad object", "hint: run fsck"]);
        let full = "Unable to create '/r/index.lock': No space left on device";
        let fault = Fault::from(failed(full));
        assert_eq!((fault.code, fault.transient), (Code::DiskFull, true));
        assert!(!failed(full).is_refusal(), "a full disk is no refusal of git");
        let fault = Fault::from(failed("Unable to create '/r/index.lock': File exists."));
        assert_eq!((fault.code, fault.transient), (Code::GitFailed, true));
        let silent = Fault::from(failed(""));
        assert_eq!(silent.causes, ["exit status: 128"], "the status stands for a missing text");
    }
}
