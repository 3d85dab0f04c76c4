//! Status of a worktree: asked of git, cached, and updated incrementally. Reads only.

pub mod cache;
pub(crate) mod cache_entry;
pub(crate) mod copied_list;
pub(crate) mod included_files;
pub mod incremental;
pub mod parse;
pub mod patch;
pub mod query;
pub mod types;
