//! The time of the engine: the wall clock, but never a time behind the last record, and never
//! standing still. A clock that is set back must neither reorder the log nor delay a deadline.

use std::time::Instant;

use crate::clock;
use crate::core::Time;
use crate::core::suspend::Clocks;
use crate::failpoint::fault;

/// A time not behind the log, and the monotonic instant at which it was taken.
#[derive(Debug)]
pub(super) struct Anchor {
    base: Time,
    began: Instant,
}

impl Anchor {
    /// Takes the time; `last` is that of the last record.
    pub(super) fn at(last: Time) -> Self {
        Self { base: wall_clock().max(last), began: Instant::now() }
    }

    /// Returns the present time; `last` is that of the last record.
    pub(super) fn now(&self, last: Time) -> Time {
        wall_clock().max(self.base.after(self.began.elapsed())).max(last)
    }

    /// Returns both clocks, by which a suspend of the machine is found.
    pub(super) fn clocks(&self) -> Clocks {
        Clocks {
            awake: self.began.elapsed(),
            wall: std::time::Duration::from_nanos(wall_clock().0),
        }
    }
}

fn wall_clock() -> Time {
    let nanos = i128::from(clock::now().0) + i128::from(fault::clock_offset_ns());
    Time(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}
