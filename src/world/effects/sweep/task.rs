//! One sweep: what it reads, the actions that can settle a finding, and what all finders share.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::core::event::{Finding, Plan};
use crate::core::{Environment, EnvironmentId, Fault, Life, Nonce, State};
use crate::world::effects::clean_output;
use crate::world::effects::context::World;
use crate::world::fs::data_dir::CLEANED_PREFIX;
use crate::world::fs::paths;
use crate::world::git::nested::{self, Limits};
use crate::world::process::cancel::Cancel;

/// Kind of the finding for a lock that names a dead daemon.
pub(super) const DEAD_LOCK: &str = "lock of a killed daemon";

/// Prefix of the trash folders in which an earlier version put cleaned output.
pub(super) const CLEANED_BEFORE: &str = ".clean-";

/// One sweep over the whole data directory and its repositories.
pub(in crate::world) struct Task<'a> {
    pub(in crate::world) world: &'a World,
    pub(in crate::world) state: &'a State,
    pub(in crate::world) cancel: &'a Cancel,
}

/// The directory of an ended incarnation, which no record explains.
#[derive(Debug, Clone)]
pub(super) struct Leftover {
    pub(super) id: EnvironmentId,
    pub(super) incarnation: u32,
    pub(super) nonce: Option<Nonce>,
    pub(super) plan: Plan,
    /// The commit that the log knows for its HEAD.
    pub(super) head: Option<String>,
    pub(super) path: PathBuf,
}

impl Leftover {
    pub(super) fn life(&self) -> Life<'_> {
        Life { id: &self.id, incarnation: self.incarnation, nonce: self.nonce.as_ref() }
    }
}

/// The action that would settle a finding.
pub(super) enum SettleAction {
    /// No action: it is not ours, or its owner is unknown.
    No,
    /// Remove a folder if it is still empty.
    RemoveEmpty(PathBuf),
    /// Unlink a file or folder of ours that holds no work, under the lock of this name.
    Unlink(PathBuf, String),
    /// End a process (pid, start time) that outlived its environment.
    End(EnvironmentId, (u32, u64)),
    /// Delete a ref of ours, the second, in a repository, the first.
    DropRef(PathBuf, PathBuf),
    /// Remove a lock file that names a dead daemon.
    DropLock(PathBuf),
    /// Remove git's registration of a worktree whose incarnation ended.
    Unregister(PathBuf),
    /// Move the directory of an ended incarnation to the trash, if it is not there, and keep it.
    Archive(Box<Leftover>),
    /// Unlink a lock file if no process holds it.
    RemoveLock(PathBuf),
    /// Hold the rescues in a repository again that nothing holds.
    HoldRescues(PathBuf),
}

impl Task<'_> {
    /// Returns the present or last life of an environment, also one that the state has forgotten.
    pub(super) fn life(&self, id: &EnvironmentId) -> Option<Cow<'_, Environment>> {
        let known = self.state.environment(id).map(Cow::Borrowed);
        known.or_else(|| self.world.former_lives.get()?.life(id).map(Cow::Owned))
    }

    /// Returns whether the log knows an incarnation, as [`State::knows`] does.
    pub(super) fn knows(&self, id: &EnvironmentId, incarnation: u32, nonce: Option<&str>) -> bool {
        self.life(id).is_some_and(|env| self.state.knows_of(&env, incarnation, nonce))
    }

    pub(super) fn repository_in(&self, path: &Path) -> Option<String> {
        let found = nested::find(path, Limits::ANY, &mut |_| self.cancel.check());
        found.map_or_else(
            |e| Some(Fault::from(e).to_string()),
            |f| clean_output::repository(&f, path),
        )
    }
}

/// Returns whether a trash folder belongs to a clean, of this version or an earlier one.
pub(super) fn is_of_clean(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [CLEANED_PREFIX, CLEANED_BEFORE].iter().any(|prefix| name.starts_with(prefix))
}

pub(super) fn finding(kind: &str, path: &Path, ours: bool, detail: String) -> Finding {
    Finding { kind: kind.to_owned(), path: paths::to_host(path), ours, settled: false, detail }
}

/// Lists the names and paths in a folder, sorted; a missing folder is empty.
pub(super) fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<(String, PathBuf)> =
        entries.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())).collect();
    all.sort();
    all
}
