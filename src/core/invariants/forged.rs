//! Forged logs: for each invariant one that breaks it, and honest logs that break none. An
//! invariant without a forged log fails here.

use crate::event::{
    Actor, AttemptFailed, Base, BaseResolved, BranchSettled, CleanRequested, DaemonStarted,
    DestroyRequested, DirectoryTrashed, EnvironmentAdopted, EnvironmentReady, Event, Finding,
    FlipBegun, Flipped, FormerLife, LeaseGranted, LeaseReleased, LiveSetTaken, LivesForgotten,
    LogTrimmed, MigrationFailed, MigrationFinished, MigrationPlan, MigrationRequested, Origin,
    Plan, ProvisionRequested, PurgeDecided, Record, RegistrationRemoved, Rescue,
    RescueDropRequested, RescueExpiryAnnounced, RestoreFrom, RestoreRequested, Retention,
    RetentionChanged, SecretsWritten, Size, SourceCopied, SourceCopy, SourceInspected,
    SourceNormalised, SourceState, Staging, StagingBuilt, StagingVerified, SweepFinished,
    SweepRequested, TeardownInspected, TeardownOptions, TeardownReason, Tombstoned, TrashMeasured,
    WorkRescued, Worktree, WorktreeAdded,
};
use crate::invariants::{Audit, INVARIANTS, invariant};
use crate::policy::BranchPolicy;
use crate::{Code, EnvironmentId, Fault, HostPath, LeaseId, MigrationId, Seq, State, Time};

const SECOND: u64 = 1_000_000_000;

fn env(name: &str) -> EnvironmentId {
    EnvironmentId::parse(name).expect("an id")
}

fn demo() -> EnvironmentId {
    env("demo")
}

fn who() -> Actor {
    Actor { origin: Origin::Api, uid: 1, pid: 2 }
}

fn fault() -> Fault {
    Fault::new(Code::Io, "made up", "none")
}

fn started() -> Event {
    DaemonStarted { pid: 1, version: "test".into() }.into()
}

fn provision(name: &str, incarnation: u32, path: &str) -> Event {
    let plan = Plan { path: path.into(), branch: format!("gk/{name}"), ..Plan::default() };
    let (environment, actor) = (env(name), who());
    let (request, nonce, attributes) = (None, None, None);
    ProvisionRequested { environment, incarnation, plan, actor, request, nonce, attributes }.into()
}

fn destroy(options: TeardownOptions) -> Event {
    let (environment, actor) = (demo(), who());
    DestroyRequested { environment, force: true, actor, request: None, options }.into()
}

fn inspected() -> Event {
    TeardownInspected {
        environment: demo(),
        unsaved: vec!["untracked: a".into()],
        fingerprint: Some("f".into()),
        head: Some("h".into()),
        rescue: true,
        has_hook: false,
        quiet: true,
        noted: Vec::new(),
        unseen: false,
        branch: None,
    }
    .into()
}

fn ready() -> Vec<Event> {
    let (trash_seconds, clean_seconds) = (7 * 86_400, 86_400);
    let retention =
        Retention { trash_seconds, trash_bytes: 1 << 40, clean_seconds, rescue_seconds: None };
    vec![
        started(),
        RetentionChanged { retention }.into(),
        provision("demo", 1, "/w/demo"),
        BaseResolved { environment: demo(), base: Base::default() }.into(),
        WorktreeAdded { environment: demo(), worktree: Worktree::default() }.into(),
        EnvironmentReady { environment: demo() }.into(),
    ]
}

fn torn_with(options: TeardownOptions) -> Vec<Event> {
    let environment = demo;
    let (reference, commit) = (Some("refs/r".into()), Some("c".into()));
    let rescue = Rescue { reference, commit, ..Rescue::default() };
    let mut events = ready();
    events.extend::<[Event; 7]>([
        destroy(options),
        inspected(),
        WorkRescued { environment: environment(), rescue: Some(rescue) }.into(),
        DirectoryTrashed { environment: environment(), trash: Some("/t/demo.1".into()) }.into(),
        RegistrationRemoved { environment: environment() }.into(),
        BranchSettled {
            environment: environment(),
            deleted: true,
            reason: String::new(),
            rescue: Vec::new(),
        }
        .into(),
        Tombstoned { environment: environment(), leftovers: Vec::new() }.into(),
    ]);
    events
}

fn torn() -> Vec<Event> {
    torn_with(TeardownOptions::default())
}

fn forgotten() -> LivesForgotten {
    let life = FormerLife {
        environment: demo(),
        incarnation: 1,
        nonce: None,
        begun: Seq(3),
        last: Seq(6),
        ended_at: Time(6 * SECOND),
        failed: false,
    };
    LivesForgotten { lives: vec![life] }
}

fn trimmed(last: u64) -> Event {
    let (reason, state) = ("age".to_owned(), "ab".repeat(32));
    LogTrimmed { last: Seq(last), reason, state, segment: None }.into()
}

fn migration_id(n: u32) -> MigrationId {
    MigrationId::parse(&format!("{n:08x}")).expect("an id")
}

fn migration(n: u32, dry_run: bool) -> Event {
    let database: HostPath = "/d/base.db".into();
    let plan = MigrationPlan { database, dry_run, ..MigrationPlan::default() };
    MigrationRequested { migration: migration_id(n), plan, actor: who() }.into()
}

fn migrated() -> Vec<Event> {
    let migration_of = || migration_id(1);
    let found = SourceState { old: true, ..SourceState::default() };
    let no_warnings = Vec::new();
    vec![
        started(),
        migration(1, false),
        SourceInspected { migration: migration_of(), found }.into(),
        SourceCopied { migration: migration_of(), copy: SourceCopy::default() }.into(),
        SourceNormalised { migration: migration_of(), warnings: no_warnings }.into(),
        StagingBuilt { migration: migration_of(), staging: Staging::default() }.into(),
        SecretsWritten { migration: migration_of(), entries: 1 }.into(),
        StagingVerified { migration: migration_of(), bytes: 1, fingerprint: "f".into() }.into(),
        FlipBegun { migration: migration_of() }.into(),
        Flipped { migration: migration_of(), backup: "/d/backup".into() }.into(),
    ]
}

fn lease(until: u64) -> Event {
    LeaseGranted {
        environment: demo(),
        lease: LeaseId::parse("l1").expect("an id"),
        until: Time(until),
        purpose: String::new(),
        actor: who(),
        request: None,
    }
    .into()
}

/// Records one second apart, as an honest daemon would write them.
fn records(events: Vec<Event>) -> Vec<Record> {
    let mut boot = 0;
    let numbered = (1..).zip(events);
    numbered
        .map(|(seq, event)| {
            boot += u32::from(matches!(event, Event::DaemonStarted(_)));
            Record { seq: Seq(seq), at: Time(seq * SECOND), boot, event }
        })
        .collect()
}

fn with(mut events: Vec<Event>, more: Vec<Event>) -> Vec<Record> {
    events.extend(more);
    records(events)
}

fn breaches(records: &[Record]) -> Vec<(&'static str, u64)> {
    let (mut audit, mut state) = (Audit::default(), State::default());
    let mut found: Vec<_> = records.iter().flat_map(|r| audit.fold(&mut state, r)).collect();
    found.extend(audit.finish(&state));
    found.iter().map(|b| (b.invariant, b.seq.0)).collect()
}

fn order_and_lives() -> Vec<(&'static str, Vec<Record>)> {
    let mut gap = records(ready());
    gap.remove(2);
    let mut back = records(ready());
    back[3].at = Time(1);
    let mut boot = records(ready());
    boot[3].boot = 9;
    let set = |epoch| LiveSetTaken { server: "s".into(), epoch, ..LiveSetTaken::default() }.into();
    let restore = RestoreRequested {
        environment: demo(),
        incarnation: 2,
        from: RestoreFrom { incarnation: 1, ..RestoreFrom::default() },
        plan: Plan::default(),
        actor: Actor::daemon(),
        request: None,
        nonce: None,
    };
    let begun = vec![started(), provision("demo", 1, "/w/demo")];
    let unknown = LeaseReleased { environment: demo(), lease: LeaseId::parse("l").expect("an id") };
    let gone_wrong: Event = AttemptFailed {
        environment: demo(),
        step: "resolve_base".into(),
        attempts: 5,
        retry_at: Time(u64::MAX),
        fault: fault(),
    }
    .into();
    // One minute apart: a step that waits is not interrupted and would not be counted.
    let mut deaths = with(begun.clone(), (0..60).map(|_| started()).collect());
    for record in &mut deaths {
        record.at = Time(record.seq.0 * 60 * SECOND);
    }
    vec![
        ("seq-gapless", gap),
        ("time-forward", back),
        ("start-counted", boot),
        ("tombstone-final", with(torn(), vec![EnvironmentReady { environment: demo() }.into()])),
        ("incarnation-follows", with(ready(), vec![provision("demo", 2, "/w/demo")])),
        ("revival-asked", with(torn(), vec![restore.into()])),
        ("forgotten-when-over", with(ready(), vec![forgotten().into()])),
        ("trims-past", with(ready(), vec![trimmed(1_000)])),
        ("served-only", with(begun.clone(), vec![lease(9 * SECOND)])),
        ("epochs-forward", records(vec![started(), set(5), set(4)])),
        ("places-disjoint", with(ready(), vec![provision("other", 1, "/w/demo")])),
        ("settles-what-is-owed", {
            let worktree = Worktree::default();
            with(ready(), vec![WorktreeAdded { environment: demo(), worktree }.into()])
        }),
        ("subject-known", records(vec![started(), unknown.into()])),
        ("state-consistent", {
            with(begun.clone(), vec![EnvironmentReady { environment: demo() }.into()])
        }),
        ("attempts-capped", with(begun, vec![gone_wrong])),
        ("deaths-capped", deaths),
        ("waits-limited", with(ready(), vec![lease(u64::MAX)])),
    ]
}

fn work_and_migrations() -> Vec<(&'static str, Vec<Record>)> {
    let trashed: Event =
        DirectoryTrashed { environment: demo(), trash: Some("/t/demo.1".into()) }.into();
    let keep = TeardownOptions { branch: BranchPolicy::Keep, ..TeardownOptions::default() };
    let by_server =
        TeardownOptions { reason: TeardownReason::Reconcile, ..TeardownOptions::default() };
    let purge =
        PurgeDecided { environment: demo(), incarnation: 1, reason: "age".into(), actor: None };
    let adopted = EnvironmentAdopted {
        environment: demo(),
        incarnation: 1,
        plan: Plan::default(),
        head: String::new(),
        worktree: Worktree::default(),
        actor: who(),
        nonce: None,
    };
    let finding = Finding { settled: true, ours: false, ..Finding::default() };
    let swept =
        SweepFinished { findings: vec![finding], found: 1, settled: 1, ..SweepFinished::default() };
    let failed =
        MigrationFailed { migration: migration_id(1), step: "flip".into(), fault: fault() };
    let plain = TeardownOptions::default;
    let measured = TrashMeasured { environment: demo(), incarnation: 1, size: Size::default() };
    vec![
        ("look-before-removal", with(ready(), vec![destroy(plain()), trashed.clone()])),
        ("rescue-before-removal", with(ready(), vec![destroy(plain()), inspected(), trashed])),
        ("tombstone-after-move", {
            let over = Tombstoned { environment: demo(), leftovers: Vec::new() };
            with(ready(), vec![over.into()])
        }),
        ("branch-as-agreed", records(torn_with(keep))),
        ("trash-kept", with(torn(), vec![measured.into(), purge.into()])),
        ("leases-respected", with(ready(), vec![lease(99 * SECOND), destroy(by_server)])),
        ("adopted-untouched", {
            let clean = CleanRequested { environment: demo(), actor: who(), now: false };
            records(vec![started(), adopted.into(), clean.into()])
        }),
        ("sweep-settles-ours", {
            let look = SweepRequested { apply: false, limit: 1, actor: who() };
            records(vec![started(), look.into(), swept.into()])
        }),
        ("migration-in-order", {
            let flipped = Flipped { migration: migration_id(1), backup: "/b".into() };
            records(vec![started(), migration(1, false), flipped.into()])
        }),
        ("no-failure-after-flip", with(migrated(), vec![failed.into()])),
        ("rehearsal-changes-nothing", {
            let wrote = SecretsWritten { migration: migration_id(1), entries: 1 };
            records(vec![started(), migration(1, true), wrote.into()])
        }),
        ("one-migration-at-a-time", {
            records(vec![started(), migration(1, false), migration(2, false)])
        }),
    ]
}

fn rescues() -> Vec<(&'static str, Vec<Record>)> {
    let (environment, incarnation, actor, at) = (demo(), 1, Actor::daemon(), Time(u64::MAX));
    let dropped = RescueDropRequested { environment: demo(), incarnation, actor };
    let announced = RescueExpiryAnnounced { environment, incarnation, at };
    vec![
        ("rescue-kept", with(torn(), vec![dropped.into()])),
        ("rescue-kept", with(torn(), vec![announced.into()])),
    ]
}

/// An invariant that no forged log violates fails this test.
#[test]
fn every_invariant_has_violating_log() {
    let mut forged = order_and_lives();
    forged.extend(work_and_migrations());
    forged.extend(rescues());
    for (name, records) in &forged {
        assert!(invariant(name).is_some(), "{name}");
        let found = breaches(records);
        assert!(found.iter().any(|(broken, _)| broken == name), "{name}: {found:?}");
    }
    for known in INVARIANTS {
        assert!(
            forged.iter().any(|(name, _)| *name == known.name),
            "{} is never broken",
            known.name
        );
        assert!((1..=8).contains(&known.line));
    }
}

#[test]
fn valid_logs_violate_no_invariant() {
    let finished = MigrationFinished { migration: migration_id(1), leftovers: Vec::new() };
    let again = with(torn(), vec![forgotten().into(), provision("demo", 2, "/w/demo")]);
    let honest = [
        records(ready()),
        records(torn()),
        again,
        with(migrated(), vec![finished.into()]),
        with(ready(), vec![trimmed(2), trimmed(3)]),
    ];
    for records in honest {
        assert_eq!(breaches(&records), []);
    }
}

#[test]
fn first_violating_record_is_reported() {
    let over = EnvironmentReady { environment: demo() };
    let log = with(torn(), vec![over.clone().into(), over.into()]);
    let last = log.len() as u64;
    let first = breaches(&log).first().copied();
    assert_eq!(first, Some(("tombstone-final", last - 1)));
}

/// The audit may start from the state at any record of a valid log.
#[test]
fn audit_from_snapshot_reports_nothing() {
    let log = records(torn());
    for cut in 0..log.len() {
        let mut state = State::default();
        log[..cut].iter().for_each(|r| state.apply(r));
        let mut audit = Audit::of(&state);
        let found: Vec<_> = log[cut..].iter().flat_map(|r| audit.fold(&mut state, r)).collect();
        assert_eq!(found, [], "from {cut}");
    }
}
