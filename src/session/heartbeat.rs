//! Peer liveness: a timeout that counts only time in which the peer could be received.

use std::time::{Duration, Instant};

use crate::core::suspend::{Clocks, SuspendDetector};

/// The two clocks of this machine that reveal a suspend.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    /// Returns the present values: monotonic time since `new`, and wall time since 1970.
    pub(super) fn read(self) -> Clocks {
        Clocks { awake: self.0.elapsed(), wall: crate::clock::since_epoch() }
    }
}

/// State of the peer at a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something was received within the timeout.
    Alive,
    /// The machine was suspended: nothing could be received, and the connection may be stale.
    Suspended,
    /// Nothing was received for longer than the timeout.
    Silent,
}

/// Time of the last message from the peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Liveness {
    lease: Duration,
    last_received: Duration,
    suspend_detector: SuspendDetector,
}

impl Liveness {
    /// Starts the timeout; `lease` is the longest allowed silence.
    pub(super) fn new(at: Clocks, lease: Duration) -> Self {
        Self { lease, last_received: at.awake, suspend_detector: SuspendDetector::new(at) }
    }

    /// Restarts the timeout: a message was received.
    pub(super) fn on_received(&mut self, at: Clocks) {
        self.last_received = at.awake;
    }

    /// Checks the peer. Reports each suspend once, and restarts the timeout then.
    pub(super) fn check(&mut self, at: Clocks) -> Verdict {
        if self.suspend_detector.poll(at).is_some() {
            // Suspended time does not count towards the peer timeout.
            self.last_received = at.awake;
            return Verdict::Suspended;
        }
        let silent = at.awake.saturating_sub(self.last_received) > self.lease;
        if silent { Verdict::Silent } else { Verdict::Alive }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(awake: u64, wall: u64) -> Clocks {
        Clocks { awake: Duration::from_secs(awake), wall: Duration::from_secs(wall) }
    }

    #[test]
    fn silence_is_measured_from_last_message() {
        let mut liveness = Liveness::new(at(0, 100), Duration::from_secs(45));
        assert_eq!(liveness.check(at(45, 145)), Verdict::Alive);
        liveness.on_received(at(45, 145));
        assert_eq!(liveness.check(at(90, 190)), Verdict::Alive);
        assert_eq!(liveness.check(at(91, 191)), Verdict::Silent);
    }

    /// After a suspend the timeout starts anew.
    #[test]
    fn suspend_is_no_peer_silence() {
        let mut liveness = Liveness::new(at(0, 100), Duration::from_secs(45));
        assert_eq!(liveness.check(at(44, 3_744)), Verdict::Suspended);
        assert_eq!(liveness.check(at(60, 3_760)), Verdict::Alive, "the timeout starts again");
        assert_eq!(liveness.check(at(90, 3_790)), Verdict::Silent, "the timeout passes");
        // Also when the timeout had passed before the first check.
        let mut late = Liveness::new(at(0, 100), Duration::from_secs(45));
        assert_eq!(late.check(at(50, 3_750)), Verdict::Suspended);
    }

    #[test]
    fn local_clocks_advance() {
        let clock = Clock::new();
        let (first, second) = (clock.read(), clock.read());
        assert!(second.awake >= first.awake);
        assert!(first.wall > Duration::from_secs(1_000_000_000));
    }
}
