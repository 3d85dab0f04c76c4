//! Errors of the log: the kinds of damage, the reasons for a refusal, and hints for the user.

use std::path::PathBuf;

use groundskeeper_core::{Code, Fault};
use groundskeeper_system::misplaced::Misplaced;
use groundskeeper_system::paths;

/// One defect in the bytes of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The record is shorter or longer than its header states, or longer than the limit.
    #[error("record {seq} is cut short: {have} of {want} bytes")]
    Truncated {
        /// Key of the record in the file.
        seq: u64,
        /// Bytes that are there.
        have: usize,
        /// Bytes that the header states; the size of a header if that is incomplete.
        want: usize,
    },
    /// The bytes do not start with the magic number of a record.
    #[error("record {0} has a wrong magic number")]
    Magic(u64),
    /// The checksum in the header does not match the bytes.
    #[error("record {0} has a wrong checksum")]
    Checksum(u64),
    /// The key or the seq of a record is not the next one: a record is lost, reordered or doubled.
    #[error("record {found} is at the position of record {expected}")]
    OutOfOrder {
        /// Seq after the record before.
        expected: u64,
        /// Seq or key that was found.
        found: u64,
    },
    /// The stored checksum of the record before differs from that record's checksum.
    #[error("record {0} does not continue the checksum chain of the record before it")]
    Chain(u64),
    /// The last record is not the one that the head in the file names.
    #[error("the log ends at record {found}, but its head names record {expected}")]
    Head {
        /// Seq that the head names.
        expected: u64,
        /// Seq of the last record in the file.
        found: u64,
    },
    /// The payload does not decode, although its kind and version are known.
    #[error("the payload of record {seq} ({kind}, version {version}) does not decode: {why}")]
    Payload {
        /// Seq of the record.
        seq: u64,
        /// Kind number, from the envelope.
        kind: u32,
        /// Kind version, from the envelope.
        version: u16,
        /// Message of the codec.
        why: String,
    },
    /// An entry of the index is damaged, or does not fit the records.
    #[error("the index of the log is damaged: {0}")]
    Index(String),
    /// The log was trimmed, and the state that it begins with is damaged or of a version that this
    /// program does not read; no later snapshot is there.
    #[error("the log was trimmed, and the state that it begins with cannot be read")]
    Base,
    /// A segment of trimmed records is not what its name says, or belongs to another log.
    #[error("it does not end with the record that the log continues: {found}, expected {expected}")]
    Segment {
        /// Seq of the record before the next part of the log.
        expected: u64,
        /// Seq of the last record in the segment; the same one where its checksum differs.
        found: u64,
    },
    /// redb refuses the file, fails or panics on it, or an entry of the file is malformed.
    #[error("the database file cannot be read: {0}")]
    Unreadable(String),
    /// A flat log has no end record; holds the seq of the last record that is there.
    #[error("the flat log is cut short: it has no end record after record {0}")]
    Cut(u64),
    /// The file has a length of 0.
    #[error("the file is empty")]
    Empty,
}

/// Reason why a log cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is damaged; it was not changed.
    #[error("the log {path} is damaged; nothing was changed")]
    Damaged {
        /// Path of the log; "log" or empty where the path is not known.
        path: PathBuf,
        /// The first damage that was found.
        #[source]
        damage: Damage,
    },
    /// A newer program wrote the file, or a record in it; the file was not changed.
    #[error("the log {path} was written by a newer groundskeeper ({what}); nothing was changed")]
    Newer {
        /// Path of the log; "log" where the path is not known.
        path: PathBuf,
        /// The format, table or record kind that this program does not know.
        what: String,
    },
    /// The file is neither a database nor a flat log.
    #[error("{path} is not a log of groundskeeper: {what}")]
    NotALog {
        /// Path of the file.
        path: PathBuf,
        /// Reason, as a clause for the message.
        what: String,
    },
    /// Another process holds redb's lock on the file.
    #[error("the log {path} is open in another process")]
    Busy {
        /// Path of the log.
        path: PathBuf,
    },
    /// A system call on the file failed.
    #[error("cannot {what} {path}")]
    Io {
        /// The attempted operation, as words that fit between "cannot" and the path.
        what: &'static str,
        /// Path of the file; empty where there is none.
        path: PathBuf,
        /// Error of the system.
        #[source]
        source: std::io::Error,
    },
    /// A commit or a read failed in redb; the handle must not be used again.
    #[error("log storage failure: cannot {what}")]
    Storage {
        /// The attempted operation, as words that follow "cannot".
        what: &'static str,
        /// Error that redb returned.
        #[source]
        source: redb::Error,
    },
    /// The open log is no longer the file at its path, or another program wrote to it. What is
    /// appended to it would be in no log at the next start.
    #[error("the log {path} is lost to the running daemon: {what}")]
    Lost {
        /// Path of the log.
        path: PathBuf,
        /// What was found, as a clause for the message.
        what: String,
    },
    /// Records that were asked for were trimmed from the log while it was read.
    #[error("the records up to {last} were trimmed from the log meanwhile")]
    Trimmed {
        /// The last trimmed record.
        last: u64,
    },
    /// An earlier storage failure has closed this handle for good.
    #[error("the log was closed by an earlier storage failure")]
    Poisoned,
    /// A record or a snapshot cannot be encoded.
    #[error("record {seq} ({kind}) cannot be written: {why}")]
    Encode {
        /// Seq of the record, or of the state in the snapshot.
        seq: u64,
        /// Kind name, or "snapshot".
        kind: &'static str,
        /// Message of the codec.
        why: String,
    },
}

impl Error {
    /// Returns the error with its cause and hint, as every other layer reports errors.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        if let Self::Io { what, path, source } = self
            && Misplaced::of(source).is_some()
        {
            return paths::fault(what, path, source);
        }
        let fault = Fault::new(Code::JournalFailed, self.to_string(), self.hint());
        match std::error::Error::source(self) {
            Some(source) => fault.caused_by(source),
            None => fault,
        }
    }

    /// Returns the next step for the user who reads the error.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Damaged { damage: Damage::Base, .. } => {
                "keep the file; start the groundskeeper that wrote it, or put a backup back with \
                 `replay restore BACKUP DIR`. `replay fork --at last --same-id DIR NEW` makes a \
                 whole log of it and of the files in `log-archive`, where all of them are there. \
                 The daemon does not start on a damaged log and never replaces it"
            }
            Self::Damaged { .. } => {
                "keep the file; run `replay verify FILE` to list the damage, or \
                 `replay salvage FILE NEW` to copy what is readable to a new log. The daemon does \
                 not start on a damaged log and never replaces it"
            }
            Self::Newer { .. } => "install the newer groundskeeper, or use another --data-dir",
            Self::NotALog { .. } => {
                "give a log.redb, a data directory or a flat export; if it was a log once, run \
                 `replay salvage FILE NEW` to search it for records"
            }
            Self::Busy { .. } => "stop the process that holds it, or use another --data-dir",
            Self::Io { .. } => "check that the path exists, is writable, and has space left",
            Self::Storage { .. } | Self::Poisoned => {
                "check the disk and its free space, then start the daemon again; \
                 acknowledged events are in the log"
            }
            Self::Lost { .. } => {
                "put the log back where it was, with its directory if that was moved, and start \
                 the daemon again; requests that were not answered may be in no log"
            }
            Self::Trimmed { .. } => "read the log again: what is left of it can be read",
            Self::Encode { .. } => "please report this",
        }
    }

    /// Returns the error as damage of the file that it is about, unless a newer program wrote that.
    pub(super) fn into_damage(self) -> Self {
        match self {
            Self::Io { path, source, .. } => {
                Self::Damaged { path, damage: Damage::Unreadable(source.to_string()) }
            }
            Self::NotALog { path, what } => {
                Self::Damaged { path, damage: Damage::Unreadable(what) }
            }
            other => other,
        }
    }

    pub(super) fn storage(what: &'static str) -> impl FnOnce(redb::Error) -> Self {
        move |source| Self::Storage { what, source }
    }
}
