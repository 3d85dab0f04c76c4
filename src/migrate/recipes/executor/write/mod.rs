//! Writes the new database: every table in the original's order, in one transaction. It decides
//! nothing that the plan decides.
//!
//! The small tables come from the plan. The big ones are streamed row by row by two threads, so
//! that their size does not matter.

mod annotations;
mod insert;
mod small;
mod storage;
mod stream;
mod tools;
mod writer;

pub(crate) use storage::blob_id;
pub(crate) use writer::{SCHEMA, Writer};
