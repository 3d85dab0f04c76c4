//! What hooks leave behind: collected when it ends, and remembered by whose hook left it.
//!
//! The daemon is the subreaper of all that it starts: a process that leaves its session, forgets
//! its environment and lets its parent die becomes a child of the daemon instead of getting away.
//! While one hook alone runs, such a newcomer is that hook's; when several run, it is nobody's,
//! and is not ended for anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use rustix::process::{Pid, WaitIdOptions, waitid};

use super::table::{self, Process};

/// Orphans that are remembered; more than that are left to the other ways of finding them.
const KNOWN_MAX: usize = 4_096;

/// Pid and start time.
pub type Identity = (u32, u64);

#[derive(Debug, Default)]
struct Registry {
    /// Children that somebody in this process waits for.
    own: BTreeSet<u32>,
    /// Hooks that run now: the path of their environment, and whether others ran meanwhile.
    hooks: BTreeMap<Vec<u8>, bool>,
    /// Children that nobody waits for, with the path of the environment that left them.
    known: BTreeMap<Identity, Option<Vec<u8>>>,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);
/// Shared by those that start a child and have not registered it yet, exclusive for those that
/// collect: a child that ends at once is not taken for an orphan.
static STARTING: RwLock<()> = RwLock::new(());

fn with<T>(change: impl FnOnce(&mut Registry) -> T) -> T {
    let mut guard: MutexGuard<'_, Option<Registry>> =
        REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    change(guard.get_or_insert_default())
}

/// Makes this process the parent of all that its children leave behind.
pub fn adopt_all() {
    // Not everywhere; then orphans go to the first process of the system, as ever.
    let _adopted = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Starts a child that somebody will wait for. Nobody collects it in between.
///
/// # Errors
/// What `spawn` says.
pub fn start(
    spawn: impl FnOnce() -> std::io::Result<std::process::Child>,
) -> std::io::Result<std::process::Child> {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let child = spawn()?;
    with(|registry| registry.own.insert(child.id()));
    Ok(child)
}

/// A child was waited for.
pub fn ended(pid: u32) {
    with(|registry| registry.own.remove(&pid));
}

/// A hook begins. Newcomers from now on may be its.
pub fn hook_begins(path: &[u8]) {
    collect();
    with(|registry| {
        let alone = registry.hooks.is_empty();
        for shared in registry.hooks.values_mut() {
            *shared = true;
        }
        registry.hooks.insert(path.to_owned(), !alone);
    });
}

/// A hook has ended. What it left behind is known by now.
pub fn hook_ended(path: &[u8]) {
    collect();
    with(|registry| registry.hooks.remove(path));
}

/// The orphans that hooks of the environment at this path left behind and that still live.
#[must_use]
pub fn left_by(path: &[u8]) -> Vec<Identity> {
    collect();
    with(|registry| {
        let known = registry.known.iter();
        known.filter(|(_, owner)| owner.as_deref() == Some(path)).map(|(id, _)| *id).collect()
    })
}

/// Whether this process waits for a child of this number.
#[must_use]
pub fn is_own_child(pid: u32) -> bool {
    with(|registry| registry.own.contains(&pid))
}

/// Collects orphans that have ended, and notes whose the new ones are.
pub fn collect() {
    let _nobody_starts = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    with(|registry| {
        let children = zombies_and_orphans();
        for zombie in children.zombies.iter().filter(|pid| !registry.own.contains(pid)) {
            if let Some(pid) = i32::try_from(*zombie).ok().and_then(Pid::from_raw) {
                let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                let _collected = waitid(rustix::process::WaitId::Pid(pid), how);
            }
        }
        let alive: BTreeSet<Identity> = children.alive.iter().map(|p| (p.pid, p.started)).collect();
        registry.known.retain(|id, _| alive.contains(id));
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
    });
}

struct Children {
    zombies: Vec<u32>,
    alive: Vec<Process>,
}

fn zombies_and_orphans() -> Children {
    let mut children = Children { zombies: Vec::new(), alive: Vec::new() };
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if matches!(waitid(rustix::process::WaitId::All, look), Err(rustix::io::Errno::CHILD)) {
        // No child at all; looking at every process of the system would take a millisecond.
        return children;
    }
    let me = std::process::id();
    for pid in table::pids() {
        match table::child_of(pid, me) {
            Some(Some(process)) => children.alive.push(process),
            Some(None) => children.zombies.push(pid),
            None => {}
        }
    }
    children
}
