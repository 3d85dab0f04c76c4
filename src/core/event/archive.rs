//! What happens to the remains of incarnations that are over.

use serde::{Deserialize, Serialize};

use crate::core::event::common::Actor;
use crate::core::event::teardown::Rescue;
use crate::core::fault::Fault;
use crate::core::id::{EnvironmentId, Time};

/// How much space a directory takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Size {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes as their lengths say.
    pub apparent: u64,
    /// Bytes of the blocks they take; files with several names are counted once.
    pub allocated: u64,
}

/// Kind 70: the size of a directory in the trash is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashMeasured {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// How large it is.
    pub size: Size,
}

/// Kind 76: a directory in the trash held work that was written after its rescue was made, in the
/// last moment before it was moved; a new rescue holds it, and what the old one held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateWorkRescued {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// The ref that holds it now.
    pub rescue: Rescue,
}

/// Kind 77: nobody could look at a directory in the trash, in all attempts. It stays there, since
/// it may hold what no rescue has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashLookFailed {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// Why the last attempt failed.
    pub fault: Fault,
}

/// Kind 71: a directory in the trash is to be unlinked; it cannot be restored any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeDecided {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// Why: `age`, `bytes`, `count`, `disk` (it is nearly full), `request`, or `lose`: who asks
    /// names it and knows that it holds what is nowhere else.
    pub reason: String,
    /// Who asked, when somebody did.
    pub actor: Option<Actor>,
}

/// Kind 72: a directory in the trash is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashPurged {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// Files, links and directories that were unlinked, as far as this daemon did it.
    pub entries: u64,
    /// What could not be removed after all attempts; empty in the ordinary case.
    pub leftovers: Vec<String>,
}

/// Kind 73: work on remains failed and will be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemainsAttemptFailed {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// Which step.
    pub step: String,
    /// How many attempts have failed now.
    pub attempts: u32,
    /// When the next one may start.
    pub retry_at: Time,
    /// Why.
    pub fault: Fault,
}

/// Kind 74: somebody does not need a rescue any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueDropRequested {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// Who asked.
    pub actor: Actor,
}

/// Kind 75: a rescue's ref is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueDropped {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// Why it is still there, when it could not be removed; empty in the ordinary case.
    pub leftover: String,
}
