//! The recipes, one folder each.

pub mod executor;
