//! Polls the environments that cannot be watched, one after the other, on a thread that is allowed
//! to block. It decides neither which environments are polled nor when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::core::EnvironmentId;
use crate::engine::watcher::context::WatchContext;
use crate::sync::lock_unpoisoned;
use crate::world::process::cancel::Cancel;
use crate::world::status::types::Status;
use crate::world::watch::backend::{Key, Kinds};

#[derive(Debug, Default)]
struct Polls {
    waiting: BTreeSet<Key>,
    seen: BTreeMap<Key, Arc<Status>>,
    is_running: bool,
}

/// The polls of one watcher, and the status that each of them found last.
#[derive(Debug)]
pub(super) struct Poller {
    context: Arc<WatchContext>,
    polls: Mutex<Polls>,
}

impl Poller {
    pub(super) fn new(context: &Arc<WatchContext>) -> Self {
        Self { context: Arc::clone(context), polls: Mutex::default() }
    }

    /// Queues a poll. Starts the thread if it does not run; it ends when no poll waits.
    pub(super) fn poll(self: &Arc<Self>, id: &EnvironmentId, incarnation: u32) {
        let mut polls = self.polls();
        polls.waiting.insert((id.clone(), incarnation));
        if std::mem::replace(&mut polls.is_running, true) {
            return;
        }
        drop(polls);
        let running = Arc::clone(self);
        let builder = std::thread::Builder::new().name("gk-poll".to_owned());
        if builder.spawn(move || running.run()).is_err() {
            self.polls().is_running = false;
        }
    }

    /// Forgets the status that polls of an environment have found.
    pub(super) fn forget(&self, id: &EnvironmentId) {
        self.polls().seen.retain(|(of, _), _| of != id);
    }

    fn run(&self) {
        loop {
            let mut polls = self.polls();
            let Some(key) = polls.waiting.pop_first() else {
                polls.is_running = false;
                return;
            };
            drop(polls);
            // A panic in one poll must not stop the polls of the other environments.
            let poll = std::panic::AssertUnwindSafe(|| self.poll_one(&key));
            if std::panic::catch_unwind(poll).is_err() {
                tracing::error!(environment = %key.0, "a poll panicked; please report this");
            }
        }
    }

    fn poll_one(&self, key: &Key) {
        let context = &self.context;
        context.metrics().polls += 1;
        let env = context.handle.view(|state| {
            let env = state.environment(&key.0);
            env.filter(|e| e.incarnation == key.1 && e.is_served()).cloned()
        });
        let (Some(env), Ok(cancel)) = (env, Cancel::new()) else {
            self.polls().seen.remove(key);
            return;
        };
        context.world.status_cache().record_change(&key.0, None);
        let Ok(found) = context.world.status(&env, &cancel) else { return };
        let before = self.polls().seen.insert(key.clone(), Arc::clone(&found));
        if before.is_some_and(|before| *before != *found) {
            context.notify(key.0.clone(), key.1, Kinds::ANYTHING);
        }
    }

    fn polls(&self) -> MutexGuard<'_, Polls> {
        lock_unpoisoned(&self.polls)
    }
}
