//! Writes the new database: every table in the original's order, in one transaction.
//!
//! The small tables come from the plan. The big ones are read row by row and written row by row, so
//! that their size does not matter, by two threads.

mod annotations;
mod insert;
mod small;
mod storage;
mod stream;
mod tools;
mod writer;

pub(crate) use storage::blob_id;
pub(crate) use writer::{SCHEMA, Writer};
