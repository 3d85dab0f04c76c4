//! The recipe as a whole, held against what the original was seen to do.

mod cases;
mod harness;
mod large;
