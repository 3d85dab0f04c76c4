//! Reconciliation with a live set: the ids that a control server reports as not destroyed.
//!
//! A listed environment is left alone, or brought back into service when only a failed teardown
//! that the server requested stands in the way. An unlisted, idle one is torn down like any other:
//! rescued first, then moved to the trash. One that is in use, adopted, or younger than the
//! server's knowledge is kept. Nothing is made again because it is listed. A set that would remove
//! too much at once waits for a user.

use crate::decision::Decision;
use crate::event::{
    Actor, CancelRequested, DestroyRequested, Event, KeepReason, Kept, LiveSetContinued,
    LiveSetEvent, LiveSetHeld, LiveSetTaken, TeardownOptions, TeardownReason,
};
use crate::fault::{Code, Fault};
use crate::id::{EnvironmentId, Seq, Time};
use crate::model::environment::{Environment, Phase};
use crate::model::live_set::{Live, LiveSet, Report};
use crate::model::step::At;
use crate::policy;
use crate::state::State;

impl State {
    /// Returns the last live set that was taken in, and the one that is held.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Returns what a live set would lead to now; changes nothing.
    #[must_use]
    pub fn reconcile(&self, now: Time, set: &LiveSet) -> Report {
        let before = self.live.taken.as_ref().filter(|t| t.server == set.server);
        if before.is_some_and(|before| before.epoch > set.epoch) {
            return Report { outdated: true, ..Report::default() };
        }
        let mut report = Report::default();
        for env in self.environments().filter(|e| !set.live.contains(&e.id)) {
            match self.fate(now, env, set.known, set.by_hand) {
                Fate::Over => {}
                Fate::Keep(why) => {
                    report.kept.push(Kept { environment: env.id.clone(), why });
                }
                Fate::Retire if report.retired.len() >= policy::RETIRED_AT_ONCE => {
                    let (environment, why) = (env.id.clone(), KeepReason::More);
                    report.kept.push(Kept { environment, why });
                }
                Fate::Retire => report.retired.push(env.id.clone()),
            }
        }
        for id in &set.live {
            match self.environment(id) {
                Some(env) if env.is_live() => report.healed.extend(env.heals().then(|| id.clone())),
                _ => report.missing.push(id.clone()),
            }
        }
        let all = self.environments().filter(|e| e.is_live() && !e.adopted).count();
        // What exceeds the bound of one set would follow with the next, so it counts here.
        let more = report.kept.iter().filter(|k| k.why == KeepReason::More).count();
        report.held = !set.confirmed && policy::is_too_much(report.retired.len() + more, all);
        report
    }

    fn fate(&self, now: Time, env: &Environment, known: Seq, by_hand: bool) -> Fate {
        let refused = env.refusal.as_ref().is_some_and(|f| f.code == Code::EnvironmentBusy);
        let lately = now.since(env.changed_at) < policy::RETIRE_AGAIN && !by_hand;
        match env.phase {
            Phase::Tombstoned | Phase::TearingDown => Fate::Over,
            Phase::Provisioning if env.destroy_wanted => Fate::Over,
            // It began after the server built the set, so its absence there says nothing.
            _ if env.begun > known => Fate::Keep(KeepReason::Newer),
            _ if env.adopted => Fate::Keep(KeepReason::Adopted),
            _ if self.leases_of(&env.id, now).next().is_some() => Fate::Keep(KeepReason::Leased),
            _ if !env.processes.is_empty() => Fate::Keep(KeepReason::Processes),
            // An inspection takes it out of service for a moment; not again for every set.
            Phase::Ready if refused && lately => Fate::Keep(KeepReason::Processes),
            // It is retried by itself.
            Phase::Retiring => Fate::Over,
            _ => Fate::Retire,
        }
    }

    pub(crate) fn decide_reconcile(
        &self,
        now: Time,
        set: &LiveSet,
        options: &TeardownOptions,
        actor: &Actor,
    ) -> Vec<Event> {
        let report = self.reconcile(now, set);
        if report.outdated {
            return Vec::new();
        }
        if report.held {
            return self.hold(set, report, actor);
        }
        let mut events = Vec::new();
        for environment in report.healed.iter().cloned() {
            events.push(CancelRequested { environment, actor: actor.clone() }.into());
        }
        for environment in &report.retired {
            events.extend(self.retire(environment, options, actor));
        }
        let taken = LiveSetTaken {
            server: set.server.clone(),
            epoch: set.epoch,
            retired: report.retired,
            kept: report.kept,
            missing: report.missing,
            healed: report.healed,
            actor: actor.clone(),
        };
        // A set that changes nothing is not recorded again: repeated sets must not fill the log.
        let same = |before: &LiveSetTaken| {
            LiveSetTaken { actor: taken.actor.clone(), ..before.clone() } == taken
        };
        if events.is_empty() && self.live.taken.as_ref().is_some_and(same) {
            return Vec::new();
        }
        let mut all = in_records(taken);
        all.extend(events);
        all
    }

    fn hold(&self, set: &LiveSet, report: Report, actor: &Actor) -> Vec<Event> {
        let of = self.environments().filter(|e| e.is_live() && !e.adopted).count() as u64;
        let (server, epoch) = (set.server.clone(), set.epoch);
        let (would_retire, actor) = (report.retired, actor.clone());
        let held = LiveSetHeld { server, epoch, would_retire, of, actor };
        let same = |before: &LiveSetHeld| {
            LiveSetHeld { actor: held.actor.clone(), ..before.clone() } == held
        };
        if self.live.held.as_ref().is_some_and(same) {
            return Vec::new();
        }
        vec![held.into()]
    }

    /// Retires the environments of the held live set that still qualify.
    pub(crate) fn decide_confirm(
        &self,
        now: Time,
        epoch: u64,
        options: &TeardownOptions,
        actor: &Actor,
    ) -> Decision {
        let Some(held) = self.live.held.as_ref().filter(|held| held.epoch == epoch) else {
            let message = format!("no live set of epoch {epoch} is held for confirmation");
            let hint = "confirm the epoch of the last LiveSetHeld record in `groundskeeper events`";
            return Err(Fault::new(Code::InvalidRequest, message, hint));
        };
        let gone = |id: &&EnvironmentId| {
            let env = self.environment(id);
            env.is_some_and(|env| {
                matches!(self.fate(now, env, self.live.held_at, true), Fate::Retire)
            })
        };
        let retired: Vec<EnvironmentId> = held.would_retire.iter().filter(gone).cloned().collect();
        let mut events = vec![
            LiveSetTaken {
                server: held.server.clone(),
                epoch,
                retired: retired.clone(),
                actor: actor.clone(),
                ..LiveSetTaken::default()
            }
            .into(),
        ];
        for environment in &retired {
            events.extend(self.retire(environment, options, actor));
        }
        Ok(events)
    }

    /// Folds in an event about a live set.
    pub(crate) fn apply_live_set(&mut self, at: At, event: LiveSetEvent<'_>) {
        match event {
            LiveSetEvent::LiveSetTaken(e) => {
                self.live.held = self.live.held.take().filter(|held| held.server != e.server);
                self.live.taken = Some(e.clone());
            }
            LiveSetEvent::LiveSetContinued(e) => {
                let taken = self.live.taken.as_mut();
                if let Some(taken) = taken.filter(|t| t.server == e.server && t.epoch == e.epoch) {
                    taken.kept.extend_from_slice(&e.kept);
                    taken.missing.extend_from_slice(&e.missing);
                    taken.healed.extend_from_slice(&e.healed);
                }
            }
            LiveSetEvent::LiveSetHeld(e) => {
                self.live.held = Some(e.clone());
                self.live.held_at = at.seq;
            }
        }
    }

    fn retire(
        &self,
        environment: &EnvironmentId,
        options: &TeardownOptions,
        actor: &Actor,
    ) -> Vec<Event> {
        let Some(env) = self.environment(environment) else { return Vec::new() };
        let options = TeardownOptions { reason: TeardownReason::Reconcile, ..options.clone() };
        let (environment, actor) = (environment.clone(), actor.clone());
        // Force covers work at risk only: leases and processes still keep the environment.
        let wanted = DestroyRequested { environment, force: true, actor, request: None, options };
        let mut events = vec![wanted.into()];
        events.extend(env.ends_at_once());
        events
    }
}

/// Returns the records of a live set: one, unless it is too long for that. Each names as much as
/// one may.
fn in_records(mut taken: LiveSetTaken) -> Vec<Event> {
    let mut rest = LiveSetContinued {
        server: taken.server.clone(),
        epoch: taken.epoch,
        kept: std::mem::take(&mut taken.kept),
        missing: std::mem::take(&mut taken.missing),
        healed: std::mem::take(&mut taken.healed),
    };
    // What a set retires is bounded, and far below what one record holds.
    let first = rest.split(policy::LIVE_SET_ENTRIES_MAX.saturating_sub(taken.retired.len()));
    (taken.kept, taken.missing, taken.healed) = (first.kept, first.missing, first.healed);
    let mut events = vec![taken.into()];
    while !rest.is_empty() {
        events.push(rest.split(policy::LIVE_SET_ENTRIES_MAX).into());
    }
    events
}

impl LiveSetContinued {
    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.missing.is_empty() && self.healed.is_empty()
    }

    /// Takes up to `most` entries out, in their order.
    fn split(&mut self, most: usize) -> Self {
        fn take<T>(list: &mut Vec<T>, room: &mut usize) -> Vec<T> {
            let count = list.len().min(*room);
            *room -= count;
            list.drain(..count).collect()
        }
        let mut room = most;
        Self {
            server: self.server.clone(),
            epoch: self.epoch,
            kept: take(&mut self.kept, &mut room),
            missing: take(&mut self.missing, &mut room),
            healed: take(&mut self.healed, &mut room),
        }
    }
}

/// Fate of an environment that is not listed.
enum Fate {
    /// It has ended, or its removal is in progress.
    Over,
    /// It is left alone, for this reason.
    Keep(KeepReason),
    /// It is torn down.
    Retire,
}

impl Environment {
    /// Returns whether only a failed teardown that the server requested keeps it from being ready.
    fn heals(&self) -> bool {
        let of_server = |t: &crate::model::environment::Teardown| {
            matches!(t.options.reason, TeardownReason::Reconcile | TeardownReason::Server)
        };
        self.phase == Phase::Retiring && self.teardown.as_ref().is_some_and(of_server)
    }
}
