//! Live sets: the ids that a control server says are not destroyed, and what one led to.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::core::event::{Kept, LiveSetHeld, LiveSetTaken};
use crate::core::id::{EnvironmentId, Seq};

/// Why an environment is torn down, in
/// [`TeardownOptions::reason`](crate::core::event::TeardownOptions::reason).
pub const REASON: &str = "reconcile";

/// The same when the server asked for this one by name.
pub const REASON_SERVER: &str = "server";

/// What a control server says that lives on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveSet {
    /// Which server.
    pub server: String,
    /// Its count of its live sets; an older one than the last is passed over.
    pub epoch: u64,
    /// The environments that are not destroyed.
    pub live: BTreeSet<EnvironmentId>,
    /// The last record that the server had heard of by then; what began later is not judged.
    pub known: Seq,
    /// Somebody has looked at how much it takes away.
    pub confirmed: bool,
    /// A person brings it: what was found in use a moment ago is looked at again at once.
    pub by_hand: bool,
}

/// What a live set comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Older than what is known: nothing was done.
    pub outdated: bool,
    /// It would take away too much at once: nothing is retired until it is confirmed.
    pub held: bool,
    /// Not listed and idle: torn down (or, when held, to be torn down).
    pub retired: Vec<EnvironmentId>,
    /// Not listed, and left alone.
    pub kept: Vec<Kept>,
    /// Listed, and not here.
    pub missing: Vec<EnvironmentId>,
    /// Listed, and back in service.
    pub healed: Vec<EnvironmentId>,
}

/// The last live set that was taken in, and one that waits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Live {
    /// The last that was taken in.
    pub taken: Option<LiveSetTaken>,
    /// One that waits for somebody to confirm it.
    pub held: Option<LiveSetHeld>,
    /// The record that said so: what began later is not what was held.
    pub held_at: Seq,
}
