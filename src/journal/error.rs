//! What can be wrong with a log, and what the person who reads it can do.

use std::path::PathBuf;

/// One thing that is wrong with the bytes of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The record ends before it should.
    #[error("record {seq} is cut short: {have} of {want} bytes")]
    Truncated {
        /// Its key in the file.
        seq: u64,
        /// Bytes that are there.
        have: usize,
        /// Bytes that should be there.
        want: usize,
    },
    /// The record does not start with the magic number.
    #[error("record {0} does not start like a record")]
    Magic(u64),
    /// The checksum does not fit the bytes.
    #[error("record {0} has a wrong checksum")]
    Checksum(u64),
    /// The record is not the one that belongs here.
    #[error("record {found} stands where {expected} belongs")]
    OutOfOrder {
        /// The seq that should follow.
        expected: u64,
        /// The seq that was found.
        found: u64,
    },
    /// The record does not continue the one before it.
    #[error("record {0} does not continue the record before it")]
    Chain(u64),
    /// The last record is not the one that the file says is last.
    #[error("the log ends at {found}, but its head says {expected}")]
    Head {
        /// What the head says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The payload does not decode.
    #[error("the payload of record {seq} ({kind}, version {version}) does not decode: {why}")]
    Payload {
        /// Its seq.
        seq: u64,
        /// Its kind number.
        kind: u32,
        /// Its kind version.
        version: u16,
        /// What the codec says.
        why: String,
    },
    /// redb refuses or fails to read the file.
    #[error("the database file cannot be read: {0}")]
    Unreadable(String),
    /// A flat log stops without its end.
    #[error("it is cut short: it stops after record {0} without its end")]
    Cut(u64),
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
}

/// Why a log cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is damaged; it was not touched.
    #[error("the log {path} is damaged; nothing was changed")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        damage: Damage,
    },
    /// The file was written by a newer program; it was not touched.
    #[error("the log {path} was written by a newer groundskeeper ({what}); nothing was changed")]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is not understood.
        what: String,
    },
    /// The file is something else.
    #[error("{path} is not a log of groundskeeper: {what}")]
    NotALog {
        /// The file.
        path: PathBuf,
        /// What it is not.
        what: String,
    },
    /// Another process has the file open.
    #[error("the log {path} is open in another process")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be reached.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A commit or read failed; the handle must not be used again.
    #[error("the log could not {what}")]
    Storage {
        /// What was tried.
        what: &'static str,
        /// What redb said.
        #[source]
        source: redb::Error,
    },
    /// An earlier failure has closed this handle.
    #[error("the log was closed by an earlier storage failure")]
    Poisoned,
    /// A record cannot be written.
    #[error("record {seq} ({kind}) cannot be written: {why}")]
    Encode {
        /// Its seq.
        seq: u64,
        /// Its kind.
        kind: &'static str,
        /// Why not.
        why: String,
    },
}

impl Error {
    /// The next step for the person who reads the error.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => {
                "keep the file; `replay verify FILE` says what is wrong, and `replay salvage FILE NEW` \
                 saves what is readable into a new one. The daemon does not start on a damaged log \
                 and never replaces it"
            }
            Self::Newer { .. } => "use the newer groundskeeper, or another --data-dir",
            Self::NotALog { .. } => {
                "name a log.redb, a data directory or a flat export; if it was a log once, `replay \
                 salvage FILE NEW` looks for records in it"
            }
            Self::Busy { .. } => "stop the process that holds it, or use another --data-dir",
            Self::Io { .. } => "check that the path exists, is writable, and has space left",
            Self::Storage { .. } | Self::Poisoned => {
                "check the disk and the space left on it, then start the daemon again; \
                 acknowledged events are in the log"
            }
            Self::Encode { .. } => "this is a defect; please report it",
        }
    }

    pub(super) fn storage(what: &'static str) -> impl FnOnce(redb::Error) -> Self {
        move |source| Self::Storage { what, source }
    }
}
