//! Reconciliation with a live set: the ids that a control server reports as not destroyed.
//!
//! A listed environment is left alone, or brought back into service when only a failed teardown
//! that the server requested stands in the way. An unlisted, idle one is torn down like any other:
//! rescued first, then moved to the trash. One that is in use, adopted, or younger than the
//! server's knowledge is kept. Nothing is made again because it is listed. A set that would remove
//! too much at once waits for a user.

use crate::decision::Decision;
use crate::event::{
    Actor, CancelRequested, DestroyRequested, Event, Kept, LiveSetEvent, LiveSetHeld, LiveSetTaken,
    TeardownOptions, TeardownReason,
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
                    let (environment, why) = (env.id.clone(), why.to_owned());
                    report.kept.push(Kept { environment, why });
                }
                Fate::Retire if report.retired.len() >= policy::RETIRED_AT_ONCE => {
                    let (environment, why) = (env.id.clone(), "more".to_owned());
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
        let more = report.kept.iter().filter(|k| k.why == "more").count();
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
            _ if env.begun > known => Fate::Keep("newer"),
            _ if env.adopted => Fate::Keep("adopted"),
            _ if self.leases_of(&env.id, now).next().is_some() => Fate::Keep("leased"),
            _ if !env.processes.is_empty() => Fate::Keep("processes"),
            // An inspection takes it out of service for a moment; not again for every set.
            Phase::Ready if refused && lately => Fate::Keep("processes"),
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
        events.insert(0, taken.into());
        events
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

/// Fate of an environment that is not listed.
enum Fate {
    /// It has ended, or its removal is in progress.
    Over,
    /// It is left alone, for this reason.
    Keep(&'static str),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        EnvironmentAdopted, EnvironmentReady, LeaseGranted, Plan, ProcessStarted,
        ProvisionRequested, Record, TeardownInspected, TeardownPostponed, Worktree, WorktreeAdded,
    };
    use crate::{Command, Ended, EnvironmentOutcome, Inspection, LeaseId, Settlement};

    const NOW: Time = Time(1_000_000_000);

    fn id(text: &str) -> EnvironmentId {
        EnvironmentId::parse(text).expect("an id")
    }

    fn put(state: &mut State, event: impl Into<Event>) {
        let seq = state.seq().next();
        state.apply(&Record { seq, at: NOW, boot: 1, event: event.into() });
    }

    fn ready(state: &mut State, name: &str) {
        let (plan, actor) = (Plan { branch: name.to_owned(), ..Plan::default() }, Actor::default());
        let environment = id(name);
        let (incarnation, request, nonce, attributes) = (1, None, None, None);
        put(
            state,
            ProvisionRequested {
                environment,
                incarnation,
                plan,
                actor,
                request,
                nonce,
                attributes,
            },
        );
        put(state, WorktreeAdded { environment: id(name), worktree: Worktree::default() });
        put(state, EnvironmentReady { environment: id(name) });
    }

    fn set(state: &State, live: &[&str], epoch: u64) -> LiveSet {
        let live = live.iter().map(|name| id(name)).collect();
        LiveSet {
            server: "s".into(),
            epoch,
            live,
            known: state.seq(),
            confirmed: false,
            by_hand: false,
        }
    }

    fn carry_out(state: &mut State, set: LiveSet) -> Vec<Event> {
        let (options, actor) = (TeardownOptions::default(), Actor::default());
        let events = state.decide(NOW, Command::Reconcile { set, options, actor });
        let events = events.expect("it is never refused");
        for event in events.clone() {
            put(state, event);
        }
        state.check().expect("consistent");
        events
    }

    fn why(report: &Report, name: &str) -> String {
        report.kept.iter().find(|k| k.environment == id(name)).expect("kept").why.clone()
    }

    /// Each environment that is kept is reported with its reason.
    #[test]
    fn reconcile_keeps_used_and_foreign() {
        let mut state = State::default();
        for name in ["idle", "leased", "busy", "listed"] {
            ready(&mut state, name);
        }
        let (actor, lease) = (Actor::default(), LeaseId::parse("l").expect("an id"));
        let until = NOW.after(std::time::Duration::from_secs(60));
        let (environment, purpose) = (id("leased"), "a thread".to_owned());
        let claim = Command::Lease(LeaseGranted {
            environment,
            lease,
            until,
            purpose,
            actor: actor.clone(),
            request: None,
        });
        for event in state.decide(NOW, claim).expect("granted") {
            put(&mut state, event);
        }
        let (environment, name) = (id("busy"), "make".to_owned());
        put(
            &mut state,
            ProcessStarted { environment, pid: 5, started: 1, name, actor: actor.clone() },
        );
        let (head, worktree) = ("h".to_owned(), Worktree::default());
        let plan = Plan { path: "/elsewhere".into(), ..Plan::default() };
        let (environment, incarnation) = (id("adopted"), 1);
        put(
            &mut state,
            EnvironmentAdopted {
                environment,
                incarnation,
                plan,
                head,
                worktree,
                actor,
                nonce: None,
            },
        );
        let mut taken = set(&state, &["listed", "never"], 1);
        ready(&mut state, "newer");

        let report = state.reconcile(NOW, &taken);
        assert_eq!(report.retired, [id("idle")]);
        assert_eq!(report.missing, [id("never")]);
        for (name, reason) in [
            ("leased", "leased"),
            ("busy", "processes"),
            ("adopted", "adopted"),
            ("newer", "newer"),
        ] {
            assert_eq!(why(&report, name), reason);
        }
        let events = carry_out(&mut state, taken.clone());
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(
            carry_out(&mut state, taken.clone()).len(),
            1,
            "an unlisted environment is retired"
        );
        assert_eq!(carry_out(&mut state, taken.clone()), [], "reported once");
        taken.epoch = 0;
        assert!(state.reconcile(NOW, &taken).outdated);
        assert_eq!(carry_out(&mut state, taken.clone()), [], "an older epoch changes nothing");
        taken.server = "another".into();
        assert!(!state.reconcile(NOW, &taken).outdated, "another server has its own epochs");
    }

    #[test]
    fn reconcile_large_removal_awaits_confirmation() {
        let mut state = State::default();
        for n in 0..40 {
            ready(&mut state, &format!("env{n}"));
        }
        let empty = set(&state, &[], 1);
        let held = carry_out(&mut state, empty.clone());
        assert!(matches!(held.as_slice(), [Event::LiveSetHeld(h)] if h.would_retire.len() == 40));
        assert_eq!(carry_out(&mut state, empty.clone()), [], "reported once");
        let (options, actor) = (TeardownOptions::default(), Actor::default());
        let confirm = |epoch| Command::ConfirmLiveSet {
            epoch,
            options: options.clone(),
            actor: actor.clone(),
        };
        assert!(state.decide(NOW, confirm(9)).is_err(), "another epoch waits");
        let events = state.decide(NOW, confirm(1)).expect("confirmed");
        assert_eq!(events.len(), 41);
        for event in events {
            put(&mut state, event);
        }
        assert_eq!(
            (state.live().held.clone(), state.reconcile(NOW, &empty).retired),
            (None, vec![])
        );
        assert!(state.decide(NOW, confirm(1)).is_err(), "once");

        let mut few = State::default();
        for n in 0..4 {
            ready(&mut few, &format!("env{n}"));
        }
        assert!(!few.reconcile(NOW, &set(&few, &[], 1)).held, "a small set needs no confirmation");
    }

    /// A failed teardown that a user requested stays as it is.
    #[test]
    fn reconcile_revives_server_requested_teardown_only() {
        for (reason, heals) in [
            (TeardownReason::Reconcile, true),
            (TeardownReason::Server, true),
            (TeardownReason::Request, false),
        ] {
            let mut state = State::default();
            ready(&mut state, "demo");
            let options = TeardownOptions { reason: reason.clone(), ..TeardownOptions::default() };
            let (environment, actor) = (id("demo"), Actor::default());
            let wanted =
                DestroyRequested { environment, force: true, actor, request: None, options };
            put(&mut state, wanted);
            let postponed = TeardownPostponed {
                environment: id("demo"),
                step: "move_to_trash".into(),
                fault: Fault::new(Code::EnvironmentBusy, "a mount", "unmount it"),
                failures: 1,
                retry_at: NOW,
            };
            put(&mut state, postponed);
            assert_eq!(state.environment(&id("demo")).map(|e| e.phase), Some(Phase::Retiring));
            let listed = set(&state, &["demo"], 1);
            carry_out(&mut state, listed);
            let phase = state.environment(&id("demo")).map(|e| e.phase);
            assert_eq!(phase == Some(Phase::Ready), heals, "{reason}");
        }
    }

    /// Work at risk alone does not keep it: it is rescued first.
    #[test]
    fn reconcile_with_processes_keeps_environment() {
        for quiet in [true, false] {
            let mut state = State::default();
            ready(&mut state, "demo");
            let unlisted = set(&state, &[], 1);
            carry_out(&mut state, unlisted);
            let effect = state.environment(&id("demo")).and_then(Environment::effect_id);
            let seen = Inspection {
                unsaved: vec!["a file".into()],
                fingerprint: "f".into(),
                rescue: true,
                quiet,
                ..Inspection::default()
            };
            let entered = effect.expect("an inspection is owed").entered;
            let result = Ok(EnvironmentOutcome::Inspected(seen));
            let settled = Settlement::Environment(id("demo"), Ended { entered, result });
            let events = state.decide(NOW, Command::Settle(settled)).expect("settled");
            match events.as_slice() {
                [Event::TeardownInspected(TeardownInspected { rescue: true, .. })] => {
                    assert!(quiet);
                }
                [Event::DestroyRefused(e)] => {
                    assert!(!quiet && e.fault.code == Code::EnvironmentBusy);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
