//! The golden files of `schema/events/`: one payload per kind and version, read for ever.
//!
//! A file that exists is never rewritten. A missing one is written when the tests run with
//! `GROUNDSKEEPER_BLESS=1`, and committed with the change that adds the kind.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::codec::{self, Decoded, KIND_VERSION};
use super::envelope::{self, Envelope};
use crate::core::event::{
    Actor, AttemptFailed, Base, BaseResolved, BranchSettled, CancelRequested, DaemonStarted,
    DaemonStopped, DestroyRefused, DestroyRequested, DirectoryTrashed, EnvironmentReady,
    FilesIncluded, Included, IndexRefreshed, LeaseExpired, LeaseGranted, LeaseReleased, Plan,
    ProvisionFailed, ProvisionRequested, Record, RegistrationRemoved, Repository,
    RepositoryDistrusted, RepositoryTrusted, RolledBack, SetupFinished, SetupReport, SetupStarted,
    TeardownGaveUp, TeardownInspected, Tombstoned, Worktree, WorktreeAdded,
};
use crate::core::{
    Code, EnvironmentId, Event, Fault, HostPath, LeaseId, RequestId, Seq, State, Time,
};
use crate::for_each_event;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schema/events")
}

fn env() -> EnvironmentId {
    EnvironmentId::parse("demo").expect("an id")
}

fn actor() -> Actor {
    Actor { door: "api".into(), uid: 1000, pid: 4242 }
}

fn fault() -> Fault {
    Fault::new(Code::HookFailed, "the setup hook ended with exit code 3", "read the transcript")
        .because("exit status: 3")
        .with_evidence(["npm ERR!".to_owned()])
        .transient()
}

fn plan() -> Plan {
    Plan {
        repository: Repository {
            common_dir: HostPath(b"/home/u/project/.git".to_vec()),
            source: HostPath(b"/home/u/pro\xffject".to_vec()),
            name: "project".into(),
            object_format: "sha1".into(),
        },
        path: "/home/u/.local/share/groundskeeper/worktrees/demo/project".into(),
        base: Some("v1.0".into()),
        branch: "gk/demo".into(),
        reuse_branch: false,
        fetch: true,
        fetch_limit_ms: 30_000,
        keep_failed: true,
        setup_path: ".groundskeeper/setup".into(),
        setup_limit_ms: 900_000,
    }
}

fn worktree() -> Worktree {
    Worktree {
        admin_dir: "/home/u/project/.git/worktrees/gk-demo-1".into(),
        device: 64_769,
        inode: 1_234_567,
        checkout: "git".into(),
        checkout_reason: "attribute filter".into(),
        files: 60,
        racy: true,
        has_include: true,
        has_setup: true,
    }
}

/// One event of every kind, with every field set to something that is not its default.
fn samples() -> Vec<Event> {
    let mut all = daemon_and_provision();
    all.extend(teardown_and_rest());
    all
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
        }
        .into(),
        BaseResolved {
            environment: environment.clone(),
            base: Base {
                commit: "9fceb02d0ae598e95dc970b74767f19372d61af8".into(),
                reference: "refs/heads/main".into(),
                upstream: "refs/remotes/origin/main".into(),
                behind: 3,
                ahead: 1,
                fetch: "done".into(),
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
        }
        .into(),
        EnvironmentReady { environment: environment.clone() }.into(),
        ProvisionFailed {
            environment: environment.clone(),
            step: "run_setup".into(),
            fault: fault(),
            kept: true,
        }
        .into(),
        CancelRequested { environment: environment.clone(), actor }.into(),
        RolledBack { environment: environment.clone(), leftovers: vec!["branch".into()] }.into(),
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

fn teardown_and_rest() -> Vec<Event> {
    let (environment, actor) = (env(), actor());
    let lease = LeaseId::parse("lease-1").expect("a lease");
    let request = Some(RequestId::parse("key-2").expect("a key"));
    vec![
        DestroyRequested {
            environment: environment.clone(),
            force: true,
            actor: actor.clone(),
            request: request.clone(),
        }
        .into(),
        DestroyRefused { environment: environment.clone(), fault: fault() }.into(),
        TeardownInspected { environment: environment.clone(), unsaved: vec!["a.txt".into()] }
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

macro_rules! kind_numbers {
    ($($kind:ident = $number:literal,)*) => { [$($number as u32),*] };
}

#[test]
fn there_is_a_sample_of_every_kind() {
    let all: BTreeSet<u32> = for_each_event!(kind_numbers).into_iter().collect();
    let sampled: BTreeSet<u32> = samples().iter().map(Event::kind_number).collect();
    assert_eq!(all, sampled);
}

#[test]
fn golden_payloads_are_read_and_written_as_ever() {
    let mut files = BTreeSet::new();
    for event in samples() {
        let name = format!("{:03}-{}.v{KIND_VERSION}.bin", event.kind_number(), event.kind());
        let path = folder().join(&name);
        let written = codec::payload(&event).expect("encoded");
        if !path.exists() && std::env::var_os("GROUNDSKEEPER_BLESS").is_some() {
            std::fs::create_dir_all(folder()).expect("a folder");
            std::fs::write(&path, &written).expect("written");
        }
        let golden = std::fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(written, golden, "{name}: the encoding of a stored kind has changed");
        let sealed = envelope(&event, &golden);
        match codec::decode(&sealed).expect("decoded") {
            Decoded::Record(record) => assert_eq!(record.event, event, "{name}"),
            Decoded::Newer(what) => panic!("{name}: {what}"),
        }
        files.insert(name);
    }
    for entry in std::fs::read_dir(folder()).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        let stray = name.ends_with(".bin") && !files.contains(&name);
        assert!(!stray, "{name}: no test decodes it");
    }
}

fn envelope<'a>(event: &Event, payload: &'a [u8]) -> Envelope<'a> {
    Envelope {
        crc: 0,
        version: envelope::VERSION,
        codec: codec::CODEC_BINCODE1,
        flags: envelope::FLAG_MUST_UNDERSTAND,
        seq: 1,
        at: 1,
        boot: 1,
        kind: event.kind_number(),
        kind_version: 1,
        previous: 0,
        payload,
    }
}

#[test]
fn unknown_kinds_are_kept_or_refused_by_their_flag() {
    let event = Event::from(EnvironmentReady { environment: env() });
    let bytes = codec::payload(&event).expect("encoded");
    let unknown =
        |flags, version| Envelope { kind: 9_999, flags, version, ..envelope(&event, &bytes) };
    let newer = codec::decode(&unknown(envelope::FLAG_MUST_UNDERSTAND, 1)).expect("decoded");
    assert!(matches!(newer, Decoded::Newer(what) if what.contains("9999")));
    for version in [1, 2] {
        match codec::decode(&unknown(0, version)).expect("decoded") {
            Decoded::Record(Record { event: Event::Opaque(o), seq: Seq(1), .. }) => {
                assert_eq!((o.kind, o.payload), (9_999, bytes.clone()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn trailing_and_missing_payload_bytes_are_damage() {
    let event = Event::from(EnvironmentReady { environment: env() });
    let mut bytes = codec::payload(&event).expect("encoded");
    bytes.push(0);
    assert!(codec::decode(&envelope(&event, &bytes)).is_err());
    bytes.truncate(bytes.len() - 2);
    assert!(codec::decode(&envelope(&event, &bytes)).is_err());
}

#[test]
fn a_snapshot_is_read_back_or_ignored() {
    let mut state = State::default();
    for (n, event) in samples().into_iter().enumerate() {
        let record = Record { seq: Seq(n as u64 + 1), at: Time(n as u64), boot: 1, event };
        state.apply(&record);
    }
    let bytes = codec::encode_snapshot(&state, 7).expect("encoded");
    assert_eq!(codec::decode_snapshot(&bytes), Some((state, 7)));
    for at in [0, 5, 12, 20, bytes.len() - 1] {
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        assert_eq!(codec::decode_snapshot(&broken), None, "byte {at}");
    }
}
