//! What a worktree looks like: asked of git, cached, and brought up to date. Reads only.

pub mod cache;
pub(crate) mod included_files;
pub mod incremental;
pub mod parse;
pub mod patch;
pub mod query;
pub mod types;
