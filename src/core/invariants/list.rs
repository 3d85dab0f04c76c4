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
    TIME = 1, "time-forward", "time never runs backwards";
    BOOT = 1, "start-counted", "the start of a daemon is counted once, and by its own record only";
    FINAL = 2, "tombstone-final", "nothing is recorded about an incarnation that is over, but about its remains";
    FOLLOWS = 2, "incarnation-follows", "a new incarnation has the next number, and the one before it is over";
    ASKED = 2, "revival-asked", "an incarnation after another is begun by a request, never by the daemon itself";
    SERVED = 2, "served-only", "leases, commands, cleaning and watching are of environments in service";
    EPOCHS = 2, "epochs-forward", "a live set is never older than the last one of the same server";
    LOOKED = 3, "look-before-removal", "a directory leaves its place after it was looked at and agreed to, never before";
    RESCUED = 3, "rescue-before-removal", "work that no branch has is rescued before its directory leaves its place";
    MOVED = 3, "tombstone-after-move", "an incarnation is over when its directory has left its place, never before";
    BRANCH = 3, "branch-as-agreed", "a branch goes only when its policy lets it, and never one that was there before";
    KEPT = 3, "trash-kept", "what is in the trash is kept for its time, or goes for a reason that is recorded";
    LEASED = 3, "leases-respected", "no live set takes away what a lease holds";
    ADOPTED = 4, "adopted-untouched", "nothing is done to an adopted worktree but forgetting it";
    PLACES = 4, "places-disjoint", "no two living environments share a directory, and no path leads upwards";
    OURS = 4, "sweep-settles-ours", "a sweep settles what is proven ours, when it may, and no more than its limit";
    OWED = 5, "settles-what-is-owed", "a step's outcome is recorded while exactly that step is owed";
    MIGRATES = 6, "migration-in-order", "a migration goes through its phases in order, and is installed only after it was verified";
    FLIPPED = 6, "no-failure-after-flip", "once the new database is installed, a migration neither fails nor rolls back";
    REHEARSED = 6, "rehearsal-changes-nothing", "a rehearsal writes no secret and installs nothing";
    ALONE = 6, "one-migration-at-a-time", "no two migrations of one database are under way";
    KNOWN = 7, "subject-known", "a fact is about something that the log has begun";
    SOUND = 7, "state-consistent", "after every record the state contradicts itself nowhere";
    ATTEMPTS = 8, "attempts-capped", "attempts are counted one by one, wait before they are repeated, and end";
    DEATHS = 8, "deaths-capped", "a step in which daemons keep dying is given up";
    LIMITS = 8, "waits-limited", "every hook, fetch and lease has a limit";
}

/// Returns the invariant of a name.
#[must_use]
pub fn invariant(name: &str) -> Option<&'static Invariant> {
    INVARIANTS.iter().find(|i| i.name == name)
}

/// Breaches found in one record: names of invariants, and the violations in words.
pub(super) type Found = Vec<(&'static str, String)>;
