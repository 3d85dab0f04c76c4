//! Provisions: from the request up to the service of the environment or its rollback. Restores and
//! adoptions have files of their own, and share the steps from here on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::Provision;
use crate::decision::{Decision, limit, not_found};
use crate::effect::Note;
use crate::event::{
    Actor, AttemptFailed, Base, CancelRequested, Event, Included, Plan, ProvisionEvent,
    ProvisionFailed, ProvisionRequested, RolledBack, SetupStarted, TeardownHookStarted, Worktree,
};
use crate::fault::{Code, Fault};
use crate::former::Former;
use crate::id::{EffectId, EnvironmentId, Subject};
use crate::model::archive::ArchivedIncarnation;
use crate::model::environment::{Environment, Phase};
use crate::model::process::ProcessId;
use crate::model::step::{At, EnvironmentStep as Step, Owed};
use crate::policy;
use crate::state::State;

impl State {
    /// Decides a provision: the same plan for a live environment joins it.
    pub(crate) fn decide_provision(&self, former: &Former, wanted: Provision) -> Decision {
        let Provision { environment, plan, actor, request, nonce, attributes } = wanted;
        let incarnation = self.next_incarnation(former, &environment);
        let nonce = Some(nonce);
        let begun = ProvisionRequested {
            environment,
            incarnation,
            plan,
            actor,
            request,
            nonce,
            attributes,
        };
        if self.remembers(begun.request.as_ref(), "provision", None)? {
            return Ok(Vec::new());
        }
        if let Some(env) = self.environment(&begun.environment).filter(|e| e.is_live()) {
            return env.joins(&begun.plan);
        }
        if self.environments().filter(|e| e.is_live()).count() >= policy::ENVIRONMENTS_MAX {
            return Err(limit("environments", policy::ENVIRONMENTS_MAX));
        }
        self.branch_is_free(&begun.plan)?;
        Ok(vec![begun.into()])
    }

    pub(crate) fn next_incarnation(&self, former: &Former, id: &EnvironmentId) -> u32 {
        let forgotten = former.life(id).map_or(0, |life| life.incarnation);
        self.environment(id).map_or(forgotten, |e| e.incarnation).saturating_add(1)
    }

    pub(crate) fn branch_is_free(&self, plan: &Plan) -> Result<(), Fault> {
        // git allows one worktree per branch; this refuses before anything is made.
        let used = self.environments().find(|e| {
            e.is_live()
                && !e.adopted
                && e.plan.repository.common_dir == plan.repository.common_dir
                && e.plan.branch == plan.branch
        });
        let Some(other) = used else { return Ok(()) };
        Err(Fault::new(
            Code::BranchExists,
            format!("branch {} is used by environment {}", plan.branch, other.id),
            format!("run `groundskeeper rm {}` first, or choose another --branch", other.id),
        ))
    }

    pub(crate) fn decide_cancel(
        &self,
        former: &Former,
        environment: EnvironmentId,
        actor: Actor,
    ) -> Decision {
        let Some(env) = self.environment(&environment) else {
            let is_over = former.life(&environment).is_some();
            return if is_over { Ok(Vec::new()) } else { Err(not_found(&environment)) };
        };
        let step = env.owed.as_ref().map(|o| o.step);
        let making = env.phase == Phase::Provisioning && step != Some(Step::RollBack);
        if making || env.phase == Phase::Retiring {
            return Ok(vec![CancelRequested { environment, actor }.into()]);
        }
        Ok(Vec::new())
    }

    /// Decides a fact that an effect must have recorded before it goes on.
    pub(crate) fn decide_note(&self, effect: &EffectId, note: Note) -> Option<Event> {
        let Subject::Environment(id) = &effect.subject else { return None };
        let env = self.environment(id)?;
        let owed = env.owed.as_ref().filter(|o| o.entered == effect.entered)?;
        let Note::HookSpawned { pid, started, hash } = note;
        let environment = env.id.clone();
        if owed.step == Step::RunSetup {
            return Some(SetupStarted { environment, pid, started, hash }.into());
        }
        let tears_down = owed.step == Step::RunTeardown;
        tears_down.then(|| TeardownHookStarted { environment, pid, started, hash }.into())
    }

    /// Folds in an event about a provision, a restore or an adoption.
    pub(crate) fn apply_provision(&mut self, at: At, event: ProvisionEvent<'_>) {
        use ProvisionEvent as Is;
        match event {
            Is::ProvisionRequested(e) => self.provision(at, e),
            Is::BaseResolved(e) => {
                self.with(at, &e.environment, |env| env.base_resolved(at, &e.base));
            }
            Is::WorktreeAdded(e) => {
                self.with(at, &e.environment, |env| env.worktree_added(at, &e.worktree));
            }
            Is::FilesIncluded(e) => {
                self.with(at, &e.environment, |env| env.files_included(at, &e.included));
            }
            Is::SetupStarted(e) => {
                self.with(at, &e.environment, |env| {
                    env.hook = Some(ProcessId { pid: e.pid, start_time: e.started });
                });
            }
            Is::SetupFinished(e) => self.with(at, &e.environment, |env| {
                env.hook = None;
                env.setup = Some(e.report.clone());
                env.owed = None;
            }),
            Is::EnvironmentReady(e) => {
                self.restore_ends(at, &e.environment, false);
                self.with(at, &e.environment, |env| {
                    env.fault = None;
                    env.set_phase(Phase::Ready, at);
                });
            }
            Is::ProvisionFailed(e) => {
                self.with(at, &e.environment, |env| env.provision_failed(at, e));
            }
            Is::CancelRequested(e) => self.with(at, &e.environment, |env| env.cancelled(at)),
            Is::RolledBack(e) => self.rolled_back(at, e),
            Is::AttemptFailed(e) => self.with(at, &e.environment, |env| env.attempt_failed(at, e)),
            Is::IndexRefreshed(e) => self.with(at, &e.environment, Environment::index_refreshed),
            Is::RestoreRequested(e) => self.restore(at, e),
            Is::Restored(e) => {
                self.restore_ends(at, &e.environment, true);
                self.with(at, &e.environment, |env| env.restored(e));
            }
            Is::RescueApplied(e) => self.with(at, &e.environment, |env| env.filled(at)),
            Is::EnvironmentAdopted(e) => self.adopted(at, e),
        }
    }

    fn provision(&mut self, at: At, e: &ProvisionRequested) {
        self.remember(e.request.as_ref(), &e.environment, "provision", at.seq);
        let mut env = Environment::begin(at, &e.environment, e.incarnation, &e.plan);
        env.nonce.clone_from(&e.nonce);
        env.attributes.clone_from(&e.attributes);
        self.labels.remove(&e.environment);
        self.environments.insert(e.environment.clone(), Arc::new(env));
    }

    fn rolled_back(&mut self, at: At, e: &RolledBack) {
        self.restore_ends(at, &e.environment, false);
        let env = self.environments.get(&e.environment);
        let archive = env.and_then(|env| ArchivedIncarnation::rolled_back(env, at, e));
        self.keep_archive(archive);
        self.with(at, &e.environment, |env| {
            env.worktree = None;
            env.hook = None;
            env.leftovers.clone_from(&e.leftovers);
            env.owed = None;
            env.set_phase(Phase::Failed, at);
        });
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

    /// Decides whether a second provision joins this one: same repository, branch and base.
    fn joins(&self, plan: &Plan) -> Decision {
        let rolling_back = self.owed.as_ref().is_some_and(|o| o.step == Step::RollBack);
        if self.phase == Phase::TearingDown || rolling_back {
            return Err(Fault::new(
                Code::EnvironmentBusy,
                format!("environment {} is being removed", self.id),
                "retry when the removal has ended",
            ));
        }
        let same = self.plan.repository.common_dir == plan.repository.common_dir
            && self.plan.branch == plan.branch
            && self.plan.base == plan.base;
        if same && self.phase == Phase::Retiring {
            let message = format!("the removal of environment {} is postponed", self.id);
            let hint = format!(
                "run `groundskeeper cancel {}` to cancel it and keep the environment",
                self.id
            );
            return Err(Fault::new(Code::EnvironmentBusy, message, hint));
        }
        if same && self.phase != Phase::Failed {
            return Ok(Vec::new());
        }
        let what = if self.phase == Phase::Failed {
            "exists: it failed, and its worktree was kept".to_owned()
        } else {
            format!("exists on branch {} of {}", self.plan.branch, self.plan.repository.common_dir)
        };
        Err(Fault::new(
            Code::EnvironmentExists,
            format!("environment {} {what}", self.id),
            format!("choose another id, or run `groundskeeper rm {}` first", self.id),
        ))
    }

    fn base_resolved(&mut self, at: At, base: &Base) {
        // A restored incarnation starts from its own commit and keeps the earlier base.
        if self.restore.is_none() || self.base.is_none() {
            self.base = Some(base.clone());
        }
        self.enter(Step::AddWorktree, at);
    }

    fn worktree_added(&mut self, at: At, worktree: &Worktree) {
        self.worktree = Some(worktree.clone());
        self.fault = None;
        if self.restore.as_ref().is_some_and(|r| r.rescue.is_some()) {
            self.enter(Step::ApplyRescue, at);
        } else {
            self.filled(at);
        }
    }

    fn files_included(&mut self, at: At, included: &Included) {
        self.included = Some(included.clone());
        if self.worktree.as_ref().is_some_and(|w| w.has_setup) {
            self.enter(Step::RunSetup, at);
        } else {
            self.owed = None;
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

    fn cancelled(&mut self, at: At) {
        if self.phase == Phase::Retiring {
            let failed = self.teardown.take().is_some_and(|t| t.of_failed);
            self.owed = None;
            self.failed_teardowns = 0;
            self.set_phase(if failed { Phase::Failed } else { Phase::Ready }, at);
        } else {
            let hint = "run the same `new` again when you want it after all";
            self.fault = Some(Fault::new(Code::Cancelled, "provisioning was cancelled", hint));
            self.enter(Step::RollBack, at);
        }
    }

    fn index_refreshed(&mut self) {
        self.owed = None;
        if let Some(worktree) = &mut self.worktree {
            worktree.racy = false;
        }
    }

    pub(crate) fn enter(&mut self, step: Step, at: At) {
        // Earlier than the inspection itself, so that a write in between counts as late.
        if let Some(teardown) = self.teardown.as_mut().filter(|_| step == Step::Inspect) {
            teardown.looked_at = at.time;
        }
        self.owed = Some(Owed::new(step, at));
    }

    pub(crate) fn set_phase(&mut self, phase: Phase, at: At) {
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
            self.set_phase(Phase::Failed, at);
        } else {
            self.enter(Step::RollBack, at);
        }
    }

    fn attempt_failed(&mut self, at: At, e: &AttemptFailed) {
        if let Some(owed) = &mut self.owed {
            owed.retry(at, e.attempts, e.retry_at);
        }
        // The first error explains a rollback; a failure of the rollback must not hide it.
        if self.fault.is_none() || self.owed.as_ref().is_some_and(|o| o.step != Step::RollBack) {
            self.fault = Some(e.fault.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        DestroyRequested, EnvironmentReady, Record, TeardownOptions, TeardownPostponed,
    };
    use crate::{Command, Nonce, Time};

    /// A provision must not report an environment as made whose removal is pending.
    #[test]
    fn provision_during_pending_removal_is_refused() {
        let mut state = State::default();
        let id = EnvironmentId::parse("a").expect("an id");
        let nonce = Nonce::parse(&"0".repeat(32)).expect("a nonce");
        let wanted = || {
            Command::Provision(Provision {
                environment: id.clone(),
                plan: Plan::default(),
                actor: Actor::default(),
                request: None,
                nonce: nonce.clone(),
                attributes: None,
            })
        };
        let put = |state: &mut State, event: Event| {
            let seq = state.seq().next();
            state.apply(&Record { seq, at: Time(1), boot: 1, event });
        };
        for event in state.decide(Time(1), wanted()).expect("decided") {
            put(&mut state, event);
        }
        put(&mut state, EnvironmentReady { environment: id.clone() }.into());
        assert_eq!(state.decide(Time(1), wanted()).expect("already provisioned"), Vec::new());
        let (environment, actor) = (id.clone(), Actor::default());
        let (force, request, options) = (false, None, TeardownOptions::default());
        put(&mut state, DestroyRequested { environment, force, actor, request, options }.into());
        let fault = Fault::new(Code::Io, "made up", "none");
        let (environment, step) = (id.clone(), "inspect".to_owned());
        let (failures, retry_at) = (1, Time(9));
        let postponed = TeardownPostponed { environment, step, fault, failures, retry_at };
        put(&mut state, postponed.into());
        assert_eq!(state.environment(&id).map(|e| e.phase), Some(Phase::Retiring));
        let fault = state.decide(Time(1), wanted()).expect_err("the removal is pending");
        assert_eq!(fault.code, Code::EnvironmentBusy);
    }
}
