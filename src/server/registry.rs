//! The open sessions, questions that wait for answers, and subscribers of notifications.
//!
//! The registry carries no commands that must survive: those are in the catalogue, and a session is
//! only notified to read it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use crate::api::live::ReconciledView;
use crate::core::{Code, Fault};
use crate::session::protocol::{Answer, FromServer, Order};

/// Notifications that a slow subscriber may be behind before it misses some.
const NEWS_MAX: usize = 1_024;
/// Messages that may wait to be sent to one host.
pub(super) const QUEUE_MAX: usize = 256;
/// Replaced daemons that are remembered for each session.
const DISPLACED_MAX: usize = 16;
/// Bound on questions that wait for answers, for all hosts together.
const QUESTIONS_MAX: usize = 1_024;

/// One open session, as the other parts of the server see it.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) session: String,
    pub(super) instance: String,
    /// Identity of the host's log; `boot` counts the daemons that have started on it.
    pub(super) log: String,
    pub(super) boot: u32,
    pub(super) version: String,
    /// Queue of messages that are not derived from the catalogue.
    pub(super) say: mpsc::Sender<FromServer>,
    /// Makes the session read the catalogue.
    pub(super) wake: Arc<Notify>,
    /// Epoch of the live set that the user has confirmed; 0 for none.
    pub(super) confirmed: Arc<AtomicU64>,
    pub(super) reconciled: Option<ReconciledView>,
    /// Microseconds from the first message to the first reconcile report.
    pub(super) settled_us: Option<u64>,
    /// Instance names of the daemons that this one replaced, oldest first.
    pub(super) displaced: Vec<String>,
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
pub(super) struct Hub {
    sessions: Mutex<BTreeMap<String, Live>>,
    questions: Mutex<BTreeMap<String, Question>>,
    news: broadcast::Sender<Value>,
    readers: AtomicUsize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(super) fn new() -> Arc<Self> {
        let (news, _) = broadcast::channel(NEWS_MAX);
        let (sessions, questions) = (Mutex::default(), Mutex::default());
        Arc::new(Self { sessions, questions, news, readers: AtomicUsize::new(0) })
    }

    /// Registers a session and returns the one that it replaces. Refuses a late `open` of a dead
    /// daemon, whose successor on the same log already has a session.
    pub(super) fn enter(&self, host: &str, mut live: Live) -> Result<Option<Live>, Fault> {
        let mut sessions = locked(&self.sessions);
        let later = |there: &&Live| there.log == live.log && there.boot > live.boot;
        if let Some(there) = sessions.get(host).filter(later) {
            let message =
                format!("a later start ({}) of this host's daemon has the session", there.boot);
            let hint = "stop the older daemon of this host";
            return Err(Fault::new(Code::AlreadyRunning, message, hint));
        }
        if let Some(there) = sessions.get(host) {
            let before = there.displaced.iter().chain([&there.instance]);
            live.displaced = before.filter(|one| **one != live.instance).cloned().collect();
            let excess = live.displaced.len().saturating_sub(DISPLACED_MAX);
            live.displaced.drain(..excess);
        }
        Ok(sessions.insert(host.to_owned(), live))
    }

    /// Returns whether the host's current daemon replaced this one. The replaced daemon may have
    /// lost its connection before the close message arrived, and must not take the session back.
    pub(super) fn is_displaced(&self, host: &str, instance: &str) -> bool {
        let sessions = locked(&self.sessions);
        sessions.get(host).is_some_and(|live| live.displaced.iter().any(|one| one == instance))
    }

    /// Removes a session, unless another one has replaced it, and drops the questions that were
    /// sent through it.
    pub(super) fn leave(&self, host: &str, session: &str) {
        let mut sessions = locked(&self.sessions);
        if sessions.get(host).is_some_and(|live| live.session == session) {
            sessions.remove(host);
        }
        // The two locks are never held together.
        drop(sessions);
        // No answers can come; dropping the senders ends the waits.
        locked(&self.questions).retain(|_, q| q.host != host || q.session != session);
    }

    pub(super) fn session(&self, host: &str) -> Option<Live> {
        locked(&self.sessions).get(host).cloned()
    }

    /// Returns whether this session is still the host's current one.
    pub(super) fn is_current(&self, host: &str, session: &str) -> bool {
        locked(&self.sessions).get(host).is_some_and(|live| live.session == session)
    }

    pub(super) fn reconciled(&self, host: &str, report: ReconciledView, took: Duration) {
        if let Some(live) = locked(&self.sessions).get_mut(host) {
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
        drop(self.news.send(json!({ "type": "catalogue.changed", "host": host })));
    }

    /// Makes all sessions read the catalogue.
    pub(super) fn wake_all(&self) {
        for live in locked(&self.sessions).values() {
            live.wake.notify_one();
        }
    }

    /// Confirms the live set that a host holds back; `epoch` is the one the user has seen.
    pub(super) fn confirm(&self, host: &str, epoch: u64) -> Result<(), Fault> {
        let live = self.session(host).ok_or_else(|| away(host))?;
        live.confirmed.store(epoch, Ordering::Release);
        live.wake.notify_one();
        Ok(())
    }

    /// Sends a read-only command. The receiver fails if the session ends before the answer.
    pub(super) fn ask(&self, host: &str, order: Order) -> Result<oneshot::Receiver<Answer>, Fault> {
        let live = self.session(host).ok_or_else(|| away(host))?;
        let (tell, told) = oneshot::channel();
        let mut questions = locked(&self.questions);
        questions.retain(|_, question| !question.answer.is_closed());
        if questions.len() >= QUESTIONS_MAX {
            let message = format!("{QUESTIONS_MAX} queries wait for answers");
            return Err(
                Fault::new(Code::LimitReached, message, "retry when one is answered").transient()
            );
        }
        let (host_name, session) = (host.to_owned(), live.session.clone());
        let question = Question { host: host_name, session, answer: tell };
        questions.insert(order.request.clone(), question);
        drop(questions);
        live.say.try_send(FromServer::Command(order)).map_err(|_| away(host))?;
        Ok(told)
    }

    /// Passes an answer to the question it belongs to; returns false if there is none.
    pub(super) fn answer(&self, host: &str, answer: &Answer) -> bool {
        let mut questions = locked(&self.questions);
        if questions.get(&answer.request).is_none_or(|question| question.host != host) {
            return false;
        }
        if let Some(question) = questions.remove(&answer.request) {
            drop(question.answer.send(answer.clone()));
        }
        true
    }

    pub(super) fn tell(&self, news: Value) {
        // No subscribers is no error.
        drop(self.news.send(news));
    }

    /// Subscribes to notifications. While a [`Reader`] exists, hosts report changes of worktrees.
    pub(super) fn news(self: &Arc<Self>) -> (broadcast::Receiver<Value>, Reader) {
        self.readers.fetch_add(1, Ordering::AcqRel);
        // Sessions send `watch` when the first reader comes, and when the last one leaves.
        self.wake_all();
        (self.news.subscribe(), Reader(Arc::clone(self)))
    }

    pub(super) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }
}

/// Counts as a subscriber until dropped.
#[derive(Debug)]
pub(super) struct Reader(Arc<Hub>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::AcqRel);
        self.0.wake_all();
    }
}

/// Returns the error for a host that has no session.
pub(super) fn away(host: &str) -> Fault {
    let message = format!("{host} has no session with this server");
    let hint = "start its daemon; recorded operations run when it connects again";
    Fault::new(Code::HostUnavailable, message, hint).transient()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(instance: &str) -> Live {
        let (say, _) = mpsc::channel(1);
        Live {
            session: format!("session of {instance}"),
            instance: instance.to_owned(),
            log: format!("log of {instance}"),
            boot: 1,
            version: String::new(),
            say,
            wake: Arc::default(),
            confirmed: Arc::default(),
            reconciled: None,
            settled_us: None,
            displaced: Vec::new(),
        }
    }

    /// The list of replaced instances is bounded and cleared when the host's session ends.
    #[test]
    fn replaced_instance_stays_replaced_after_reconnect() {
        let hub = Hub::new();
        let enter = |instance: &str| hub.enter("box", live(instance)).expect("entered");
        enter("first");
        assert!(!hub.is_displaced("box", "first"), "the first instance is the current one");
        assert_eq!(enter("second").map(|before| before.instance), Some("first".to_owned()));
        enter("second");
        assert!(hub.is_displaced("box", "first") && !hub.is_displaced("box", "second"));
        assert!(!hub.is_displaced("other", "first"), "only for this host");
        for n in 0..2 * DISPLACED_MAX {
            enter(&format!("n{n}"));
        }
        assert!(hub.is_displaced("box", "n30") && !hub.is_displaced("box", "first"), "bounded");
        hub.leave("box", "session of n31");
        assert!(!hub.is_displaced("box", "n30"), "the host has no session");
    }
}
