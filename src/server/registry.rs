//! The open sessions: who is there, who waits for an answer, who wants to hear of changes.
//!
//! What a host is to be told stands in the catalogue; here it is only woken to look there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use crate::api::live::ReconciledView;
use crate::core::{Code, Fault};
use crate::session::protocol::{Answer, FromServer, Order};

/// News that a slow reader may be behind.
const NEWS_MAX: usize = 1_024;
/// Messages that wait to be sent to one host.
pub(super) const QUEUE_MAX: usize = 256;
/// Daemons that are remembered to have lost a host's place.
const DISPLACED_MAX: usize = 16;
/// Questions that wait for answers.
const QUESTIONS_MAX: usize = 1_024;

/// One open session, as others see it.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) session: String,
    pub(super) instance: String,
    /// Identity of the host's log, and how many daemons have started on it.
    pub(super) log: String,
    pub(super) boot: u32,
    pub(super) version: String,
    /// What is to be said besides what stands in the catalogue.
    pub(super) say: mpsc::Sender<FromServer>,
    /// Look into the catalogue.
    pub(super) wake: Arc<Notify>,
    /// The live set that was confirmed by a person; 0 for none.
    pub(super) confirmed: Arc<AtomicU64>,
    pub(super) reconciled: Option<ReconciledView>,
    /// From the first message to the first report, in microseconds.
    pub(super) settled_us: Option<u64>,
    /// The daemons whose place this one has taken.
    pub(super) displaced: Vec<String>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Hub {
    sessions: Mutex<BTreeMap<String, Live>>,
    questions: Mutex<BTreeMap<String, (String, oneshot::Sender<Answer>)>>,
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

    /// A session is open; returns the one whose place it takes. What a dead daemon sent before its
    /// successor started on the same log, and what comes only now, takes nobody's place.
    pub(super) fn enter(&self, host: &str, mut live: Live) -> Result<Option<Live>, Fault> {
        let mut sessions = locked(&self.sessions);
        let later = |there: &&Live| there.log == live.log && there.boot > live.boot;
        if let Some(there) = sessions.get(host).filter(later) {
            let message = format!("start {} of this host's daemon has the session", there.boot);
            let hint = "a daemon that has ended need not care";
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

    /// Whether the daemon that has the host's place took it from this one, which may have lost its
    /// connection before it could be told so.
    pub(super) fn is_displaced(&self, host: &str, instance: &str) -> bool {
        let sessions = locked(&self.sessions);
        sessions.get(host).is_some_and(|live| live.displaced.iter().any(|one| one == instance))
    }

    /// A session is over, unless another one has taken its place.
    pub(super) fn leave(&self, host: &str, session: &str) {
        let mut sessions = locked(&self.sessions);
        if sessions.get(host).is_some_and(|live| live.session == session) {
            sessions.remove(host);
        }
        drop(sessions);
        // Nobody will answer these any more.
        locked(&self.questions).retain(|_, (of, _)| of != host);
    }

    pub(super) fn session(&self, host: &str) -> Option<Live> {
        locked(&self.sessions).get(host).cloned()
    }

    /// The session of a host, whether it still is this one.
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

    /// Has a host's session look into the catalogue.
    pub(super) fn wake(&self, host: &str) {
        if let Some(live) = self.session(host) {
            live.wake.notify_one();
        }
        drop(self.news.send(json!({ "type": "catalogue.changed", "host": host })));
    }

    /// Has all of them look.
    pub(super) fn wake_all(&self) {
        for live in locked(&self.sessions).values() {
            live.wake.notify_one();
        }
    }

    /// Lets the live set that a host holds back take effect.
    pub(super) fn confirm(&self, host: &str, epoch: u64) -> Result<(), Fault> {
        let live = self.session(host).ok_or_else(|| away(host))?;
        live.confirmed.store(epoch, Ordering::Release);
        live.wake.notify_one();
        Ok(())
    }

    /// Asks a host something that changes nothing. The answer does not come when its session ends.
    pub(super) fn ask(&self, host: &str, order: Order) -> Result<oneshot::Receiver<Answer>, Fault> {
        let live = self.session(host).ok_or_else(|| away(host))?;
        let (tell, told) = oneshot::channel();
        let mut questions = locked(&self.questions);
        questions.retain(|_, (_, tell)| !tell.is_closed());
        if questions.len() >= QUESTIONS_MAX {
            let message = format!("{QUESTIONS_MAX} questions wait for answers");
            return Err(Fault::new(Code::LimitReached, message, "try again later").transient());
        }
        questions.insert(order.request.clone(), (host.to_owned(), tell));
        drop(questions);
        live.say.try_send(FromServer::Command(order)).map_err(|_| away(host))?;
        Ok(told)
    }

    /// Hands an answer to whoever asked; false when nobody did.
    pub(super) fn answer(&self, host: &str, answer: &Answer) -> bool {
        let mut questions = locked(&self.questions);
        if questions.get(&answer.request).is_none_or(|(of, _)| of != host) {
            return false;
        }
        if let Some((_, tell)) = questions.remove(&answer.request) {
            drop(tell.send(answer.clone()));
        }
        true
    }

    pub(super) fn tell(&self, news: Value) {
        // Nobody may be listening.
        drop(self.news.send(news));
    }

    /// News from now on. While anybody reads them, hosts tell of changes in worktrees.
    pub(super) fn news(self: &Arc<Self>) -> (broadcast::Receiver<Value>, Reader) {
        self.readers.fetch_add(1, Ordering::AcqRel);
        self.wake_all();
        (self.news.subscribe(), Reader(Arc::clone(self)))
    }

    pub(super) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }
}

/// Somebody who reads the news.
#[derive(Debug)]
pub(super) struct Reader(Arc<Hub>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::AcqRel);
        self.0.wake_all();
    }
}

/// The answer for a host that has no session.
pub(super) fn away(host: &str) -> Fault {
    let message = format!("{host} has no session with this server");
    let hint = "start its daemon; what was asked for durably is done when it comes back";
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

    #[test]
    fn who_has_lost_the_place_to_another_does_not_take_it_back_by_connecting_again() {
        let hub = Hub::new();
        let enter = |instance: &str| hub.enter("box", live(instance)).expect("let in");
        enter("first");
        assert!(!hub.is_displaced("box", "first"), "it has the place");
        assert_eq!(enter("second").map(|before| before.instance), Some("first".to_owned()));
        enter("second");
        assert!(hub.is_displaced("box", "first") && !hub.is_displaced("box", "second"));
        assert!(!hub.is_displaced("other", "first"), "of this host alone");
        for n in 0..2 * DISPLACED_MAX {
            enter(&format!("n{n}"));
        }
        assert!(hub.is_displaced("box", "n30") && !hub.is_displaced("box", "first"), "bounded");
        hub.leave("box", "session of n31");
        assert!(!hub.is_displaced("box", "n30"), "the place is free");
    }
}
