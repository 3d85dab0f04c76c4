//! The simulated wire: one direction of a connection, which loses, repeats, reorders and cuts, and
//! the random numbers that decide about it.

use std::collections::VecDeque;

use crate::session::transport::Received;

/// Pseudo-random generator: a seed always gives the same history.
pub(in crate::server) struct Random(pub(super) u64);

impl Random {
    pub(in crate::server) fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// One direction of a connection.
pub(super) struct Line<M> {
    sent: u64,
    pub(super) under_way: VecDeque<(u64, M)>,
    received: Received,
    /// Messages are lost from now on, and neither side notices.
    pub(super) is_dead: bool,
}

impl<M> Default for Line<M> {
    fn default() -> Self {
        let (under_way, received) = (VecDeque::new(), Received::default());
        Self { sent: 0, under_way, received, is_dead: false }
    }
}

impl<M: Clone> Line<M> {
    pub(super) fn send(&mut self, message: M) {
        self.sent += 1;
        self.under_way.push_back((self.sent, message));
    }

    /// Returns the next message that arrives, if one does. An error ends the connection.
    pub(super) fn next(&mut self, random: &mut Random, faults: bool) -> Result<Option<M>, ()> {
        let Some(message) = self.under_way.pop_front() else { return Ok(None) };
        if self.is_dead {
            return Ok(None);
        }
        match if faults { random.below(16) } else { 99 } {
            0 => return Ok(None),
            1 => self.under_way.push_front(message.clone()),
            2 => {
                if let Some(other) = self.under_way.pop_front() {
                    self.under_way.push_front(message);
                    self.under_way.push_front(other);
                    return Ok(None);
                }
            }
            3 => self.is_dead = true,
            4 => return Err(()),
            _ => {}
        }
        let (n, message) = message;
        self.received.admit(n).map(|new| new.then_some(message)).map_err(|_| ())
    }
}
