//! The recipes, one folder each, and the way from a plan to its recipe.

pub mod catalog;
pub mod executor;
pub mod folder;
mod select;

pub use select::{NAMES, find, kept, named};
