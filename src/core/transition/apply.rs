//! `State::apply`: folds one recorded fact into the state.
//!
//! It is total: a recorded fact is never refused, and a fact about an environment that does not
//! exist (possible only in a salvaged log) changes nothing but the position. No I/O, no clock.

use std::collections::BTreeMap;

use crate::event::{
    AttemptFailed, BY_DAEMON, Base, EnvironmentAdopted, Event, LeaseGranted, Plan, ProvisionFailed,
    ProvisionRequested, Record, RepositoryTrusted, RestoreFrom, RestoreRequested, Restored,
    RolledBack, Tombstoned,
};
use crate::fault::{Code, Fault};
use crate::id::{EnvironmentId, LeaseId, RequestId, Seq, Time};
use crate::model::archive::Remains;
use crate::model::environment::{Environment, Owed, Phase, Process};
use crate::model::lease::{Lease, Remembered};
use crate::model::step::{At, Step};
use crate::model::sweep::Sweep;
use crate::policy;
use crate::state::State;

impl State {
    /// Folds one record into the state.
    pub fn apply(&mut self, record: &Record) {
        self.seq = record.seq;
        self.at = record.at;
        self.boot = record.boot;
        let at = At { seq: record.seq, time: record.at };
        if self.apply_beside(at, &record.event) {
            return;
        }
        match &record.event {
            Event::DaemonStarted(_) => self.started(at),
            Event::DaemonStopped(_) => self.orderly = true,
            Event::Opaque(_) => {}
            Event::RetentionChanged(e) => self.retention = e.retention.clone(),
            Event::DataDirectoryMoved(_)
            | Event::DataDirectoryCopied(_)
            | Event::LogFoundOlder(_)
            | Event::RepositoryMoved(_) => self.ground_moved(at, &record.event),
            Event::ProvisionRequested(e) => self.provision(at, e),
            Event::RestoreRequested(e) => self.restore(at, e),
            Event::Restored(e) => {
                if let Some(from) = self.restored_from(&e.environment) {
                    self.restore_changed(at, &e.environment, &from, None, true);
                }
                self.with(at, &e.environment, |env| env.restored(e));
            }
            Event::EnvironmentReady(e) => {
                if let Some(from) = self.restored_from(&e.environment) {
                    self.restore_changed(at, &e.environment, &from, None, false);
                }
                self.with(at, &e.environment, |env| env.apply(at, &record.event));
            }
            Event::RolledBack(e) => self.rolled_back(at, e),
            Event::EnvironmentAdopted(e) => self.adopted(at, e),
            Event::SweepRequested(e) => {
                let owed = Owed::new(Step::Sweep, at);
                self.hurry(at);
                // The daemon's own sweep is unattended: it settles only findings of the one before.
                let seen_only = e.actor.door == BY_DAEMON;
                self.sweep = Some(Sweep { owed, apply: e.apply, limit: e.limit, seen_only });
            }
            Event::SweepFinished(e) => {
                self.sweep = None;
                self.last_sweep = Some((at.time, e.clone()));
            }
            Event::LiveSetTaken(e) => self.live_set_taken(e),
            Event::LiveSetHeld(e) => self.live_set_held(at, e),
            Event::RunRequested(e) => self.run_requested(at, e),
            Event::RunFinished(e) => self.run_finished(e),
            Event::LeaseGranted(e) => self.lease_granted(at, e),
            Event::LeaseReleased(e) => self.lease_ended(&e.lease),
            Event::LeaseExpired(e) => self.lease_ended(&e.lease),
            Event::RepositoryTrusted(e) => self.trusted_now(e),
            Event::RepositoryDistrusted(e) => drop(self.trust.remove(&e.repository)),
            Event::DestroyRequested(e) => {
                self.remember(e.request.as_ref(), &e.environment, "destroy", at.seq);
                self.with(at, &e.environment, |env| env.destroy_requested(at, e));
            }
            Event::Tombstoned(e) => self.tombstoned(at, e),
            other => {
                if let Some(id) = other.environment() {
                    self.with(at, id, |env| env.apply(at, other));
                }
            }
        }
        self.follow_cleans(at, &record.event);
    }

    /// Folds in an event about another subject than an environment; returns false for any other.
    fn apply_beside(&mut self, at: At, event: &Event) -> bool {
        if let Some(subject) = event.remains() {
            self.apply_to_remains(at, subject, event);
        } else if let Some(subject) = event.output() {
            self.apply_to_output(at, subject, event);
        } else if let Some(migration) = event.migration() {
            self.apply_to_migration(at, migration, event);
        } else {
            return false;
        }
        true
    }

    fn started(&mut self, at: At) {
        self.disturb();
        self.hurry(at);
        // An orderly stop ends no step by a crash, so it does not count against the steps owed.
        if !std::mem::take(&mut self.orderly) {
            self.count_interruptions(at);
        }
    }

    fn lease_ended(&mut self, lease: &LeaseId) {
        if self.leases.remove(lease).is_none() {
            return;
        }
        self.ended_leases.retain(|other| other != lease);
        self.ended_leases.push(lease.clone());
        if self.ended_leases.len() > policy::ENDED_LEASES_REMEMBERED {
            self.ended_leases.remove(0);
        }
    }

    fn trusted_now(&mut self, e: &RepositoryTrusted) {
        let hashes = self.trust.entry(e.repository.clone()).or_default();
        hashes.retain(|h| *h != e.hash);
        hashes.push(e.hash.clone());
        if hashes.len() > policy::TRUSTED_HASHES_MAX {
            hashes.remove(0);
        }
    }

    fn tombstoned(&mut self, at: At, e: &Tombstoned) {
        let ended = self.leases.iter().filter(|(_, l)| l.environment == e.environment);
        let ended: Vec<LeaseId> = ended.map(|(id, _)| id.clone()).collect();
        for id in ended {
            self.lease_ended(&id);
        }
        let runs = self.runs.values_mut().filter(|run| run.environment == e.environment);
        for run in runs.filter(|run| run.ended.is_none()) {
            run.ended = Some((None, "destroyed".to_owned()));
        }
        // Taken before the tombstone clears the facts that a restore needs.
        let env = self.environments.get(&e.environment);
        let trash = env.and_then(|e| e.teardown.as_ref()).and_then(|t| t.trash.clone());
        let remains = env.and_then(|env| Remains::of(env, at, trash));
        self.keep_remains(remains);
        self.with(at, &e.environment, |env| env.tombstoned(at, &e.leftovers));
    }

    fn with(&mut self, at: At, id: &EnvironmentId, change: impl FnOnce(&mut Environment)) {
        if let Some(env) = self.environments.get_mut(id) {
            env.seq = at.seq;
            change(env);
        }
    }

    /// Marks all consents as unverified: a tree may have changed since it was inspected.
    fn disturb(&mut self) {
        for teardown in self.environments.values_mut().filter_map(|e| e.teardown.as_mut()) {
            teardown.disturbed = true;
        }
    }

    fn count_interruptions(&mut self, at: At) {
        let environments = self.environments.values_mut().filter_map(|e| e.owed.as_mut());
        let remains = self.remains.values_mut().flat_map(BTreeMap::values_mut);
        let remains = remains.filter_map(|r| r.owed.as_mut());
        let outputs = self.outputs.values_mut().flat_map(BTreeMap::values_mut);
        let outputs = outputs.filter_map(|o| o.owed.as_mut());
        let sweep = self.sweep.as_mut().map(|s| &mut s.owed);
        let migrations = self.migrations.values_mut().filter_map(|m| m.owed.as_mut());
        let all = environments.chain(remains).chain(outputs).chain(migrations).chain(sweep);
        // A step that still waits was not running, so it cannot have killed the daemon.
        for owed in all.filter(|o| o.not_before <= at.time) {
            owed.interruptions = owed.interruptions.saturating_add(1);
            if owed.interruptions > policy::INTERRUPTIONS_FREE {
                let extra = owed.interruptions - policy::INTERRUPTIONS_FREE;
                owed.not_before = at.time.after(policy::retry_delay(extra));
            }
        }
    }

    fn provision(&mut self, at: At, e: &ProvisionRequested) {
        self.remember(e.request.as_ref(), &e.environment, "provision", at.seq);
        let mut env = Environment::begin(at, &e.environment, e.incarnation, &e.plan);
        env.nonce.clone_from(&e.nonce);
        env.attributes.clone_from(&e.attributes);
        self.environments.insert(e.environment.clone(), env);
    }

    fn restore(&mut self, at: At, e: &RestoreRequested) {
        self.remember(e.request.as_ref(), &e.environment, "restore", at.seq);
        let mut env = Environment::begin(at, &e.environment, e.incarnation, &e.plan);
        if e.from.trash.is_some() {
            env.enter(Step::Restore, at);
        }
        env.restore = Some(e.from.clone());
        let remains = self.remains_of(&e.environment, e.from.incarnation);
        env.base = remains.and_then(|r| r.base.clone());
        env.nonce.clone_from(&e.nonce);
        env.lineage = remains.map(Remains::lineage).unwrap_or_default();
        self.environments.insert(e.environment.clone(), env);
        self.restore_changed(at, &e.environment, &e.from, Some(e.incarnation), false);
    }

    fn restored_from(&self, id: &EnvironmentId) -> Option<RestoreFrom> {
        self.environments.get(id).filter(|e| e.phase == Phase::Provisioning)?.restore.clone()
    }

    fn rolled_back(&mut self, at: At, e: &RolledBack) {
        if let Some(from) = self.restored_from(&e.environment) {
            self.restore_changed(at, &e.environment, &from, None, false);
        }
        let env = self.environments.get(&e.environment);
        let remains = env.and_then(|env| Remains::rolled_back(env, at, e));
        self.keep_remains(remains);
        self.with(at, &e.environment, |env| {
            env.worktree = None;
            env.hook = None;
            env.leftovers.clone_from(&e.leftovers);
            env.owed = None;
            env.go(Phase::Failed, at);
        });
    }

    fn adopted(&mut self, at: At, e: &EnvironmentAdopted) {
        let mut env = Environment::begin(at, &e.environment, e.incarnation, &e.plan);
        env.base = Some(Base { commit: e.head.clone(), ..Base::default() });
        env.worktree = Some(e.worktree.clone());
        env.nonce.clone_from(&e.nonce);
        env.adopted = true;
        env.owed = None;
        env.go(Phase::Ready, at);
        self.environments.insert(e.environment.clone(), env);
    }

    fn lease_granted(&mut self, at: At, e: &LeaseGranted) {
        self.remember(e.request.as_ref(), &e.environment, "lease", at.seq);
        self.with(at, &e.environment, |_| {});
        let lease = Lease {
            environment: e.environment.clone(),
            until: e.until,
            purpose: e.purpose.clone(),
        };
        self.leases.insert(e.lease.clone(), lease);
    }

    fn remember(&mut self, key: Option<&RequestId>, env: &EnvironmentId, verb: &str, seq: Seq) {
        let Some(key) = key else { return };
        let what = Remembered { environment: env.clone(), verb: verb.to_owned(), seq };
        if let Some(old) = self.requests.insert(key.clone(), what) {
            self.request_order.remove(&old.seq);
        }
        self.request_order.insert(seq, key.clone());
        while self.request_order.len() > policy::REQUESTS_REMEMBERED {
            if let Some((_, oldest)) = self.request_order.pop_first() {
                self.requests.remove(&oldest);
            }
        }
    }
}

impl Owed {
    pub(crate) fn new(step: Step, at: At) -> Self {
        Self { step, entered: at.seq, not_before: Time(0), attempts: 0, interruptions: 0 }
    }
}

impl Environment {
    /// Creates an incarnation that owes the first step of a provision.
    pub(crate) fn begin(at: At, id: &EnvironmentId, incarnation: u32, plan: &Plan) -> Self {
        Self {
            id: id.clone(),
            incarnation,
            phase: Phase::Provisioning,
            plan: plan.clone(),
            created_at: at.time,
            changed_at: at.time,
            seq: at.seq,
            begun: at.seq,
            base: None,
            worktree: None,
            included: None,
            hook: None,
            setup: None,
            owed: Some(Owed::new(Step::ResolveBase, at)),
            fault: None,
            refusal: None,
            destroy_wanted: false,
            teardown: None,
            leftovers: Vec::new(),
            adopted: false,
            restore: None,
            processes: BTreeMap::new(),
            failed_teardowns: 0,
            cleaned: None,
            undoing: None,
            undone: None,
            unwatched: None,
            nonce: None,
            attributes: None,
            lineage: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, at: At, event: &Event) {
        match event {
            Event::BaseResolved(e) => {
                // A restored incarnation starts from its own commit and keeps the earlier base.
                if self.restore.is_none() || self.base.is_none() {
                    self.base = Some(e.base.clone());
                }
                self.enter(Step::AddWorktree, at);
            }
            Event::WorktreeAdded(e) => {
                self.worktree = Some(e.worktree.clone());
                self.fault = None;
                if self.restore.as_ref().is_some_and(|r| !r.rescue.is_empty()) {
                    self.enter(Step::ApplyRescue, at);
                } else {
                    self.filled(at);
                }
            }
            Event::RescueApplied(_) => self.filled(at),
            Event::FilesIncluded(e) => {
                self.included = Some(e.included.clone());
                if self.worktree.as_ref().is_some_and(|w| w.has_setup) {
                    self.enter(Step::RunSetup, at);
                } else {
                    self.owed = None;
                }
            }
            Event::SetupStarted(e) => self.hook = Some((e.pid, e.started)),
            Event::SetupFinished(e) => {
                self.hook = None;
                self.setup = Some(e.report.clone());
                self.owed = None;
            }
            Event::EnvironmentReady(_) => {
                self.fault = None;
                self.go(Phase::Ready, at);
            }
            Event::ProvisionFailed(e) => self.provision_failed(at, e),
            Event::CancelRequested(_) if self.phase == Phase::Retiring => {
                let failed = self.teardown.take().is_some_and(|t| t.of_failed);
                self.owed = None;
                self.failed_teardowns = 0;
                self.go(if failed { Phase::Failed } else { Phase::Ready }, at);
            }
            Event::CancelRequested(_) => {
                let hint = "run the same `new` again when you want it after all";
                self.fault = Some(Fault::new(Code::Cancelled, "provisioning was cancelled", hint));
                self.enter(Step::RollBack, at);
            }
            Event::AttemptFailed(e) => self.attempt_failed(at, e),
            Event::IndexRefreshed(_) => {
                self.owed = None;
                if let Some(worktree) = &mut self.worktree {
                    worktree.racy = false;
                }
            }
            Event::ProcessStarted(e) => {
                let of_daemon = e.actor.door == BY_DAEMON;
                let process = Process { started: e.started, name: e.name.clone(), of_daemon };
                self.processes.insert(e.pid, process);
            }
            Event::ProcessExited(e) => drop(self.processes.remove(&e.pid)),
            Event::WatcherGaveUp(e) => self.unwatched = Some(e.reason.clone()),
            Event::WatcherResumed(_) => self.unwatched = None,
            _ if self.apply_clean(at, event) => {}
            _ => self.apply_teardown(at, event),
        }
    }

    /// Enters the step after the files are in place: include copy, setup hook, or none.
    fn filled(&mut self, at: At) {
        let has = self.worktree.as_ref().map(|w| (w.has_include, w.has_setup));
        match has.unwrap_or_default() {
            (true, _) => self.enter(Step::CopyIncluded, at),
            (false, true) => self.enter(Step::RunSetup, at),
            (false, false) => self.owed = None,
        }
    }

    fn restored(&mut self, e: &Restored) {
        self.worktree = Some(e.worktree.clone());
        self.plan.branch.clone_from(&e.branch);
        self.fault = None;
        self.owed = None;
    }

    pub(crate) fn enter(&mut self, step: Step, at: At) {
        // Earlier than the inspection itself, so that a write in between counts as late.
        if let Some(teardown) = self.teardown.as_mut().filter(|_| step == Step::Inspect) {
            teardown.looked_at = at.time;
        }
        self.owed = Some(Owed::new(step, at));
    }

    pub(crate) fn go(&mut self, phase: Phase, at: At) {
        self.phase = phase;
        self.changed_at = at.time;
        // Index entries as young as the index make every status re-read their files until then.
        if phase == Phase::Ready && self.worktree.as_ref().is_some_and(|w| w.racy) {
            let mut owed = Owed::new(Step::RefreshIndex, at);
            owed.not_before = at.time.after(policy::INDEX_REFRESH_DELAY);
            self.owed = Some(owed);
        }
    }

    fn provision_failed(&mut self, at: At, e: &ProvisionFailed) {
        self.fault = Some(e.fault.clone());
        if e.kept {
            self.hook = None;
            self.owed = None;
            self.go(Phase::Failed, at);
        } else {
            self.enter(Step::RollBack, at);
        }
    }

    fn attempt_failed(&mut self, at: At, e: &AttemptFailed) {
        if let Some(owed) = &mut self.owed {
            // A new effect id: from here on a late result of the failed attempt is stale.
            owed.entered = at.seq;
            owed.attempts = e.attempts;
            owed.not_before = e.retry_at;
        }
        // The first error explains a rollback; a failure of the rollback must not hide it.
        if self.fault.is_none() || self.owed.as_ref().is_some_and(|o| o.step != Step::RollBack) {
            self.fault = Some(e.fault.clone());
        }
    }

    pub(crate) fn tombstoned(&mut self, at: At, leftovers: &[String]) {
        self.worktree = None;
        self.included = None;
        self.hook = None;
        self.setup = None;
        self.owed = None;
        self.fault = None;
        self.refusal = None;
        self.destroy_wanted = false;
        self.restore = None;
        self.processes.clear();
        self.leftovers = leftovers.to_vec();
        self.go(Phase::Tombstoned, at);
    }
}
