//! The errors of this layer, by what callers distinguish, and what the user is told about each. No
//! caller reads the text of one.

use std::io;
use std::time::Duration;

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
        _ => {
            let hint = "check the process and memory limits of the daemon";
            Fault::new(Code::Io, message, hint).because(source).transient()
        }
    }
}
