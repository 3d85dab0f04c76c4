//! Every limit and every delay of the core, as constants and pure functions.
//!
//! A bound that is not here (or in the file that owns the bounded thing) does not exist. Nothing
//! here reads a clock.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::model::step::Step;

/// What a teardown does with the branch, if we made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BranchPolicy {
    /// It stays.
    Keep,
    /// It goes if its content is somewhere else: reachable, or merged in whatever form.
    #[default]
    DeleteIfMerged,
    /// It goes; commits that nothing else has are held by the rescue ref.
    Delete,
}

impl BranchPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Keep, Self::DeleteIfMerged, Self::Delete];

    /// The name that people, configuration and log use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::DeleteIfMerged => "delete-if-merged",
            Self::Delete => "delete",
        }
    }

    /// The policy of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == name)
    }
}

// Stored by name: an enum index would silently change its meaning when policies are reordered.
impl Serialize for BranchPolicy {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for BranchPolicy {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let name = String::deserialize(d)?;
        Self::parse(&name).ok_or_else(|| {
            serde::de::Error::custom(format!("{name:?} is none of keep, delete-if-merged, delete"))
        })
    }
}

/// Environments that a live set may take away without anybody looking at it.
pub const RETIRED_UNSEEN: usize = 25;
/// The same as a share of all, in percent, when there are more than a few.
pub const RETIRED_UNSEEN_PERCENT: usize = 50;
/// A few environments: what share of them is taken away says nothing.
pub const A_FEW: usize = 4;
/// Most environments that one live set retires; the rest follows with the next.
pub const RETIRED_AT_ONCE: usize = 500;

/// How long an environment is left alone in which processes were found.
pub const RETIRE_AGAIN: Duration = Duration::from_secs(300);

/// Whether taking away so many environments of so many has to be confirmed.
#[must_use]
pub fn is_too_much(retired: usize, all: usize) -> bool {
    let share = retired * 100 > all * RETIRED_UNSEEN_PERCENT;
    retired > RETIRED_UNSEEN || (retired > A_FEW && share)
}

/// Ended leases that are told apart from unknown ones.
pub const ENDED_LEASES_REMEMBERED: usize = 1_024;
/// Runs whose answer is remembered; older ones are forgotten.
pub const RUNS_REMEMBERED: usize = 1_024;
/// Migrations that are remembered; the oldest that are over are forgotten.
pub const MIGRATIONS_REMEMBERED: usize = 256;
/// Most migrations that are under way at once.
pub const MIGRATIONS_AT_ONCE: usize = 16;
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
/// Lives that one goes on with, whose branch is its own; older ones are forgotten.
pub const LINEAGE_MAX: usize = 32;
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

/// How many times a teardown goes back to looking, because the tree changed, before it is put off.
pub const INSPECTIONS_MAX: u32 = 5;
/// How many teardowns of one environment may fail before it is not tried again by itself.
pub const TEARDOWNS_MAX: u32 = 20;
/// Most processes that are recorded for one environment.
pub const PROCESSES_MAX: usize = 256;
/// Things that one sweep settles unless it is told otherwise.
pub const SWEEP_LIMIT: u64 = 50;
/// Most remains (directories in the trash, rescues) that are remembered.
pub const REMAINS_MAX: usize = 20_000;

/// How long what a clean took is kept, unless the settings say otherwise.
pub const CLEAN_RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Most cleans whose output is kept; the oldest is unlinked for a new one.
pub const CLEANS_MAX: usize = 1_000;

const TEARDOWN_RETRY_FIRST: Duration = Duration::from_secs(5);
const TEARDOWN_RETRY_LONGEST: Duration = Duration::from_secs(3_600);

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// How long to wait before the attempt after `failed` failed ones: 250 ms doubling to 30 s.
#[must_use]
pub fn retry_delay(failed: u32) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_LONGEST)
}

/// How long to wait after `failed` failed teardowns: 5 s doubling to 1 h.
#[must_use]
pub fn teardown_delay(failed: u32) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    TEARDOWN_RETRY_FIRST.saturating_mul(1 << doublings).min(TEARDOWN_RETRY_LONGEST)
}

/// How long to wait after `failed` attempts at a directory in the trash: 250 ms doubling to 1 h. A
/// git that was killed is soon over; a process that survived may be there for days.
#[must_use]
pub fn trash_delay(failed: u32) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    RETRY_FIRST.saturating_mul(1 << doublings).min(TEARDOWN_RETRY_LONGEST)
}

/// How many attempts a step gets before it is given up.
///
/// Steps that remove what we made get many: giving up leaves something for the sweep to find.
#[must_use]
pub fn attempts_max(step: Step) -> u32 {
    match step {
        Step::RefreshIndex | Step::Clean | Step::Sweep | Step::RunTeardown => 1,
        Step::UndoClean => 3,
        // A hook that fails is not run again; what is repeated here is waiting for its turn.
        Step::RunSetup | Step::ResolveBase | Step::CopyIncluded | Step::Inspect => 3,
        Step::EndProcesses => 3,
        Step::Restore | Step::ApplyRescue | Step::Rescue => 5,
        Step::AddWorktree => 10,
        Step::MoveToTrash => 8,
        Step::RollBack => 20,
        // The directory is in the trash, and somebody waits: what is left is named.
        Step::Unregister | Step::SettleBranch => 6,
        // With an hour between them at last: some weeks of a survivor, a mount or a lock in the
        // way.
        Step::Measure | Step::Purge | Step::DropRescue => 500,
        // What fails before the flip fails again; nothing is changed yet, and somebody waits.
        Step::InspectSource | Step::CopySource | Step::NormaliseSource | Step::BuildStaging => 1,
        Step::VerifyStaging => 1,
        Step::WriteSecrets | Step::Flip => 3,
        Step::CleanUp | Step::DropStaging | Step::ReturnBackup => 10,
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
