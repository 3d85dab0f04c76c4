//! The log: an append-only sequence of records in one redb file, and the only code that names redb.
//!
//! * [`envelope`] frames a record so that it can be checked, chained and found without redb;
//! * [`codec`] turns payloads into bytes and back, per kind and version;
//! * [`overlay`] opens a file as evidence: nothing is ever written to it;
//! * [`mod@inspect`] verifies a whole log through the overlay and folds it;
//! * [`forensic`] reads a log that is not to be changed, record by record; [`peek`] says what a
//!   record is about without decoding it; [`stream_format`] is the form that is streamed and
//!   mailed;
//! * [`salvage`] finds records by their bytes alone; [`rebuild`] makes a new log of them;
//! * [`writer`] appends; [`reader`] reads and follows what is committed.
//!
//! What it promises: a record whose append returned is on disk; the records of one append are all
//! there or none is; damage is found, named, and never repaired by forgetting. What it never does:
//! decide anything, retry a failed sync, write to a file that it could not read completely, or take
//! an empty file for a new log. It knows nothing of tokio.

pub mod codec;
pub mod envelope;
pub mod inspect;
pub mod overlay;
pub mod peek;
pub mod reader;
pub mod salvage;

mod error;
pub mod forensic;
mod payload;
pub mod rebuild;
pub mod stream_format;
mod tables;
#[cfg(any(test, feature = "faults"))]
pub mod testing;
mod upcast;
pub mod writer;

pub use crate::journal::forensic::Evidence;
pub use crate::journal::writer::{Journal, Options};
pub use error::{Damage, Error};
pub use inspect::{Inspection, inspect};
pub use reader::Reader;
pub use tables::Head;
