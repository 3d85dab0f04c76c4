//! The order in which a server's commands run: for each environment reads together and writes one
//! at a time, in the order in which they came. Bounded; a full lane refuses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::{Code, Fault};

/// Reads of one environment that run together.
const TOGETHER: usize = 16;
/// Commands that wait or run for one environment.
const LANE_MAX: usize = 64;
/// The same for all.
const ALL_MAX: usize = 1_024;

/// How a command shares its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// With other reads.
    Read,
    /// With nobody.
    Write,
    /// It overtakes all of them.
    Overtake,
}

#[derive(Debug)]
struct Lane {
    // First come, first served: a read behind a write waits for it.
    room: Arc<Semaphore>,
    inside: usize,
}

/// The lanes of one session.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    lanes: Arc<Mutex<BTreeMap<String, Lane>>>,
}

/// A place in a lane; given up when it is dropped.
#[derive(Debug)]
pub struct Place {
    lanes: Lanes,
    name: String,
    room: Arc<Semaphore>,
    permits: u32,
}

impl Lanes {
    /// Takes a place at the end of a lane.
    ///
    /// # Errors
    /// When too many are waiting.
    pub fn enter(&self, environment: &str, access: Access) -> Result<Place, Fault> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = lanes.values().map(|lane| lane.inside).sum();
        let lane = lanes
            .entry(environment.to_owned())
            .or_insert_with(|| Lane { room: Arc::new(Semaphore::new(TOGETHER)), inside: 0 });
        let is_full = lane.inside >= LANE_MAX || all >= ALL_MAX;
        if is_full && access != Access::Overtake {
            let message = format!("{} commands wait for {environment}", lane.inside);
            return Err(Fault::new(Code::LimitReached, message, "try again later").transient());
        }
        lane.inside += 1;
        let permits = match access {
            Access::Read => 1,
            Access::Write => TOGETHER as u32,
            Access::Overtake => 0,
        };
        let room = Arc::clone(&lane.room);
        Ok(Place { lanes: self.clone(), name: environment.to_owned(), room, permits })
    }
}

impl Place {
    /// Waits for its turn, which lasts until the permit is dropped.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_many_owned(self.permits).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lane) = lanes.get_mut(&self.name) else { return };
        lane.inside -= 1;
        if lane.inside == 0 {
            lanes.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_share_writes_wait_and_a_cancel_overtakes() {
        let lanes = Lanes::default();
        let enter = |access| lanes.enter("demo", access).expect("there is room");
        let (first, second) = (enter(Access::Read), enter(Access::Read));
        let (a, b) = (first.turn().await, second.turn().await);
        let write = enter(Access::Write);
        let mut waiting = Box::pin(write.turn());
        assert!(futures_util::poll!(&mut waiting).is_pending(), "two are reading");
        let late = enter(Access::Read);
        let mut behind = Box::pin(late.turn());
        assert!(futures_util::poll!(&mut behind).is_pending(), "in the order in which they came");
        assert!(enter(Access::Overtake).turn().await.is_some());
        drop((a, b));
        let writing = waiting.await;
        assert!(futures_util::poll!(&mut behind).is_pending());
        drop(writing);
        assert!(behind.await.is_some());
    }

    #[test]
    fn a_lane_is_bounded_and_leaves_nothing_behind() {
        let lanes = Lanes::default();
        let all: Vec<Place> =
            (0..LANE_MAX).map(|_| lanes.enter("demo", Access::Write).expect("room")).collect();
        let full = lanes.enter("demo", Access::Read).map(drop).expect_err("full");
        assert_eq!(full.code, Code::LimitReached);
        assert!(lanes.enter("demo", Access::Overtake).is_ok());
        assert!(lanes.enter("other", Access::Read).is_ok(), "another lane");
        drop(all);
        assert!(lanes.lanes.lock().expect("not poisoned").is_empty());
    }
}
