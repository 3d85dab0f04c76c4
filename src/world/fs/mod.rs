//! Paths, directories and files, opened and removed so that nothing of others is touched. Knows no
//! git.

pub(crate) mod beneath;
pub mod data_dir;
pub(crate) mod disk_usage;
pub(crate) mod names;
pub mod paths;
pub(crate) mod removal;
pub(crate) mod remove_tree;
