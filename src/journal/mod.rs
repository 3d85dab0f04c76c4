//! The log: an append-only sequence of records in one redb file. Only this module names redb.
//!
//! * [`envelope`] frames a record so that it can be checked, chained and found without redb;
//! * [`codec`] encodes and decodes payloads, per kind and version;
//! * [`overlay`] opens a file as evidence: redb's writes stay in memory, the file is never written;
//!   `evidence` is a database over it whose panics are errors;
//! * [`mod@inspect`] verifies a whole log through the overlay and folds it;
//! * [`forensic`] reads a log that must not change, record by record; [`peek`] names the kind and
//!   the environment of a record without decoding it; [`stream_format`] is the flat form for
//!   streams and export files;
//! * [`salvage`] finds records by a byte scan; [`rebuild`] writes a new log from them;
//! * [`base`] is the state that a trimmed log begins with; [`trim`] cuts the oldest records off;
//!   [`segments`] keeps them in files beside the log;
//! * [`describe`] says in a few words what a record says, [`mod@format`] has the forms of its
//!   parts;
//! * `index` finds the records about one environment, and lives that the state has forgotten;
//! * [`writer`] appends, as long as the log is where it was opened; [`reader`] reads and follows
//!   committed records.
//!
//! Guarantees: a record whose append returned is on disk; the records of one append are all there
//! or none is; damage is detected and named, never repaired by dropping records. The log never
//! decides anything, never retries a failed sync, never writes to a file that it could not read
//! completely, and never takes an empty file for a new log. It does not depend on tokio.
//!
//! Write a record, open the log again, and find the state that its records add up to:
//!
//! ```
//! use groundskeeper_core::event::{DaemonStarted, Record};
//! use groundskeeper_core::{Seq, Time};
//! use groundskeeper_journal::{Journal, Options};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("log.redb");
//! let (mut journal, found) = Journal::open(&path, Options::default())?;
//! let mut state = found.state;
//! let event = DaemonStarted { pid: 1, version: "0.1.0".into() }.into();
//! let record = Record { seq: state.seq().next(), at: Time(1), boot: 1, event };
//! state.apply(&record);
//! journal.append(&[record], &state)?;
//! drop(journal);
//!
//! let (journal, found) = Journal::open(&path, Options::default())?;
//! assert_eq!((journal.head(), &found.state), (Seq(1), &state));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod base;
mod chain;
pub mod codec;
pub mod describe;
pub mod envelope;
pub mod format;
pub mod inspect;
pub mod overlay;
pub mod peek;
pub mod reader;
pub mod salvage;
pub mod trim;
#[cfg(test)]
mod trim_tests;

mod error;
mod evidence;
mod flat_file;
pub mod forensic;
mod ground;
mod index;
mod payload;
mod range;
pub mod rebuild;
pub mod segments;
mod snapshots;
pub mod stream_format;
mod tables;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod upcast;
pub mod writer;

pub use crate::base::Base;
pub use crate::forensic::ReadOnlyLog;
pub use crate::writer::{Journal, Options};
pub use error::{Damage, Error};
pub use inspect::{Inspection, inspect};
pub use reader::Reader;
pub use tables::Head;
