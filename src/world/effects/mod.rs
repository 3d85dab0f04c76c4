//! The effects of the core, one step a file, with what several of them need.

pub(crate) mod add_worktree;
pub(crate) mod archive;
pub(crate) mod clean;
pub(crate) mod clean_output;
pub(crate) mod collect;
pub(crate) mod conflicts;
pub mod context;
pub mod copy_included;
pub(crate) mod foreign_worktrees;
pub(crate) mod hidden_edits;
pub mod hook;
pub mod inspect;
pub(crate) mod late_writes;
pub(crate) mod nested_rescue;
pub(crate) mod nested_work;
pub(crate) mod perform;
pub mod raw_copies;
pub(crate) mod rescue;
pub(crate) mod rescuer;
pub(crate) mod resolve_base;
pub(crate) mod restore;
pub(crate) mod roll_back;
pub(crate) mod sweep;
pub(crate) mod teardown;
