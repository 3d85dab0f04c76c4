//! The course of a teardown: the result of each step, and how its facts are folded.
//!
//! The order is: inspect; run the hook; end the processes; inspect again if that ended any or the
//! hook ran; rescue; move the directory to the trash; remove the registration; settle the branch.
//! Until the move the environment can return to service: a teardown that cannot go on is postponed,
//! not abandoned. The consent covers a fingerprint of the tree: if a daemon restarted meanwhile,
//! the tree is compared with it before the move.

use crate::decision::{Decision, destroyed};
use crate::effect::BranchOutcome;
use crate::event::{
    BranchSettled, DestroyEvent, DestroyRequested, DirectoryTrashed, Event, ProcessesEnded,
    RegistrationRemoved, TeardownEvent, TeardownGaveUp, TeardownInspected, TeardownPostponed,
    Tombstoned,
};
use crate::fault::{Code, Fault};
use crate::former::Moment;
use crate::id::{HostPath, LeaseId, Time};
use crate::model::archive::ArchivedIncarnation;
use crate::model::environment::{Environment, Phase, Teardown};
use crate::model::process::ProcessId;
use crate::model::run::RunEnd;
use crate::model::step::{At, EnvironmentStep as Step};
use crate::policy;
use crate::state::State;

impl State {
    pub(crate) fn decide_destroy(
        &self,
        moment: &Moment,
        life: Option<u32>,
        wanted: DestroyRequested,
    ) -> Decision {
        let (environment, now) = (&wanted.environment, moment.now);
        // A request that names an earlier incarnation must never reach its successor.
        let other = |env: &Environment| life.is_some_and(|life| life != env.incarnation);
        let forgotten = moment.former.life(environment);
        let was_other = || forgotten.is_some_and(|f| life.is_some_and(|n| n != f.incarnation));
        if self.environment(environment).map_or_else(was_other, other) {
            return Err(destroyed(environment));
        }
        if self.remembers(wanted.request.as_ref(), "destroy", Some(environment))? {
            return Ok(Vec::new());
        }
        let Some(env) = self.environment(environment) else { return Ok(Vec::new()) };
        if env.phase == Phase::Tombstoned {
            return Ok(Vec::new());
        }
        let leases = self.claims(environment, now);
        if !leases.is_empty() && !wanted.force {
            let message = format!("environment {environment} is in use");
            let hint = format!(
                "release its leases with `groundskeeper release LEASE`, wait until they expire, or \
                 run `groundskeeper rm {environment} --force`"
            );
            return Err(Fault::new(Code::EnvironmentBusy, message, hint).with_evidence(leases));
        }
        // Force may be added only until the inspection ends; later the consent is fixed.
        let upgrade = env.teardown.as_ref().is_some_and(|t| wanted.force && !t.force);
        let inspecting = env.owed.as_ref().is_some_and(|o| o.step == Step::Inspect);
        if env.phase == Phase::TearingDown && !(upgrade && inspecting) {
            return Ok(Vec::new());
        }
        if env.phase == Phase::Provisioning && env.destroy_wanted {
            return Ok(Vec::new());
        }
        let mut events: Vec<Event> = vec![wanted.into()];
        events.extend(env.ends_at_once());
        Ok(events)
    }

    /// Folds in an event about the removal of an environment.
    pub(crate) fn apply_destroy(&mut self, at: At, event: DestroyEvent<'_>) {
        use DestroyEvent as Is;
        match event {
            Is::DestroyRequested(e) => {
                self.remember(e.request.as_ref(), &e.environment, "destroy", at.seq);
                self.with(at, &e.environment, |env| env.destroy_requested(at, e));
            }
            Is::DestroyRefused(e) => {
                self.with(at, &e.environment, |env| env.back_to_service(at, &e.fault));
            }
            Is::TeardownInspected(e) => {
                self.with(at, &e.environment, |env| env.advance(at, |t| Some(t.seen(e))));
            }
            Is::DirectoryTrashed(e) => self.with(at, &e.environment, |env| {
                env.advance(at, |teardown| {
                    teardown.trash.clone_from(&e.trash);
                    Some(Step::Unregister)
                });
            }),
            Is::RegistrationRemoved(e) => {
                self.with(at, &e.environment, |env| env.advance(at, |_| Some(Step::SettleBranch)));
            }
            Is::BranchSettled(e) => self.with(at, &e.environment, |env| {
                env.advance(at, |teardown| {
                    teardown.branch_deleted = e.deleted;
                    teardown.branch_reason.clone_from(&e.reason);
                    teardown.other_refs.clone_from(&e.rescue);
                    None
                });
            }),
            Is::Tombstoned(e) => self.tombstoned(at, e),
            Is::TeardownGaveUp(e) => {
                self.with(at, &e.environment, |env| env.back_to_service(at, &e.fault));
            }
        }
    }

    /// Folds in an event about a later step of a teardown.
    pub(crate) fn apply_teardown(&mut self, at: At, event: TeardownEvent<'_>) {
        use TeardownEvent as Is;
        match event {
            Is::TeardownHookStarted(e) => self.with(at, &e.environment, |env| {
                if env.teardown.is_some() {
                    env.hook = Some(ProcessId { pid: e.pid, start_time: e.started });
                }
            }),
            Is::TeardownHookFinished(e) => self.with(at, &e.environment, |env| {
                if env.teardown.is_some() {
                    env.hook = None;
                }
                env.advance(at, |teardown| {
                    teardown.hooked = true;
                    teardown.hook_fault.clone_from(&e.fault);
                    Some(Step::EndProcesses)
                });
            }),
            Is::ProcessesEnded(e) => self.with(at, &e.environment, |env| {
                if env.teardown.is_some() {
                    env.processes.clear();
                }
                env.advance(at, |teardown| Some(teardown.quieted(e)));
            }),
            Is::WorkRescued(e) => self.with(at, &e.environment, |env| {
                env.advance(at, |teardown| {
                    teardown.rescue.clone_from(&e.rescue);
                    Some(Step::MoveToTrash)
                });
            }),
            Is::InspectionOutdated(e) => self.with(at, &e.environment, |env| {
                env.advance(at, |teardown| {
                    teardown.disturbed = true;
                    Some(Step::Inspect)
                });
            }),
            Is::TeardownPostponed(e) => {
                self.with(at, &e.environment, |env| env.postponed(at, e));
            }
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
            run.ended = Some(RunEnd::destroyed());
        }
        // Taken before the tombstone clears the facts that a restore needs.
        let env = self.environments.get(&e.environment);
        let trash = env.and_then(|e| e.teardown.as_ref()).and_then(|t| t.trash.clone());
        let archive = env.and_then(|env| ArchivedIncarnation::of(env, at, trash));
        self.keep_archive(archive);
        self.with(at, &e.environment, |env| env.tombstoned(at, &e.leftovers));
    }
}

impl Environment {
    pub(crate) fn destroy_requested(&mut self, at: At, e: &DestroyRequested) {
        match self.phase {
            Phase::Provisioning => {
                self.destroy_wanted = true;
                // A rollback in progress goes on: entering it anew would make its result stale.
                if self.owed.as_ref().is_none_or(|o| o.step != Step::RollBack) {
                    self.enter(Step::RollBack, at);
                }
            }
            Phase::Ready if self.adopted => {}
            Phase::Ready | Phase::Retiring | Phase::Failed => {
                let before = self.teardown.as_ref().is_some_and(|t| t.of_failed);
                let of_failed = self.phase == Phase::Failed || before;
                self.refusal = None;
                self.failed_teardowns = 0;
                self.teardown = Some(Teardown {
                    force: e.force,
                    options: e.options.clone(),
                    of_failed,
                    requester: e.actor.pid,
                    ..Teardown::default()
                });
                self.set_phase(Phase::TearingDown, at);
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

    /// Folds a fact into a teardown in progress, and enters the step that follows, if any.
    fn advance(&mut self, at: At, change: impl FnOnce(&mut Teardown) -> Option<Step>) {
        let Some(teardown) = &mut self.teardown else { return };
        let Some(step) = change(teardown) else {
            self.owed = None;
            return;
        };
        // The inspection of a retry runs while the environment is still served.
        if self.phase == Phase::Retiring {
            self.set_phase(Phase::TearingDown, at);
        }
        self.enter(step, at);
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
        self.set_phase(Phase::Tombstoned, at);
    }

    fn back_to_service(&mut self, at: At, fault: &Fault) {
        let failed = self.teardown.take().is_some_and(|t| t.of_failed);
        self.owed = None;
        self.hook = None;
        self.refusal = Some(fault.clone());
        self.failed_teardowns = 0;
        self.set_phase(if failed { Phase::Failed } else { Phase::Ready }, at);
    }

    /// Postpones the teardown: the environment is served, and inspected again at the retry. The
    /// consent still holds.
    fn postponed(&mut self, at: At, e: &TeardownPostponed) {
        let Some(old) = self.teardown.take() else { return };
        self.refusal = Some(e.fault.clone());
        self.failed_teardowns = e.failures;
        self.hook = None;
        self.teardown = Some(Teardown {
            // Consent to lose content that was never inspected is valid for that moment only.
            force: old.force && old.fingerprint.is_some(),
            options: old.options,
            of_failed: old.of_failed,
            requester: old.requester,
            unsaved: old.unsaved,
            fingerprint: old.fingerprint,
            // Its directory may be in the trash already; then only these fields describe it.
            head: old.head,
            rescue: old.rescue,
            unseen: old.unseen,
            on_branch: old.on_branch,
            disturbed: true,
            ..Teardown::default()
        });
        self.set_phase(Phase::Retiring, at);
        self.enter(Step::Inspect, at);
        if let Some(owed) = &mut self.owed {
            owed.not_before = e.retry_at;
        }
    }

    /// Returns the events that the move to the trash leads to. With `branch`, registration and
    /// branch were settled in one go with it.
    pub(crate) fn trashed(
        &self,
        trash: Option<HostPath>,
        branch: Option<BranchOutcome>,
    ) -> Vec<Event> {
        let environment = self.id.clone();
        let mut events = vec![DirectoryTrashed { environment, trash }.into()];
        if let Some(branch) = branch {
            events.push(RegistrationRemoved { environment: self.id.clone() }.into());
            events.extend(self.branch_settled(branch));
        }
        events
    }

    /// Returns the events that the end of the branch leads to: the teardown is over.
    pub(crate) fn branch_settled(&self, branch: BranchOutcome) -> Vec<Event> {
        let (environment, rescue) = (self.id.clone(), Vec::new());
        let BranchOutcome { deleted, reason } = branch;
        vec![
            BranchSettled { environment: environment.clone(), deleted, reason, rescue }.into(),
            Tombstoned { environment, leftovers: self.leftovers.clone() }.into(),
        ]
    }

    /// Returns the events that postpone a teardown; one that can never succeed is given up.
    pub(crate) fn postpone(&self, now: Time, step: Step, fault: Fault) -> Vec<Event> {
        let environment = self.id.clone();
        let step = step.as_str().to_owned();
        let failures = self.failed_teardowns.saturating_add(1);
        // Foreign content does not become managed by a retry.
        if fault.code == Code::NotOurs || failures >= policy::TEARDOWNS_MAX {
            return vec![TeardownGaveUp { environment, step, fault }.into()];
        }
        let retry_at = now.after(policy::teardown_delay(failures));
        vec![TeardownPostponed { environment, step, fault, failures, retry_at }.into()]
    }

    /// Returns the event that ends an incarnation without any step: an adopted one is forgotten,
    /// and a failed provision without a worktree has nothing left.
    pub(crate) fn ends_at_once(&self) -> Option<Event> {
        if self.adopted {
            return Some(self.forget());
        }
        let (environment, leftovers) = (self.id.clone(), self.leftovers.clone());
        self.is_empty_failure().then(|| Tombstoned { environment, leftovers }.into())
    }

    /// Returns whether it is a failed provision without a worktree.
    pub(crate) fn is_empty_failure(&self) -> bool {
        self.phase == Phase::Failed && self.worktree.is_none()
    }

    /// Returns the event that forgets an adopted environment; its worktree is not touched.
    fn forget(&self) -> Event {
        Tombstoned { environment: self.id.clone(), leftovers: Vec::new() }.into()
    }
}

impl Teardown {
    fn seen(&mut self, e: &TeardownInspected) -> Step {
        self.unsaved.clone_from(&e.unsaved);
        self.fingerprint.clone_from(&e.fingerprint);
        self.head.clone_from(&e.head);
        self.rescue_wanted = e.rescue && !self.options.no_rescue && !e.unseen;
        self.noted.clone_from(&e.noted);
        self.unseen = e.unseen;
        self.on_branch.clone_from(&e.branch);
        self.has_hook = e.has_hook;
        // The hook may yet start processes.
        self.quiet |= e.quiet && (!e.has_hook || self.hooked);
        self.inspections += 1;
        self.disturbed = false;
        self.after_inspection()
    }

    fn quieted(&mut self, e: &ProcessesEnded) -> Step {
        self.quiet = true;
        self.spared.clone_from(&e.spared);
        self.survivors.clone_from(&e.survivors);
        // Writes of the hook or an ending process belong to this teardown.
        if self.hooked || !e.ended.is_empty() { Step::Inspect } else { self.after_inspection() }
    }

    fn after_inspection(&self) -> Step {
        if self.has_hook && !self.hooked {
            Step::RunTeardown
        } else if !self.quiet {
            Step::EndProcesses
        } else if self.rescue_wanted {
            Step::Rescue
        } else {
            Step::MoveToTrash
        }
    }
}
