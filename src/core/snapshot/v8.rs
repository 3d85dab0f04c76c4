//! Version 8 of the snapshot format: environments had no tree of attributes.
//!
//! Everything else is as in version 9, or in version 11, whose structs it names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{EnvironmentId, HostPath, LeaseId, MigrationId, Nonce, RequestId, Seq, Time};
use crate::model::step::EnvironmentStep;
use crate::snapshot::frozen::{Entries, carried};
use crate::snapshot::v9;
use crate::snapshot::v11::parts;

/// Version of the format.
pub const VERSION: u32 = 8;

/// The state in version 8 of the format.
#[derive(Serialize, Deserialize)]
pub struct State<'a> {
    seq: Seq,
    at: Time,
    boot: u32,
    orderly: bool,
    environments: BTreeMap<EnvironmentId, Environment<'a>>,
    leases: Entries<'a, LeaseId, parts::Lease<'a>>,
    trust: Cow<'a, BTreeMap<HostPath, Vec<String>>>,
    requests: Entries<'a, RequestId, parts::IdempotencyRecord<'a>>,
    request_order: Cow<'a, BTreeMap<Seq, RequestId>>,
    retention: v9::Retention,
    archives: v9::Archives<'a>,
    outputs: Entries<'a, EnvironmentId, v9::Outputs<'a>>,
    sweep: Option<parts::Sweep>,
    last_sweep: Option<(Time, parts::SweepFinished<'a>)>,
    live: parts::Live<'a>,
    ended_leases: Cow<'a, [LeaseId]>,
    runs: Entries<'a, RequestId, parts::Run<'a>>,
    migrations: Entries<'a, MigrationId, parts::Migration<'a>>,
    found_older: Option<Seq>,
}

#[derive(Serialize, Deserialize)]
struct Environment<'a> {
    id: Cow<'a, EnvironmentId>,
    incarnation: u32,
    phase: parts::Phase,
    plan: parts::Plan<'a>,
    created_at: Time,
    changed_at: Time,
    seq: Seq,
    begun: Seq,
    base: Option<parts::Base<'a>>,
    worktree: Option<parts::Worktree<'a>>,
    included: Option<parts::Included<'a>>,
    hook: Option<parts::ProcessId>,
    setup: Option<parts::SetupReport<'a>>,
    owed: Option<parts::Owed<EnvironmentStep>>,
    fault: Option<parts::Fault<'a>>,
    refusal: Option<parts::Fault<'a>>,
    destroy_wanted: bool,
    teardown: Option<parts::Teardown<'a>>,
    leftovers: Cow<'a, [String]>,
    adopted: bool,
    restore: Option<parts::RestoreFrom<'a>>,
    processes: Entries<'a, u32, parts::Process<'a>>,
    failed_teardowns: u32,
    cleaned: Option<parts::Cleaned<'a>>,
    undoing: Option<Seq>,
    undone: Option<parts::CleanUndone<'a>>,
    unwatched: Option<Cow<'a, str>>,
    nonce: Option<Cow<'a, Nonce>>,
    lineage: Cow<'a, [Nonce]>,
}

impl<'a> From<State<'a>> for v9::State<'a> {
    fn from(old: State<'a>) -> Self {
        let environments = old
            .environments
            .into_iter()
            .map(|(id, one)| (id, parts::Environment::from(one).into()));
        carried! {
            old: seq at boot orderly leases trust requests request_order retention archives outputs
            sweep last_sweep live ended_leases runs migrations found_older
            => v9::State { environments: Entries::Owned(environments.collect()) }
        }
    }
}

impl<'a> From<Environment<'a>> for parts::Environment<'a> {
    /// No record of that version named a tree of attributes.
    fn from(old: Environment<'a>) -> Self {
        carried! {
            old: id incarnation phase plan created_at changed_at seq begun base worktree included
            hook setup owed fault refusal destroy_wanted teardown leftovers adopted restore
            processes failed_teardowns cleaned undoing undone unwatched nonce lineage
            => parts::Environment { attributes: None }
        }
    }
}
