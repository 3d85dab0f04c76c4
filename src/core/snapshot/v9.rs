//! Version 9 of the snapshot format: rescues had no limit of age.
//!
//! Everything else is as in version 10, or in version 11, whose structs it names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::PurgeReason;
use crate::id::{EnvironmentId, HostPath, LeaseId, MigrationId, Nonce, RequestId, Seq, Time};
use crate::model::step::ArchiveStep;
use crate::snapshot::frozen::{Entries, OrEmpty, Shared, carried};
use crate::snapshot::v10;
use crate::snapshot::v11::parts;

/// Version of the format.
pub const VERSION: u32 = 9;

/// The state in version 9 of the format.
#[derive(Serialize, Deserialize)]
pub struct State<'a> {
    pub(super) seq: Seq,
    pub(super) at: Time,
    pub(super) boot: u32,
    pub(super) orderly: bool,
    pub(super) environments: Entries<'a, EnvironmentId, Shared<parts::Environment<'a>>>,
    pub(super) leases: Entries<'a, LeaseId, parts::Lease<'a>>,
    pub(super) trust: Cow<'a, BTreeMap<HostPath, Vec<String>>>,
    pub(super) requests: Entries<'a, RequestId, parts::IdempotencyRecord<'a>>,
    pub(super) request_order: Cow<'a, BTreeMap<Seq, RequestId>>,
    pub(super) retention: Retention,
    pub(super) archives: Archives<'a>,
    pub(super) outputs: Entries<'a, EnvironmentId, Outputs<'a>>,
    pub(super) sweep: Option<parts::Sweep>,
    pub(super) last_sweep: Option<(Time, parts::SweepFinished<'a>)>,
    pub(super) live: parts::Live<'a>,
    pub(super) ended_leases: Cow<'a, [LeaseId]>,
    pub(super) runs: Entries<'a, RequestId, parts::Run<'a>>,
    pub(super) migrations: Entries<'a, MigrationId, parts::Migration<'a>>,
    pub(super) found_older: Option<Seq>,
}

/// Outputs of one environment.
pub(super) type Outputs<'a> = Entries<'a, Seq, Shared<parts::CleanedOutput<'a>>>;

/// Archives, by environment and incarnation.
pub(super) type Archives<'a> = BTreeMap<EnvironmentId, BTreeMap<u32, ArchivedIncarnation<'a>>>;

#[derive(Serialize, Deserialize)]
pub(super) struct Retention {
    trash_seconds: u64,
    trash_bytes: u64,
    clean_seconds: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ArchivedIncarnation<'a> {
    id: Cow<'a, EnvironmentId>,
    incarnation: u32,
    plan: parts::Plan<'a>,
    at: Time,
    trash: Option<parts::Path<'a>>,
    size: Option<parts::Size>,
    head: OrEmpty<'a, String>,
    base: Option<parts::Base<'a>>,
    worktree: Option<parts::Worktree<'a>>,
    rescue: Option<parts::Rescue<'a>>,
    looked_at: Option<Time>,
    branch_deleted: bool,
    survivors: Vec<parts::ProcessSeen<'a>>,
    restoring: Option<u32>,
    owed: Option<parts::Owed<ArchiveStep>>,
    purge: OrEmpty<'a, PurgeReason>,
    fault: Option<parts::Fault<'a>>,
    nonce: Option<Cow<'a, Nonce>>,
    lineage: Cow<'a, [Nonce]>,
    unseen: bool,
    on_branch: OrEmpty<'a, String>,
}

impl<'a> From<State<'a>> for v10::State<'a> {
    fn from(old: State<'a>) -> Self {
        let lives = |all: BTreeMap<u32, ArchivedIncarnation<'a>>| {
            Entries::Owned(
                all.into_iter()
                    .map(|(n, one)| (n, parts::ArchivedIncarnation::from(one).into()))
                    .collect(),
            )
        };
        let archives = old.archives.into_iter().map(|(id, all)| (id, lives(all)));
        carried! {
            old: seq at boot orderly environments leases trust requests request_order outputs sweep
            last_sweep live ended_leases runs migrations found_older
            => v10::State {
                retention: old.retention.into(),
                archives: Entries::Owned(archives.collect()),
                rescue_limit_set: None
            }
        }
    }
}

impl From<Retention> for parts::Retention {
    fn from(old: Retention) -> Self {
        carried! {
            old: trash_seconds trash_bytes clean_seconds
            => parts::Retention { rescue_seconds: None }
        }
    }
}

impl<'a> From<ArchivedIncarnation<'a>> for parts::ArchivedIncarnation<'a> {
    fn from(old: ArchivedIncarnation<'a>) -> Self {
        carried! {
            old: id incarnation plan at trash size head base worktree rescue looked_at
            branch_deleted survivors restoring owed purge fault nonce lineage unseen on_branch
            => parts::ArchivedIncarnation { rescue_ends: None }
        }
    }
}
