//! Status of a worktree: asked of git, cached, updated incrementally, and proven to hold without
//! git. Reads only.

pub(crate) mod answer;
pub mod cache;
pub(crate) mod cache_entry;
pub(crate) mod copied_list;
pub(crate) mod dependencies;
pub(crate) mod included_files;
pub mod incremental;
pub mod parse;
pub mod patch;
pub(crate) mod proof;
pub mod query;
pub mod types;
