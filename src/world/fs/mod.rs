//! Opens, renames and removes paths, directories and files so that nothing foreign is touched. It
//! knows nothing of git.

pub(crate) mod beneath;
pub mod data_dir;
pub(crate) mod disk_usage;
pub mod error;
pub mod file_id;
pub(crate) mod lock_file;
pub(crate) mod names;
pub(crate) mod removal;
pub(crate) mod remove_tree;

pub use error::Error;
pub use groundskeeper_system::paths;
