//! Detects that the machine was suspended, from two clocks of which one stops meanwhile.
//!
//! Suspended time counts towards no peer timeout and ends no lease. Pure: the caller reads the
//! clocks and passes in their values.

use std::time::Duration;

use crate::command::Command;
use crate::event::{Actor, LeaseGranted};
use crate::state::State;

/// Smallest clock difference that counts as a suspend; less is drift or a small correction.
pub const SLEPT_MIN: Duration = Duration::from_secs(10);

/// Readings of two clocks, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// A clock that stops while the machine is suspended.
    pub awake: Duration,
    /// A clock that runs on during a suspend.
    pub wall: Duration,
}

/// Compares two readings of the clocks at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuspendDetector {
    last: Clocks,
}

impl SuspendDetector {
    /// Starts from a first reading.
    #[must_use]
    pub fn new(at: Clocks) -> Self {
        Self { last: at }
    }

    /// Returns how long the machine was suspended since the last reading; none when it was not.
    pub fn poll(&mut self, at: Clocks) -> Option<Duration> {
        let before = std::mem::replace(&mut self.last, at);
        // A wall clock that was set back would underflow; it is no suspend.
        let passed = at.wall.saturating_sub(before.wall);
        let asleep = passed.saturating_sub(at.awake.saturating_sub(before.awake));
        (asleep >= SLEPT_MIN).then_some(asleep)
    }
}

impl State {
    /// Returns commands that extend every lease by the suspended time: no holder could renew it.
    #[must_use]
    pub fn renewals(&self, slept: Duration) -> Vec<Command> {
        let renewed = self.leases().map(|(lease, held)| {
            Command::Lease(LeaseGranted {
                environment: held.environment.clone(),
                lease: lease.clone(),
                until: held.until.after(slept),
                purpose: held.purpose.clone(),
                actor: Actor::daemon(),
                request: None,
            })
        });
        renewed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EnvironmentReady, Worktree, WorktreeAdded};
    use crate::event::{Event, Plan, ProvisionRequested, Record};
    use crate::{EnvironmentId, LeaseId, Time};

    fn at(awake: u64, wall: u64) -> Clocks {
        Clocks { awake: Duration::from_secs(awake), wall: Duration::from_secs(wall) }
    }

    /// Drift and a clock that was set back are no suspend.
    #[test]
    fn suspend_is_reported_once_with_duration() {
        let mut detector = SuspendDetector::new(at(5, 1_000));
        assert_eq!(detector.poll(at(3_605, 4_601)), None, "no suspend: one second of drift");
        assert_eq!(detector.poll(at(3_606, 8_202)), Some(Duration::from_secs(3_600)));
        assert_eq!(detector.poll(at(3_607, 8_203)), None, "once");
        assert_eq!(detector.poll(at(3_608, 100)), None, "the clock was set back");
        assert_eq!(detector.poll(at(3_609, 105)), None, "the clock advanced slightly");
    }

    #[test]
    fn lease_survives_suspend() {
        let (mut state, id) = (State::default(), EnvironmentId::parse("demo").expect("an id"));
        let lease = LeaseId::parse("l").expect("an id");
        let (environment, actor, until) = (id.clone(), Actor::default(), Time(60_000_000_000));
        let events: [Event; 4] = [
            ProvisionRequested {
                environment: id.clone(),
                incarnation: 1,
                plan: Plan::default(),
                actor: actor.clone(),
                request: None,
                nonce: None,
                attributes: None,
            }
            .into(),
            WorktreeAdded { environment: id.clone(), worktree: Worktree::default() }.into(),
            EnvironmentReady { environment: id.clone() }.into(),
            LeaseGranted { environment, lease, until, purpose: "p".into(), actor, request: None }
                .into(),
        ];
        for event in events {
            let seq = state.seq().next();
            state.apply(&Record { seq, at: Time(1), boot: 1, event });
        }
        let slept = Duration::from_secs(3_600);
        let now = Time(10_000_000_000).after(slept);
        assert_eq!(state.leases_of(&id, now).count(), 0, "the lease ended during the suspend");
        for command in state.renewals(slept) {
            for event in state.decide(now, command).expect("granted again") {
                let seq = state.seq().next();
                state.apply(&Record { seq, at: now, boot: 1, event });
            }
        }
        assert_eq!(state.leases_of(&id, now).count(), 1);
        assert!(state.decide(now, Command::Tick).is_ok_and(|events| events.is_empty()));
        let later = until.after(slept);
        assert_eq!(state.leases_of(&id, later).count(), 0, "the lease is not extended");
    }
}
