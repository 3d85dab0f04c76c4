//! The errors of this layer, by what callers distinguish, and what the user is told about each. No
//! caller reads the text of one.

use std::io;
use std::time::Duration;

use groundskeeper_system::proc::Unseen;

use crate::core::{Code, Fault};

/// Why a process could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operation was asked to stop.
    #[error("the operation was cancelled")]
    Cancelled,
    /// The program could not be started.
    #[error("cannot start {name}")]
    Start {
        /// Name of the program.
        name: String,
        /// Answer of the system.
        source: io::Error,
    },
    /// The system could not tell when the program ended.
    #[error("cannot wait for {name}")]
    Wait {
        /// Name of the program.
        name: String,
        /// Answer of the system.
        source: io::Error,
    },
    /// The time limit passed; the program was ended.
    #[error("{name} took longer than {limit:.1?}")]
    Timeout {
        /// Name of the program.
        name: String,
        /// The limit that passed.
        limit: Duration,
    },
    /// The program printed more than is held in memory; it was ended.
    #[error("{name} printed more than {limit} bytes")]
    OutputTooLarge {
        /// Name of the program.
        name: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// It is unknown which processes there are.
    #[error(transparent)]
    Unseen(#[from] Unseen),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Cancelled => {
                Self::new(Code::Cancelled, message, "repeat the command").transient()
            }
            Error::Start { name, source } => not_started(&name, message, &source),
            Error::Wait { source, .. } => {
                let hint = "check the process and memory limits of the daemon";
                Self::new(Code::Io, message, hint).because(source).transient()
            }
            Error::Timeout { .. } => {
                let hint = "find out what it waits for, or raise its time limit";
                Self::new(Code::Timeout, message, hint).transient()
            }
            Error::OutputTooLarge { .. } => {
                let hint = "use a smaller repository; this limit is fixed";
                Self::new(Code::LimitReached, message, hint)
            }
            // Unknown counts as in use.
            Error::Unseen(unseen) => {
                Self { code: Code::EnvironmentBusy, ..unseen.into() }.transient()
            }
        }
    }
}

fn not_started(name: &str, message: String, source: &io::Error) -> Fault {
    match source.kind() {
        io::ErrorKind::NotFound => {
            let hint = format!("install {name}, or put it on the PATH of the daemon");
            let code = if name == "git" { Code::GitMissing } else { Code::PathNotFound };
            Fault::new(code, message, hint).because(source)
        }
        io::ErrorKind::PermissionDenied => {
            let hint = format!("make {name} executable for the user of the daemon");
            Fault::new(Code::PermissionDenied, message, hint).because(source)
        }
        io::ErrorKind::InvalidInput => {
            // A NUL character in an argument or a variable: it will not go away.
            let hint = "use names without control characters";
            Fault::new(Code::InvalidRequest, message, hint).because(source)
        }
        _ => {
            let hint = "check the process and memory limits of the daemon";
            Fault::new(Code::Io, message, hint).because(source).transient()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only git has a code of its own for a program that is not installed.
    #[test]
    fn missing_program_is_named_in_hint() {
        for (name, code) in [("git", Code::GitMissing), ("sh", Code::PathNotFound)] {
            let source = io::ErrorKind::NotFound.into();
            let fault = Fault::from(Error::Start { name: name.to_owned(), source });
            assert_eq!((fault.code, fault.transient), (code, false));
            assert_eq!(fault.message, format!("cannot start {name}"));
            assert_eq!(fault.hint, format!("install {name}, or put it on the PATH of the daemon"));
        }
    }

    #[test]
    fn cancelled_and_slow_operations_may_be_repeated() {
        let cancelled = Fault::from(Error::Cancelled);
        assert_eq!((cancelled.code, cancelled.transient), (Code::Cancelled, true));
        let limit = Duration::from_millis(1_500);
        let slow = Fault::from(Error::Timeout { name: "git".to_owned(), limit });
        assert_eq!((slow.code, slow.transient), (Code::Timeout, true));
        assert_eq!(slow.message, "git took longer than 1.5s");
    }
}
