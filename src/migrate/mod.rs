//! Staged migration of `SQLite` databases: copy, build beside, verify, flip.

pub mod keychain;
pub mod network;
pub mod recipe;
pub mod recipes;
