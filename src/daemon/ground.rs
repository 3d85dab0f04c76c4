//! Detects, before the daemon serves, whether its data directory or a repository has moved, whether
//! the directory is a copy, and whether the log was restored from a backup.
//!
//! The findings go to the core as facts once, and are settled then; after a kill the same steps end
//! in the same state. A copy gets its own identity and never changes what belongs to the original.

use std::path::Path;

use crate::core::{Code, Command, Environment, Fault, Ground, HostPath, State};
use crate::engine::Handle;
use crate::format;
use crate::journal::Journal;
use crate::world::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::relocation::{HighWater, Identity, left_root, root_of};

/// Detects moves, copies and restored logs. Gives a copy its own identity.
///
/// # Errors
/// When files of the data directory cannot be read or written; `journal_failed` when the log cannot
/// take a new identity.
pub fn find(
    layout: &Layout,
    journal: &mut Journal,
    state: &State,
) -> Result<(Ground, HighWater), Fault> {
    let log = format::hex(&journal.log_id());
    let identity = Identity::read(layout);
    let mut ground = Ground::default();
    let root = layout.root();
    let remembered = identity.as_ref().map(|i| i.path.clone()).or_else(|| root_of(state));
    // A log from before a move, restored after it: the identity file has the current path, but the
    // log still names the old one.
    let remembered = remembered.filter(|path| path != root).or_else(|| left_root(state, root));
    let pending = identity.as_ref().and_then(|i| i.copy_of.clone());
    if let Some(original) = pending {
        // A kill between the identity file and the log: the log still has the original's id.
        begin_as_copy(journal, identity.as_ref().is_some_and(|i| i.log == log))?;
        ground.copy_of = Some(paths::to_host(&original));
    } else if let Some(before) = remembered.filter(|before| before != root) {
        if holds_log(&before, root, &log) && crate::failpoint::guard::stands("copy") {
            // The identity file goes first: after a kill it tells that the log needs a new id.
            let copy_of = Some(before.clone());
            Identity { log: log.clone(), copy_of, path: root.to_owned() }.write(layout)?;
            begin_as_copy(journal, true)?;
            ground.copy_of = Some(paths::to_host(&before));
        } else {
            tracing::warn!(from = %before.display(), to = %root.display(), "the data directory moved");
            ground.moved = Some((paths::to_host(&before), paths::to_host(root)));
        }
    }
    if let Some(original) = &ground.copy_of {
        tracing::warn!(%original, "this data directory is a copy; its log gets its own identity");
    }
    let log = format::hex(&journal.log_id());
    let (mark, had) = HighWater::open(layout, &log)?;
    ground.had = had.filter(|had| *had > state.seq());
    if let Some(had) = ground.had {
        let has = state.seq();
        tracing::warn!(%had, %has, "the log is older than the data directory: it was restored");
    }
    Ok((ground, mark))
}

fn begin_as_copy(journal: &mut Journal, is_due: bool) -> Result<(), Fault> {
    if !is_due {
        return Ok(());
    }
    let taken = journal.take_new_identity().map(drop);
    taken.map_err(|e| Fault::new(Code::JournalFailed, e.to_string(), e.hint()))
}

/// Returns whether another directory still holds the log of this id, and so is the original.
fn holds_log(place: &Path, root: &Path, log: &str) -> bool {
    let Ok(real) = place.canonicalize() else { return false };
    // The old path may be a link to this very directory.
    if real == root {
        return false;
    }
    let layout = Layout::new(real);
    if !layout.log().is_file() {
        return false;
    }
    // A data directory of an earlier version has no identity file, so its log is read. A log that
    // cannot be read counts as a match: to act as a copy is the safe error.
    match Identity::read(&layout) {
        Some(identity) => identity.log == log,
        None => log_id_of(&layout.log()).is_none_or(|id| id == log),
    }
}

fn log_id_of(path: &Path) -> Option<String> {
    let log = crate::journal::forensic::ReadOnlyLog::open(path).ok()?;
    Some(format::hex(&log.log_id()))
}

/// Settles what has moved, after the log has recorded it, and writes the current path of the data
/// directory to the identity file.
///
/// # Errors
/// When the engine has ended, or the identity file cannot be written.
pub fn settle(handle: &Handle, world: &World) -> Result<(), Fault> {
    // The reply comes after the engine's start: from here on the state has the new paths.
    handle.submit_blocking(Command::Tick)?;
    let repositories = handle.view(|state| {
        let live = state.environments().filter(|e| e.is_live()).map(|e| &e.plan);
        let plans = live.chain(state.archives().map(|r| &r.plan));
        let mut all: Vec<HostPath> = plans.map(|p| p.repository.common_dir.clone()).collect();
        all.sort();
        all.dedup();
        all
    });
    for from in repositories {
        if let Some(to) = handle.view(|state| world.moved_repository(state, &from, None)) {
            tracing::warn!(%from, %to, "a repository moved");
            handle.submit_blocking(Command::MoveRepository { from, to })?;
        }
    }
    let served: Vec<Environment> =
        handle.view(|state| state.environments().filter(|e| e.is_live()).cloned().collect());
    for env in &served {
        if let Err(fault) = world.repair(env) {
            tracing::warn!(environment = %env.id, %fault, "cannot repair its git pointers");
        }
    }
    let layout = world.layout();
    let (log, path) = (world.log_id().to_owned(), layout.root().to_owned());
    let now = Identity { log, copy_of: None, path };
    if Identity::read(layout).as_ref() == Some(&now) { Ok(()) } else { now.write(layout) }
}
