//! State machine of one worktree's watch: whether it is armed, and when to retry. It has no clock.
//!
//! Retries are bounded: failures wait 250 ms, doubling to 30 s, 60 times at most, and only a watch
//! that was established for a while resets the count; then it is given up, once, until a subscriber
//! asks again. A missing worktree is not retried. A system limit is no failure: the worktree is
//! polled instead, slowly. No input arms a dropped watch that is not wanted.

use std::time::Duration;

use crate::id::Time;

/// First wait after a failure.
pub const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest wait after a failure.
pub const RETRY_MAX: Duration = Duration::from_secs(30);
/// Failures in a row before a watch is given up.
pub const ATTEMPTS_MAX: u32 = 60;
/// How long a watch must have been established for its failures to be forgotten.
pub const CONFIRMED_AFTER: Duration = Duration::from_secs(30);
/// Interval at which a worktree is polled that cannot be watched.
pub const POLL_EVERY: Duration = Duration::from_secs(30);
/// Interval at which arming is retried for a polled worktree.
pub const UNPOLL_EVERY: Duration = Duration::from_secs(300);

/// Stage of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Not watched: there is no subscriber.
    #[default]
    Off,
    /// It is being set up.
    Arming,
    /// It is established, since the given time.
    On(Time),
    /// It failed and is retried at the given time.
    Waiting(Time),
    /// A system limit is reached: polled at the first time, arming retried at the second.
    Polling(Time, Time),
    /// The worktree does not exist.
    Absent,
    /// It failed too often.
    GaveUp,
}

/// The watch of one worktree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watch {
    /// Its current stage.
    pub stage: Stage,
    /// Failures in a row.
    pub attempts: u32,
    /// Whether [`Action::Degrade`] was emitted and the watch was not established since.
    pub degraded: bool,
}

/// An input to the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// There is a subscriber, maybe as before.
    Wanted,
    /// There is a new subscriber: a watch that was given up is tried once more.
    WantedAgain,
    /// There is no subscriber any more, or watching is not allowed any more.
    Unwanted,
    /// The watch is established.
    Confirmed,
    /// It could not be set up, or broke.
    Failed,
    /// The worktree does not exist.
    Absent,
    /// A system limit or a budget is reached.
    Limited,
    /// Time has passed.
    Tick,
}

/// An action that the caller must perform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Set the watch up, from scratch.
    Arm,
    /// Release everything the watch holds.
    Drop,
    /// Check the worktree for changes once.
    Poll,
    /// Record that the watch was given up.
    GiveUp,
    /// Report that the worktree is polled from now on.
    Degrade,
}

impl Watch {
    /// Returns the next state and the actions that an input leads to.
    #[must_use]
    pub fn step(self, now: Time, input: Input) -> (Self, Vec<Action>) {
        use Stage::{Absent, Arming, GaveUp, Off, On, Polling, Waiting};
        let stay = (self, Vec::new());
        match (input, self.stage) {
            (Input::Unwanted, Off) => stay,
            (Input::Unwanted, _) => (Self::default(), vec![Action::Drop]),
            (Input::Wanted | Input::WantedAgain, Off) => self.arm(),
            (Input::WantedAgain, Absent | GaveUp) => Self::default().arm(),
            (Input::Confirmed, Arming) => {
                (Self { stage: On(now), degraded: false, ..self }, Vec::new())
            }
            (Input::Failed, Arming | On(_)) => self.failed(now),
            (Input::Absent, Arming | On(_) | Waiting(_) | Polling(..)) => {
                (Self { stage: Absent, ..Self::default() }, vec![Action::Drop])
            }
            (Input::Limited, Arming | On(_)) => {
                let stage = Polling(now.after(POLL_EVERY), now.after(UNPOLL_EVERY));
                let said = (!self.degraded).then_some(Action::Degrade);
                let actions = [Action::Drop].into_iter().chain(said).collect();
                (Self { stage, degraded: true, ..self }, actions)
            }
            (Input::Tick, Waiting(until)) if until <= now => self.arm(),
            (Input::Tick, Polling(_, again)) if again <= now => self.arm(),
            (Input::Tick, Polling(next, again)) if next <= now => {
                let stage = Polling(now.after(POLL_EVERY), again);
                (Self { stage, ..self }, vec![Action::Poll])
            }
            // Late reports about a dropped watch, and requests that are already granted.
            _ => stay,
        }
    }

    fn arm(self) -> (Self, Vec<Action>) {
        (Self { stage: Stage::Arming, ..self }, vec![Action::Arm])
    }

    fn failed(self, now: Time) -> (Self, Vec<Action>) {
        // A watch that held for a while worked: its failure starts a new row.
        let stood = matches!(self.stage, Stage::On(since) if now.since(since) >= CONFIRMED_AFTER);
        let attempts = if stood { 1 } else { self.attempts + 1 };
        if attempts >= ATTEMPTS_MAX {
            let given_up = Self { stage: Stage::GaveUp, attempts, ..Self::default() };
            return (given_up, vec![Action::Drop, Action::GiveUp]);
        }
        let wait = RETRY_FIRST.saturating_mul(1 << (attempts - 1).min(10)).min(RETRY_MAX);
        (Self { stage: Stage::Waiting(now.after(wait)), attempts, ..self }, vec![Action::Drop])
    }

    /// Returns when time alone changes something.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        match self.stage {
            Stage::Waiting(until) => Some(until),
            Stage::Polling(next, again) => Some(next.min(again)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INPUTS: [Input; 8] = [
        Input::Wanted,
        Input::WantedAgain,
        Input::Unwanted,
        Input::Confirmed,
        Input::Failed,
        Input::Absent,
        Input::Limited,
        Input::Tick,
    ];

    /// Fails every attempt, with time passing to each deadline. Returns how often it was armed, how
    /// long that took and how often it was given up.
    fn all_failures(mut watch: Watch) -> (u32, Duration, u32) {
        let (mut now, mut armed, mut given_up) = (Time(0), 0, 0);
        let (next, mut actions) = watch.step(now, Input::Wanted);
        watch = next;
        loop {
            armed += actions.iter().filter(|a| **a == Action::Arm).count() as u32;
            given_up += actions.iter().filter(|a| **a == Action::GiveUp).count() as u32;
            let input = if watch.stage == Stage::Arming {
                Input::Failed
            } else if let Some(deadline) = watch.deadline() {
                now = deadline;
                Input::Tick
            } else {
                return (armed, now.since(Time(0)), given_up);
            };
            (watch, actions) = watch.step(now, input);
        }
    }

    #[test]
    fn watch_failures_end_after_limit() {
        let (armed, took, given_up) = all_failures(Watch::default());
        assert_eq!((armed, given_up), (ATTEMPTS_MAX, 1));
        assert!(took > Duration::from_secs(25 * 60) && took < Duration::from_secs(30 * 60));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Random inputs: a dropped watch that is not wanted is never armed, and retries are
        /// bounded.
        #[test]
        fn watch_arms_only_when_wanted(steps in prop::collection::vec((0_usize..8, 0_u64..40_000), 1..400)) {
            let (mut watch, mut now) = (Watch::default(), Time(0));
            let (mut wanted, mut up) = (false, false);
            for (n, millis) in steps {
                now = now.after(Duration::from_millis(millis));
                let input = INPUTS[n];
                let before = watch;
                let (next, actions) = watch.step(now, input);
                watch = next;
                match input {
                    Input::Wanted | Input::WantedAgain => wanted = true,
                    Input::Unwanted => wanted = false,
                    _ => {}
                }
                for action in &actions {
                    match action {
                        Action::Arm => {
                            // Nothing arms an established or unwanted watch, or arms before its
                            // time.
                            prop_assert!(wanted && !up);
                            if let Stage::Waiting(until) = before.stage {
                                prop_assert!(until <= now);
                            }
                            up = true;
                        }
                        Action::Drop => up = false,
                        Action::GiveUp => prop_assert_eq!(input, Input::Failed),
                        Action::Poll | Action::Degrade => {}
                    }
                }
                let one_more = u32::from(input == Input::Failed);
                prop_assert!(watch.attempts <= before.attempts + one_more);
                prop_assert!(watch.attempts <= ATTEMPTS_MAX);
                let stands = matches!(watch.stage, Stage::Arming | Stage::On(_));
                prop_assert_eq!(stands, up, "the watches match the bookkeeping");
                prop_assert!(wanted || watch.stage == Stage::Off, "unwanted is off");
                if matches!(watch.stage, Stage::GaveUp | Stage::Absent) {
                    prop_assert_eq!(watch.deadline(), None, "silence");
                }
            }
        }
    }
}
