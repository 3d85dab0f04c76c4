//! JSON as JavaScript reads and prints it: what decides the bytes of almost every cell.
//!
//! Numbers are doubles only, index keys come first, a member that is named twice keeps its first
//! place and its last value, and a string may hold half of a surrogate pair. Nothing here recurses,
//! so that no depth of nesting can overflow a stack. Nothing here knows of databases.

mod canonical;
mod number;
mod parse;
mod print;
#[cfg(test)]
mod tests;
mod text;
mod value;

pub(crate) use canonical::is_canonical;
pub(crate) use number::{from_whole, print_number, to_number, truncate};
pub(crate) use parse::parse;
pub(crate) use print::{compact, pretty};
pub(crate) use text::{Text, is_space, trim};
pub(crate) use value::Value;
