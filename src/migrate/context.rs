//! What a step of a migration works with: its files, its recipe, its databases while they are open.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::core::{Fault, Migration, MigrationId};
use crate::migrate::app_lock;
use crate::migrate::file_names::Names;
use crate::migrate::files::Files;
use crate::migrate::recipe::{Keychain, Network, Recipe};
use crate::migrate::source::Source;
use crate::world::fs::paths;

/// What is being done for a migration, for whoever waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// What is being done.
    pub what: String,
    /// How much of it.
    pub done: u64,
    /// Of how much; 0 when that is not known.
    pub of: u64,
    /// Of what: `bytes` or `rows`.
    pub unit: &'static str,
}

/// Locks of one migration.
#[derive(Default)]
pub(super) struct Held {
    /// The application's own lock file.
    pub(super) owner: Option<app_lock::Owner>,
    /// The database, closed to writers.
    pub(super) source: Option<Source>,
    /// How far this process came with the private copy.
    pub(super) copy: Scratch,
    /// This process has built the new database, and nothing of it is lost.
    pub(super) is_built: bool,
}

/// How far a process came with a file that is never synced, and so is worth nothing to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Scratch {
    /// Not made, or made by another process, or being changed.
    #[default]
    Unknown,
    /// As it was copied.
    Fresh,
    /// In the shape that the recipe reads.
    Ready,
}

/// One effect being performed.
pub(super) struct Task<'a> {
    pub(super) desk: &'a MigrationRunner,
    pub(super) migration: &'a Migration,
    pub(super) recipe: &'a dyn Recipe,
    pub(super) names: Names,
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

/// The place where migrations are worked on.
pub struct MigrationRunner {
    /// Where old secrets and recipes are kept for an undo.
    pub(super) home: PathBuf,
    pub(super) files: Files,
    pub(super) network: Box<dyn Network + Send + Sync>,
    pub(super) keychain: Box<dyn Keychain + Send + Sync>,
    pub(super) held: Mutex<BTreeMap<MigrationId, Held>>,
    pub(super) seen: Mutex<BTreeMap<MigrationId, Progress>>,
}

/// The lock of a migration, for the time of one effect.
pub(super) struct AtWork(pub(super) File);

impl Drop for AtWork {
    /// To close it is not enough: a child that another thread is just starting has it open as well,
    /// until it runs its program.
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

/// Makes a private file and its name durable.
pub(super) fn sync(task: &Task<'_>, path: &Path) -> Result<(), Fault> {
    let files = task.files();
    files.sync(path).and_then(|()| files.sync_dir_of(path)).map_err(paths::failed("sync", path))
}
