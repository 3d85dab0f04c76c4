//! What a daemon finds of its ground before it serves: whether its data directory or a repository
//! has moved, whether it is a copy, whether its log was put back from a backup.
//!
//! It is found out once, told to the core as facts, and settled; done again after a kill it ends in
//! the same place. A copy gets an identity of its own and touches nothing of the original's.

use std::path::Path;

use crate::core::{Code, Command, Environment, Fault, Ground, HostPath, State};
use crate::engine::Handle;
use crate::format;
use crate::journal::Journal;
use crate::world::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::relocation::{HighWater, Identity, left_root, root_of};

/// Finds out what the ground is like, and gives a copy its own identity.
///
/// # Errors
/// When files of the data directory cannot be read or written.
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
    // A log from before a move that was put back after it: the identity file knows of the move.
    let remembered = remembered.filter(|path| path != root).or_else(|| left_root(state, root));
    let pending = identity.as_ref().and_then(|i| i.copy_of.clone());
    if let Some(original) = pending {
        begin_as_copy(journal, identity.as_ref().is_some_and(|i| i.log == log))?;
        ground.copy_of = Some(paths::to_host(&original));
    } else if let Some(before) = remembered.filter(|before| before != root) {
        if holds_log(&before, root, &log) && crate::failpoint::guard::stands("copy") {
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
        tracing::warn!(%original, "this data directory is a copy; it has a log of its own from now on");
    }
    let log = format::hex(&journal.log_id());
    let (mark, had) = HighWater::open(layout, &log)?;
    ground.had = had.filter(|had| *had > state.seq());
    if let Some(had) = ground.had {
        let has = state.seq();
        tracing::warn!(%had, %has, "the log is older than what was done by it: it was put back");
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

/// Whether another place still holds the log of this id: then it is the original.
fn holds_log(place: &Path, root: &Path, log: &str) -> bool {
    let Ok(real) = place.canonicalize() else { return false };
    if real == root {
        return false;
    }
    let layout = Layout::new(real);
    if !layout.log().is_file() {
        return false;
    }
    // One that an earlier version made has no identity file; its log says it.
    match Identity::read(&layout) {
        Some(identity) => identity.log == log,
        None => log_id_of(&layout.log()).is_none_or(|id| id == log),
    }
}

fn log_id_of(path: &Path) -> Option<String> {
    let evidence = crate::journal::forensic::Evidence::open(path).ok()?;
    Some(format::hex(&evidence.log_id()))
}

/// Settles what has moved, once the log says so, and notes where the data directory is.
///
/// # Errors
/// When the identity file cannot be written.
pub fn settle(handle: &Handle, world: &World) -> Result<(), Fault> {
    // Answered after the engine's start: from here on the state has the new places.
    handle.submit_blocking(Command::Tick)?;
    let repositories = handle.view(|state| {
        let live = state.environments().filter(|e| e.is_live()).map(|e| &e.plan);
        let plans = live.chain(state.remains().map(|r| &r.plan));
        let mut all: Vec<HostPath> = plans.map(|p| p.repository.common_dir.clone()).collect();
        all.sort();
        all.dedup();
        all
    });
    for from in repositories {
        if let Some(to) = handle.view(|state| world.moved_repository(state, &from, None)) {
            tracing::warn!(%from, %to, "a repository has moved");
            handle.submit_blocking(Command::MoveRepository { from, to })?;
        }
    }
    let served: Vec<Environment> =
        handle.view(|state| state.environments().filter(|e| e.is_live()).cloned().collect());
    for env in &served {
        if let Err(fault) = world.repair(env) {
            tracing::warn!(environment = %env.id, %fault, "its pointers were not put right");
        }
    }
    let layout = world.layout();
    let (log, path) = (world.log_id().to_owned(), layout.root().to_owned());
    let now = Identity { log, copy_of: None, path };
    if Identity::read(layout).as_ref() == Some(&now) { Ok(()) } else { now.write(layout) }
}
