//! `State::decide`: the events that a command leads to. It may refuse; it never acts.
//!
//! The events of one decision are committed together or not at all. A settlement whose effect is no
//! longer owed is absorbed: it leads to no event.

use crate::command::{Command, Ground, Restore};
use crate::decision::{Decision, destroyed, limit, not_found, not_ready};
use crate::effect::{Note, Outcome};
use crate::event::{
    Actor, CancelRequested, DaemonStarted, DaemonStopped, DestroyRequested, EnvironmentAdopted,
    Event, LeaseExpired, LeaseGranted, LeaseReleased, Plan, ProcessExited, ProcessStarted,
    ProvisionRequested, RepositoryDistrusted, RepositoryTrusted, RestoreRequested, Retention,
    RetentionChanged, SetupStarted, SweepFinished, SweepRequested, TeardownHookStarted,
    WatcherGaveUp, WatcherResumed,
};
use crate::fault::{Code, Fault};
use crate::id::{EffectId, EnvironmentId, LeaseId, RequestId, Subject, Time};
use crate::model::environment::{Environment, Owed, Phase};
use crate::model::step::Step;
use crate::policy;
use crate::state::State;

impl State {
    /// Decides a command at time `now`.
    ///
    /// # Errors
    /// A [`Fault`] when a rule forbids the command; nothing has changed then.
    pub fn decide(&self, now: Time, command: Command) -> Decision {
        match command {
            Command::Start { pid, version, retention, ground } => {
                Ok(self.decide_start(now, DaemonStarted { pid, version }, retention, ground))
            }
            Command::Stop { reason } => Ok(vec![DaemonStopped { reason }.into()]),
            Command::Provision { environment, plan, actor, request, nonce, attributes } => self
                .decide_provision(ProvisionRequested {
                    incarnation: self.next_incarnation(&environment),
                    environment,
                    plan,
                    actor,
                    request,
                    nonce: Some(nonce),
                    attributes,
                }),
            Command::Cancel { environment, actor } => self.decide_cancel(environment, actor),
            Command::Destroy { environment, incarnation, force, options, actor, request } => {
                let wanted = DestroyRequested { environment, force, actor, request, options };
                self.decide_destroy(now, incarnation, wanted)
            }
            Command::Restore(wanted) => self.decide_restore(wanted),
            Command::Adopt { environment, plan, head, worktree, actor, nonce } => {
                let (incarnation, nonce) = (self.next_incarnation(&environment), Some(nonce));
                self.decide_adopt(EnvironmentAdopted {
                    environment,
                    incarnation,
                    plan,
                    head,
                    worktree,
                    actor,
                    nonce,
                })
            }
            Command::Launch { environment, pid, started, name, actor } => {
                self.decide_launch(ProcessStarted { environment, pid, started, name, actor })
            }
            Command::Exited { environment, pid } => {
                let env = self.environment(&environment);
                let known = env.is_some_and(|e| e.processes.contains_key(&pid));
                Ok(known.then(|| ProcessExited { environment, pid }.into()).into_iter().collect())
            }
            Command::WatchGaveUp { environment, incarnation, attempts, reason } => {
                let gave_up = WatcherGaveUp { environment, incarnation, attempts, reason };
                Ok(self.decide_watch_gave_up(gave_up))
            }
            Command::WatchAgain { environment } => Ok(self.decide_watch_again(environment)),
            Command::Clean { environment, now, actor } => {
                self.decide_clean(environment, now, actor)
            }
            Command::UndoClean { environment, actor } => self.decide_undo_clean(environment, actor),
            Command::EmptyTrash { environment, lose, actor } => {
                self.decide_empty_trash(environment.as_ref(), lose, &actor)
            }
            Command::DiskLow => Ok(self.decide_disk_low()),
            Command::DropRescue { environment, incarnation, actor } => {
                self.decide_drop_rescue(&environment, incarnation, actor)
            }
            Command::Sweep { apply, limit, actor } => {
                // One sweep at a time; a second request joins the one in progress.
                let busy = self.sweep().is_some();
                let sweep = (!busy).then(|| SweepRequested { apply, limit, actor }.into());
                Ok(sweep.into_iter().collect())
            }
            Command::Note { effect, note } => Ok(self.decide_note(&effect, note)),
            Command::Settle { effect, outcome } => Ok(self.decide_settle(now, &effect, outcome)),
            Command::Tick => Ok(self.decide_tick(now)),
            other => self.decide_claim(now, other),
        }
    }

    /// Decides claims on environments, and facts about repositories.
    fn decide_claim(&self, now: Time, command: Command) -> Decision {
        match command {
            Command::Lease { environment, lease, until, purpose, actor, request } => {
                let grant = LeaseGranted { environment, lease, until, purpose, actor, request };
                self.decide_lease(now, grant)
            }
            Command::Release { lease } => Ok(self.decide_release(lease)),
            Command::MoveRepository { from, to } => Ok(self.decide_move_repository(from, to)),
            Command::Trust { repository, hash, actor } => {
                self.decide_trust(RepositoryTrusted { repository, hash, actor })
            }
            Command::Distrust { repository, actor } => {
                if !self.trust.contains_key(&repository) {
                    return Ok(Vec::new());
                }
                Ok(vec![RepositoryDistrusted { repository, actor }.into()])
            }
            other => self.decide_from_afar(now, other),
        }
    }

    fn decide_trust(&self, trusted: RepositoryTrusted) -> Decision {
        let known = self.trust.contains_key(&trusted.repository);
        if !known && self.trust.len() >= policy::TRUSTED_REPOSITORIES_MAX {
            return Err(limit("trusted repositories", policy::TRUSTED_REPOSITORIES_MAX));
        }
        if self.trusted(&trusted.repository).contains(&trusted.hash) {
            return Ok(Vec::new());
        }
        Ok(vec![trusted.into()])
    }

    /// Emits at most one event, and only for the current incarnation.
    fn decide_watch_gave_up(&self, event: WatcherGaveUp) -> Vec<Event> {
        let env = self.environment(&event.environment).filter(|e| e.is_served());
        let env = env.filter(|e| e.incarnation == event.incarnation && e.unwatched.is_none());
        env.map(|_| event.into()).into_iter().collect()
    }

    fn decide_watch_again(&self, environment: EnvironmentId) -> Vec<Event> {
        let env = self.environment(&environment).filter(|e| e.is_served());
        let incarnation = env.filter(|e| e.unwatched.is_some()).map(|e| e.incarnation);
        let event = incarnation.map(|incarnation| WatcherResumed { environment, incarnation });
        event.map(Event::from).into_iter().collect()
    }

    fn decide_settle(
        &self,
        now: Time,
        effect: &EffectId,
        outcome: Result<Outcome, Fault>,
    ) -> Vec<Event> {
        // Fencing: the result of an effect that was superseded must not count for its successor.
        if self.owed_to(&effect.subject).as_ref() != Some(effect) {
            return Vec::new();
        }
        match &effect.subject {
            Subject::Environment(_) => {
                let Some((env, step)) = self.owing(effect) else { return Vec::new() };
                crate::transition::settle::decide(
                    now,
                    env,
                    step,
                    outcome,
                    &self.claims(&env.id, now),
                )
            }
            Subject::Remains(id, incarnation) => {
                let Some(remains) = self.remains_of(id, *incarnation) else { return Vec::new() };
                let step = remains.owed.as_ref().map(|o| o.step);
                step.map(|step| remains.settle(now, step, outcome)).unwrap_or_default()
            }
            Subject::Output(id, clean) => {
                let Some(output) = self.output(id, *clean) else { return Vec::new() };
                let step = output.owed.as_ref().map(|o| o.step);
                step.map(|step| output.settle(now, step, outcome)).unwrap_or_default()
            }
            Subject::Migration(id) => {
                let Some(migration) = self.migration(id) else { return Vec::new() };
                let step = migration.owed.as_ref().map(|o| o.step);
                step.map(|step| migration.settle(now, step, outcome)).unwrap_or_default()
            }
            Subject::Host => vec![match outcome {
                Ok(Outcome::Swept(finished)) => finished.into(),
                Ok(other) => held(format!("the sweep returned an unexpected outcome: {other:?}")),
                Err(fault) => held(fault.to_string()),
            }],
        }
    }

    /// Decides the start of a daemon. Gives up each step that too many daemons died in, so that it
    /// cannot kill daemons for ever.
    fn decide_start(
        &self,
        now: Time,
        started: DaemonStarted,
        retention: Retention,
        ground: Ground,
    ) -> Vec<Event> {
        let is_copy = ground.copy_of.is_some();
        let mut events = vec![started.into()];
        events.extend(self.decide_ground(ground));
        if is_copy {
            // A copy owes nothing: every operation in progress belongs to the original.
            return events;
        }
        let fatal = |owed: &Owed| {
            let message =
                format!("the daemon ended {} times during this step", owed.interruptions + 1);
            let too_often = !self.orderly && owed.interruptions + 1 >= policy::INTERRUPTIONS_MAX;
            too_often.then(|| Fault::new(Code::Defect, message, "read the log of the daemon"))
        };
        for env in self.environments() {
            if let Some((owed, fault)) = env.owed.as_ref().and_then(|o| Some((o, fatal(o)?))) {
                events.extend(crate::transition::settle::give_up(now, env, owed.step, fault));
            }
        }
        for remains in self.remains() {
            if let Some((owed, fault)) = remains.owed.as_ref().and_then(|o| Some((o, fatal(o)?))) {
                events.extend(remains.give_up(owed.step, fault));
            }
        }
        for output in self.outputs() {
            if let Some(fault) = output.owed.as_ref().and_then(fatal) {
                events.extend(output.give_up(fault));
            }
        }
        for migration in self.migrations() {
            if let Some((owed, fault)) = migration.owed.as_ref().and_then(|o| Some((o, fatal(o)?)))
            {
                events.extend(migration.give_up(owed.step, fault));
            }
        }
        if let Some(fault) = self.sweep().and_then(|s| fatal(&s.owed)) {
            events.push(held(fault.to_string()));
        }
        // A run is a child of the daemon that started it, so its result can no longer arrive.
        let cut_short = self.runs.iter().filter(|(_, run)| run.ended.is_none());
        events.extend(cut_short.flat_map(|(request, _)| {
            self.decide_end_run(request.clone(), None, "interrupted".to_owned())
        }));
        if *self.retention() != retention {
            events.push(RetentionChanged { retention }.into());
        }
        events
    }

    fn decide_provision(&self, begun: ProvisionRequested) -> Decision {
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

    fn next_incarnation(&self, id: &EnvironmentId) -> u32 {
        self.environment(id).map_or(0, |e| e.incarnation).saturating_add(1)
    }

    fn branch_is_free(&self, plan: &Plan) -> Result<(), Fault> {
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

    fn decide_restore(&self, wanted: Restore) -> Decision {
        let Restore { environment, incarnation, branch, reuse_branch, .. } = wanted;
        let Restore { actor, request, nonce, .. } = wanted;
        if self.remembers(request.as_ref(), "restore", Some(&environment))? {
            return Ok(Vec::new());
        }
        if let Some(env) = self.environment(&environment).filter(|e| e.is_live()) {
            let message = format!("environment {environment} exists and is {}", env.phase.as_str());
            let hint = format!("run `groundskeeper rm {environment}` first, then restore again");
            return Err(Fault::new(Code::EnvironmentExists, message, hint));
        }
        let remains = self.restorable(&environment, incarnation)?;
        let incarnation = self.next_incarnation(&environment);
        let mut plan = remains.plan.clone();
        // The commit to restore is in the repository, so there is nothing to fetch.
        plan.fetch = false;
        let from = remains.restore_from();
        // Without its directory the worktree is made anew, at the commit of its HEAD.
        if from.trash.is_none() {
            plan.base = Some(from.head.clone());
            plan.reuse_branch = reuse_branch;
            plan.branch = branch.unwrap_or(plan.branch);
        }
        self.branch_is_free(&plan)?;
        let nonce = Some(nonce);
        let begun =
            RestoreRequested { environment, incarnation, from, plan, actor, request, nonce };
        Ok(vec![begun.into()])
    }

    fn decide_adopt(&self, adopted: EnvironmentAdopted) -> Decision {
        let (environment, plan) = (&adopted.environment, &adopted.plan);
        if let Some(other) = self.environments().find(|e| e.is_live() && e.plan.path == plan.path) {
            if other.adopted && other.id == *environment {
                return Ok(Vec::new());
            }
            let message = format!("{} is already environment {}", plan.path, other.id);
            let hint = format!("use it as environment {}", other.id);
            return Err(Fault::new(Code::EnvironmentExists, message, hint));
        }
        if self.environment(environment).is_some_and(Environment::is_live) {
            let message = format!("environment {environment} already exists at another path");
            return Err(Fault::new(Code::EnvironmentExists, message, "choose another --id"));
        }
        if self.environments().filter(|e| e.is_live()).count() >= policy::ENVIRONMENTS_MAX {
            return Err(limit("environments", policy::ENVIRONMENTS_MAX));
        }
        Ok(vec![adopted.into()])
    }

    fn decide_launch(&self, launch: ProcessStarted) -> Decision {
        let env = self.served(&launch.environment)?;
        if env.processes.len() >= policy::PROCESSES_MAX {
            return Err(limit("commands in one environment", policy::PROCESSES_MAX));
        }
        Ok(vec![launch.into()])
    }

    /// Returns the environment if it is ready or retiring.
    pub(crate) fn served(&self, id: &EnvironmentId) -> Result<&Environment, Fault> {
        let env = self.environment(id).ok_or_else(|| not_found(id))?;
        match env.phase {
            Phase::Tombstoned => Err(destroyed(id)),
            Phase::Ready | Phase::Retiring => Ok(env),
            _ => Err(not_ready(env)),
        }
    }

    fn decide_cancel(&self, environment: EnvironmentId, actor: Actor) -> Decision {
        let env = self.environment(&environment).ok_or_else(|| not_found(&environment))?;
        let step = env.owed.as_ref().map(|o| o.step);
        let making = env.phase == Phase::Provisioning && step != Some(Step::RollBack);
        if making || env.phase == Phase::Retiring {
            return Ok(vec![CancelRequested { environment, actor }.into()]);
        }
        Ok(Vec::new())
    }

    fn claims(&self, id: &EnvironmentId, now: Time) -> Vec<String> {
        let leases = self.leases_of(id, now);
        leases.map(|(id, lease)| format!("lease {id}: {}", lease.purpose)).collect()
    }

    fn decide_destroy(&self, now: Time, life: Option<u32>, wanted: DestroyRequested) -> Decision {
        let environment = &wanted.environment;
        // A request that names an earlier incarnation must never reach its successor.
        let other = |env: &Environment| life.is_some_and(|life| life != env.incarnation);
        if self.environment(environment).is_some_and(other) {
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

    fn decide_lease(&self, now: Time, grant: LeaseGranted) -> Decision {
        if self.remembers(grant.request.as_ref(), "lease", Some(&grant.environment))? {
            return Ok(Vec::new());
        }
        let id = &grant.environment;
        self.served(id)?;
        if grant.until.since(now) > policy::LEASE_SPAN_MAX || grant.until <= now {
            let days = policy::LEASE_SPAN_MAX.as_secs() / 86_400;
            let message = format!("a lease must end in the future and last at most {days} days");
            let hint = format!("choose a duration of 1 second to {days} days");
            return Err(Fault::new(Code::InvalidRequest, message, hint));
        }
        match self.lease(&grant.lease) {
            Some(held) if held.environment != *id => {
                let message =
                    format!("lease {} belongs to environment {}", grant.lease, held.environment);
                return Err(Fault::new(Code::InvalidRequest, message, "use another lease id"));
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

    fn decide_note(&self, effect: &EffectId, note: Note) -> Vec<Event> {
        let Some((env, step)) = self.owing(effect) else { return Vec::new() };
        let Note::HookSpawned { pid, started, hash } = note;
        let environment = env.id.clone();
        match step {
            Step::RunSetup => vec![SetupStarted { environment, pid, started, hash }.into()],
            Step::RunTeardown => {
                vec![TeardownHookStarted { environment, pid, started, hash }.into()]
            }
            _ => Vec::new(),
        }
    }

    fn decide_tick(&self, now: Time) -> Vec<Event> {
        let ended = self.leases().filter(|(_, lease)| lease.until <= now);
        let ended = ended.map(|(id, lease)| {
            let environment = lease.environment.clone();
            LeaseExpired { environment, lease: id.clone() }.into()
        });
        ended.chain(self.purges_due(now)).collect()
    }

    /// Returns whether this very request was decided before. A key that was used for another verb,
    /// or another environment than `environment`, is refused; `None` accepts any environment.
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
            format!(
                "this idempotency key was already used to {} {}",
                known.verb, known.environment
            ),
            "use a new Idempotency-Key for a new request",
        ))
    }

    fn owing(&self, effect: &EffectId) -> Option<(&Environment, Step)> {
        let Subject::Environment(id) = &effect.subject else { return None };
        let env = self.environment(id)?;
        let owed = env.owed.as_ref().filter(|o| o.entered == effect.entered)?;
        Some((env, owed.step))
    }
}

impl Environment {
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
}

/// Returns the event of a sweep that ended without a result.
fn held(why: String) -> Event {
    SweepFinished { held: why, ..SweepFinished::default() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Nonce;
    use crate::event::{
        DestroyRequested, EnvironmentReady, Record, TeardownOptions, TeardownPostponed,
    };

    /// A provision must not report an environment as made whose removal is pending.
    #[test]
    fn provision_during_pending_removal_is_refused() {
        let mut state = State::default();
        let id = EnvironmentId::parse("a").expect("an id");
        let nonce = Nonce::parse(&"0".repeat(32)).expect("a nonce");
        let wanted = || Command::Provision {
            environment: id.clone(),
            plan: Plan::default(),
            actor: Actor::default(),
            request: None,
            nonce: nonce.clone(),
            attributes: None,
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
        let put_off = TeardownPostponed { environment, step, fault, failures, retry_at };
        put(&mut state, put_off.into());
        assert_eq!(state.environment(&id).map(|e| e.phase), Some(Phase::Retiring));
        let fault = state.decide(Time(1), wanted()).expect_err("the removal is pending");
        assert_eq!(fault.code, Code::EnvironmentBusy);
    }
}
