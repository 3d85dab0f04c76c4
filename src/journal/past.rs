//! Payloads as earlier versions wrote them, and how they become today's.
//!
//! The structs are frozen; a golden file of each is read for ever. The upcasters are pure: what an
//! earlier version did not know is filled in with what it did then.

use serde::{Deserialize, Serialize};

use super::codec::read;
use super::envelope::Envelope;
use super::error::Damage;
use crate::core::event::{self, Actor, TeardownOptions};
use crate::core::policy::{BranchPolicy, CLEAN_RETENTION};
use crate::core::{EnvironmentId, Event, Fault, RequestId};

/// The event of an envelope in an earlier version of its kind; none when there is no such.
pub(super) fn event(e: &Envelope<'_>) -> Result<Option<Event>, Damage> {
    Ok(match (e.kind, e.kind_version) {
        (3, 1) => Some(read::<RetentionChangedV1>(e)?.into()),
        (19, 1) => Some(read::<RolledBackV1>(e)?.into()),
        (30, 1) => Some(read::<DestroyRequestedV1>(e)?.into()),
        (32, 1) => Some(read::<TeardownInspectedV1>(e)?.into()),
        (85, 1) => Some(read::<CleanRequestedV1>(e)?.into()),
        (86, 1) => Some(read::<CleanedV1>(e)?.into()),
        _ => None,
    })
}

/// Version 1 knew no clean that could be undone.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RetentionChangedV1 {
    pub(super) trash_seconds: u64,
    pub(super) trash_bytes: u64,
}

impl From<RetentionChangedV1> for Event {
    fn from(old: RetentionChangedV1) -> Self {
        let RetentionChangedV1 { trash_seconds, trash_bytes } = old;
        let clean_seconds = CLEAN_RETENTION.as_secs();
        let retention = event::Retention { trash_seconds, trash_bytes, clean_seconds };
        event::RetentionChanged { retention }.into()
    }
}

/// Version 1 unlinked what it took.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CleanRequestedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) actor: Actor,
}

impl From<CleanRequestedV1> for Event {
    fn from(old: CleanRequestedV1) -> Self {
        let CleanRequestedV1 { environment, actor } = old;
        event::CleanRequested { environment, actor, now: true }.into()
    }
}

/// Version 1 left nothing in the trash.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CleanedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) paths: Vec<String>,
    pub(super) size: event::Size,
    pub(super) fault: Option<Fault>,
}

impl From<CleanedV1> for Event {
    fn from(old: CleanedV1) -> Self {
        let CleanedV1 { environment, paths, size, fault } = old;
        let (left, trash) = (Vec::new(), None);
        event::Cleaned { environment, paths, size, fault, left, trash }.into()
    }
}

/// Version 1 did not say where the directory went.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RolledBackV1 {
    pub(super) environment: EnvironmentId,
    pub(super) leftovers: Vec<String>,
}

impl From<RolledBackV1> for Event {
    fn from(old: RolledBackV1) -> Self {
        let RolledBackV1 { environment, leftovers } = old;
        event::RolledBack { environment, leftovers, trash: None }.into()
    }
}

/// Version 1 had one way of doing it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DestroyRequestedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) force: bool,
    pub(super) actor: Actor,
    pub(super) request: Option<RequestId>,
}

impl From<DestroyRequestedV1> for Event {
    fn from(old: DestroyRequestedV1) -> Self {
        let DestroyRequestedV1 { environment, force, actor, request } = old;
        let options = TeardownOptions {
            branch: BranchPolicy::DeleteIfMerged,
            reason: "request".to_owned(),
            ..TeardownOptions::default()
        };
        event::DestroyRequested { environment, force, actor, request, options }.into()
    }
}

/// Version 1 remembered lines for people, and nothing to compare the tree with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TeardownInspectedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) unsaved: Vec<String>,
}

impl From<TeardownInspectedV1> for Event {
    fn from(old: TeardownInspectedV1) -> Self {
        let TeardownInspectedV1 { environment, unsaved } = old;
        event::TeardownInspected {
            environment,
            unsaved,
            fingerprint: String::new(),
            head: String::new(),
            // Nobody looked for it; a rescue that finds nothing says so.
            rescue: true,
            has_hook: false,
            quiet: false,
        }
        .into()
    }
}
