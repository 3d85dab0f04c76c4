//! The wall clock. No other file reads it, but for the ages that people are shown, so that there is
//! one answer to what happens when the clock is set, stands before 1970, or is simulated.
//!
//! Intervals are never measured with it; `std::time::Instant` serves for those.

use std::time::{Duration, SystemTime};

use groundskeeper_core::Time;

/// Returns the time of the wall clock; 1970 if the clock is set to a time before.
#[must_use]
pub fn now() -> Time {
    Time(u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX))
}

/// Returns the time of the wall clock as the span since 1970; zero if it is set to a time before.
#[must_use]
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
