//! Tests of the whole recipe against recorded runs of the original.

mod cases;
mod clashes;
mod early;
mod generated;
mod harness;
mod large;
mod old;
mod rules;
mod servers;
