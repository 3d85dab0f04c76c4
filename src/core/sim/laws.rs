//! The laws of the core over random histories, with crashes anywhere.
//!
//! A fake disk stands for the world. Effects change it in several small steps, so that a crash can
//! leave them half done; effects in flight end with the daemon, as the engine guarantees (one
//! driver slot per environment, no child outlives the daemon unseen). Each law was seen to fail
//! when its guard was taken out; `removed_guards_are_detected` keeps two of those breaks alive.

use std::time::Duration;

use proptest::prelude::*;

use crate::sim::actions::{Act, EffectEnd, act, name};
use crate::sim::harness::{DisabledGuard, Harness, fold};
use crate::snapshot::{self, Frozen as _};
use crate::{Command, Phase, Seq, Step, Subject};

const HISTORIES: u32 = 10_000;

fn run(acts: &[Act], broken: DisabledGuard) -> Harness {
    let mut bench = Harness::new();
    bench.broken = broken;
    for act in acts {
        bench.act(act);
    }
    bench
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(HISTORIES))]

    #[test]
    fn crashing_histories_settle_without_loss(acts in prop::collection::vec(act(), 1..60)) {
        let mut bench = run(&acts, DisabledGuard::Nothing);
        prop_assert_eq!(&fold(&bench.log), &bench.state);
        bench.crash(2);
        bench.drain();
        bench.disk_agrees();
        bench.no_work_is_lost();
    }

    #[test]
    fn snapshot_plus_suffix_equals_full_fold(
        acts in prop::collection::vec(act(), 1..60),
        at in any::<prop::sample::Index>(),
    ) {
        let bench = run(&acts, DisabledGuard::Nothing);
        let cut = at.index(bench.log.len() + 1);
        let folded = fold(&bench.log[..cut]);
        let stored = serde_json::to_vec(&snapshot::current::State::freeze(&folded));
        let stored = stored.expect("a state can be stored");
        let read: snapshot::current::State<'_> =
            serde_json::from_slice(&stored).expect("and read again");
        let mut state = read.thaw();
        for record in &bench.log[cut..] {
            state.apply(record);
        }
        prop_assert_eq!(state, fold(&bench.log));
    }
}

/// Red controls: without these guards the laws must fail, or they would prove nothing.
#[test]
fn removed_guards_are_detected() {
    use proptest::test_runner::{Config, TestError, TestRunner};
    for broken in [DisabledGuard::Fence, DisabledGuard::Children] {
        let config = Config { failure_persistence: None, cases: HISTORIES, ..Config::default() };
        let result = TestRunner::new(config).run(&prop::collection::vec(act(), 1..60), |acts| {
            let lawful = std::panic::catch_unwind(|| {
                let mut bench = run(&acts, broken);
                bench.crash(2);
                bench.drain();
                for (who, ghost) in std::mem::take(&mut bench.ghosts) {
                    bench.running.insert(who.clone(), ghost);
                    bench.work(&who, 4);
                }
                bench.disk_agrees();
            });
            prop_assert!(lawful.is_ok());
            Ok(())
        });
        assert!(matches!(result, Err(TestError::Fail(..))), "{broken:?} was not noticed");
    }
}

#[test]
fn interrupted_step_is_delayed_after_limit() {
    let mut bench = Harness::new();
    bench.act(&Act::Provision { who: 0, keep: false, key: None });
    for _ in 0..crate::policy::INTERRUPTIONS_FREE {
        bench.crash(0);
        assert_eq!(bench.state.owed(bench.now).count(), 1);
    }
    bench.crash(0);
    assert_eq!(bench.state.owed(bench.now).count(), 0, "it waits");
    let deadline = bench.state.next_deadline(bench.now).expect("and it has a deadline");
    assert_eq!(deadline.since(bench.now), Duration::from_millis(250));
    bench.drain();
    assert_eq!(bench.state.environment(&name(0)).map(|e| e.phase), Some(Phase::Ready));
}

#[test]
fn repeatedly_interrupted_provision_is_rolled_back() {
    let mut bench = Harness::new();
    bench.act(&Act::Provision { who: 0, keep: false, key: None });
    for _ in 1..crate::policy::INTERRUPTIONS_MAX {
        bench.wait(Duration::from_secs(60));
        assert_eq!(bench.state.owed(bench.now).next().map(|o| o.step), Some(Step::ResolveBase));
        bench.crash(0);
    }
    bench.wait(Duration::from_secs(60));
    bench.crash(0);
    assert_eq!(bench.state.owed(bench.now).next().map(|o| o.step), Some(Step::RollBack));
    bench.drain();
    assert_eq!(bench.state.environment(&name(0)).map(|e| e.phase), Some(Phase::Failed));
}

#[test]
fn orderly_restart_counts_no_interruption() {
    let mut bench = Harness::new();
    bench.act(&Act::Provision { who: 0, keep: false, key: None });
    for _ in 0..crate::policy::INTERRUPTIONS_MAX {
        bench.command(Command::Stop { reason: "test".into() });
        bench.crash(0);
        assert_eq!(bench.state.owed(bench.now).count(), 1, "owed at once");
    }
}

#[test]
fn record_seqs_are_consecutive() {
    let bench = run(
        &[Act::Provision { who: 0, keep: true, key: None }, Act::Start],
        DisabledGuard::Nothing,
    );
    for (n, record) in bench.log.iter().enumerate() {
        assert_eq!(record.seq, Seq(n as u64 + 1));
    }
}

#[test]
fn failed_restore_returns_directory_to_trash() {
    let force = Act::Destroy { who: 0, force: true, key: None };
    let mut bench =
        run(&[Act::Provision { who: 0, keep: false, key: None }], DisabledGuard::Nothing);
    bench.drain();
    for act in [Act::Dirty { who: 0 }, force] {
        bench.act(&act);
        bench.drain_but_keep_the_trash();
    }
    bench.act(&Act::Restore { who: 0, life: None });
    bench.start_owed();
    bench.work(&Subject::Environment(name(0)), 1);
    assert!(bench.disk[&name(0)].directory, "it is on its way");
    bench.act(&Act::Cancel { who: 0 });
    bench.finish(&Subject::Environment(name(0)), EffectEnd::Permanent);
    bench.drain_but_keep_the_trash();
    assert_eq!(bench.disk[&name(0)].trash[&1].len(), 1, "back in the trash");
    bench.act(&Act::Restore { who: 0, life: Some(1) });
    bench.drain_but_keep_the_trash();
    assert_eq!(bench.state.environment(&name(0)).map(|e| e.phase), Some(Phase::Ready));
    assert_eq!(bench.disk[&name(0)].work.len(), 1, "and it can be had after all");
    bench.disk_agrees();
}
