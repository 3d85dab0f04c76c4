//! The state that the log adds up to: environments, leases, trust, remembered requests.
//!
//! The state is plain data in ordered maps. Only [`State::apply`] changes it (`machine.rs`);
//! everything else reads. It holds nothing that the log cannot rebuild.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::event::{Retention, SweepFinished};
use super::id::{EnvironmentId, HostPath, LeaseId, MigrationId, RequestId, Seq, Time};
use crate::label::Label;
use crate::model::archive::ArchivedIncarnation;
use crate::model::cleaned_output::CleanedOutput;
use crate::model::environment::{Environment, Phase};
use crate::model::lease::{IdempotencyRecord, Lease};
use crate::model::live_set::Live;
use crate::model::migration::Migration;
use crate::model::run::Run;
use crate::model::sweep::Sweep;

/// A map of large values, which copies of the state share until one of them changes.
pub(super) type Shared<K, V> = BTreeMap<K, Arc<V>>;

/// The fold of the log up to one seq: everything that the daemon knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct State {
    pub(super) seq: Seq,
    pub(super) at: Time,
    pub(super) boot: u32,
    /// Whether the last daemon closed the log in order; then the next start counts no interruption.
    pub(super) orderly: bool,
    pub(super) environments: Shared<EnvironmentId, Environment>,
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    pub(super) trust: BTreeMap<HostPath, Vec<String>>,
    pub(super) requests: BTreeMap<RequestId, IdempotencyRecord>,
    pub(super) request_order: BTreeMap<Seq, RequestId>,
    pub(super) retention: Retention,
    #[serde(rename = "remains")]
    pub(super) archives: BTreeMap<EnvironmentId, Shared<u32, ArchivedIncarnation>>,
    pub(super) outputs: BTreeMap<EnvironmentId, Shared<Seq, CleanedOutput>>,
    pub(super) sweep: Option<Sweep>,
    pub(super) last_sweep: Option<(Time, SweepFinished)>,
    pub(super) live: Live,
    /// Leases that ended recently, oldest first; bounded by `policy::ENDED_LEASES_REMEMBERED`.
    pub(super) ended_leases: Vec<LeaseId>,
    pub(super) runs: BTreeMap<RequestId, Run>,
    pub(super) migrations: BTreeMap<MigrationId, Migration>,
    /// Highest seq that the data directory is known to have had, where the log ends before it.
    pub(super) found_older: Option<Seq>,
    /// When the limit of age of rescues was set; none while there is none.
    pub(super) rescue_limit_set: Option<Time>,
    pub(super) labels: BTreeMap<EnvironmentId, Label>,
}

impl State {
    /// Returns the position of the last record that was folded in; 0 before the first.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Returns the recorded time of the last record that was folded in.
    #[must_use]
    pub fn at(&self) -> Time {
        self.at
    }

    /// Returns how many daemons have started on this log.
    #[must_use]
    pub fn boot(&self) -> u32 {
        self.boot
    }

    /// Returns the current incarnation of an environment, whatever its phase.
    #[must_use]
    pub fn environment(&self, id: &EnvironmentId) -> Option<&Environment> {
        self.environments.get(id).map(Arc::as_ref)
    }

    /// Returns all current incarnations, by id, tombstones included.
    pub fn environments(&self) -> impl Iterator<Item = &Environment> {
        self.environments.values().map(Arc::as_ref)
    }

    /// Returns a lease by its id; none once it was released or its expiry was recorded.
    #[must_use]
    pub fn lease(&self, id: &LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// Returns all leases that have not ended in the log, by id; some may be past their time.
    pub fn leases(&self) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        self.leases.iter()
    }

    /// Returns the leases of one environment that have not ended at `now`.
    pub fn leases_of<'a>(
        &'a self,
        environment: &'a EnvironmentId,
        now: Time,
    ) -> impl Iterator<Item = (&'a LeaseId, &'a Lease)> {
        self.leases.iter().filter(move |(_, l)| l.environment == *environment && l.until > now)
    }

    /// Returns the hashes of the hooks that the user trusts in a repository, oldest first.
    #[must_use]
    pub fn trusted(&self, repository: &HostPath) -> &[String] {
        self.trust.get(repository).map_or(&[], Vec::as_slice)
    }

    /// Returns what an idempotency key was used for, if it is still remembered.
    #[must_use]
    pub fn request(&self, key: &RequestId) -> Option<&IdempotencyRecord> {
        self.requests.get(key)
    }

    /// Returns the limits of the trash: how long removed content is kept, and how much of it.
    #[must_use]
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// Returns the archive of one ended incarnation: trash entry, rescue ref, or both.
    #[must_use]
    pub fn archive_of(&self, id: &EnvironmentId, incarnation: u32) -> Option<&ArchivedIncarnation> {
        self.archives.get(id)?.get(&incarnation).map(Arc::as_ref)
    }

    /// Returns the archives of all ended incarnations, by id and incarnation.
    pub fn archives(&self) -> impl Iterator<Item = &ArchivedIncarnation> {
        self.archives.values().flat_map(BTreeMap::values).map(Arc::as_ref)
    }

    /// Returns the output of one clean, while any of it may be in the trash.
    #[must_use]
    pub fn output(&self, id: &EnvironmentId, clean: Seq) -> Option<&CleanedOutput> {
        self.outputs.get(id)?.get(&clean).map(Arc::as_ref)
    }

    /// Returns the output of all cleans, by environment, the oldest first.
    pub fn outputs(&self) -> impl Iterator<Item = &CleanedOutput> {
        self.outputs.values().flat_map(BTreeMap::values).map(Arc::as_ref)
    }

    /// Returns the output of the cleans of one environment, the oldest first.
    pub fn outputs_of(&self, id: &EnvironmentId) -> impl Iterator<Item = &CleanedOutput> {
        self.outputs.get(id).into_iter().flat_map(BTreeMap::values).map(Arc::as_ref)
    }

    /// Returns whether a lease of this id ended recently, as opposed to never having existed.
    #[must_use]
    pub fn has_ended(&self, lease: &LeaseId) -> bool {
        self.ended_leases.contains(lease)
    }

    /// Returns the run for a request, if it is still remembered.
    #[must_use]
    pub fn run(&self, request: &RequestId) -> Option<&Run> {
        self.runs.get(request)
    }

    /// Returns the requests whose commands were begun in an environment and have not ended.
    #[must_use]
    pub fn unfinished_runs(&self, environment: &EnvironmentId) -> Vec<RequestId> {
        let open = self.runs.iter().filter(|(_, run)| run.ended.is_none());
        let here = open.filter(|(_, run)| run.environment == *environment);
        here.map(|(request, _)| request.clone()).collect()
    }

    /// Returns the sweep in progress.
    #[must_use]
    pub fn sweep(&self) -> Option<&Sweep> {
        self.sweep.as_ref()
    }

    /// Returns the result of the last sweep, and when it was recorded.
    #[must_use]
    pub fn last_sweep(&self) -> Option<&(Time, SweepFinished)> {
        self.last_sweep.as_ref()
    }

    /// Checks the state for contradictions that no sequence of records may lead to. Used by tests
    /// and `replay verify`.
    ///
    /// # Errors
    /// A sentence that names the first contradiction.
    pub fn check(&self) -> Result<(), String> {
        for (id, e) in &self.environments {
            if *id != e.id || e.incarnation == 0 || e.seq > self.seq {
                return Err(format!("{id}: stored under a wrong key, or newer than the log"));
            }
            e.check()?;
        }
        for (id, lease) in &self.leases {
            let holder = self.environments.get(&lease.environment);
            if holder.is_none_or(|e| e.phase == Phase::Tombstoned) {
                return Err(format!("lease {id} on {}, which is not live", lease.environment));
            }
        }
        if let Some(id) = self.labels.keys().find(|id| !self.environments.contains_key(id)) {
            return Err(format!("{id}: has a label, and is not there"));
        }
        for archive in self.archives() {
            let live = self.environments.get(&archive.id).filter(|e| e.is_live());
            if live.is_some_and(|e| e.incarnation <= archive.incarnation) {
                return Err(format!("{}: archive of an incarnation that is live", archive.id));
            }
            archive.check()?;
        }
        self.check_outputs()?;
        for migration in self.migrations() {
            migration.check()?;
        }
        if self.requests.len() != self.request_order.len() {
            return Err("remembered requests and their order differ".into());
        }
        Ok(())
    }
}
