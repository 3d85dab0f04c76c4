//! Order of a server's commands. For each environment, reads run together and writes run alone, in
//! the order of arrival. The queues are bounded: a full one refuses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::core::{Code, Fault};

/// Reads of one environment that may run at the same time.
const READS_MAX: usize = 16;
/// Commands that wait or run for one environment.
const QUEUE_MAX: usize = 64;
/// Commands that wait or run for all environments together.
const ALL_MAX: usize = 1_024;

/// How a command shares the queue of its environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Runs together with other reads.
    Read,
    /// Runs alone.
    Write,
    /// Runs at once, and is not counted in the queue.
    Overtake,
}

#[derive(Debug, Default)]
struct Queue {
    reading: usize,
    is_writing: bool,
    waiting: VecDeque<(u64, Access, oneshot::Sender<()>)>,
    /// Number of commands that ever entered; it numbers the permits.
    entered: u64,
}

/// The queues of one daemon, by environment. A queue is removed when its last permit is dropped.
#[derive(Debug, Clone, Default)]
pub struct Scheduler {
    queues: Arc<Mutex<BTreeMap<String, Queue>>>,
}

/// A permit in the queue of an environment; dropping it lets the next command run.
#[derive(Debug)]
pub struct Permit {
    scheduler: Scheduler,
    name: String,
    access: Access,
    /// Number of the permit within its queue.
    number: u64,
    grant: oneshot::Receiver<()>,
}

impl Queue {
    fn len(&self) -> usize {
        self.reading + usize::from(self.is_writing) + self.waiting.len()
    }

    /// Grants permits in the order of arrival, until the first one that has to wait.
    fn advance(&mut self) {
        while let Some((_, access, _)) = self.waiting.front() {
            let may_run = match access {
                Access::Write => self.reading == 0 && !self.is_writing,
                _ => self.reading < READS_MAX && !self.is_writing,
            };
            let Some((_, access, grant)) = may_run.then(|| self.waiting.pop_front()).flatten()
            else {
                return;
            };
            self.count(access, true);
            // The receiver may be in its `Drop` already, which then takes the count back.
            let _sent = grant.send(());
        }
    }

    fn count(&mut self, access: Access, enters: bool) {
        match access {
            Access::Read if enters => self.reading += 1,
            Access::Read => self.reading -= 1,
            Access::Write => self.is_writing = enters,
            Access::Overtake => {}
        }
    }
}

impl Scheduler {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a command. The order of these calls, not of the polls, is the order of execution.
    ///
    /// # Errors
    /// Returns `LimitReached` if the environment's queue or all queues together are full.
    pub fn enqueue(&self, environment: &str, access: Access) -> Result<Permit, Fault> {
        let (grant_sender, grant) = oneshot::channel();
        let name = environment.to_owned();
        if access == Access::Overtake {
            // Not counted anywhere: an overtaking command delays no other.
            let _sent = grant_sender.send(());
            return Ok(Permit { scheduler: self.clone(), name, access, number: 0, grant });
        }
        let mut queues = self.locked();
        let all: usize = queues.values().map(Queue::len).sum();
        let len = queues.get(environment).map_or(0, Queue::len);
        if len >= QUEUE_MAX || all >= ALL_MAX {
            let message = format!("{len} commands are queued for {environment}");
            return Err(
                Fault::new(Code::LimitReached, message, "retry when one has ended").transient()
            );
        }
        // Only now: a refused command for a made-up name must leave nothing behind.
        let queue = queues.entry(name.clone()).or_default();
        queue.entered += 1;
        let number = queue.entered;
        queue.waiting.push_back((number, access, grant_sender));
        queue.advance();
        Ok(Permit { scheduler: self.clone(), name, access, number, grant })
    }
}

impl Permit {
    /// Waits until the command may run; it may run until the permit is dropped.
    pub async fn granted(&mut self) {
        // No error is possible: the queue keeps the sender as long as the permit exists.
        drop((&mut self.grant).await);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut queues = self.scheduler.locked();
        let held = (self.access != Access::Overtake).then(|| queues.get_mut(&self.name));
        let Some(queue) = held.flatten() else { return };
        let before = queue.waiting.len();
        queue.waiting.retain(|(number, ..)| *number != self.number);
        // Not in the queue any more: it had been granted, so its count is returned.
        if queue.waiting.len() == before {
            queue.count(self.access, false);
        }
        queue.advance();
        if queue.len() == 0 {
            queues.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cancel overtakes both.
    #[tokio::test]
    async fn scheduler_shares_reads_serializes_writes() {
        let scheduler = Scheduler::default();
        let enqueue = |access| scheduler.enqueue("demo", access).expect("there is room");
        let (mut first, mut second) = (enqueue(Access::Read), enqueue(Access::Read));
        first.granted().await;
        second.granted().await;
        let (mut write, mut late) = (enqueue(Access::Write), enqueue(Access::Read));
        // The order of polling does not matter, only the order of entering.
        assert!(
            futures_util::poll!(Box::pin(late.granted())).is_pending(),
            "waits behind the write"
        );
        assert!(futures_util::poll!(Box::pin(write.granted())).is_pending(), "waits for two reads");
        enqueue(Access::Overtake).granted().await;
        let given_up = enqueue(Access::Write);
        drop((first, second, given_up));
        write.granted().await;
        assert!(futures_util::poll!(Box::pin(late.granted())).is_pending());
        drop(write);
        late.granted().await;
        drop(late);
        assert!(scheduler.locked().is_empty());
    }

    #[test]
    fn queue_is_bounded_and_cleaned_up() {
        let scheduler = Scheduler::default();
        let all: Vec<Permit> = (0..QUEUE_MAX)
            .map(|_| scheduler.enqueue("demo", Access::Write).expect("room"))
            .collect();
        let full = scheduler.enqueue("demo", Access::Read).map(drop).expect_err("full");
        assert_eq!(full.code, Code::LimitReached);
        assert!(scheduler.enqueue("demo", Access::Overtake).is_ok());
        assert!(
            scheduler.enqueue("other", Access::Read).is_ok(),
            "another environment has its own queue"
        );
        drop(all);
        assert!(scheduler.locked().is_empty());
    }
}
