//! Live sets: the ids that a control server reports as not destroyed, and the results of one.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::event::{Kept, LiveSetHeld, LiveSetTaken};
use crate::id::{EnvironmentId, Seq};

/// The environments that a control server expects on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveSet {
    /// Name of the server.
    pub server: String,
    /// The server's count of its live sets; one older than the last is ignored.
    pub epoch: u64,
    /// The environments that are not destroyed.
    pub live: BTreeSet<EnvironmentId>,
    /// Last record the server knew of; environments that began later are not judged.
    pub known: Seq,
    /// Whether a user has confirmed how much it removes.
    pub confirmed: bool,
    /// A user sends it: environments recently found in use are inspected again at once.
    pub by_hand: bool,
}

/// Result of comparing a live set with this host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Whether it is stale, older than the last one: nothing is done.
    pub outdated: bool,
    /// Whether it would remove too much at once: nothing is retired until it is confirmed.
    pub held: bool,
    /// Not listed and idle: torn down (or, when held, to be torn down).
    pub retired: Vec<EnvironmentId>,
    /// Not listed, but left alone, with the reason.
    pub kept: Vec<Kept>,
    /// Listed, but with no live incarnation here.
    pub missing: Vec<EnvironmentId>,
    /// Listed, and back in service after a failed teardown.
    pub healed: Vec<EnvironmentId>,
}

/// The last live set that was taken in, and the one that is held.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Live {
    /// The last that was taken in.
    pub taken: Option<LiveSetTaken>,
    /// One that waits for confirmation.
    pub held: Option<LiveSetHeld>,
    /// The record that held it; environments that began later are not part of it.
    pub held_at: Seq,
}
