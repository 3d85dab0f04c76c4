//! Peer liveness: a timeout that counts only time in which the peer could be received.

use std::time::{Duration, Instant, SystemTime};

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
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Clocks { awake: self.0.elapsed(), wall }
    }
}

/// State of the peer at a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something was received within the timeout.
    There,
    /// The machine was suspended: nothing could be received, and the connection may be stale.
    Slept,
    /// Nothing was received for longer than the timeout.
    Silent,
}

/// Time of the last message from the peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Liveness {
    lease: Duration,
    heard: Duration,
    waking: SuspendDetector,
}

impl Liveness {
    /// Starts the timeout; `lease` is the longest allowed silence.
    pub(super) fn new(at: Clocks, lease: Duration) -> Self {
        Self { lease, heard: at.awake, waking: SuspendDetector::new(at) }
    }

    /// Restarts the timeout: a message was received.
    pub(super) fn heard(&mut self, at: Clocks) {
        self.heard = at.awake;
    }

    /// Checks the peer. Reports each suspend once, and restarts the timeout then.
    pub(super) fn look(&mut self, at: Clocks) -> Verdict {
        if self.waking.look(at).is_some() {
            // Suspended time does not count towards the peer timeout.
            self.heard = at.awake;
            return Verdict::Slept;
        }
        let silent = at.awake.saturating_sub(self.heard) > self.lease;
        if silent { Verdict::Silent } else { Verdict::There }
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
        assert_eq!(liveness.look(at(45, 145)), Verdict::There);
        liveness.heard(at(45, 145));
        assert_eq!(liveness.look(at(90, 190)), Verdict::There);
        assert_eq!(liveness.look(at(91, 191)), Verdict::Silent);
    }

    /// After a suspend the timeout starts anew.
    #[test]
    fn suspend_is_no_peer_silence() {
        let mut liveness = Liveness::new(at(0, 100), Duration::from_secs(45));
        assert_eq!(liveness.look(at(44, 3_744)), Verdict::Slept);
        assert_eq!(liveness.look(at(60, 3_760)), Verdict::There, "the timeout starts again");
        assert_eq!(liveness.look(at(90, 3_790)), Verdict::Silent, "the timeout passes");
        // Also when the timeout had passed before the first check.
        let mut late = Liveness::new(at(0, 100), Duration::from_secs(45));
        assert_eq!(late.look(at(50, 3_750)), Verdict::Slept);
    }

    #[test]
    fn local_clocks_advance() {
        let clock = Clock::new();
        let (first, second) = (clock.read(), clock.read());
        assert!(second.awake >= first.awake);
        assert!(first.wall > Duration::from_secs(1_000_000_000));
    }
}
