//! Status cache: coalesces concurrent queries and reuses fresh results.
//!
//! A result is never older than the question that it answers. While a worktree is watched, its last
//! result is valid until something changes; otherwise a caller shares only a computation that began
//! after it asked, and a computation may prove the last result to hold. A query never starts a
//! watch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::{Code, EnvironmentId, Fault};
use crate::world::status::cache_entry::{Answer, CacheEntry, CachedResult, Computed, Question};
use crate::world::status::query::LIMIT;
use crate::world::status::types::Status;

/// Bound on statuses computed at once: more than the machine has cores only take longer each.
const RUNNING_MAX: usize = 4;
/// Longest wait for another caller's computation, or for a free slot.
const WAIT_MAX: Duration = Duration::from_secs(4 * LIMIT.as_secs());

/// The status cache of one daemon.
#[derive(Debug, Default)]
pub struct StatusCache {
    entries: Mutex<BTreeMap<EnvironmentId, Arc<CacheEntry>>>,
    running: Mutex<usize>,
    permit_freed: Condvar,
    computed: AtomicU64,
    partial: AtomicU64,
    shared: AtomicU64,
}

/// Counters of queries by how they were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Statuses computed by git.
    pub computed: u64,
    /// Of these, statuses limited to the changed paths.
    pub partial: u64,
    /// Queries answered from the cache, also after a proof that it holds, or by another caller's
    /// computation.
    pub shared: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StatusCache {
    fn entry(&self, id: &EnvironmentId) -> Arc<CacheEntry> {
        Arc::clone(locked(&self.entries).entry(id.clone()).or_default())
    }

    /// Returns the status of one incarnation, computed by `compute` if no valid result exists.
    /// `compute` receives what is known of the last result.
    ///
    /// # Errors
    /// The error of `compute`, or [`Code::Timeout`] when another caller's computation takes too
    /// long.
    pub(in crate::world) fn get_or_compute(
        &self,
        id: &EnvironmentId,
        incarnation: u32,
        compute: impl Fn(&Question) -> Result<Computed, Fault>,
    ) -> Answer {
        let asked = Instant::now();
        let entry = self.entry(id);
        let mut state = locked(&entry.state);
        let until = asked + WAIT_MAX;
        loop {
            if let Some(last) = state.valid(incarnation, asked) {
                self.shared.fetch_add(1, Ordering::Relaxed);
                return last.answer.clone();
            }
            if !state.is_running {
                break;
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(status_timeout(id));
            }
            state =
                entry.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_running = true;
        let mut begun = Instant::now();
        let (mut version, question) = (state.version, state.question(incarnation));
        drop(state);
        let _guard = ComputationGuard(&entry);
        let mut computed = self.compute_with_permit(id, &question, &compute);
        let mut state = locked(&entry.state);
        if question.since.is_some() && state.unknown > version {
            // A change of unknown path arrived during the computation: the result that the partial
            // answer was merged into is stale, so everything is computed anew.
            version = state.version;
            begun = Instant::now();
            drop(state);
            computed = self.compute_with_permit(id, &Question::default(), &compute);
            state = locked(&entry.state);
        }
        let (answer, proof) = match computed {
            Ok(computed) => (Ok(computed.status), computed.proof),
            Err(fault) => (Err(fault), None),
        };
        state.incarnation = incarnation;
        state.paths.retain(|_, at| *at > version);
        state.last = Some(CachedResult { answer: answer.clone(), proof, version, begun });
        answer
    }

    fn compute_with_permit(
        &self,
        id: &EnvironmentId,
        question: &Question,
        compute: impl Fn(&Question) -> Result<Computed, Fault>,
    ) -> Result<Computed, Fault> {
        let mut running = locked(&self.running);
        let until = Instant::now() + WAIT_MAX;
        while *running >= RUNNING_MAX {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(status_timeout(id));
            }
            running = self
                .permit_freed
                .wait_timeout(running, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *running += 1;
        drop(running);
        let _permit = Permit(self);
        let computed = compute(question);
        if computed.as_ref().is_ok_and(|computed| computed.is_proven) {
            self.shared.fetch_add(1, Ordering::Relaxed);
        } else {
            self.computed.fetch_add(1, Ordering::Relaxed);
            self.partial.fetch_add(u64::from(question.since.is_some()), Ordering::Relaxed);
        }
        computed
    }

    /// Returns the last result, however old; `None` when there was none, or it was an error.
    #[must_use]
    pub fn last(&self, id: &EnvironmentId, incarnation: u32) -> Option<Arc<Status>> {
        let entry = Arc::clone(locked(&self.entries).get(id)?);
        let state = locked(&entry.state);
        let last = state.last.as_ref().filter(|_| state.incarnation == incarnation)?;
        last.answer.as_ref().ok().cloned()
    }

    /// Returns the last result as [`last`](Self::last) does, and how long ago it was known to be
    /// true: zero while a watch has seen no change since.
    #[must_use]
    pub fn last_seen(
        &self,
        id: &EnvironmentId,
        incarnation: u32,
    ) -> Option<(Arc<Status>, Duration)> {
        let entry = Arc::clone(locked(&self.entries).get(id)?);
        let state = locked(&entry.state);
        let last = state.last.as_ref().filter(|_| state.incarnation == incarnation)?;
        let holds = state.is_watched && last.version == state.version;
        let age = if holds { Duration::ZERO } else { last.begun.elapsed() };
        Some((last.answer.as_ref().ok().cloned()?, age))
    }

    /// Returns the last result if no change has been seen since; `None` also during a computation.
    #[must_use]
    pub fn unchanged(&self, id: &EnvironmentId, incarnation: u32) -> Option<Arc<Status>> {
        let entry = Arc::clone(locked(&self.entries).get(id)?);
        let state = locked(&entry.state);
        let last = state.last.as_ref().filter(|_| state.incarnation == incarnation)?;
        let holds = last.version == state.version && !state.is_running;
        last.answer.as_ref().ok().filter(|_| holds).cloned()
    }

    /// Records a change: of this file or directory of the worktree, or of an unknown path.
    pub fn record_change(&self, id: &EnvironmentId, path: Option<&[u8]>) {
        let entry = locked(&self.entries).get(id).cloned();
        if let Some(entry) = entry {
            locked(&entry.state).record_change(path);
        }
    }

    /// Records that every change will be reported from now on, or no longer. Earlier results become
    /// stale, since a change before the watch stood was not seen.
    pub fn set_watched(&self, id: &EnvironmentId, is_watched: bool) {
        // An ended environment has no entry, and must not get one.
        let known = locked(&self.entries).get(id).cloned();
        let Some(entry) = known.or_else(|| is_watched.then(|| self.entry(id))) else { return };
        let mut state = locked(&entry.state);
        state.is_watched = is_watched;
        state.record_change(None);
    }

    /// Drops everything cached for an environment whose incarnation has ended.
    pub fn forget(&self, id: &EnvironmentId) {
        locked(&self.entries).remove(id);
    }

    /// Returns the counters of queries.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (computed, shared) = (&self.computed, &self.shared);
        Counts {
            computed: computed.load(Ordering::Relaxed),
            partial: self.partial.load(Ordering::Relaxed),
            shared: shared.load(Ordering::Relaxed),
        }
    }
}

/// Ends a computation, also one that panicked; otherwise its waiters would run into the timeout.
struct ComputationGuard<'a>(&'a CacheEntry);

impl Drop for ComputationGuard<'_> {
    fn drop(&mut self) {
        locked(&self.0.state).is_running = false;
        self.0.changed.notify_all();
    }
}

struct Permit<'a>(&'a StatusCache);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *locked(&self.0.running) -= 1;
        self.0.permit_freed.notify_one();
    }
}

fn status_timeout(id: &EnvironmentId) -> Fault {
    let message = format!("cannot determine the status of {id} in {} s", WAIT_MAX.as_secs());
    Fault::new(Code::Timeout, message, "retry when fewer status queries run").transient()
}

#[cfg(test)]
mod tests;
