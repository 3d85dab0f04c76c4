//! One event of every kind, with every field set: the source of the golden files.

use crate::testing::parts::{actor, commit, env, fault, nonce, plan, rescue, worktree};
use crate::testing::sample_teardowns::{leases_and_trust, steps_of_teardown, teardown};
use groundskeeper_core::event::{
    AttemptFailed, Base, BaseResolved, CancelRequested, CleanAttemptFailed, CleanPurgeDecided,
    CleanPurged, CleanRequested, CleanUndoRequested, CleanUndone, Cleaned, DaemonStarted,
    DaemonStopped, DataDirectoryCopied, DataDirectoryMoved, EnvironmentAdopted, EnvironmentLabeled,
    EnvironmentReady, FilesIncluded, Finding, FoldedRescue, FormerLife, Included, IndexRefreshed,
    Kept, LateWorkRescued, LeftoverArchived, LiveSetContinued, LiveSetHeld, LiveSetTaken,
    LivesForgotten, LogFoundOlder, LogSegment, LogTrimmed, NotMoved, ProcessExited, ProcessStarted,
    ProvisionFailed, ProvisionRequested, PurgeDecided, RemainsAttemptFailed, RepositoryMoved,
    RescueApplied, RescueDropRequested, RescueDropped, RescueExpiryAnnounced, RescueFoldDecided,
    RescuesFolded, RestoreFrom, RestoreRequested, Restored, Retention, RetentionChanged,
    RolledBack, RunFinished, RunRequested, SetupFinished, SetupReport, SetupStarted, Size,
    SweepFinished, SweepRequested, TrashLookFailed, TrashMeasured, TrashPurged, WatcherGaveUp,
    WatcherResumed, WorktreeAdded,
};
use groundskeeper_core::{EnvironmentId, Event, Label, RequestId, Seq, Time};

/// Returns one event of every kind, with every field set to a value that is not its default.
pub(crate) fn samples() -> Vec<Event> {
    let mut all = daemon_and_provision();
    all.extend(ends_of_provision());
    all.extend(teardown());
    all.extend(leases_and_trust());
    all.extend(steps_of_teardown());
    all.extend(archives());
    all.extend(restore_and_adoption());
    all.extend(cleans());
    all.extend(processes_and_sweep());
    all.extend(live_sets_and_runs());
    all.extend(crate::testing::sample_migrations::migrations());
    all
}

fn lives_forgotten(environment: &EnvironmentId) -> Event {
    let life = FormerLife {
        environment: environment.clone(),
        incarnation: 3,
        nonce: Some(nonce()),
        begun: Seq(17),
        last: Seq(42),
        ended_at: Time(1_795_952_747_034_000_000),
        failed: true,
    };
    LivesForgotten { lives: vec![life] }.into()
}

fn log_trimmed() -> Event {
    let name = "1-4321.flat.zst".to_owned();
    let segment = LogSegment { name, bytes: 98_765, sha256: "cd".repeat(32) };
    let (last, reason, state) = (Seq(4_321), "size".to_owned(), "ab".repeat(32));
    LogTrimmed { last, reason, state, segment: Some(segment) }.into()
}

fn daemon_and_provision() -> Vec<Event> {
    let (environment, actor) = (env(), actor());
    let request = Some(RequestId::parse("key-1").expect("a key"));
    vec![
        DaemonStarted { pid: 4242, version: "0.1.0".into() }.into(),
        DaemonStopped { reason: "signal".into() }.into(),
        ProvisionRequested {
            environment: environment.clone(),
            incarnation: 2,
            plan: plan(),
            actor: actor.clone(),
            request,
            nonce: Some(nonce()),
            attributes: Some("refs/heads/attributes".into()),
        }
        .into(),
        DataDirectoryMoved { from: "/data/a".into(), to: "/data/b".into() }.into(),
        DataDirectoryCopied { original: "/data/a".into() }.into(),
        LogFoundOlder { had: Seq(4_711) }.into(),
        lives_forgotten(&environment),
        log_trimmed(),
        RepositoryMoved { from: "/p/a/.git".into(), to: "/p/b/.git".into() }.into(),
        BaseResolved {
            environment: environment.clone(),
            base: Base {
                commit: "9fceb02d0ae598e95dc970b74767f19372d61af8".into(),
                reference: Some("refs/heads/main".into()),
                upstream: Some("refs/remotes/origin/main".into()),
                behind: 3,
                ahead: 1,
                fetch: Some("done".into()),
            },
        }
        .into(),
        WorktreeAdded { environment: environment.clone(), worktree: worktree() }.into(),
        FilesIncluded {
            environment: environment.clone(),
            included: Included {
                files: 7,
                bytes: 8_192,
                reflinked: 5,
                skipped: vec!["link: leaves the repository".into()],
            },
        }
        .into(),
        SetupStarted {
            environment: environment.clone(),
            pid: 77,
            started: 123_456,
            hash: "ab".repeat(32),
        }
        .into(),
        SetupFinished {
            environment: environment.clone(),
            report: SetupReport { millis: 1_500, output_bytes: 42, transcript: "/t/demo.1".into() },
            tail: vec!["ready".into()],
        }
        .into(),
    ]
}

fn ends_of_provision() -> Vec<Event> {
    let (environment, actor) = (env(), actor());
    vec![
        EnvironmentReady { environment: environment.clone() }.into(),
        ProvisionFailed {
            environment: environment.clone(),
            step: "run_setup".into(),
            fault: fault(),
            kept: true,
        }
        .into(),
        CancelRequested { environment: environment.clone(), actor }.into(),
        RolledBack {
            environment: environment.clone(),
            leftovers: vec!["branch".into()],
            trash: Some("/trash/demo.1".into()),
            head: Some(commit()),
            rescue: Some(rescue()),
        }
        .into(),
        AttemptFailed {
            environment: environment.clone(),
            step: "add_worktree".into(),
            attempts: 2,
            retry_at: Time(1_700_000_000_500_000_000),
            fault: fault(),
        }
        .into(),
        IndexRefreshed { environment, done: true }.into(),
    ]
}

fn archives() -> Vec<Event> {
    let (environment, incarnation, actor) = (env(), 2, actor());
    let size = Size { entries: 20_000, apparent: 1_000_000, allocated: 2_000_000 };
    let at = Time(1_700_000_086_400_000_000);
    vec![
        TrashMeasured { environment: environment.clone(), incarnation, size }.into(),
        LateWorkRescued { environment: environment.clone(), incarnation, rescue: rescue() }.into(),
        LeftoverArchived {
            environment: environment.clone(),
            incarnation,
            nonce: Some(nonce()),
            plan: plan(),
            trash: "/data/trash/demo.1-11111111/repo".into(),
            worktree: worktree(),
            head: Some(commit()),
            branch: Some("gk/demo".into()),
        }
        .into(),
        PurgeDecided {
            environment: environment.clone(),
            incarnation,
            reason: "request".into(),
            actor: Some(actor.clone()),
        }
        .into(),
        TrashPurged {
            environment: environment.clone(),
            incarnation,
            entries: 20_000,
            leftovers: vec!["x".into()],
        }
        .into(),
        RemainsAttemptFailed {
            environment: environment.clone(),
            incarnation,
            step: "purge".into(),
            attempts: 4,
            retry_at: Time(1_700_000_002_000_000_000),
            fault: fault(),
        }
        .into(),
        TrashLookFailed { environment: environment.clone(), incarnation, fault: fault() }.into(),
        RescueDropRequested { environment: environment.clone(), incarnation, actor }.into(),
        RescueExpiryAnnounced { environment: environment.clone(), incarnation, at }.into(),
        RescueFoldDecided { environment: environment.clone(), incarnation }.into(),
        RescuesFolded {
            environment: environment.clone(),
            incarnation,
            reference: Some("refs/groundskeeper/folded/0123456789abcdef0123456789abcdef".into()),
            folded: vec![FoldedRescue {
                environment: environment.clone(),
                incarnation: 2,
                commits: vec![commit()],
            }],
            leftover: Some("locked".into()),
        }
        .into(),
        RescueDropped { environment, incarnation, leftover: Some("locked".into()) }.into(),
    ]
}

fn restore_and_adoption() -> Vec<Event> {
    let (environment, actor) = (env(), actor());
    vec![
        RestoreRequested {
            environment: environment.clone(),
            incarnation: 3,
            from: RestoreFrom {
                incarnation: 2,
                trash: Some("/trash/demo.2/project".into()),
                head: Some(commit()),
                rescue: Some(commit()),
                nonce: Some(nonce()),
                saved: Some(rescue()),
            },
            plan: plan(),
            actor: actor.clone(),
            request: Some(RequestId::parse("key-3").expect("a key")),
            nonce: Some(nonce()),
        }
        .into(),
        Restored { environment: environment.clone(), worktree: worktree(), branch: "gk/x".into() }
            .into(),
        RescueApplied { environment: environment.clone() }.into(),
        EnvironmentAdopted {
            environment: environment.clone(),
            incarnation: 4,
            plan: plan(),
            head: commit(),
            worktree: worktree(),
            actor: actor.clone(),
            nonce: Some(nonce()),
        }
        .into(),
    ]
}

fn cleans() -> Vec<Event> {
    let (environment, actor, clean) = (env(), actor(), Seq(41));
    let size = Size { entries: 7, apparent: 70, allocated: 700 };
    let left = || vec![NotMoved { path: "vendor/target".into(), why: "holds a repository".into() }];
    vec![
        CleanRequested { environment: environment.clone(), actor: actor.clone(), now: true }.into(),
        Cleaned {
            environment: environment.clone(),
            paths: vec!["target".into()],
            size,
            fault: Some(fault()),
            left: left(),
            trash: Some("/trash/.cleaned-demo.41/project".into()),
        }
        .into(),
        CleanUndoRequested { environment: environment.clone(), clean, actor: actor.clone() }.into(),
        CleanUndone {
            environment: environment.clone(),
            clean,
            returned: vec!["target".into()],
            left: left(),
            size,
            fault: Some(fault()),
        }
        .into(),
        CleanPurgeDecided {
            environment: environment.clone(),
            clean,
            reason: "request".into(),
            actor: Some(actor),
        }
        .into(),
        CleanPurged { environment: environment.clone(), clean, entries: 9, fault: Some(fault()) }
            .into(),
        CleanAttemptFailed {
            environment,
            clean,
            step: "purge".into(),
            attempts: 4,
            retry_at: Time(1_700_000_002_000_000_000),
            fault: fault(),
        }
        .into(),
    ]
}

fn live_sets_and_runs() -> Vec<Event> {
    let (environment, actor) = (env(), actor());
    let other = EnvironmentId::parse("other").expect("an id");
    let request = RequestId::parse("req-7").expect("a key");
    vec![
        LiveSetTaken {
            server: "srv-1".into(),
            epoch: 17,
            retired: vec![environment.clone()],
            kept: vec![Kept { environment: other.clone(), why: "leased".into() }],
            missing: vec![other.clone()],
            healed: vec![other.clone()],
            actor: actor.clone(),
        }
        .into(),
        LiveSetContinued {
            server: "srv-1".into(),
            epoch: 17,
            kept: vec![Kept { environment: environment.clone(), why: "newer".into() }],
            missing: vec![other.clone()],
            healed: vec![environment.clone()],
        }
        .into(),
        LiveSetHeld {
            server: "srv-1".into(),
            epoch: 18,
            would_retire: vec![environment.clone(), other],
            of: 30,
            actor: actor.clone(),
        }
        .into(),
        RunRequested {
            environment: environment.clone(),
            request: request.clone(),
            name: "make".into(),
            actor,
        }
        .into(),
        RunFinished { environment, request, code: Some(3), why: Some("timeout".into()) }.into(),
    ]
}

fn processes_and_sweep() -> Vec<Event> {
    let (environment, actor) = (env(), actor());
    vec![
        RetentionChanged {
            retention: Retention {
                trash_seconds: 604_800,
                trash_bytes: 1 << 34,
                clean_seconds: 86_400,
                rescue_seconds: Some(2_592_000),
            },
        }
        .into(),
        ProcessStarted {
            environment: environment.clone(),
            pid: 91,
            started: 5_555,
            name: "node".into(),
            actor: actor.clone(),
        }
        .into(),
        ProcessExited { environment: environment.clone(), pid: 91 }.into(),
        WatcherGaveUp {
            environment: environment.clone(),
            incarnation: 2,
            attempts: 60,
            reason: "permission denied".into(),
        }
        .into(),
        WatcherResumed { environment: environment.clone(), incarnation: 2 }.into(),
        EnvironmentLabeled {
            environment,
            label: Some(Label::parse("the login fix").expect("a label")),
            actor: actor.clone(),
        }
        .into(),
        SweepRequested { apply: true, limit: 20, actor }.into(),
        SweepFinished {
            findings: vec![Finding {
                kind: "directory".into(),
                path: "/worktrees/demo".into(),
                ours: true,
                settled: true,
                detail: "12 MB".into(),
            }],
            found: 3,
            settled: 1,
            held: Some("more than 20".into()),
        }
        .into(),
    ]
}
