//! Watching worktrees: backends, the choice of directories, and when a change is reported.

pub mod backend;
#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod injected;
#[cfg(target_os = "linux")]
pub(crate) mod inotify;
pub mod limits;
#[cfg(target_os = "linux")]
pub(crate) mod placement;
pub(crate) mod portable;
pub mod registry;
pub(crate) mod rules;
pub mod select;
pub mod tracker;
pub(crate) mod tree;
pub(crate) mod trees;
pub(crate) mod watches;
