//! Runs the requests beside the build, and decides how long the build waits for them.
//!
//! The threads own what they use. So a build that fails, or that stops waiting, does not wait for a
//! request that hangs; the request ends at its own time limit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::questions::{Described, Questions};
use super::servers;
use crate::plan::Client;
use crate::snapshot::Snapshot;
use crate::url::Url;
use groundskeeper_migrate::recipe::{Network, SharedNetwork};

/// Number of requests that run at the same time.
const WORKERS_MAX: usize = 16;

/// Time limits of the requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of all requests of one migration together.
    pub(crate) budget: Duration,
    /// Of one request.
    pub(crate) request: Duration,
    /// Of the wait after the build, if lookups failed and no server was found so far: then there is
    /// most likely no network.
    pub(crate) grace: Duration,
    /// Of all lookups together, if none of them succeeds or fails.
    pub(crate) quiet: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            budget: Duration::from_secs(10),
            request: Duration::from_secs(5),
            grace: Duration::from_millis(250),
            quiet: Duration::from_secs(1),
        }
    }
}

/// The requests of one migration.
pub(crate) struct Discovery<'a> {
    requests: Arc<Requests>,
    /// Where the requests are made when the network cannot be used by other threads.
    network: &'a dyn Network,
    is_beside: bool,
}

impl<'a> Discovery<'a> {
    /// Starts to ask, if the network can be used by other threads.
    pub(crate) fn start(
        network: &'a dyn Network,
        snapshot: &Snapshot,
        clients: &[Client],
        limits: Limits,
    ) -> Self {
        let requests = Arc::new(Requests::new(Questions::new(snapshot, clients), limits));
        let is_beside = !requests.questions.is_empty()
            && network.shared().is_some_and(|shared| requests.start(shared));
        Self { requests, network, is_beside }
    }

    /// Returns what servers say about each client, in the order of the clients. It waits for the
    /// answers within the time limits.
    pub(crate) fn answers(self) -> Vec<Described> {
        if self.is_beside {
            self.requests.wait();
        } else {
            self.requests.run(self.network);
        }
        let mut state = self.requests.state();
        state.is_stopped = true;
        std::mem::take(&mut state.described)
    }
}

impl Drop for Discovery<'_> {
    fn drop(&mut self) {
        self.requests.state().is_stopped = true;
    }
}

/// The requests, shared by the threads that make them.
struct Requests {
    questions: Questions,
    limits: Limits,
    started: Instant,
    until: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

/// What is known so far.
#[derive(Default)]
struct State {
    described: Vec<Described>,
    /// Whether a server was found and answers in time, by its name; one that does not is not asked
    /// again.
    servers: BTreeMap<String, bool>,
    /// Some server was found, so there is a network.
    is_alive: bool,
    is_done: bool,
    /// The answers are not wanted any more.
    is_stopped: bool,
}

impl Requests {
    fn new(questions: Questions, limits: Limits) -> Self {
        let state = State {
            described: vec![Described::default(); questions.clients.len()],
            ..State::default()
        };
        let started = Instant::now();
        let (until, state, changed) = (started + limits.budget, Mutex::new(state), Condvar::new());
        Self { questions, limits, started, until, state, changed }
    }

    /// Starts the thread that makes the requests. Returns whether there is one.
    fn start(self: &Arc<Self>, network: SharedNetwork) -> bool {
        let requests = Arc::clone(self);
        let asking = thread::Builder::new().name("gk-discovery".to_owned());
        asking.spawn(move || requests.run_together(&*network)).is_ok()
    }

    /// Makes all requests one after another.
    fn run(&self, network: &dyn Network) {
        (0..self.questions.endpoints.len()).for_each(|at| self.ask_endpoint(network, at));
        (0..self.questions.clients.len()).for_each(|at| self.ask_client(network, at));
    }

    /// Makes all requests, several at a time. A client whose endpoint may name another resource is
    /// asked about last, since the resource decides whom to ask.
    fn run_together(&self, network: &(dyn Network + Send + Sync)) {
        let clients = self.questions.clients.iter().enumerate();
        let (last, first): (Vec<_>, Vec<_>) = clients.partition(|(_, c)| c.endpoint.is_some());
        let endpoints = self.questions.endpoints.len();
        together(first.len() + endpoints, |at| match first.get(at) {
            Some((client, _)) => self.ask_client(network, *client),
            None => self.ask_endpoint(network, at - first.len()),
        });
        together(last.len(), |at| self.ask_client(network, last[at].0));
        self.state().is_done = true;
        self.changed.notify_all();
    }

    fn ask_endpoint(&self, network: &dyn Network, at: usize) {
        let get = |url: &Url, address: &str| self.get(network, url, address);
        let found = servers::resource(&get, &self.questions.endpoints[at]);
        let mut state = self.state();
        for (client, described) in self.questions.clients.iter().zip(&mut state.described) {
            if client.endpoint == Some(at) {
                described.resource.clone_from(&found);
            }
        }
    }

    fn ask_client(&self, network: &dyn Network, at: usize) {
        let resource = self.state().described.get(at).and_then(|d| d.resource.clone());
        let get = |url: &Url, address: &str| self.get(network, url, address);
        let client = &self.questions.clients[at];
        let found = servers::authorization_url(&get, client, resource.as_deref());
        if let Some(described) = self.state().described.get_mut(at) {
            described.authorization_url = found;
        }
    }

    /// Makes one request, unless the time is up or its server is known to be silent.
    fn get(&self, network: &dyn Network, url: &Url, address: &str) -> Option<Vec<u8>> {
        let left = self.until.saturating_duration_since(Instant::now());
        let limit = self.limits.request.min(left);
        let known = {
            let state = self.state();
            if state.is_stopped || limit.is_zero() {
                return None;
            }
            state.servers.get(url.host()).copied()
        };
        let is_found = known.unwrap_or_else(|| network.resolves(address, limit));
        if known.is_none() {
            self.note(url.host(), is_found);
        }
        if !is_found {
            return None;
        }
        let begun = Instant::now();
        let body = network.get(address, limit);
        if body.is_none() && begun.elapsed() >= limit {
            self.note(url.host(), false);
        }
        body
    }

    fn note(&self, host: &str, answers: bool) {
        let mut state = self.state();
        state.is_alive |= answers;
        state.servers.insert(host.to_owned(), answers);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked while it held the state left whole answers behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all answers are there, or none is to be expected any more.
    fn wait(&self) {
        let begun = Instant::now();
        let mut state = self.state();
        while !state.is_done {
            let end = if state.is_alive {
                self.until
            } else if state.servers.is_empty() {
                self.until.min((begun + self.limits.grace).max(self.started + self.limits.quiet))
            } else {
                self.until.min(begun + self.limits.grace)
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Calls `act` for each number below `count`, on several threads at a time.
fn together(count: usize, act: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            act(at);
        }
    };
    thread::scope(|scope| {
        for _ in 1..count.min(WORKERS_MAX) {
            // Without another thread this one does the work alone.
            drop(thread::Builder::new().name("gk-request".to_owned()).spawn_scoped(scope, work));
        }
        work();
    });
}
