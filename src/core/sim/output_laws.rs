//! The laws of clean output: the order in which it is purged, its retention, its undo.

use std::time::Duration;

use crate::event::{Actor, Retention};
use crate::model::cleaned_output::{CleanedOutput, OutputPhase};
use crate::sim::actions::{Act, EffectEnd, name};
use crate::sim::harness::Harness;
use crate::{
    Code, Command, Ended, Event, Fault, Ground, OutputOutcome, Phase, Settlement, Step, Subject,
};

const CLEAN: Act = Act::Clean { who: 0, now: false };

/// Creates a live environment with output of tools in it, and nothing owed.
fn built() -> Harness {
    let mut bench = Harness::new();
    let retention = Retention {
        trash_seconds: 1_000,
        trash_bytes: 100,
        clean_seconds: 100,
        rescue_seconds: None,
    };
    bench.command(Command::Start {
        pid: 2,
        version: "test".into(),
        retention,
        ground: Ground::default(),
    });
    for act in [Act::Provision { who: 0, keep: false, key: None }, Act::Flow { rounds: 12 }] {
        bench.act(&act);
    }
    bench.wait(Duration::from_secs(2));
    for act in [Act::Flow { rounds: 2 }, Act::Build { who: 0 }] {
        bench.act(&act);
    }
    assert_eq!(bench.state.environment(&name(0)).map(|e| e.phase), Some(Phase::Ready));
    bench
}

fn cleaned() -> Harness {
    let mut bench = built();
    bench.act(&CLEAN);
    bench.flow();
    assert_eq!(outputs(&bench), [OutputPhase::Kept]);
    assert!(!bench.disk[&name(0)].built);
    bench
}

fn outputs(bench: &Harness) -> Vec<OutputPhase> {
    bench.state.outputs().map(|o| o.phase).collect()
}

fn remove(bench: &mut Harness, who: usize) {
    bench.act(&Act::Destroy { who, force: true, key: None });
    bench.drain_but_keep_the_trash();
    assert_eq!(bench.state.environment(&name(who)).map(|e| e.phase), Some(Phase::Tombstoned));
}

fn kinds(bench: &Harness, since: usize) -> Vec<&'static str> {
    bench.log[since..].iter().map(|record| record.event.kind()).collect()
}

fn undo(bench: &Harness) -> Result<Vec<Event>, Fault> {
    let (environment, actor) = (name(0), Actor::default());
    bench.state.decide(bench.now, Command::UndoClean { environment, actor })
}

/// Removed environments follow, oldest first.
#[test]
fn full_disk_purges_clean_output_first() {
    let mut bench = cleaned();
    bench.act(&Act::Provision { who: 1, keep: false, key: None });
    bench.drain_but_keep_the_trash();
    remove(&mut bench, 1);
    assert!(bench.state.has_trash());
    let (from, low) = (bench.log.len(), Command::DiskLow);
    assert!(bench.command(low.clone()));
    assert!(!bench.command(low.clone()), "one purge at a time");
    bench.flow();
    assert_eq!(kinds(&bench, from), ["CleanPurgeDecided", "CleanPurged"]);
    let from = bench.log.len();
    assert!(bench.command(low.clone()), "then the oldest removed environment");
    assert_eq!(kinds(&bench, from), ["PurgeDecided"]);
    bench.flow();
    assert!(!bench.command(low) && !bench.state.has_trash(), "nothing is left");
    assert!(bench.disk[&name(0)].cleaned.is_empty());
}

#[test]
fn trash_over_limit_purges_clean_first() {
    let mut bench = cleaned();
    bench.act(&Act::Build { who: 0 });
    bench.act(&CLEAN);
    bench.flow();
    remove(&mut bench, 0);
    let retention = Retention {
        trash_seconds: 1_000,
        trash_bytes: 2,
        clean_seconds: 100,
        rescue_seconds: None,
    };
    bench.command(Command::Start {
        pid: 3,
        version: "test".into(),
        retention,
        ground: Ground::default(),
    });
    let (from, now) = (bench.log.len(), bench.now);
    assert!(bench.state.next_deadline(now).is_some_and(|t| t <= now), "at once");
    bench.wait(Duration::ZERO);
    assert_eq!(kinds(&bench, from), ["CleanPurgeDecided"], "only the oldest, as far as needed");
    bench.flow();
    assert_eq!((bench.state.outputs().count(), bench.state.archives().count()), (1, 1));
}

#[test]
fn clean_output_is_purged_at_expiry() {
    let mut bench = cleaned();
    bench.wait(Duration::from_secs(99));
    assert_eq!(outputs(&bench), [OutputPhase::Kept]);
    let due = bench.state.next_deadline(bench.now).expect("its end");
    bench.wait(due.since(bench.now));
    bench.flow();
    assert_eq!((outputs(&bench), &bench.disk[&name(0)].cleaned.len()), (vec![], &0));
    assert_eq!(undo(&bench).map_err(|f| f.code), Err(Code::NotFound));
}

/// Output whose path was rebuilt meanwhile stays in the trash.
#[test]
fn undo_restores_latest_unobstructed_clean() {
    let mut bench = cleaned();
    bench.act(&Act::Build { who: 0 });
    bench.act(&Act::UndoClean { who: 0 });
    assert_eq!(outputs(&bench), [OutputPhase::Returning]);
    let low = bench.command(Command::DiskLow);
    assert!(!low, "output that is being restored is not purged");
    bench.flow();
    assert_eq!(outputs(&bench), [OutputPhase::Kept], "the rebuilt output blocks the undo");
    bench.act(&CLEAN);
    bench.flow();
    assert_eq!(bench.state.outputs().count(), 2);
    for left in [1, 0] {
        bench.disk.get_mut(&name(0)).expect("traces").built = false;
        bench.act(&Act::UndoClean { who: 0 });
        bench.flow();
        assert!(bench.disk[&name(0)].built);
        assert_eq!(bench.state.outputs().count(), left);
    }
}

/// A later incarnation made from scratch has no claim to the output of an earlier one.
#[test]
fn clean_undo_requires_restored_environment() {
    let mut bench = cleaned();
    remove(&mut bench, 0);
    assert_eq!(outputs(&bench), [OutputPhase::Kept], "the output stays until it expires");
    let refused = undo(&bench).expect_err("the environment is destroyed");
    assert_eq!(refused.code, Code::EnvironmentDestroyed);
    assert!(refused.hint.contains("restore a"), "{refused}");
    bench.act(&Act::Restore { who: 0, life: None });
    bench.drain_but_keep_the_trash();
    bench.act(&Act::UndoClean { who: 0 });
    bench.flow();
    assert!(bench.disk[&name(0)].built && outputs(&bench).is_empty());
    // A later incarnation made from scratch has no claim to the output.
    bench.act(&CLEAN);
    bench.flow();
    remove(&mut bench, 0);
    bench.act(&Act::Provision { who: 0, keep: false, key: None });
    bench.drain_but_keep_the_trash();
    assert_eq!(undo(&bench).map_err(|f| f.code), Err(Code::NotFound));
}

#[test]
fn clean_interrupted_by_destroy_leaves_nothing() {
    for steps in 0..3 {
        let mut bench = built();
        bench.act(&CLEAN);
        bench.start_owed();
        bench.work(&Subject::Environment(name(0)), steps);
        bench.act(&Act::Destroy { who: 0, force: true, key: None });
        let going = bench.state.outputs().all(CleanedOutput::is_being_purged);
        assert!(
            going && bench.state.outputs().count() == 1,
            "the output of the interrupted clean is purged"
        );
        bench.start_owed();
        bench.finish(&Subject::Environment(name(0)), EffectEnd::Well);
        bench.drain();
        bench.disk_agrees();
        assert_eq!(bench.state.outputs().count(), 0);
    }
}

#[test]
fn clean_now_owes_immediate_purge() {
    let mut bench = built();
    bench.act(&Act::Clean { who: 0, now: true });
    bench.flow();
    assert_eq!(undo(&bench).map_err(|f| f.code), Err(Code::EnvironmentBusy));
    let owed: Vec<Step> = bench.state.owed(bench.now).map(|o| o.step).collect();
    assert_eq!(owed, [Step::Purge]);
    bench.crash(0);
    bench.flow();
    assert!(bench.disk[&name(0)].cleaned.is_empty() && outputs(&bench).is_empty());
}

/// An entry that holds a repository is neither retried by itself nor purged on a full disk.
#[test]
fn output_with_repository_needs_explicit_retry() {
    let mut bench = cleaned();
    let empty =
        Command::EmptyTrash { environment: Some(name(0)), lose: false, actor: Actor::default() };
    for _ in 0..2 {
        assert!(bench.command(empty.clone()), "asked for");
        let effect = bench.state.owed(bench.now).next().expect("an unlink").id;
        let fault = Fault::new(Code::NotOurs, "holds a repository", "look at it");
        bench.command(Command::Settle(Settlement::failed(effect, fault)));
        assert_eq!(bench.state.outputs().filter(|o| o.fault.is_some()).count(), 1);
        bench.wait(Duration::from_secs(1_000));
        assert_eq!(bench.state.owed(bench.now).count(), 0, "no retry without a request");
        assert!(!bench.command(Command::DiskLow));
    }
    assert!(bench.command(empty));
    let effect = bench.state.owed(bench.now).next().expect("an unlink").id;
    let Subject::Output(who, clean) = effect.subject else { panic!("an output") };
    let ended = Ended { entered: effect.entered, result: Ok(OutputOutcome::Purged(1)) };
    bench.command(Command::Settle(Settlement::Output(who, clean, ended)));
    assert_eq!(bench.state.outputs().count(), 0);
}
