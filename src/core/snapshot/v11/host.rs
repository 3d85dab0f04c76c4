//! What belongs to the whole host: leases, requests, runs, live sets, sweeps, limits of the trash.

use std::borrow::Cow;

use crate::event;
use crate::id::{EnvironmentId, Seq, Time};
use crate::model::lease::{IdempotencyRecord as LiveIdempotencyRecord, Lease as LiveLease};
use crate::model::live_set::Live as LiveLive;
use crate::model::run::{Run as LiveRun, RunEnd as LiveRunEnd};
use crate::model::step::HostStep;
use crate::model::sweep::Sweep as LiveSweep;
use crate::snapshot::frozen::{OrEmpty, frozen_structs};
use crate::snapshot::v11::common::{Actor, Path, Text};
use crate::snapshot::v11::step::Owed;

frozen_structs! {
    pub(in crate::snapshot) struct Lease<'a> of LiveLease {
        environment: Cow<'a, EnvironmentId>,
        until: Time,
        purpose: Text<'a>,
    }
    pub(in crate::snapshot) struct IdempotencyRecord<'a> of LiveIdempotencyRecord {
        environment: Cow<'a, EnvironmentId>,
        verb: Text<'a>,
        seq: Seq,
    }
    pub(in crate::snapshot) struct Run<'a> of LiveRun {
        environment: Cow<'a, EnvironmentId>,
        seq: Seq,
        ended: Option<RunEnd<'a>>,
    }
    pub(in crate::snapshot) struct RunEnd<'a> of LiveRunEnd {
        code: Option<i32>,
        why: OrEmpty<'a, String>,
    }
    pub(in crate::snapshot) struct Retention of event::Retention {
        trash_seconds: u64,
        trash_bytes: u64,
        clean_seconds: u64,
        rescue_seconds: Option<u64>,
    }
    pub(in crate::snapshot) struct Sweep of LiveSweep {
        owed: Owed<HostStep>,
        apply: bool,
        limit: u64,
        seen_only: bool,
    }
    pub(in crate::snapshot) struct SweepFinished<'a> of event::SweepFinished {
        findings: Vec<Finding<'a>>,
        found: u64,
        settled: u64,
        held: OrEmpty<'a, String>,
    }
    pub(in crate::snapshot) struct Finding<'a> of event::Finding {
        kind: Text<'a>,
        path: Path<'a>,
        ours: bool,
        settled: bool,
        detail: Text<'a>,
    }
    pub(in crate::snapshot) struct Live<'a> of LiveLive {
        taken: Option<LiveSetTaken<'a>>,
        held: Option<LiveSetHeld<'a>>,
        held_at: Seq,
    }
    pub(in crate::snapshot) struct LiveSetTaken<'a> of event::LiveSetTaken {
        server: Text<'a>,
        epoch: u64,
        retired: Cow<'a, [EnvironmentId]>,
        kept: Vec<Kept<'a>>,
        missing: Cow<'a, [EnvironmentId]>,
        healed: Cow<'a, [EnvironmentId]>,
        actor: Actor<'a>,
    }
    pub(in crate::snapshot) struct Kept<'a> of event::Kept {
        environment: Cow<'a, EnvironmentId>,
        why: Cow<'a, event::KeepReason>,
    }
    pub(in crate::snapshot) struct LiveSetHeld<'a> of event::LiveSetHeld {
        server: Text<'a>,
        epoch: u64,
        would_retire: Cow<'a, [EnvironmentId]>,
        of: u64,
        actor: Actor<'a>,
    }
}
