//! Tests of reconciliation: what a live set retires, keeps and heals.

use crate::event::{
    Actor, DestroyRequested, EnvironmentAdopted, EnvironmentReady, Event, LeaseGranted, Plan,
    ProcessStarted, ProvisionRequested, Record, TeardownInspected, TeardownOptions,
    TeardownPostponed, TeardownReason, Worktree, WorktreeAdded,
};
use crate::model::live_set::{LiveSet, Report};
use crate::{
    Code, Command, Ended, Environment, EnvironmentId, EnvironmentOutcome, Fault, Inspection,
    LeaseId, Phase, Settlement, State, Time,
};

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
        ProvisionRequested { environment, incarnation, plan, actor, request, nonce, attributes },
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
    report.kept.iter().find(|k| k.environment == id(name)).expect("kept").why.to_string()
}

/// Makes environments that a live set with `listed` alone may not all retire.
fn used_and_foreign() -> State {
    let mut state = State::default();
    for name in ["idle", "leased", "busy", "listed"] {
        ready(&mut state, name);
    }
    let claim = Command::Lease(LeaseGranted {
        environment: id("leased"),
        lease: LeaseId::parse("l").expect("an id"),
        until: NOW.after(std::time::Duration::from_secs(60)),
        purpose: "a thread".to_owned(),
        actor: Actor::default(),
        request: None,
    });
    for event in state.decide(NOW, claim).expect("granted") {
        put(&mut state, event);
    }
    let (environment, name) = (id("busy"), "make".to_owned());
    let actor = Actor::default();
    put(&mut state, ProcessStarted { environment, pid: 5, started: 1, name, actor });
    put(
        &mut state,
        EnvironmentAdopted {
            environment: id("adopted"),
            incarnation: 1,
            plan: Plan { path: "/elsewhere".into(), ..Plan::default() },
            head: "h".to_owned(),
            worktree: Worktree::default(),
            actor: Actor::default(),
            nonce: None,
        },
    );
    state
}

/// Each environment that is kept is reported with its reason.
#[test]
fn reconcile_keeps_used_and_foreign() {
    let mut state = used_and_foreign();
    let mut taken = set(&state, &["listed", "never"], 1);
    ready(&mut state, "newer");

    let report = state.reconcile(NOW, &taken);
    assert_eq!(report.retired, [id("idle")]);
    assert_eq!(report.missing, [id("never")]);
    for (name, reason) in
        [("leased", "leased"), ("busy", "processes"), ("adopted", "adopted"), ("newer", "newer")]
    {
        assert_eq!(why(&report, name), reason);
    }
    let events = carry_out(&mut state, taken.clone());
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(carry_out(&mut state, taken.clone()).len(), 1, "an unlisted environment is retired");
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
    let confirm =
        |epoch| Command::ConfirmLiveSet { epoch, options: options.clone(), actor: actor.clone() };
    assert!(state.decide(NOW, confirm(9)).is_err(), "another epoch waits");
    let events = state.decide(NOW, confirm(1)).expect("confirmed");
    assert_eq!(events.len(), 41);
    for event in events {
        put(&mut state, event);
    }
    assert_eq!((state.live().held.clone(), state.reconcile(NOW, &empty).retired), (None, vec![]));
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
        let wanted = DestroyRequested { environment, force: true, actor, request: None, options };
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
            fingerprint: Some("f".into()),
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

/// A live set may list more than one record holds; what it led to is the same.
#[test]
fn long_live_set_is_split() {
    let mut state = State::default();
    let most = crate::policy::LIVE_SET_ENTRIES_MAX;
    let names: Vec<String> = (0..2 * most + 5).map(|n| format!("gone-{n:06}")).collect();
    let long: Vec<&str> = names.iter().map(String::as_str).collect();
    ready(&mut state, "here");
    let listed: Vec<&str> = long.iter().copied().chain(["here"]).collect();
    let wanted = set(&state, &listed, 1);
    let events = carry_out(&mut state, wanted.clone());
    let kinds: Vec<&str> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, ["LiveSetTaken", "LiveSetContinued", "LiveSetContinued"]);
    let taken = state.live().taken.clone().expect("taken in");
    assert_eq!(taken.missing.len(), names.len());
    assert!(taken.missing.iter().map(ToString::to_string).eq(names), "in their order");
    assert_eq!(carry_out(&mut state, wanted), [], "the same set again changes nothing");
    let shorter = set(&state, &["here"], 2);
    carry_out(&mut state, shorter);
    assert_eq!(state.live().taken.as_ref().map(|t| t.missing.len()), Some(0));
}
