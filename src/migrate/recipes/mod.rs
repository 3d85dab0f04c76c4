//! The recipes that a program knows, the lookup from a plan to its recipe, and the recipe that is a
//! folder of SQL files. Nothing here runs a recipe.
//!
//! `executor/` is a package of its own, above this one.

pub mod folder;
mod select;

pub use select::{Recipes, kept};
