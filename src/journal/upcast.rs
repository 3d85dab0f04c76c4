//! Payloads of earlier versions, and their conversion to today's events.
//!
//! The structs are frozen; a test decodes a golden file of each for good. The upcasters are pure: a
//! field that an earlier version lacks gets the value that describes the behaviour of that version.

use serde::{Deserialize, Serialize};

use crate::envelope::Envelope;
use crate::error::Damage;
use crate::payload::read;
use groundskeeper_core::empty_is_none::non_empty;
use groundskeeper_core::event::{self, Actor, Plan, TeardownOptions, TeardownReason, Worktree};
use groundskeeper_core::policy::{BranchPolicy, CLEAN_RETENTION};
use groundskeeper_core::{EnvironmentId, Event, Fault, HostPath, MigrationId, Nonce, RequestId};

/// Decodes an earlier version of a kind. Returns none when kind or version is unknown here.
pub(super) fn event(e: &Envelope<'_>) -> Result<Option<Event>, Damage> {
    Ok(match (e.kind, e.kind_version) {
        (3, 1) => Some(RetentionChangedV2::from(read::<RetentionChangedV1>(e)?).into()),
        (3, 2) => Some(read::<RetentionChangedV2>(e)?.into()),
        (10, 1) => Some(read::<ProvisionRequestedV1>(e)?.into()),
        (10, 2) => Some(read::<ProvisionRequestedV2>(e)?.into()),
        (15, 1) => Some(read::<SetupFinishedV1>(e)?.into()),
        (19, 1) => Some(read::<RolledBackV1>(e)?.into()),
        (19, 2) => Some(read::<RolledBackV2>(e)?.into()),
        (22, 1) => Some(read::<RestoreRequestedV1>(e)?.into()),
        (25, 1) => Some(read::<EnvironmentAdoptedV1>(e)?.into()),
        (30, 1) => Some(read::<DestroyRequestedV1>(e)?.into()),
        (32, 1) => Some(read::<TeardownInspectedV1>(e)?.into()),
        (32, 2) => Some(read::<TeardownInspectedV2>(e)?.into()),
        (61, 1) => Some(read::<TeardownHookFinishedV1>(e)?.into()),
        (63, 1) => Some(read::<WorkRescuedV1>(e)?.into()),
        (76, 1) => Some(read::<LateWorkRescuedV1>(e)?.into()),
        (85, 1) => Some(read::<CleanRequestedV1>(e)?.into()),
        (86, 1) => Some(read::<CleanedV1>(e)?.into()),
        (133, 1) => Some(read::<MigrationUndoRequestedV1>(e)?.into()),
        _ => None,
    })
}

/// Version 1 had no retention of cleaned paths.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RetentionChangedV1 {
    pub(super) trash_seconds: u64,
    pub(super) trash_bytes: u64,
}

impl From<RetentionChangedV1> for RetentionChangedV2 {
    fn from(old: RetentionChangedV1) -> Self {
        let RetentionChangedV1 { trash_seconds, trash_bytes } = old;
        Self { trash_seconds, trash_bytes, clean_seconds: CLEAN_RETENTION.as_secs() }
    }
}

/// Version 2 had no limit of age of rescues.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RetentionChangedV2 {
    pub(super) trash_seconds: u64,
    pub(super) trash_bytes: u64,
    pub(super) clean_seconds: u64,
}

impl From<RetentionChangedV2> for Event {
    fn from(old: RetentionChangedV2) -> Self {
        let RetentionChangedV2 { trash_seconds, trash_bytes, clean_seconds } = old;
        let limits =
            event::Retention { rescue_seconds: None, trash_seconds, trash_bytes, clean_seconds };
        event::RetentionChanged { retention: limits }.into()
    }
}

/// Version 1 kept no output in the log.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SetupFinishedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) report: event::SetupReport,
}

impl From<SetupFinishedV1> for Event {
    fn from(old: SetupFinishedV1) -> Self {
        let SetupFinishedV1 { environment, report } = old;
        event::SetupFinished { environment, report, tail: Vec::new() }.into()
    }
}

/// Version 1 kept the output of a hook that failed, as evidence of the fault, and no other.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TeardownHookFinishedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) millis: u64,
    pub(super) fault: Option<Fault>,
}

impl From<TeardownHookFinishedV1> for Event {
    fn from(old: TeardownHookFinishedV1) -> Self {
        let TeardownHookFinishedV1 { environment, millis, fault } = old;
        event::TeardownHookFinished { environment, millis, fault, tail: Vec::new() }.into()
    }
}

/// Version 1 unlinked cleaned paths at once.
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

/// Version 1 moved nothing to the trash and left no path in place.
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

/// Version 1 refused an undo whenever the new database had been written to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MigrationUndoRequestedV1 {
    pub(super) migration: MigrationId,
    pub(super) actor: Actor,
}

impl From<MigrationUndoRequestedV1> for Event {
    fn from(old: MigrationUndoRequestedV1) -> Self {
        let MigrationUndoRequestedV1 { migration, actor } = old;
        event::MigrationUndoRequested { migration, actor, keep_new: false }.into()
    }
}

/// Version 1 did not record where the directory was moved.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RolledBackV1 {
    pub(super) environment: EnvironmentId,
    pub(super) leftovers: Vec<String>,
}

impl From<RolledBackV1> for Event {
    fn from(old: RolledBackV1) -> Self {
        let RolledBackV1 { environment, leftovers } = old;
        RolledBackV2 { environment, leftovers, trash: None }.into()
    }
}

/// Version 2 did not record work that was done in the environment before it was rolled back.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RolledBackV2 {
    pub(super) environment: EnvironmentId,
    pub(super) leftovers: Vec<String>,
    pub(super) trash: Option<HostPath>,
}

impl From<RolledBackV2> for Event {
    fn from(old: RolledBackV2) -> Self {
        let RolledBackV2 { environment, leftovers, trash } = old;
        let (head, rescue) = (None, None);
        event::RolledBack { environment, leftovers, trash, head, rescue }.into()
    }
}

/// Version 1 had no nonce: name and number identified an incarnation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProvisionRequestedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) incarnation: u32,
    pub(super) plan: Plan,
    pub(super) actor: Actor,
    pub(super) request: Option<RequestId>,
}

impl From<ProvisionRequestedV1> for Event {
    fn from(old: ProvisionRequestedV1) -> Self {
        let ProvisionRequestedV1 { environment, incarnation, plan, actor, request } = old;
        let nonce = None;
        ProvisionRequestedV2 { environment, incarnation, plan, actor, request, nonce }.into()
    }
}

/// Version 2 had no attributes of another system.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProvisionRequestedV2 {
    pub(super) environment: EnvironmentId,
    pub(super) incarnation: u32,
    pub(super) plan: Plan,
    pub(super) actor: Actor,
    pub(super) request: Option<RequestId>,
    pub(super) nonce: Option<Nonce>,
}

impl From<ProvisionRequestedV2> for Event {
    fn from(old: ProvisionRequestedV2) -> Self {
        let ProvisionRequestedV2 { environment, incarnation, plan, actor, request, nonce } = old;
        let attributes = None;
        event::ProvisionRequested {
            environment,
            incarnation,
            plan,
            actor,
            request,
            nonce,
            attributes,
        }
        .into()
    }
}

/// Version 1 had no nonce, and a rescue was one commit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RestoreRequestedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) incarnation: u32,
    pub(super) from: RestoreFromV1,
    pub(super) plan: Plan,
    pub(super) actor: Actor,
    pub(super) request: Option<RequestId>,
}

/// The source of a [`RestoreRequestedV1`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RestoreFromV1 {
    pub(super) incarnation: u32,
    pub(super) trash: Option<HostPath>,
    pub(super) head: String,
    pub(super) rescue: String,
}

impl From<RestoreRequestedV1> for Event {
    fn from(old: RestoreRequestedV1) -> Self {
        let RestoreRequestedV1 { environment, incarnation, from, plan, actor, request } = old;
        let RestoreFromV1 { incarnation: life, trash, head, rescue } = from;
        let (nonce, saved) = (None, None);
        let (head, rescue) = (non_empty(head), non_empty(rescue));
        let from = event::RestoreFrom { incarnation: life, trash, head, rescue, nonce, saved };
        let nonce = None;
        event::RestoreRequested { environment, incarnation, from, plan, actor, request, nonce }
            .into()
    }
}

/// Version 1 had no nonce: name and number identified an incarnation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EnvironmentAdoptedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) incarnation: u32,
    pub(super) plan: Plan,
    pub(super) head: String,
    pub(super) worktree: Worktree,
    pub(super) actor: Actor,
}

impl From<EnvironmentAdoptedV1> for Event {
    fn from(old: EnvironmentAdoptedV1) -> Self {
        let EnvironmentAdoptedV1 { environment, incarnation, plan, head, worktree, actor } = old;
        let nonce = None;
        event::EnvironmentAdopted { environment, incarnation, plan, head, worktree, actor, nonce }
            .into()
    }
}

/// The rescue in version 1 of kinds 63 and 76: one commit, no raw copies, no nested repository.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RescueV1 {
    pub(super) reference: String,
    pub(super) commit: String,
    pub(super) holds: Vec<String>,
    pub(super) lacks: Vec<String>,
}

impl From<RescueV1> for event::Rescue {
    fn from(old: RescueV1) -> Self {
        let RescueV1 { reference, commit, holds, lacks } = old;
        let (reference, commit) = (non_empty(reference), non_empty(commit));
        Self { reference, commit, holds, lacks, raw: None, nested: Vec::new() }
    }
}

/// Version 1 held a [`RescueV1`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WorkRescuedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) rescue: Option<RescueV1>,
}

impl From<WorkRescuedV1> for Event {
    fn from(old: WorkRescuedV1) -> Self {
        let rescue = old.rescue.map(event::Rescue::from);
        event::WorkRescued { environment: old.environment, rescue }.into()
    }
}

/// Version 1 held a [`RescueV1`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LateWorkRescuedV1 {
    pub(super) environment: EnvironmentId,
    pub(super) incarnation: u32,
    pub(super) rescue: RescueV1,
}

impl From<LateWorkRescuedV1> for Event {
    fn from(old: LateWorkRescuedV1) -> Self {
        let LateWorkRescuedV1 { environment, incarnation, rescue } = old;
        event::LateWorkRescued { environment, incarnation, rescue: rescue.into() }.into()
    }
}

/// Version 1 had no teardown options: branches were deleted if merged.
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
            reason: TeardownReason::Request,
            ..TeardownOptions::default()
        };
        event::DestroyRequested { environment, force, actor, request, options }.into()
    }
}

/// Version 1 held lines for the user only, and no fingerprint to compare the tree with.
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
            fingerprint: None,
            head: None,
            // Version 1 did not check for work; a rescue that finds none reports so.
            rescue: true,
            has_hook: false,
            quiet: false,
            noted: Vec::new(),
            unseen: false,
            branch: None,
        }
        .into()
    }
}

/// Version 2 listed only work at risk: no notes, no unreadable repository, no branch.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TeardownInspectedV2 {
    pub(super) environment: EnvironmentId,
    pub(super) unsaved: Vec<String>,
    pub(super) fingerprint: String,
    pub(super) head: String,
    pub(super) rescue: bool,
    pub(super) has_hook: bool,
    pub(super) quiet: bool,
}

impl From<TeardownInspectedV2> for Event {
    fn from(old: TeardownInspectedV2) -> Self {
        let TeardownInspectedV2 { environment, unsaved, fingerprint, head, rescue, .. } = old;
        let TeardownInspectedV2 { has_hook, quiet, .. } = old;
        let (noted, unseen, branch) = (Vec::new(), false, None);
        event::TeardownInspected {
            environment,
            unsaved,
            fingerprint: non_empty(fingerprint),
            head: non_empty(head),
            rescue,
            has_hook,
            quiet,
            noted,
            unseen,
            branch,
        }
        .into()
    }
}
