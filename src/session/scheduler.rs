//! Order of a server's commands. For each environment, reads run together and writes run alone, in
//! the order of arrival. The queues are bounded: a full one refuses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::core::{Code, Fault};

/// Reads of one environment that may run at the same time.
const TOGETHER: usize = 16;
/// Commands that wait or run for one environment.
const LANE_MAX: usize = 64;
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
struct Lane {
    reading: usize,
    is_writing: bool,
    waiting: VecDeque<(u64, Access, oneshot::Sender<()>)>,
    /// Number of commands that ever entered; it numbers the permits.
    taken: u64,
}

/// The queues of one daemon, by environment. A queue is removed when its last permit is dropped.
#[derive(Debug, Clone, Default)]
pub struct Scheduler {
    lanes: Arc<Mutex<BTreeMap<String, Lane>>>,
}

/// A permit in the queue of an environment; dropping it lets the next command run.
#[derive(Debug)]
pub struct Place {
    lanes: Scheduler,
    name: String,
    access: Access,
    /// Number of the permit within its queue.
    number: u64,
    turn: oneshot::Receiver<()>,
}

impl Lane {
    fn inside(&self) -> usize {
        self.reading + usize::from(self.is_writing) + self.waiting.len()
    }

    /// Grants permits in the order of arrival, until the first one that has to wait.
    fn advance(&mut self) {
        while let Some((_, access, _)) = self.waiting.front() {
            let room = match access {
                Access::Write => self.reading == 0 && !self.is_writing,
                _ => self.reading < TOGETHER && !self.is_writing,
            };
            let Some((_, access, turn)) = room.then(|| self.waiting.pop_front()).flatten() else {
                return;
            };
            self.count(access, true);
            // The receiver may be in its `Drop` already, which then takes the count back.
            let _told = turn.send(());
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
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a command. The order of these calls, not of the polls, is the order of execution.
    ///
    /// # Errors
    /// Returns `LimitReached` if the environment's queue or all queues together are full.
    pub fn enter(&self, environment: &str, access: Access) -> Result<Place, Fault> {
        let (tell, turn) = oneshot::channel();
        let name = environment.to_owned();
        if access == Access::Overtake {
            // Not counted anywhere: an overtaking command delays no other.
            let _told = tell.send(());
            return Ok(Place { lanes: self.clone(), name, access, number: 0, turn });
        }
        let mut lanes = self.locked();
        let all: usize = lanes.values().map(Lane::inside).sum();
        let inside = lanes.get(environment).map_or(0, Lane::inside);
        if inside >= LANE_MAX || all >= ALL_MAX {
            let message = format!("{inside} commands are queued for {environment}");
            return Err(
                Fault::new(Code::LimitReached, message, "retry when one has ended").transient()
            );
        }
        // Only now: a refused command for a made-up name must leave nothing behind.
        let lane = lanes.entry(name.clone()).or_default();
        lane.taken += 1;
        let number = lane.taken;
        lane.waiting.push_back((number, access, tell));
        lane.advance();
        Ok(Place { lanes: self.clone(), name, access, number, turn })
    }
}

impl Place {
    /// Waits until the command may run; it may run until the permit is dropped.
    pub async fn turn(&mut self) {
        // No error is possible: the queue keeps the sender as long as the permit exists.
        drop((&mut self.turn).await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lanes = self.lanes.locked();
        let held = (self.access != Access::Overtake).then(|| lanes.get_mut(&self.name));
        let Some(lane) = held.flatten() else { return };
        let before = lane.waiting.len();
        lane.waiting.retain(|(number, ..)| *number != self.number);
        // Not in the queue any more: it had been granted, so its count is returned.
        if lane.waiting.len() == before {
            lane.count(self.access, false);
        }
        lane.advance();
        if lane.inside() == 0 {
            lanes.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cancel overtakes both.
    #[tokio::test]
    async fn scheduler_shares_reads_serializes_writes() {
        let lanes = Scheduler::default();
        let enter = |access| lanes.enter("demo", access).expect("there is room");
        let (mut first, mut second) = (enter(Access::Read), enter(Access::Read));
        first.turn().await;
        second.turn().await;
        let (mut write, mut late) = (enter(Access::Write), enter(Access::Read));
        // The order of polling does not matter, only the order of entering.
        assert!(futures_util::poll!(Box::pin(late.turn())).is_pending(), "waits behind the write");
        assert!(futures_util::poll!(Box::pin(write.turn())).is_pending(), "waits for two reads");
        enter(Access::Overtake).turn().await;
        let given_up = enter(Access::Write);
        drop((first, second, given_up));
        write.turn().await;
        assert!(futures_util::poll!(Box::pin(late.turn())).is_pending());
        drop(write);
        late.turn().await;
        drop(late);
        assert!(lanes.locked().is_empty());
    }

    #[test]
    fn queue_is_bounded_and_cleaned_up() {
        let lanes = Scheduler::default();
        let all: Vec<Place> =
            (0..LANE_MAX).map(|_| lanes.enter("demo", Access::Write).expect("room")).collect();
        let full = lanes.enter("demo", Access::Read).map(drop).expect_err("full");
        assert_eq!(full.code, Code::LimitReached);
        assert!(lanes.enter("demo", Access::Overtake).is_ok());
        assert!(
            lanes.enter("other", Access::Read).is_ok(),
            "another environment has its own queue"
        );
        drop(all);
        assert!(lanes.locked().is_empty());
    }
}
