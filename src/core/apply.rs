//! `State::apply`: one recorded fact folded into the state.
//!
//! It is total: a recorded fact is never refused, and a fact about an environment that is not
//! there (possible only in a salvaged log) changes nothing but the position. No I/O, no clock.

use super::event::{
    AttemptFailed, DestroyRequested, Event, LeaseGranted, ProvisionFailed, ProvisionRequested,
    Record,
};
use super::fault::{Code, Fault};
use super::id::{EnvironmentId, RequestId, Seq, Time};
use super::policy;
use super::state::{Environment, Lease, Owed, Phase, Remembered, State, Step, Teardown};

impl State {
    /// Folds one record in.
    pub fn apply(&mut self, record: &Record) {
        self.seq = record.seq;
        self.at = record.at;
        self.boot = record.boot;
        let at = At { seq: record.seq, time: record.at };
        match &record.event {
            Event::DaemonStarted(_) => {
                if !std::mem::take(&mut self.orderly) {
                    self.count_interruptions(at);
                }
            }
            Event::DaemonStopped(_) => self.orderly = true,
            Event::Opaque(_) => {}
            Event::ProvisionRequested(e) => self.provision(at, e),
            Event::LeaseGranted(e) => self.lease_granted(at, e),
            Event::LeaseReleased(e) => drop(self.leases.remove(&e.lease)),
            Event::LeaseExpired(e) => drop(self.leases.remove(&e.lease)),
            Event::RepositoryTrusted(e) => {
                let hashes = self.trust.entry(e.repository.clone()).or_default();
                hashes.retain(|h| *h != e.hash);
                hashes.push(e.hash.clone());
                if hashes.len() > policy::TRUSTED_HASHES_MAX {
                    hashes.remove(0);
                }
            }
            Event::RepositoryDistrusted(e) => drop(self.trust.remove(&e.repository)),
            Event::DestroyRequested(e) => {
                self.remember(e.request.as_ref(), &e.environment, "destroy", at.seq);
                self.with(at, &e.environment, |env| env.destroy_requested(at, e));
            }
            Event::Tombstoned(e) => {
                self.leases.retain(|_, lease| lease.environment != e.environment);
                self.with(at, &e.environment, |env| env.tombstoned(at, &e.leftovers));
            }
            other => {
                if let Some(id) = other.environment() {
                    self.with(at, id, |env| env.apply(at, other));
                }
            }
        }
    }

    fn with(&mut self, at: At, id: &EnvironmentId, change: impl FnOnce(&mut Environment)) {
        if let Some(env) = self.environments.get_mut(id) {
            env.seq = at.seq;
            change(env);
        }
    }

    fn count_interruptions(&mut self, at: At) {
        for env in self.environments.values_mut() {
            let Some(owed) = env.owed.as_mut().filter(|o| o.not_before <= at.time) else {
                continue;
            };
            owed.interruptions = owed.interruptions.saturating_add(1);
            if owed.interruptions > policy::INTERRUPTIONS_FREE {
                let extra = owed.interruptions - policy::INTERRUPTIONS_FREE;
                owed.not_before = at.time.after(policy::retry_delay(extra));
            }
        }
    }

    fn provision(&mut self, at: At, e: &ProvisionRequested) {
        self.remember(e.request.as_ref(), &e.environment, "provision", at.seq);
        let env = Environment {
            id: e.environment.clone(),
            incarnation: e.incarnation,
            phase: Phase::Provisioning,
            plan: e.plan.clone(),
            created_at: at.time,
            changed_at: at.time,
            seq: at.seq,
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
        };
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

/// Position and time of the record that is being applied.
#[derive(Clone, Copy)]
struct At {
    seq: Seq,
    time: Time,
}

impl Owed {
    fn new(step: Step, at: At) -> Self {
        Self { step, entered: at.seq, not_before: Time(0), attempts: 0, interruptions: 0 }
    }
}

impl Environment {
    fn apply(&mut self, at: At, event: &Event) {
        match event {
            Event::BaseResolved(e) => {
                self.base = Some(e.base.clone());
                self.enter(Step::AddWorktree, at);
            }
            Event::WorktreeAdded(e) => {
                self.worktree = Some(e.worktree.clone());
                self.fault = None;
                match (e.worktree.has_include, e.worktree.has_setup) {
                    (true, _) => self.enter(Step::CopyIncluded, at),
                    (false, true) => self.enter(Step::RunSetup, at),
                    (false, false) => self.owed = None,
                }
            }
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
            Event::CancelRequested(_) => {
                let hint = "run the same `new` again when you want it after all";
                self.fault = Some(Fault::new(Code::Cancelled, "provisioning was cancelled", hint));
                self.enter(Step::RollBack, at);
            }
            Event::RolledBack(e) => {
                self.worktree = None;
                self.hook = None;
                self.leftovers.clone_from(&e.leftovers);
                self.owed = None;
                self.go(Phase::Failed, at);
            }
            Event::AttemptFailed(e) => self.attempt_failed(at, e),
            Event::IndexRefreshed(_) => {
                self.owed = None;
                if let Some(worktree) = &mut self.worktree {
                    worktree.racy = false;
                }
            }
            _ => self.apply_teardown(at, event),
        }
    }

    fn apply_teardown(&mut self, at: At, event: &Event) {
        match event {
            Event::DestroyRefused(e) => self.back_to_service(at, &e.fault),
            Event::TeardownGaveUp(e) => self.back_to_service(at, &e.fault),
            Event::TeardownInspected(e) => {
                if let Some(teardown) = &mut self.teardown {
                    teardown.unsaved.clone_from(&e.unsaved);
                }
                self.enter(Step::MoveToTrash, at);
            }
            Event::DirectoryTrashed(e) => {
                if let Some(teardown) = &mut self.teardown {
                    teardown.trash.clone_from(&e.trash);
                }
                self.enter(Step::Unregister, at);
            }
            Event::RegistrationRemoved(_) => self.enter(Step::SettleBranch, at),
            Event::BranchSettled(e) => {
                if let Some(teardown) = &mut self.teardown {
                    teardown.branch_deleted = e.deleted;
                    teardown.rescue.clone_from(&e.rescue);
                }
                self.owed = None;
            }
            _ => {}
        }
    }

    fn enter(&mut self, step: Step, at: At) {
        self.owed = Some(Owed::new(step, at));
    }

    fn go(&mut self, phase: Phase, at: At) {
        self.phase = phase;
        self.changed_at = at.time;
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
            owed.entered = at.seq;
            owed.attempts = e.attempts;
            owed.not_before = e.retry_at;
        }
        // The first error explains a rollback; a rollback's own trouble must not hide it.
        if self.fault.is_none() || self.owed.as_ref().is_some_and(|o| o.step != Step::RollBack) {
            self.fault = Some(e.fault.clone());
        }
    }

    fn destroy_requested(&mut self, at: At, e: &DestroyRequested) {
        match self.phase {
            Phase::Provisioning => {
                self.destroy_wanted = true;
                if self.owed.as_ref().is_none_or(|o| o.step != Step::RollBack) {
                    self.enter(Step::RollBack, at);
                }
            }
            Phase::Ready | Phase::Retiring | Phase::Failed => {
                self.refusal = None;
                self.teardown = Some(Teardown {
                    force: e.force,
                    back_to: if self.phase == Phase::Failed { Phase::Failed } else { Phase::Ready },
                    unsaved: Vec::new(),
                    trash: None,
                    branch_deleted: false,
                    rescue: Vec::new(),
                });
                self.go(Phase::TearingDown, at);
                self.enter(Step::Inspect, at);
            }
            Phase::TearingDown => {
                if let Some(teardown) = &mut self.teardown {
                    teardown.force |= e.force;
                }
                if self.owed.as_ref().is_some_and(|o| o.step == Step::Inspect) {
                    self.enter(Step::Inspect, at);
                }
            }
            Phase::Tombstoned => {}
        }
    }

    fn back_to_service(&mut self, at: At, fault: &Fault) {
        let phase = self.teardown.take().map_or(Phase::Ready, |t| t.back_to);
        self.owed = None;
        self.refusal = Some(fault.clone());
        self.go(phase, at);
    }

    fn tombstoned(&mut self, at: At, leftovers: &[String]) {
        self.worktree = None;
        self.included = None;
        self.hook = None;
        self.setup = None;
        self.owed = None;
        self.fault = None;
        self.refusal = None;
        self.destroy_wanted = false;
        self.leftovers = leftovers.to_vec();
        self.go(Phase::Tombstoned, at);
    }
}
