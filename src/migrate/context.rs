//! What one step of a migration works with: its files, its recipe, its open databases and locks.
//!
//! It holds no policy: which step runs is the core's decision.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::file_names::Names;
use crate::files::Files;
use crate::recipe::{Keychain, Network, Recipe, Secrets};
use crate::recipes::Recipes;
use crate::source::Source;
use crate::{access, app_lock};
use groundskeeper_core::{Fault, HostPath, Migration, MigrationId};
use groundskeeper_system::paths;

/// Progress of the effect that runs now, for a caller that waits for the migration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Name of the activity, or of the table that is being written.
    pub what: String,
    /// Amount done so far, in [`Self::unit`].
    pub done: u64,
    /// Total amount in [`Self::unit`]; 0 when it is not known.
    pub of: u64,
    /// Unit of both amounts: `bytes` or `rows`.
    pub unit: &'static str,
}

/// Locks that one migration holds between two effects, and the state of its scratch files.
///
/// All of it ends with the process. The next process takes the locks again and checks the database.
#[derive(Default)]
pub(super) struct HeldLocks {
    /// Lock on the application's own lock file; `None` before it is taken or where there is none.
    pub(super) owner: Option<app_lock::Owner>,
    /// The old database, locked against writers.
    pub(super) source: Option<Source>,
    /// How far this process got with the private copy.
    pub(super) copy: Scratch,
    /// Whether this process has built the new database completely and nothing changed it since.
    pub(super) is_built: bool,
    /// Secrets of the new database, from its build; never longer than until they are written.
    pub(super) secrets: Option<Secrets>,
    /// Device and inode of the private files that this process made.
    pub(super) made: Vec<(PathBuf, access::FileId)>,
}

/// How far a process got with a file that is never synced, and which no other process may trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Scratch {
    /// Missing, made by another process, or being changed right now.
    #[default]
    Unknown,
    /// As copied from the old database.
    Fresh,
    /// Brought to the shape that the recipe reads.
    Ready,
}

/// One effect that is being performed.
pub(super) struct Task<'a> {
    pub(super) runner: &'a MigrationRunner,
    pub(super) migration: &'a Migration,
    pub(super) recipe: &'a dyn Recipe,
    pub(super) names: Names,
    pub(super) cancelled: &'a dyn Fn() -> bool,
    pub(super) observe: &'a dyn Fn(&Progress),
}

/// Performs the effects of migrations and holds their locks between two effects.
pub struct MigrationRunner {
    /// Directory for what an undo needs (old secrets, kept recipes), lock files and scratch files.
    pub(super) home: PathBuf,
    pub(super) recipes: Recipes,
    pub(super) files: Files,
    pub(super) network: Box<dyn Network + Send + Sync>,
    pub(super) keychain: Box<dyn Keychain + Send + Sync>,
    pub(super) held: Mutex<BTreeMap<MigrationId, HeldLocks>>,
    pub(super) seen: Mutex<BTreeMap<MigrationId, Progress>>,
    /// Locks of applications that this process holds until it ends, by database.
    pub(super) owners: Mutex<BTreeMap<HostPath, app_lock::Owner>>,
}

/// Lock of a migration for the duration of one effect.
pub(super) struct EffectLock(pub(super) File);

impl Drop for EffectLock {
    /// Unlocks explicitly. Closing is not enough: the lock belongs to the open file description,
    /// and a child that another thread is starting shares it until it executes its program.
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

/// Makes the content and the name of a private file durable.
pub(super) fn sync(task: &Task<'_>, path: &Path) -> Result<(), Fault> {
    let files = task.files();
    files.sync(path).and_then(|()| files.sync_dir_of(path)).map_err(paths::failed("sync", path))
}
