//! The recipe as a whole, held against what the original was seen to do.

mod cases;
mod clashes;
mod early;
mod generated;
mod harness;
mod large;
mod old;
mod rules;
mod servers;
