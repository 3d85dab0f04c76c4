//! The open sessions, questions that wait for answers, and subscribers of notifications.
//!
//! The registry carries no commands that must survive: those are in the catalogue, and a session is
//! only notified to read it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use crate::core::{Code, Fault};
use crate::service::types::live_set::ReconciledView;
use crate::session::protocol::{Answer, FromServer, HostCommand};
use crate::sync::lock_unpoisoned;

/// Notifications that a slow subscriber may be behind before it misses some.
const NOTIFICATIONS_MAX: usize = 1_024;
/// Messages that may wait to be sent to one host.
pub(super) const QUEUE_MAX: usize = 256;
/// Replaced daemons that are remembered for each session.
const REPLACED_MAX: usize = 16;
/// Bound on questions that wait for answers, for all hosts together.
const QUESTIONS_MAX: usize = 1_024;

/// One open session, as the other parts of the server see it.
#[derive(Debug, Clone)]
pub(super) struct LiveSession {
    pub(super) session: String,
    pub(super) instance: String,
    /// Identity of the host's log; `boot` counts the daemons that have started on it.
    pub(super) log: String,
    pub(super) boot: u32,
    pub(super) version: String,
    /// Queue of messages that are not derived from the catalogue.
    pub(super) outgoing: mpsc::Sender<FromServer>,
    /// Makes the session read the catalogue.
    pub(super) wake: Arc<Notify>,
    /// Epoch of the live set that the user has confirmed; 0 for none.
    pub(super) confirmed: Arc<AtomicU64>,
    pub(super) reconciled: Option<ReconciledView>,
    /// Microseconds from the first message to the first reconcile report.
    pub(super) settled_us: Option<u64>,
    /// Instance names of the daemons that this one replaced, oldest first.
    pub(super) replaced: Vec<String>,
}

/// A question that waits for the answer of a host.
#[derive(Debug)]
struct Question {
    host: String,
    /// The session that it was sent through: when that ends, no answer can come.
    session: String,
    answer: oneshot::Sender<Answer>,
}

/// The registry of all sessions.
#[derive(Debug)]
pub(super) struct SessionRegistry {
    sessions: Mutex<BTreeMap<String, LiveSession>>,
    questions: Mutex<BTreeMap<String, Question>>,
    notifications: broadcast::Sender<Value>,
    subscribers: AtomicUsize,
}

impl SessionRegistry {
    pub(super) fn new() -> Arc<Self> {
        let (notifications, _) = broadcast::channel(NOTIFICATIONS_MAX);
        let (sessions, questions) = (Mutex::default(), Mutex::default());
        Arc::new(Self { sessions, questions, notifications, subscribers: AtomicUsize::new(0) })
    }

    /// Registers a session and returns the one that it replaces. Refuses a late `open` of a dead
    /// daemon, whose successor on the same log already has a session.
    pub(super) fn register(
        &self,
        host: &str,
        mut live: LiveSession,
    ) -> Result<Option<LiveSession>, Fault> {
        let mut sessions = lock_unpoisoned(&self.sessions);
        let later = |current: &&LiveSession| current.log == live.log && current.boot > live.boot;
        if let Some(current) = sessions.get(host).filter(later) {
            let message =
                format!("a later start ({}) of this host's daemon has the session", current.boot);
            let hint = "stop the older daemon of this host";
            return Err(Fault::new(Code::AlreadyRunning, message, hint));
        }
        if let Some(current) = sessions.get(host) {
            let before = current.replaced.iter().chain([&current.instance]);
            live.replaced = before.filter(|one| **one != live.instance).cloned().collect();
            let excess = live.replaced.len().saturating_sub(REPLACED_MAX);
            live.replaced.drain(..excess);
        }
        Ok(sessions.insert(host.to_owned(), live))
    }

    /// Returns whether the host's current daemon replaced this one. The replaced daemon may have
    /// lost its connection before the close message arrived, and must not take the session back.
    pub(super) fn is_replaced(&self, host: &str, instance: &str) -> bool {
        let sessions = lock_unpoisoned(&self.sessions);
        sessions.get(host).is_some_and(|live| live.replaced.iter().any(|one| one == instance))
    }

    /// Removes a session, unless another one has replaced it, and drops the questions that were
    /// sent through it.
    pub(super) fn unregister(&self, host: &str, session: &str) {
        let mut sessions = lock_unpoisoned(&self.sessions);
        if sessions.get(host).is_some_and(|live| live.session == session) {
            sessions.remove(host);
        }
        // The two locks are never held together.
        drop(sessions);
        // No answers can come; dropping the senders ends the waits.
        lock_unpoisoned(&self.questions).retain(|_, q| q.host != host || q.session != session);
    }

    pub(super) fn session(&self, host: &str) -> Option<LiveSession> {
        lock_unpoisoned(&self.sessions).get(host).cloned()
    }

    /// Returns whether this session is still the host's current one.
    pub(super) fn is_current(&self, host: &str, session: &str) -> bool {
        lock_unpoisoned(&self.sessions).get(host).is_some_and(|live| live.session == session)
    }

    pub(super) fn reconciled(&self, host: &str, report: ReconciledView, took: Duration) {
        if let Some(live) = lock_unpoisoned(&self.sessions).get_mut(host) {
            live.reconciled = Some(report);
            let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            live.settled_us = live.settled_us.or(Some(took));
        }
    }

    /// Makes a host's session read the catalogue, and notifies subscribers.
    pub(super) fn wake(&self, host: &str) {
        if let Some(live) = self.session(host) {
            live.wake.notify_one();
        }
        drop(self.notifications.send(json!({ "type": "catalogue.changed", "host": host })));
    }

    /// Makes all sessions read the catalogue.
    pub(super) fn wake_all(&self) {
        for live in lock_unpoisoned(&self.sessions).values() {
            live.wake.notify_one();
        }
    }

    /// Confirms the live set that a host holds back; `epoch` is the one the user has seen.
    pub(super) fn confirm(&self, host: &str, epoch: u64) -> Result<(), Fault> {
        let live = self.session(host).ok_or_else(|| no_session(host))?;
        live.confirmed.store(epoch, Ordering::Release);
        live.wake.notify_one();
        Ok(())
    }

    /// Sends a read-only command. The receiver fails if the session ends before the answer.
    pub(super) fn query(
        &self,
        host: &str,
        command: HostCommand,
    ) -> Result<oneshot::Receiver<Answer>, Fault> {
        let live = self.session(host).ok_or_else(|| no_session(host))?;
        let (sender, receiver) = oneshot::channel();
        let mut questions = lock_unpoisoned(&self.questions);
        questions.retain(|_, question| !question.answer.is_closed());
        if questions.len() >= QUESTIONS_MAX {
            let message = format!("{QUESTIONS_MAX} queries wait for answers");
            return Err(
                Fault::new(Code::LimitReached, message, "retry when one is answered").transient()
            );
        }
        let (host_name, session) = (host.to_owned(), live.session.clone());
        let question = Question { host: host_name, session, answer: sender };
        questions.insert(command.request.clone(), question);
        drop(questions);
        live.outgoing.try_send(FromServer::Command(command)).map_err(|_| no_session(host))?;
        Ok(receiver)
    }

    /// Passes an answer to the question it belongs to; returns false if there is none.
    pub(super) fn answer(&self, host: &str, answer: &Answer) -> bool {
        let mut questions = lock_unpoisoned(&self.questions);
        if questions.get(&answer.request).is_none_or(|question| question.host != host) {
            return false;
        }
        if let Some(question) = questions.remove(&answer.request) {
            drop(question.answer.send(answer.clone()));
        }
        true
    }

    pub(super) fn notify(&self, notifications: Value) {
        // No subscribers is no error.
        drop(self.notifications.send(notifications));
    }

    /// Subscribes to notifications. While a [`Subscriber`] exists, hosts report changes of
    /// worktrees.
    pub(super) fn subscribe(self: &Arc<Self>) -> (broadcast::Receiver<Value>, Subscriber) {
        self.subscribers.fetch_add(1, Ordering::AcqRel);
        // Sessions send `watch` when the first reader comes, and when the last one leaves.
        self.wake_all();
        (self.notifications.subscribe(), Subscriber(Arc::clone(self)))
    }

    pub(super) fn has_subscribers(&self) -> bool {
        self.subscribers.load(Ordering::Acquire) > 0
    }
}

/// Counts as a subscriber until dropped.
#[derive(Debug)]
pub(super) struct Subscriber(Arc<SessionRegistry>);

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.0.subscribers.fetch_sub(1, Ordering::AcqRel);
        self.0.wake_all();
    }
}

/// Returns the error for a host that has no session.
pub(super) fn no_session(host: &str) -> Fault {
    let message = format!("{host} has no session with this server");
    let hint = "start its daemon; recorded operations run when it connects again";
    Fault::new(Code::HostUnavailable, message, hint).transient()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(instance: &str) -> LiveSession {
        let (outgoing, _) = mpsc::channel(1);
        LiveSession {
            session: format!("session of {instance}"),
            instance: instance.to_owned(),
            log: format!("log of {instance}"),
            boot: 1,
            version: String::new(),
            outgoing,
            wake: Arc::default(),
            confirmed: Arc::default(),
            reconciled: None,
            settled_us: None,
            replaced: Vec::new(),
        }
    }

    /// The list of replaced instances is bounded and cleared when the host's session ends.
    #[test]
    fn replaced_instance_stays_replaced_after_reconnect() {
        let registry = SessionRegistry::new();
        let register = |instance: &str| registry.register("box", live(instance)).expect("entered");
        register("first");
        assert!(!registry.is_replaced("box", "first"), "the first instance is the current one");
        assert_eq!(register("second").map(|before| before.instance), Some("first".to_owned()));
        register("second");
        assert!(registry.is_replaced("box", "first") && !registry.is_replaced("box", "second"));
        assert!(!registry.is_replaced("other", "first"), "only for this host");
        for n in 0..2 * REPLACED_MAX {
            register(&format!("n{n}"));
        }
        assert!(
            registry.is_replaced("box", "n30") && !registry.is_replaced("box", "first"),
            "bounded"
        );
        registry.unregister("box", "session of n31");
        assert!(!registry.is_replaced("box", "n30"), "the host has no session");
    }
}
