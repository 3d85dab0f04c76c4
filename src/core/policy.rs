//! Every limit and every delay of the core, as constants and pure functions.
//!
//! A bound that is not here (or in the file that owns the bounded thing) does not exist. Nothing
//! here reads a clock.

use std::time::Duration;

use super::state::Step;

/// Most environments that are not tombstoned.
pub const ENVIRONMENTS_MAX: usize = 10_000;
/// Most leases on one environment.
pub const LEASES_PER_ENVIRONMENT_MAX: usize = 64;
/// Longest time one lease may be granted for.
pub const LEASE_SPAN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many idempotency keys are remembered; older ones are forgotten.
pub const REQUESTS_REMEMBERED: usize = 1_024;
/// Most repositories with trusted hooks.
pub const TRUSTED_REPOSITORIES_MAX: usize = 1_024;
/// Most trusted hook contents per repository; the oldest is dropped for a new one.
pub const TRUSTED_HASHES_MAX: usize = 64;
/// How long after a checkout by git the index is refreshed. Index entries carry whole seconds, so
/// one second must have passed; the rest is slack.
pub const INDEX_REFRESH_DELAY: Duration = Duration::from_millis(1_200);
/// How many times a daemon may die during one step before the step is started later than the rest.
pub const INTERRUPTIONS_FREE: u32 = 5;

/// How many times a daemon may die during one step before the step is given up: whatever it is, it
/// must not go on for ever.
pub const INTERRUPTIONS_MAX: u32 = 50;

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// How long to wait before the attempt after `failed` failed ones: 250 ms doubling to 30 s.
#[must_use]
pub fn retry_delay(failed: u32) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_LONGEST)
}

/// How many attempts a step gets before it is given up.
///
/// Steps that remove what we made get many: giving up leaves something for the sweep to find.
#[must_use]
pub fn attempts_max(step: Step) -> u32 {
    match step {
        Step::RefreshIndex => 1,
        // A hook that fails is not run again; what is repeated here is waiting for its turn.
        Step::RunSetup | Step::ResolveBase | Step::CopyIncluded | Step::Inspect => 3,
        Step::AddWorktree => 10,
        Step::MoveToTrash => 8,
        Step::RollBack | Step::Unregister | Step::SettleBranch => 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_double_from_250_ms_to_30_s() {
        assert_eq!(retry_delay(1), Duration::from_millis(250));
        assert_eq!(retry_delay(2), Duration::from_millis(500));
        assert_eq!(retry_delay(8), Duration::from_secs(30));
        assert_eq!(retry_delay(u32::MAX), Duration::from_secs(30));
    }
}
