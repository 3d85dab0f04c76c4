//! Staged migration of SQLite databases: copy, build beside, verify, flip.

pub mod recipe;
pub mod recipes;
