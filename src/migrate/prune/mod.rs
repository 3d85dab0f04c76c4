//! Removes what migrations keep and is not needed any more: old backups, databases that an undo put
//! aside, secrets kept for an undo.
//!
//! | file | content |
//! |---|---|
//! | `request.rs` | what is asked for, and what comes of it |
//! | `names.rs` | the file names of backups and of what an undo put aside |
//! | `database.rs` | one database: its logs, whether files are ours, and what is in use |
//! | `log.rs` | the logs that name databases |
//! | `candidate.rs` | files, their size and age, and why they stay |
//! | `list.rs` | what there is of a database, and why it is kept |
//! | `secrets.rs` | what is kept for an undo in the directories of migrations |
//! | `apply.rs` | the removal, and the locks that it needs |
//! | `alone.rs` | all of it in the calling process |
//!
//! A file counts as ours when a log names it, or when it has the strict name of such a file beside
//! a database that a log names. It must be a regular file with one name and no foreign owner, in a
//! directory that is reached without a link. The newest backup of a database is never removed.
//!
//! Nothing is logged. The database itself goes first, so that a kill leaves a whole backup or none,
//! and a note in the migration's directory tells a later undo what became of it.

mod alone;
mod apply;
mod candidate;
mod database;
mod list;
mod log;
mod names;
mod request;
mod secrets;

pub use alone::alone;
pub use apply::prune;
pub use log::Log;
pub use request::{Kind, PruneReport, PruneRequest, Pruned};
pub(crate) use secrets::PRUNED;
