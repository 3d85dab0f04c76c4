//! Limits and delays of the core, as constants and pure functions.
//!
//! Every bound is here, or in the file that owns the bounded thing. Nothing here reads a clock.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::step::Step;

/// Policy for the branch of a removed environment, if the daemon created it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BranchPolicy {
    /// The branch stays.
    Keep,
    /// The branch is deleted if its content is elsewhere: reachable, or merged in any form.
    #[default]
    DeleteIfMerged,
    /// The branch is deleted; the rescue ref holds commits that nothing else holds.
    Delete,
}

impl BranchPolicy {
    /// All policies, the most cautious one first.
    pub const ALL: [Self; 3] = [Self::Keep, Self::DeleteIfMerged, Self::Delete];

    /// Returns the name in CLI, configuration and log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::DeleteIfMerged => "delete-if-merged",
            Self::Delete => "delete",
        }
    }

    /// Returns the policy of this name.
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
            serde::de::Error::custom(format!(
                "{name:?} is not one of keep, delete-if-merged, delete"
            ))
        })
    }
}

/// Most environments that a live set may retire without confirmation.
pub const RETIRED_UNSEEN: usize = 25;
/// Largest share, in percent, that it may retire so; checked above [`A_FEW`] retirements.
pub const RETIRED_UNSEEN_PERCENT: usize = 50;
/// Number of retirements up to which their share is not checked: it says nothing about a few.
pub const A_FEW: usize = 4;
/// Most environments that one live set retires; the rest follows with the next.
pub const RETIRED_AT_ONCE: usize = 500;

/// Most entries of a live set in one record, each of at most some 100 bytes; the rest follows in
/// further records.
pub const LIVE_SET_ENTRIES_MAX: usize = 8_000;

/// Wait before a live set retires an environment again in which processes were found.
pub const RETIRE_AGAIN: Duration = Duration::from_secs(300);

/// Returns whether retiring `retired` of `all` environments needs confirmation.
#[must_use]
pub fn is_too_much(retired: usize, all: usize) -> bool {
    let share = retired * 100 > all * RETIRED_UNSEEN_PERCENT;
    retired > RETIRED_UNSEEN || (retired > A_FEW && share)
}

/// Ended leases that are remembered, to tell them from unknown ones.
pub const ENDED_LEASES_REMEMBERED: usize = 1_024;
/// Runs whose result is remembered; older ones are forgotten.
pub const RUNS_REMEMBERED: usize = 1_024;
/// Migrations that are remembered; the oldest ended ones are forgotten.
pub const MIGRATIONS_REMEMBERED: usize = 256;
/// Most migrations in progress at once.
pub const MIGRATIONS_AT_ONCE: usize = 16;
/// Most live environments.
pub const ENVIRONMENTS_MAX: usize = 10_000;
/// Most leases on one environment.
pub const LEASES_PER_ENVIRONMENT_MAX: usize = 64;
/// Longest time one lease may be granted for.
pub const LEASE_SPAN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Finished lives that the state remembers; older ones are found through the index of the log.
pub const LIVES_REMEMBERED: usize = 1_000;
/// Further ones that gather before they are forgotten in one record.
pub const LIVES_FORGOTTEN_AT_ONCE: usize = 250;
/// Most finished lives that one record forgets.
pub const LIVES_FORGOTTEN_MAX: usize = 1_000;
/// Idempotency keys that are remembered; older ones are forgotten.
pub const REQUESTS_REMEMBERED: usize = 1_024;
/// Most repositories with trusted hooks.
pub const TRUSTED_REPOSITORIES_MAX: usize = 1_024;
/// Most earlier incarnations that one continues, sharing their branch; older ones are forgotten.
pub const LINEAGE_MAX: usize = 32;
/// Most trusted hook contents per repository; the oldest is dropped for a new one.
pub const TRUSTED_HASHES_MAX: usize = 64;
/// Delay of the index refresh after a checkout by git. Index entries carry whole seconds, so one
/// second must have passed; the rest is slack.
pub const INDEX_REFRESH_DELAY: Duration = Duration::from_millis(1_200);
/// Daemon deaths during one step that cost no delay; each further one makes the step start later.
pub const INTERRUPTIONS_FREE: u32 = 5;

/// Daemon deaths during one step after which it is given up: no step may kill daemons for ever.
pub const INTERRUPTIONS_MAX: u32 = 50;

/// Inspections of one teardown, repeated because the tree changed, before it is postponed.
pub const INSPECTIONS_MAX: u32 = 5;
/// Failed teardowns in a row of one environment before the daemon stops retrying by itself.
pub const TEARDOWNS_MAX: u32 = 20;
/// Most processes that are recorded for one environment.
pub const PROCESSES_MAX: usize = 256;
/// Directories, registrations, refs and processes that one sweep settles unless the request sets
/// another limit.
pub const SWEEP_LIMIT: u64 = 50;
/// Time from the end of a sweep to the next one that the daemon begins by itself.
pub const SWEEP_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Least time for which lists show a provision that failed and left nothing.
pub const FAILURES_SHOWN: Duration = Duration::from_secs(24 * 3600);
/// Most directories in the trash that are no last copy; the oldest is unlinked for a new one.
pub const ARCHIVES_MAX: usize = 20_000;

/// Most rescues of one repository that keep refs of their own, since every git command that lists
/// refs reads each of them; with one more, the older ones are folded into one ref.
pub const RESCUE_REFS_MAX: usize = 32;
/// Newest rescues that keep refs of their own when the others are folded. So the ref that a removal
/// has just named is there until as many further ones have been made as lead to a fold.
pub const RESCUE_REFS_KEPT: usize = 1;
/// Most rescues that one step folds; further ones follow with the next.
pub const RESCUES_FOLDED_AT_ONCE: usize = 500;
/// Most refs of rescues and nested repositories that one step folds, so that its event fits a
/// record.
pub const REFS_FOLDED_AT_ONCE: usize = 2_000;

/// Least time between the announcement that a rescue will be dropped for its age and the drop.
pub const EXPIRY_NOTICE: Duration = Duration::from_secs(24 * 3600);
/// Most announcements that one decision makes; further ones follow at once.
pub const EXPIRIES_AT_ONCE: usize = 500;
/// Most rescues that are being dropped for their age at the same time.
pub const RESCUES_DROPPED_AT_ONCE: usize = 16;

/// How long the output of a clean is kept, unless the settings say otherwise.
pub const CLEAN_RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Most cleans whose output is kept; the oldest is unlinked for a new one.
pub const CLEANS_MAX: usize = 1_000;

/// Attempts at a removal that a migration ends with, when its fault is not transient: four seconds.
pub const LASTING_ATTEMPTS_MAX: u32 = 5;

const TEARDOWN_RETRY_FIRST: Duration = Duration::from_secs(5);
const TEARDOWN_RETRY_LONGEST: Duration = Duration::from_secs(3_600);

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Returns the wait before the attempt after `failed` failed ones: 250 ms doubling to 30 s.
#[must_use]
pub fn retry_delay(failed: u32) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_LONGEST)
}

/// Returns the wait after `failed` failed teardowns: 5 s doubling to 1 h.
#[must_use]
pub fn teardown_delay(failed: u32) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    TEARDOWN_RETRY_FIRST.saturating_mul(1 << doublings).min(TEARDOWN_RETRY_LONGEST)
}

/// Returns the wait after `failed` attempts at a directory in the trash: 250 ms doubling to 1 h. A
/// git process that was killed ends soon; a process that survived may run for days.
#[must_use]
pub fn trash_delay(failed: u32) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    RETRY_FIRST.saturating_mul(1 << doublings).min(TEARDOWN_RETRY_LONGEST)
}

/// Returns how many attempts a step gets before it is given up.
///
/// Steps that remove managed content get many: giving up leaves something for the sweep to find.
#[must_use]
pub fn attempts_max(step: impl Into<Step>) -> u32 {
    match step.into() {
        Step::RefreshIndex | Step::Clean | Step::Sweep | Step::RunTeardown => 1,
        Step::UndoClean => 3,
        // A failed hook is not run again; the attempts repeat the wait for the environment's lock.
        Step::RunSetup | Step::ResolveBase | Step::CopyIncluded | Step::Inspect => 3,
        Step::EndProcesses => 3,
        Step::Restore | Step::ApplyRescue | Step::Rescue => 5,
        Step::AddWorktree => 10,
        Step::MoveToTrash => 8,
        Step::RollBack => 20,
        // The directory is in the trash and a caller waits: giving up early names what is left.
        Step::Unregister | Step::SettleBranch => 6,
        // At one attempt per hour in the end this is some weeks: a surviving process, a mount or a
        // lock may be in the way that long.
        Step::Measure | Step::Purge | Step::DropRescue | Step::FoldRescues => 500,
        // A failure before the flip repeats; nothing is changed yet, and a caller waits.
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
    fn retry_delay_doubles_to_30_s() {
        assert_eq!(retry_delay(1), Duration::from_millis(250));
        assert_eq!(retry_delay(2), Duration::from_millis(500));
        assert_eq!(retry_delay(8), Duration::from_secs(30));
        assert_eq!(retry_delay(u32::MAX), Duration::from_secs(30));
    }
}
