//! Environments in service: commands that run in them, and watches.

use std::sync::Arc;

use crate::decision::{Decision, destroyed, limit, not_found, not_ready};
use crate::event::{
    Event, Origin, ProcessEvent, ProcessExited, ProcessStarted, WatchEvent, WatcherGaveUp,
    WatcherResumed,
};
use crate::fault::Fault;
use crate::former::Former;
use crate::id::EnvironmentId;
use crate::model::environment::{Environment, Phase, Process};
use crate::model::step::At;
use crate::policy;
use crate::state::State;

impl State {
    /// Returns the environment if it is ready or retiring.
    pub(crate) fn served(
        &self,
        former: &Former,
        id: &EnvironmentId,
    ) -> Result<&Environment, Fault> {
        let is_over = || former.life(id).is_some();
        let env = self.environment(id);
        let env = env.ok_or_else(|| if is_over() { destroyed(id) } else { not_found(id) })?;
        match env.phase {
            Phase::Tombstoned => Err(destroyed(id)),
            Phase::Ready | Phase::Retiring => Ok(env),
            _ => Err(not_ready(env)),
        }
    }

    pub(crate) fn decide_launch(&self, former: &Former, launch: ProcessStarted) -> Decision {
        let env = self.served(former, &launch.environment)?;
        if env.processes.len() >= policy::PROCESSES_MAX {
            return Err(limit("commands in one environment", policy::PROCESSES_MAX));
        }
        Ok(vec![launch.into()])
    }

    /// Decides that a command has ended; an unknown one changes nothing.
    pub(crate) fn decide_exited(&self, environment: EnvironmentId, pid: u32) -> Vec<Event> {
        let env = self.environment(&environment);
        let known = env.is_some_and(|e| e.processes.contains_key(&pid));
        known.then(|| ProcessExited { environment, pid }.into()).into_iter().collect()
    }

    /// Emits at most one event, and only for the current incarnation.
    pub(crate) fn decide_watch_gave_up(&self, event: WatcherGaveUp) -> Vec<Event> {
        let env = self.environment(&event.environment).filter(|e| e.is_served());
        let env = env.filter(|e| e.incarnation == event.incarnation && e.unwatched.is_none());
        env.map(|_| event.into()).into_iter().collect()
    }

    pub(crate) fn decide_watch_again(&self, environment: EnvironmentId) -> Vec<Event> {
        let env = self.environment(&environment).filter(|e| e.is_served());
        let incarnation = env.filter(|e| e.unwatched.is_some()).map(|e| e.incarnation);
        let event = incarnation.map(|incarnation| WatcherResumed { environment, incarnation });
        event.map(Event::from).into_iter().collect()
    }

    pub(crate) fn with(
        &mut self,
        at: At,
        id: &EnvironmentId,
        change: impl FnOnce(&mut Environment),
    ) {
        if let Some(env) = self.environments.get_mut(id).map(Arc::make_mut) {
            env.seq = at.seq;
            change(env);
        }
    }

    /// Folds in an event about a command in an environment.
    pub(crate) fn apply_process(&mut self, at: At, event: ProcessEvent<'_>) {
        match event {
            ProcessEvent::ProcessStarted(e) => self.with(at, &e.environment, |env| {
                let of_daemon = e.actor.origin == Origin::Daemon;
                let process = Process { started: e.started, name: e.name.clone(), of_daemon };
                env.processes.insert(e.pid, process);
            }),
            ProcessEvent::ProcessExited(e) => self.with(at, &e.environment, |env| {
                env.processes.remove(&e.pid);
            }),
        }
    }

    /// Folds in an event about the watch of an environment.
    pub(crate) fn apply_watch(&mut self, at: At, event: WatchEvent<'_>) {
        match event {
            WatchEvent::WatcherGaveUp(e) => self.with(at, &e.environment, |env| {
                env.unwatched = Some(e.reason.clone());
            }),
            WatchEvent::WatcherResumed(e) => {
                self.with(at, &e.environment, |env| env.unwatched = None);
            }
        }
    }
}
