//! Version 10 of the snapshot format: environments had no labels.
//!
//! Everything else is as in version 11, whose structs it names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{EnvironmentId, HostPath, LeaseId, MigrationId, RequestId, Seq, Time};
use crate::snapshot::frozen::{Entries, Shared, carried};
use crate::snapshot::v11::{self, parts};

/// Version of the format.
pub const VERSION: u32 = 10;

/// The state in version 10 of the format.
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
    pub(super) retention: parts::Retention,
    pub(super) archives:
        Entries<'a, EnvironmentId, Entries<'a, u32, Shared<parts::ArchivedIncarnation<'a>>>>,
    pub(super) outputs:
        Entries<'a, EnvironmentId, Entries<'a, Seq, Shared<parts::CleanedOutput<'a>>>>,
    pub(super) sweep: Option<parts::Sweep>,
    pub(super) last_sweep: Option<(Time, parts::SweepFinished<'a>)>,
    pub(super) live: parts::Live<'a>,
    pub(super) ended_leases: Cow<'a, [LeaseId]>,
    pub(super) runs: Entries<'a, RequestId, parts::Run<'a>>,
    pub(super) migrations: Entries<'a, MigrationId, parts::Migration<'a>>,
    pub(super) found_older: Option<Seq>,
    pub(super) rescue_limit_set: Option<Time>,
}

impl<'a> From<State<'a>> for v11::State<'a> {
    fn from(old: State<'a>) -> Self {
        carried! {
            old: seq at boot orderly environments leases trust requests request_order retention
            archives outputs sweep last_sweep live ended_leases runs migrations found_older
            rescue_limit_set
            => v11::State { labels: Entries::Owned(BTreeMap::new()) }
        }
    }
}
