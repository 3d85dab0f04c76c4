//! The list of invariants: each has a name, the class of failure it guards against, and a sentence.

use crate::id::Seq;

/// A property that every log must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invariant {
    /// Its name, for users and scripts.
    pub name: &'static str,
    /// The class of failure it guards against, 1 to 8.
    pub line: u8,
    /// The property, as a sentence.
    pub says: &'static str,
}

/// A record that breaks an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// Name of the invariant.
    pub invariant: &'static str,
    /// Position of the record.
    pub seq: Seq,
    /// The violation, in words.
    pub what: String,
}

macro_rules! invariants {
    ($($constant:ident = $line:literal, $name:literal, $says:literal;)*) => {
        $(pub(super) const $constant: &str = $name;)*

        /// All invariants, in the order of the classes of failure.
        pub const INVARIANTS: &[Invariant] = &[
            $(Invariant { name: $name, line: $line, says: $says }),*
        ];
    };
}

invariants! {
    SEQ = 1, "seq-gapless", "every record has the position after the one before it";
    TIME = 1, "time-forward", "the time of a record is never before that of the record before it";
    BOOT = 1, "start-counted",
        "the start counter grows by one with each start record, and only then";
    FINAL = 2, "tombstone-final",
        "after an incarnation has ended, records concern only its archive";
    FOLLOWS = 2, "incarnation-follows",
        "a new incarnation has the next number, and the one before it has ended";
    ASKED = 2, "revival-asked",
        "a later incarnation is begun by a request, never by the daemon itself";
    FORGOTTEN = 2, "forgotten-when-over", "the state forgets only lives that are over";
    TRIMMED = 1, "trims-past", "a trim takes records that were written before it";
    SERVED = 2, "served-only",
        "leases, commands, cleaning and watching concern environments that are ready or retiring";
    EPOCHS = 2, "epochs-forward", "a live set is never older than the last one of the same server";
    LOOKED = 3, "look-before-removal",
        "a directory is moved only after it was inspected and its removal was accepted";
    RESCUED = 3, "rescue-before-removal",
        "work at risk is rescued before its directory is moved";
    MOVED = 3, "tombstone-after-move",
        "an incarnation ends after its directory was moved, never before";
    BRANCH = 3, "branch-as-agreed",
        "a branch is deleted only if its policy allows it and the environment created it";
    KEPT = 3, "trash-kept",
        "a trash entry is kept for its retention time, or purged for a recorded reason";
    ANNOUNCED = 3, "rescue-kept",
        "a rescue is dropped by a request, or by its age a day after that was announced";
    LEASED = 3, "leases-respected", "no live set retires an environment that a lease holds";
    ADOPTED = 4, "adopted-untouched", "an adopted worktree is never changed, only forgotten";
    PLACES = 4, "places-disjoint",
        "no two live environments share a directory, and no path contains `..`";
    OURS = 4, "sweep-settles-ours",
        "a sweep settles only managed content, only with --apply, and no more than its limit";
    OWED = 5, "settles-what-is-owed",
        "a step's outcome is recorded while exactly that step is owed";
    MIGRATES = 6, "migration-in-order",
        "a migration goes through its phases in order and is verified before it is installed";
    FLIPPED = 6, "no-failure-after-flip",
        "after the new database is installed, a migration neither fails nor rolls back";
    REHEARSED = 6, "rehearsal-changes-nothing", "a dry run writes no secret and installs nothing";
    ALONE = 6, "one-migration-at-a-time", "no two migrations of one database are in progress";
    KNOWN = 7, "subject-known", "a record concerns something that an earlier record has begun";
    SOUND = 7, "state-consistent", "after every record the state is free of contradictions";
    ATTEMPTS = 8, "attempts-capped",
        "attempts are counted one by one, wait before a retry, and are bounded";
    DEATHS = 8, "deaths-capped", "a step in which daemons keep dying is given up";
    LIMITS = 8, "waits-limited", "every hook, fetch and lease has a limit";
}

/// Returns the invariant of a name.
#[must_use]
pub fn invariant(name: &str) -> Option<&'static Invariant> {
    INVARIANTS.iter().find(|i| i.name == name)
}

/// Breaches found in one record: names of invariants, and the violations in words.
pub(super) type Violations = Vec<(&'static str, String)>;
