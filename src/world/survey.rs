//! Brings the statuses of many worktrees up to date within a bound in time, for a list of them.
//!
//! What is not ready in time stays in the status cache with its age; the next survey begins with
//! what is oldest there. A worktree whose file system does not answer holds up no other repository.
//! Nothing here returns a status, and nothing here changes a worktree.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::core::{Environment, HostPath};
use crate::sync::lock_unpoisoned;
use crate::world::World;
use crate::world::process::cancel::Cancel;

/// Most threads of all surveys, those that hang included.
const THREADS_MAX: usize = 16;
/// Most threads of one survey: a status computes, so more than there are cores gain nothing.
const THREADS_PER_SURVEY_MAX: usize = 4;
/// Most of them in one repository.
const THREADS_PER_REPOSITORY_MAX: usize = 4;

/// The surveys of one daemon.
#[derive(Debug, Default)]
pub struct Survey(Arc<Mutex<Running>>);

/// Threads that are at work, by the repository whose worktree they ask about.
#[derive(Debug, Default)]
struct Running {
    threads: usize,
    by_repository: BTreeMap<HostPath, usize>,
}

/// The worktrees that one survey still has to ask about.
struct Work {
    queue: Mutex<VecDeque<Environment>>,
    until: Instant,
    /// Threads of this survey that have not ended.
    open: Mutex<usize>,
    ended: Condvar,
}

impl Survey {
    /// Asks for the statuses of worktrees, the ones longest unknown first, and returns when all are
    /// known, or after `limit`. What has begun by then goes on.
    pub fn refresh(&self, world: &Arc<World>, mut envs: Vec<Environment>, limit: Duration) {
        let until = Instant::now() + limit;
        world.catch_up();
        let age = |env: &Environment| {
            let seen = world.status_cache().last_seen(&env.id, env.incarnation);
            seen.map_or(Duration::MAX, |(_, age)| age)
        };
        // What a watch vouches for is known already.
        envs.retain(|env| !age(env).is_zero());
        envs.sort_by_cached_key(|env| Reverse(age(env)));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let wanted = cores.clamp(2, THREADS_PER_SURVEY_MAX).min(envs.len());
        let work = Arc::new(Work {
            queue: Mutex::new(envs.into()),
            until,
            open: Mutex::new(0),
            ended: Condvar::new(),
        });
        for _ in 0..wanted {
            self.begin(world, &work);
        }
        let mut open = lock_unpoisoned(&work.open);
        while *open > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = work.ended.wait_timeout(open, left);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Starts a thread, if one is free.
    fn begin(&self, world: &Arc<World>, work: &Arc<Work>) {
        let mut running = lock_unpoisoned(&self.0);
        if running.threads >= THREADS_MAX {
            return;
        }
        running.threads += 1;
        *lock_unpoisoned(&work.open) += 1;
        drop(running);
        let thread = Thread { running: Arc::clone(&self.0), work: Arc::clone(work) };
        let world = Arc::clone(world);
        let at_work = move || {
            while let Some(asked) = thread.next() {
                if let Ok(cancel) = Cancel::new() {
                    // It is in the cache now, or is not known.
                    drop(world.status(&asked.env, &cancel));
                }
            }
        };
        // What was counted is given back with the closure, also when no thread could be started.
        drop(std::thread::Builder::new().name("gk-survey".to_owned()).spawn(at_work));
    }
}

/// One thread of a survey; its end is counted however it comes.
struct Thread {
    running: Arc<Mutex<Running>>,
    work: Arc<Work>,
}

impl Thread {
    /// Takes a worktree in whose repository a thread is free; none when there is none, or no time.
    fn next(&self) -> Option<Asked> {
        if Instant::now() >= self.work.until {
            return None;
        }
        let mut queue = lock_unpoisoned(&self.work.queue);
        let mut running = lock_unpoisoned(&self.running);
        let is_free = |env: &Environment| {
            let common = &env.plan.repository.common_dir;
            running.by_repository.get(common).is_none_or(|n| *n < THREADS_PER_REPOSITORY_MAX)
        };
        let at = queue.iter().position(is_free)?;
        let env = queue.remove(at)?;
        *running.by_repository.entry(env.plan.repository.common_dir.clone()).or_default() += 1;
        Some(Asked { running: Arc::clone(&self.running), env })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        lock_unpoisoned(&self.running).threads -= 1;
        *lock_unpoisoned(&self.work.open) -= 1;
        self.work.ended.notify_all();
    }
}

/// A worktree that a thread asks about.
struct Asked {
    running: Arc<Mutex<Running>>,
    env: Environment,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut running = lock_unpoisoned(&self.running);
        let common = &self.env.plan.repository.common_dir;
        if let Some(count) = running.by_repository.get_mut(common) {
            *count = count.saturating_sub(1);
        }
        running.by_repository.retain(|_, count| *count > 0);
    }
}
