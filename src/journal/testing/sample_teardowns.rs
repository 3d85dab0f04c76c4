//! One event of every kind of a teardown, and of leases and trust, for the golden files.

use crate::testing::parts::{actor, env, fault, rescue};
use groundskeeper_core::event::{
    BranchSettled, DestroyRefused, DestroyRequested, DirectoryTrashed, InspectionOutdated,
    LeaseExpired, LeaseGranted, LeaseReleased, ProcessSeen, ProcessesEnded, RegistrationRemoved,
    RepositoryDistrusted, RepositoryTrusted, TeardownGaveUp, TeardownHookFinished,
    TeardownHookStarted, TeardownInspected, TeardownOptions, TeardownPostponed, Tombstoned,
    WorkRescued,
};
use groundskeeper_core::policy::BranchPolicy;
use groundskeeper_core::{Event, LeaseId, RequestId, Time};

pub(crate) fn teardown() -> Vec<Event> {
    let (environment, actor) = (env(), actor());
    let request = Some(RequestId::parse("key-2").expect("a key"));
    vec![
        DestroyRequested {
            environment: environment.clone(),
            force: true,
            actor: actor.clone(),
            request: request.clone(),
            options: options(),
        }
        .into(),
        DestroyRefused { environment: environment.clone(), fault: fault() }.into(),
        TeardownInspected {
            environment: environment.clone(),
            unsaved: vec!["a.txt".into()],
            fingerprint: Some("ef".repeat(32)),
            head: Some("0123456789012345678901234567890123456789".into()),
            rescue: true,
            has_hook: true,
            quiet: true,
            noted: vec!["clone without work: dep".into()],
            unseen: true,
            branch: Some("side".into()),
        }
        .into(),
        DirectoryTrashed { environment: environment.clone(), trash: Some("/trash/demo.1".into()) }
            .into(),
        RegistrationRemoved { environment: environment.clone() }.into(),
        BranchSettled {
            environment: environment.clone(),
            deleted: true,
            reason: "merged".into(),
            rescue: vec!["refs/groundskeeper/rescue/demo/1".into()],
        }
        .into(),
        Tombstoned { environment: environment.clone(), leftovers: vec!["x".into()] }.into(),
        TeardownGaveUp {
            environment: environment.clone(),
            step: "move_to_trash".into(),
            fault: fault(),
        }
        .into(),
    ]
}

pub(crate) fn leases_and_trust() -> Vec<Event> {
    let (environment, actor) = (env(), actor());
    let lease = LeaseId::parse("lease-1").expect("a lease");
    let request = Some(RequestId::parse("key-2").expect("a key"));
    vec![
        LeaseGranted {
            environment: environment.clone(),
            lease: lease.clone(),
            until: Time(1_700_000_000_000_000_000),
            purpose: "terminal".into(),
            actor: actor.clone(),
            request,
        }
        .into(),
        LeaseReleased { environment: environment.clone(), lease: lease.clone() }.into(),
        LeaseExpired { environment, lease }.into(),
        RepositoryTrusted {
            repository: "/home/u/project/.git".into(),
            hash: "cd".repeat(32),
            actor: actor.clone(),
        }
        .into(),
        RepositoryDistrusted { repository: "/home/u/project/.git".into(), actor }.into(),
    ]
}

fn options() -> TeardownOptions {
    TeardownOptions {
        branch: BranchPolicy::Delete,
        hook_path: Some(".groundskeeper/teardown".into()),
        hook_limit_ms: 60_000,
        grace_ms: 2_000,
        end_bystanders: true,
        no_rescue: true,
        reason: "gc".into(),
    }
}

fn process() -> ProcessSeen {
    ProcessSeen { pid: 91, started: 5_555, name: "node".into(), why: "cgroup".into() }
}

pub(crate) fn steps_of_teardown() -> Vec<Event> {
    let environment = env();
    vec![
        TeardownHookStarted {
            environment: environment.clone(),
            pid: 78,
            started: 654_321,
            hash: "12".repeat(32),
        }
        .into(),
        TeardownHookFinished {
            environment: environment.clone(),
            millis: 250,
            fault: Some(fault()),
            tail: vec!["stopped".into()],
        }
        .into(),
        ProcessesEnded {
            environment: environment.clone(),
            ended: vec![process()],
            spared: vec![ProcessSeen { pid: 92, why: "cwd".into(), ..process() }],
            survivors: vec![ProcessSeen { pid: 93, ..process() }],
        }
        .into(),
        WorkRescued { environment: environment.clone(), rescue: Some(rescue()) }.into(),
        InspectionOutdated { environment: environment.clone() }.into(),
        TeardownPostponed {
            environment,
            step: "rescue".into(),
            fault: fault(),
            failures: 3,
            retry_at: Time(1_700_000_001_000_000_000),
        }
        .into(),
    ]
}
