//! The built-in recipes, one file or folder each, and the lookup from a plan to its recipe. Nothing
//! here runs a recipe.

pub mod catalog;
pub mod executor;
pub mod folder;
mod select;

pub use select::{NAMES, find, kept, named};
