//! JSON as JavaScript reads and prints it, which decides the bytes of almost every cell.
//!
//! All numbers are doubles, index keys come first, a member that is named twice keeps its first
//! position and its last value, and a string may hold half of a surrogate pair. Nothing here
//! recurses, so no depth of nesting overflows the stack. Nothing here knows of databases.

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
