//! Processes that hooks leave behind: attributed to their hook, and reaped when they end.
//!
//! The daemon is the subreaper of everything it starts: a process that leaves its session, clears
//! its environment and lets its parent die becomes a child of the daemon instead of escaping. While
//! exactly one hook runs, a new orphan belongs to that hook. While several run, it belongs to none,
//! and is not ended for any.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use groundskeeper_system::linux_calls;
use groundskeeper_system::proc::Unseen;
use rustix::process::{Pid, WaitIdOptions, waitid};

use super::table::{self, Process};
use crate::sync::lock_unpoisoned;

/// Bound on recorded orphans; further ones are left to the other means of finding processes.
const KNOWN_MAX: usize = 4_096;

/// Pid and start time, which together identify a process.
pub type Identity = (u32, u64);

#[derive(Debug, Default)]
struct Registry {
    /// Children for which another thread of this process waits.
    own: BTreeSet<u32>,
    /// Hooks that run now: the path of their environment, and whether another hook ran meanwhile.
    hooks: BTreeMap<Vec<u8>, bool>,
    /// Children that no thread waits for, with the path of the environment whose hook left them.
    known: BTreeMap<Identity, Option<Vec<u8>>>,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);
/// Shared lock for threads that start a child and have not registered it yet, exclusive for
/// [`collect`]: so a child that ends at once is not taken for an orphan.
static STARTING: RwLock<()> = RwLock::new(());

fn with<T>(change: impl FnOnce(&mut Registry) -> T) -> T {
    let mut guard: MutexGuard<'_, Option<Registry>> = lock_unpoisoned(&REGISTRY);
    change(guard.get_or_insert_default())
}

/// Makes this process the parent of all orphans among its descendants.
pub fn adopt_all() {
    // Not every system supports it; orphans then go to pid 1, as usual.
    let _adopted = linux_calls::become_subreaper();
}

/// Starts a child for which the caller will wait. [`collect`] cannot reap it in between.
///
/// # Errors
/// The error of `spawn`.
pub fn start(
    spawn: impl FnOnce() -> std::io::Result<std::process::Child>,
) -> std::io::Result<std::process::Child> {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let child = spawn()?;
    with(|registry| registry.own.insert(child.id()));
    Ok(child)
}

/// Records that a child was waited for: its pid may be reused from now on.
pub fn ended(pid: u32) {
    with(|registry| registry.own.remove(&pid));
}

/// Records that a hook begins. New orphans may be its own from now on.
///
/// # Errors
/// When the orphans that exist already cannot be seen; the hook must not begin then.
pub fn hook_begins(path: &[u8]) -> Result<(), Unseen> {
    // Orphans that exist already are attributed first; they are not this hook's.
    collect()?;
    with(|registry| {
        let alone = registry.hooks.is_empty();
        for shared in registry.hooks.values_mut() {
            *shared = true;
        }
        registry.hooks.insert(path.to_owned(), !alone);
    });
    Ok(())
}

/// Records that a hook has ended. The orphans it left are attributed first.
pub fn hook_ended(path: &[u8]) {
    if let Err(error) = collect() {
        tracing::warn!(%error, "cannot see which processes a hook left");
    }
    with(|registry| registry.hooks.remove(path));
}

/// Returns the living orphans that hooks of the environment at this path left behind.
///
/// # Errors
/// When `/proc` does not show processes.
pub fn left_by(path: &[u8]) -> Result<Vec<Identity>, Unseen> {
    collect()?;
    Ok(with(|registry| {
        let known = registry.known.iter();
        known.filter(|(_, owner)| owner.as_deref() == Some(path)).map(|(id, _)| *id).collect()
    }))
}

/// Reports whether this process waits for a child with this pid.
#[must_use]
pub fn is_own_child(pid: u32) -> bool {
    with(|registry| registry.own.contains(&pid))
}

/// Reaps orphans that have ended, and attributes the new ones.
///
/// # Errors
/// When `/proc` does not show processes; what is known of orphans stays as it is.
pub fn collect() -> Result<(), Unseen> {
    let _no_starts = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    with(|registry| {
        let children = zombies_and_orphans()?;
        for zombie in children.zombies.iter().filter(|pid| !registry.own.contains(pid)) {
            if let Some(pid) = i32::try_from(*zombie).ok().and_then(Pid::from_raw) {
                let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                let _collected = waitid(rustix::process::WaitId::Pid(pid), how);
            }
        }
        let alive: BTreeSet<Identity> = children.alive.iter().map(|p| (p.pid, p.started)).collect();
        registry.known.retain(|id, _| alive.contains(id));
        // Only a hook that ran alone from its start is a certain owner.
        let owner = match registry.hooks.iter().next() {
            Some((path, false)) if registry.hooks.len() == 1 => Some(path.clone()),
            _ => None,
        };
        for orphan in children.alive.iter().filter(|p| !registry.own.contains(&p.pid)) {
            if registry.known.len() < KNOWN_MAX {
                let id = (orphan.pid, orphan.started);
                registry.known.entry(id).or_insert_with(|| owner.clone());
            }
        }
        Ok(())
    })
}

struct Children {
    zombies: Vec<u32>,
    alive: Vec<Process>,
}

fn zombies_and_orphans() -> Result<Children, Unseen> {
    let mut children = Children { zombies: Vec::new(), alive: Vec::new() };
    // `WNOWAIT` leaves the zombie: it may be a child whose own waiter needs its status.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if matches!(waitid(rustix::process::WaitId::All, options), Err(rustix::io::Errno::CHILD)) {
        // Without any child, the scan of all processes (about a millisecond) is skipped.
        return Ok(children);
    }
    let me = std::process::id();
    for pid in table::pids()? {
        match table::child_of(pid, me) {
            Some(Some(process)) => children.alive.push(process),
            Some(None) => children.zombies.push(pid),
            None => {}
        }
    }
    Ok(children)
}
