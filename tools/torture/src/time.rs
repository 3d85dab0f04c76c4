//! Waiting for a condition with a bound. Nothing else in the torture lets time pass; the instant of
//! a random kill is such a bound.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(4);

/// Waits until `condition` holds; false when it does not within `limit`.
#[expect(clippy::disallowed_methods, reason = "the one place where a condition is looked at")]
pub(crate) fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}
