//! `State::decide`: what a command leads to. It may refuse; it never acts.
//!
//! The events of one decision are committed together or not at all. A settlement whose effect is
//! no longer owed is absorbed: it leads to no event.

use super::command::Command;
use super::effect::Note;
use super::event::{
    Actor, CancelRequested, DaemonStarted, DaemonStopped, DestroyRequested, Event, LeaseExpired,
    LeaseGranted, LeaseReleased, Plan, ProvisionRequested, RepositoryDistrusted, RepositoryTrusted,
    SetupStarted, Tombstoned,
};
use super::fault::{Code, Fault};
use super::id::{EnvironmentId, LeaseId, RequestId, Time};
use super::policy;
use super::settle;
use super::state::{Environment, Phase, State, Step};

/// The events a command leads to, or why it is refused.
pub type Decision = Result<Vec<Event>, Fault>;

impl State {
    /// Decides a command at time `now`.
    ///
    /// # Errors
    /// A [`Fault`] when a rule forbids it; nothing has changed then.
    pub fn decide(&self, now: Time, command: Command) -> Decision {
        match command {
            Command::Start { pid, version } => Ok(self.decide_start(pid, version)),
            Command::Stop { reason } => Ok(vec![DaemonStopped { reason }.into()]),
            Command::Provision { environment, plan, actor, request } => {
                self.decide_provision(environment, plan, actor, request)
            }
            Command::Cancel { environment, actor } => self.decide_cancel(environment, actor),
            Command::Destroy { environment, force, actor, request } => {
                self.decide_destroy(now, environment, force, actor, request)
            }
            Command::Lease { environment, lease, until, purpose, actor, request } => {
                let grant = LeaseGranted { environment, lease, until, purpose, actor, request };
                self.decide_lease(now, grant)
            }
            Command::Release { lease } => Ok(self.decide_release(lease)),
            Command::Trust { repository, hash, actor } => {
                let known = self.trust.contains_key(&repository);
                if !known && self.trust.len() >= policy::TRUSTED_REPOSITORIES_MAX {
                    return Err(limit("trusted repositories", policy::TRUSTED_REPOSITORIES_MAX));
                }
                if self.trusted(&repository).contains(&hash) {
                    return Ok(Vec::new());
                }
                Ok(vec![RepositoryTrusted { repository, hash, actor }.into()])
            }
            Command::Distrust { repository, actor } => {
                if !self.trust.contains_key(&repository) {
                    return Ok(Vec::new());
                }
                Ok(vec![RepositoryDistrusted { repository, actor }.into()])
            }
            Command::Note { effect, note } => Ok(self.decide_note(&effect, note)),
            Command::Settle { effect, outcome } => match self.owing(&effect) {
                Some((env, step)) => Ok(settle::decide(now, env, step, outcome)),
                None => Ok(Vec::new()),
            },
            Command::Tick => Ok(self.decide_tick(now)),
        }
    }

    /// A step that daemons keep dying in is given up, so that it cannot go on for ever.
    fn decide_start(&self, pid: u32, version: String) -> Vec<Event> {
        let mut events = vec![DaemonStarted { pid, version }.into()];
        for env in self.environments() {
            let Some(owed) = &env.owed else { continue };
            if !self.orderly && owed.interruptions + 1 >= policy::INTERRUPTIONS_MAX {
                let message = format!("the daemon ended {} times at this", owed.interruptions + 1);
                let fault = Fault::new(Code::Defect, message, "look into the daemon's log");
                events.extend(settle::give_up(env, owed.step, fault));
            }
        }
        events
    }

    fn decide_provision(
        &self,
        environment: EnvironmentId,
        plan: Plan,
        actor: Actor,
        request: Option<RequestId>,
    ) -> Decision {
        if self.remembers(request.as_ref(), "provision", None)? {
            return Ok(Vec::new());
        }
        let mut incarnation = 1;
        if let Some(env) = self.environment(&environment) {
            if env.is_live() {
                return env.joins(&plan);
            }
            incarnation = env.incarnation.saturating_add(1);
        }
        if self.environments().filter(|e| e.is_live()).count() >= policy::ENVIRONMENTS_MAX {
            return Err(limit("environments", policy::ENVIRONMENTS_MAX));
        }
        if let Some(other) = self.environments().find(|e| {
            e.is_live()
                && e.plan.repository.common_dir == plan.repository.common_dir
                && e.plan.branch == plan.branch
        }) {
            return Err(Fault::new(
                Code::BranchExists,
                format!("branch {} is used by environment {}", plan.branch, other.id),
                "choose another branch with --branch, or remove that environment first",
            ));
        }
        Ok(vec![ProvisionRequested { environment, incarnation, plan, actor, request }.into()])
    }

    fn decide_cancel(&self, environment: EnvironmentId, actor: Actor) -> Decision {
        let env = self.environment(&environment).ok_or_else(|| not_found(&environment))?;
        let step = env.owed.as_ref().map(|o| o.step);
        if env.phase != Phase::Provisioning || step == Some(Step::RollBack) {
            return Ok(Vec::new());
        }
        Ok(vec![CancelRequested { environment, actor }.into()])
    }

    fn decide_destroy(
        &self,
        now: Time,
        environment: EnvironmentId,
        force: bool,
        actor: Actor,
        request: Option<RequestId>,
    ) -> Decision {
        if self.remembers(request.as_ref(), "destroy", Some(&environment))? {
            return Ok(Vec::new());
        }
        let Some(env) = self.environment(&environment) else { return Ok(Vec::new()) };
        if env.phase == Phase::Tombstoned {
            return Ok(Vec::new());
        }
        let leases: Vec<String> = self
            .leases_of(&environment, now)
            .map(|(id, lease)| format!("lease {id}: {}", lease.purpose))
            .collect();
        if !leases.is_empty() && !force {
            let message = format!("environment {environment} is in use");
            let hint = "release the lease, wait for its end, or use --force";
            return Err(Fault::new(Code::EnvironmentBusy, message, hint).with_evidence(leases));
        }
        let upgrade = env.teardown.as_ref().is_some_and(|t| force && !t.force);
        let inspecting = env.owed.as_ref().is_some_and(|o| o.step == Step::Inspect);
        if env.phase == Phase::TearingDown && !(upgrade && inspecting) {
            return Ok(Vec::new());
        }
        if env.phase == Phase::Provisioning && env.destroy_wanted {
            return Ok(Vec::new());
        }
        let id = environment.clone();
        let mut events: Vec<Event> =
            vec![DestroyRequested { environment, force, actor, request }.into()];
        if env.phase == Phase::Failed && env.worktree.is_none() {
            let leftovers = env.leftovers.clone();
            events.push(Tombstoned { environment: id, leftovers }.into());
        }
        Ok(events)
    }

    fn decide_lease(&self, now: Time, grant: LeaseGranted) -> Decision {
        if self.remembers(grant.request.as_ref(), "lease", Some(&grant.environment))? {
            return Ok(Vec::new());
        }
        let id = &grant.environment;
        let env = self.environment(id).ok_or_else(|| not_found(id))?;
        if env.phase == Phase::Tombstoned {
            return Err(destroyed(id));
        }
        if env.phase != Phase::Ready {
            let message = format!("environment {id} is {}", env.phase.as_str());
            return Err(Fault::new(Code::EnvironmentBusy, message, "wait until it is ready"));
        }
        if grant.until.since(now) > policy::LEASE_SPAN_MAX || grant.until <= now {
            let days = policy::LEASE_SPAN_MAX.as_secs() / 86_400;
            let message = format!("a lease lasts longer than nothing and at most {days} days");
            return Err(Fault::new(Code::InvalidRequest, message, "give another duration"));
        }
        match self.lease(&grant.lease) {
            Some(held) if held.environment != *id => {
                let message = format!("lease {} is of {}", grant.lease, held.environment);
                return Err(Fault::new(Code::InvalidRequest, message, "choose another lease id"));
            }
            Some(_) => {}
            None if self.leases_of(id, now).count() >= policy::LEASES_PER_ENVIRONMENT_MAX => {
                return Err(limit("leases on one environment", policy::LEASES_PER_ENVIRONMENT_MAX));
            }
            None => {}
        }
        Ok(vec![grant.into()])
    }

    fn decide_release(&self, lease: LeaseId) -> Vec<Event> {
        match self.lease(&lease) {
            Some(held) => {
                let environment = held.environment.clone();
                vec![LeaseReleased { environment, lease }.into()]
            }
            None => Vec::new(),
        }
    }

    fn decide_note(&self, effect: &super::id::EffectId, note: Note) -> Vec<Event> {
        let Some((env, Step::RunSetup)) = self.owing(effect) else { return Vec::new() };
        let Note::SetupSpawned { pid, started, hash } = note;
        vec![SetupStarted { environment: env.id.clone(), pid, started, hash }.into()]
    }

    fn decide_tick(&self, now: Time) -> Vec<Event> {
        let ended = self.leases().filter(|(_, lease)| lease.until <= now);
        ended
            .map(|(id, lease)| {
                let environment = lease.environment.clone();
                LeaseExpired { environment, lease: id.clone() }.into()
            })
            .collect()
    }

    /// Whether this very request was decided before. The same key for another verb or
    /// environment is refused.
    fn remembers(
        &self,
        key: Option<&RequestId>,
        verb: &str,
        environment: Option<&EnvironmentId>,
    ) -> Result<bool, Fault> {
        let Some(known) = key.and_then(|k| self.request(k)) else { return Ok(false) };
        if known.verb == verb && environment.is_none_or(|e| *e == known.environment) {
            return Ok(true);
        }
        Err(Fault::new(
            Code::IdempotencyConflict,
            format!("this key was used to {} {}", known.verb, known.environment),
            "use a new Idempotency-Key for a new request",
        ))
    }

    fn owing(&self, effect: &super::id::EffectId) -> Option<(&Environment, Step)> {
        let env = self.environment(&effect.environment)?;
        let owed = env.owed.as_ref().filter(|o| o.entered == effect.entered)?;
        Some((env, owed.step))
    }
}

impl Environment {
    /// Whether a second provision may join this one: same repository, branch and kind of branch.
    fn joins(&self, plan: &Plan) -> Decision {
        let rolling_back = self.owed.as_ref().is_some_and(|o| o.step == Step::RollBack);
        if self.phase == Phase::TearingDown || rolling_back {
            return Err(Fault::new(
                Code::EnvironmentBusy,
                format!("environment {} is being removed", self.id),
                "try again when that is done",
            ));
        }
        let same = self.plan.repository.common_dir == plan.repository.common_dir
            && self.plan.branch == plan.branch
            && self.plan.base == plan.base;
        if same && self.phase != Phase::Failed {
            return Ok(Vec::new());
        }
        let what = if self.phase == Phase::Failed {
            "holds a failed worktree that was kept".to_owned()
        } else {
            format!("exists, on branch {} of {}", self.plan.branch, self.plan.repository.common_dir)
        };
        Err(Fault::new(
            Code::EnvironmentExists,
            format!("environment {} {what}", self.id),
            format!("choose another id, or run `groundskeeper rm {}` first", self.id),
        ))
    }
}

/// The answer for an id that was never used.
#[must_use]
pub fn not_found(id: &EnvironmentId) -> Fault {
    let message = format!("there is no environment {id}");
    Fault::new(Code::EnvironmentNotFound, message, "`groundskeeper ls` lists those that exist")
}

/// The answer for an incarnation that is over.
#[must_use]
pub fn destroyed(id: &EnvironmentId) -> Fault {
    let message = format!("environment {id} is destroyed");
    let hint = format!("`groundskeeper new {id}` makes a new one under this name");
    Fault::new(Code::EnvironmentDestroyed, message, hint)
}

fn limit(what: &str, max: usize) -> Fault {
    Fault::new(Code::LimitReached, format!("{max} {what} are allowed"), "remove some first")
}
