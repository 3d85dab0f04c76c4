//! The host: starts and stops of the daemon, the limits of the trash, and sweeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::Ground;
use crate::decision::Decision;
use crate::event::{
    Actor, DaemonStarted, Event, HostEvent, LogTrimmed, Origin, Retention, RetentionChanged,
    SweepEvent, SweepRequested,
};
use crate::fault::{Code, Fault};
use crate::id::Time;
use crate::model::environment::Environment;
use crate::model::step::{At, HostStep, OutputStep, Owed};
use crate::model::sweep::Sweep;
use crate::policy;
use crate::state::State;
use crate::transition::settle;

impl State {
    /// Decides the start of a daemon. Gives up each step that too many daemons died in, so that it
    /// cannot kill daemons for ever.
    pub(crate) fn decide_start(
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
        if !self.orderly {
            events.extend(self.give_up_fatal_steps(now));
        }
        // A run is a child of the daemon that started it, so its result can no longer arrive.
        let cut_short = self.runs.iter().filter(|(_, run)| run.ended.is_none());
        events.extend(cut_short.flat_map(|(request, _)| {
            self.decide_end_run(request.clone(), None, Some("interrupted".to_owned()))
        }));
        if *self.retention() != retention {
            events.push(RetentionChanged { retention }.into());
        }
        events
    }

    /// Returns the events that give up each step that too many daemons died in.
    fn give_up_fatal_steps(&self, now: Time) -> Vec<Event> {
        let environments = self.environments().filter_map(|env| {
            let (step, fault) = fatal(env.owed.as_ref()?)?;
            Some(settle::give_up(now, env, step, fault))
        });
        let archives = self.archives().filter_map(|archive| {
            let (step, fault) = fatal(archive.owed.as_ref()?)?;
            Some(archive.give_up(step, fault))
        });
        let outputs = self.outputs().filter_map(|output| {
            let (OutputStep::Purge, fault) = fatal(output.owed.as_ref()?)?;
            Some(output.give_up(fault))
        });
        let migrations = self.migrations().filter_map(|migration| {
            let (step, fault) = fatal(migration.owed.as_ref()?)?;
            Some(migration.give_up(step, fault))
        });
        let sweep = self.sweep().and_then(|sweep| {
            let (HostStep::Sweep, fault) = fatal(&sweep.owed)?;
            Some(vec![settle::held(fault.to_string())])
        });
        environments
            .chain(archives)
            .chain(outputs)
            .chain(migrations)
            .chain(sweep)
            .flatten()
            .collect()
    }

    /// Decides a sweep: one at a time; a second request joins the one in progress.
    pub(crate) fn decide_sweep(&self, sweep: SweepRequested) -> Vec<Event> {
        let busy = self.sweep().is_some();
        (!busy).then(|| sweep.into()).into_iter().collect()
    }

    /// Decides that the records up to one are trimmed from the log: only what is past already.
    pub(crate) fn decide_trim(&self, trimmed: LogTrimmed) -> Decision {
        if trimmed.last > self.seq() {
            let message = format!("the log has no record {} to trim yet", trimmed.last);
            return Err(Fault::new(Code::Defect, message, "please report this"));
        }
        Ok(vec![trimmed.into()])
    }

    /// Returns when the next sweep of the daemon is due; none while one is in progress, and before
    /// the first one, which the start requests.
    pub(crate) fn next_sweep(&self) -> Option<Time> {
        let last = self.last_sweep().filter(|_| self.sweep().is_none());
        last.map(|(ended, _)| ended.after(policy::SWEEP_EVERY))
    }

    /// Decides what the passing of time leads to: the end of leases and of retentions, the folding
    /// of rescues, the daily sweep, and that finished lives are forgotten.
    pub(crate) fn decide_tick(&self, now: Time) -> Vec<Event> {
        let mut events = self.leases_over(now);
        events.extend(self.failures_over(now));
        events.extend(self.purges_due(now));
        events.extend(self.folds_due());
        events.extend(self.rescues_over(now));
        if self.next_sweep().is_some_and(|due| due <= now) {
            let (apply, limit) = (true, policy::SWEEP_LIMIT);
            events.push(SweepRequested { apply, limit, actor: Actor::daemon() }.into());
        }
        events.extend(self.lives_to_forget().map(Event::from));
        events
    }

    /// Folds in an event about the daemon or its data directory.
    pub(crate) fn apply_host(&mut self, at: At, event: HostEvent<'_>) {
        match event {
            HostEvent::DaemonStarted(_) => self.started(at),
            HostEvent::DaemonStopped(_) => self.orderly = true,
            HostEvent::RetentionChanged(e) => self.retention_changed(at.time, e),
            HostEvent::DataDirectoryMoved(e) => self.data_moved(&e.from, &e.to),
            HostEvent::DataDirectoryCopied(_) => self.is_a_copy(at),
            HostEvent::LogFoundOlder(e) => self.found_older = Some(e.had),
            HostEvent::LivesForgotten(e) => self.forget(e),
            // The state is that of all records, trimmed or not.
            HostEvent::LogTrimmed(_) => {}
        }
    }

    /// Folds in an event about a sweep.
    pub(crate) fn apply_sweep(&mut self, at: At, event: SweepEvent<'_>) {
        match event {
            SweepEvent::SweepRequested(e) => {
                let owed = Owed::new(HostStep::Sweep, at);
                self.retry_now(at);
                // The daemon's own sweep is unattended: no user reads what it would only name.
                let seen_only = e.actor.origin == Origin::Daemon;
                self.sweep = Some(Sweep { owed, apply: e.apply, limit: e.limit, seen_only });
            }
            SweepEvent::SweepFinished(e) => {
                self.sweep = None;
                self.last_sweep = Some((at.time, e.clone()));
            }
        }
    }

    fn started(&mut self, at: At) {
        self.disturb();
        self.retry_now(at);
        // An orderly stop ends no step by a crash, so it does not count against the steps owed.
        if !std::mem::take(&mut self.orderly) {
            self.count_interruptions(at);
        }
    }

    /// Marks all consents as unverified: a tree may have changed since it was inspected.
    fn disturb(&mut self) {
        let is_sure = |env: &Environment| env.teardown.as_ref().is_some_and(|t| !t.disturbed);
        for env in self.environments.values_mut().filter(|env| is_sure(env)) {
            if let Some(teardown) = &mut Arc::make_mut(env).teardown {
                teardown.disturbed = true;
            }
        }
    }

    fn count_interruptions(&mut self, at: At) {
        for env in self.environments.values_mut().filter(|env| env.owed.is_some()) {
            Arc::make_mut(env).owed.iter_mut().for_each(|owed| interrupted(owed, at));
        }
        let archives = self.archives.values_mut().flat_map(BTreeMap::values_mut);
        for archive in archives.filter(|archive| archive.owed.is_some()) {
            Arc::make_mut(archive).owed.iter_mut().for_each(|owed| interrupted(owed, at));
        }
        let outputs = self.outputs.values_mut().flat_map(BTreeMap::values_mut);
        for output in outputs.filter(|output| output.owed.is_some()) {
            Arc::make_mut(output).owed.iter_mut().for_each(|owed| interrupted(owed, at));
        }
        let migrations = self.migrations.values_mut().filter_map(|m| m.owed.as_mut());
        migrations.for_each(|owed| interrupted(owed, at));
        self.sweep.iter_mut().for_each(|sweep| interrupted(&mut sweep.owed, at));
    }
}

/// Returns a step that this start would be one death too many for, and why it is given up.
fn fatal<S: Copy>(owed: &Owed<S>) -> Option<(S, Fault)> {
    let deaths = owed.interruptions + 1;
    if deaths < policy::INTERRUPTIONS_MAX {
        return None;
    }
    let message = format!("the daemon ended {deaths} times during this step");
    Some((owed.step, Fault::new(Code::Defect, message, "read the log of the daemon")))
}

/// Counts the death of a daemon against a step that it may have been running.
fn interrupted<S>(owed: &mut Owed<S>, at: At) {
    // A step that still waits was not running, so it cannot have killed the daemon.
    if owed.not_before > at.time {
        return;
    }
    owed.interruptions = owed.interruptions.saturating_add(1);
    if owed.interruptions > policy::INTERRUPTIONS_FREE {
        let extra = owed.interruptions - policy::INTERRUPTIONS_FREE;
        owed.not_before = at.time.after(policy::retry_delay(extra));
    }
}
