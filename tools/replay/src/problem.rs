//! What can go wrong, with its causes, the next step and the exit code: 1 damage or a broken rule,
//! 2 usage, 3 cannot be read (or written).

use std::path::PathBuf;

/// Exit code of an intact log and of work that is done.
pub(crate) const INTACT: u8 = 0;
/// Exit code of damage, of a broken invariant, of a record that is not there.
pub(crate) const DAMAGED: u8 = 1;
const USAGE: u8 = 2;
const UNREADABLE: u8 = 3;

/// Why a verb did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] groundskeeper_journal::Error),
    /// What was typed does not make sense.
    #[error("{what}")]
    Usage {
        /// What.
        what: String,
        /// The next step.
        hint: String,
    },
    /// What was asked for is not in the log.
    #[error("{what}")]
    Missing {
        /// What.
        what: String,
        /// The next step.
        hint: String,
    },
    /// A daemon has the log, and it cannot be asked.
    #[error("cannot read the log through the daemon of {dir}")]
    Daemon {
        /// Its data directory.
        dir: PathBuf,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// Output cannot be written.
    #[error("cannot {what} {path}")]
    Write {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The log is larger than what can be made of it.
    #[error("{what}")]
    Limit {
        /// What.
        what: String,
        /// The next step.
        hint: String,
    },
}

impl Problem {
    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: hint.into() }
    }

    pub(crate) fn missing(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Missing { what: what.into(), hint: hint.into() }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Log(groundskeeper_journal::Error::Damaged { .. }) | Self::Missing { .. } => {
                DAMAGED
            }
            Self::Usage { .. } => USAGE,
            _ => UNREADABLE,
        }
    }

    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Log(e) => e.hint().to_owned(),
            Self::Usage { hint, .. } | Self::Missing { hint, .. } | Self::Limit { hint, .. } => {
                hint.clone()
            }
            Self::Daemon { .. } => {
                "wait until it is ready (`groundskeeper doctor` checks it), or stop it with \
                 `groundskeeper stop`: the file cannot be read while the daemon writes to it"
                    .to_owned()
            }
            Self::Write { .. } => "write to another path, or free space there".to_owned(),
        }
    }

    /// The causes, nearest first.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes
    }
}

/// For `map_err` where output is written.
pub(crate) fn write<E>(what: &'static str, path: &std::path::Path) -> impl FnOnce(E) -> Problem
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = path.to_owned();
    move |source| Problem::Write { what, path, source: source.into() }
}
