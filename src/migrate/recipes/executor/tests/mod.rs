//! Tests of the whole recipe against recorded runs of the original.

mod cases;
mod chance;
mod clashes;
mod damage;
mod differences;
mod early;
mod generated;
mod harness;
mod kinds;
mod large;
mod old;
mod rules;
mod seeds;
mod servers;
mod v1;
mod v1_schema;
mod variants;
