//! The whole state.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::id::{EnvironmentId, HostPath, LeaseId, MigrationId, RequestId, Seq, Time};
use crate::label::Label;
use crate::snapshot::frozen::{Entries, Shared, frozen_structs};
use crate::snapshot::v11::archive::{ArchivedIncarnation, CleanedOutput};
use crate::snapshot::v11::environment::Environment;
use crate::snapshot::v11::host::{
    IdempotencyRecord, Lease, Live, Retention, Run, Sweep, SweepFinished,
};
use crate::snapshot::v11::migration::Migration;
use crate::state::State as LiveState;

/// Version of the format.
pub const VERSION: u32 = 11;

frozen_structs! {
    /// The state in version 11 of the format.
    pub struct State<'a> of LiveState {
        seq: Seq,
        at: Time,
        boot: u32,
        orderly: bool,
        environments: Entries<'a, EnvironmentId, Shared<Environment<'a>>>,
        leases: Entries<'a, LeaseId, Lease<'a>>,
        trust: Cow<'a, BTreeMap<HostPath, Vec<String>>>,
        requests: Entries<'a, RequestId, IdempotencyRecord<'a>>,
        request_order: Cow<'a, BTreeMap<Seq, RequestId>>,
        retention: Retention,
        archives: Entries<'a, EnvironmentId, Entries<'a, u32, Shared<ArchivedIncarnation<'a>>>>,
        outputs: Entries<'a, EnvironmentId, Entries<'a, Seq, Shared<CleanedOutput<'a>>>>,
        sweep: Option<Sweep>,
        last_sweep: Option<(Time, SweepFinished<'a>)>,
        live: Live<'a>,
        ended_leases: Cow<'a, [LeaseId]>,
        runs: Entries<'a, RequestId, Run<'a>>,
        migrations: Entries<'a, MigrationId, Migration<'a>>,
        found_older: Option<Seq>,
        rescue_limit_set: Option<Time>,
        labels: Entries<'a, EnvironmentId, Cow<'a, Label>>,
    }
}
