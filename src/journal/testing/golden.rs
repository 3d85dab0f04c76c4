//! The golden files of `schema/events/`: one payload per kind and version, decoded for good.
//!
//! A file that exists is never rewritten. A missing one is written when the tests run with
//! `GROUNDSKEEPER_BLESS=1`, and committed with the change that adds the kind.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::codec::{self, Decoded};
use crate::envelope::{self, Envelope};
use crate::testing::parts::{actor, commit, env, fault, nonce, plan, worktree};
use crate::testing::samples::samples;
use crate::upcast::{
    CleanRequestedV1, CleanedV1, DestroyRequestedV1, EnvironmentAdoptedV1, LateWorkRescuedV1,
    MigrationUndoRequestedV1, ProvisionRequestedV1, ProvisionRequestedV2, RescueV1, RestoreFromV1,
    RestoreRequestedV1, RetentionChangedV1, RetentionChangedV2, RolledBackV1, RolledBackV2,
    SetupFinishedV1, TeardownHookFinishedV1, TeardownInspectedV1, TeardownInspectedV2,
    WorkRescuedV1,
};
use groundskeeper_core::event::{
    EnvironmentReady, MigrationPlan, MigrationRequested, Record, SetupReport, Size,
};
use groundskeeper_core::for_each_event;
use groundskeeper_core::{Event, MigrationId, RequestId, Seq, State, Time};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schema/events")
}

macro_rules! kind_numbers {
    ($($kind:ident = $number:literal, $version:literal;)*) => { [$($number as u32),*] };
}

#[test]
fn every_kind_has_sample() {
    let all: BTreeSet<u32> = for_each_event!(kind_numbers).into_iter().collect();
    let sampled: BTreeSet<u32> = samples().iter().map(Event::kind_number).collect();
    assert_eq!(all, sampled);
}

#[test]
fn golden_payloads_match_current_encoding() {
    let mut files = BTreeSet::new();
    for event in samples() {
        let (number, version) = (event.kind_number(), event.kind_version());
        let name = format!("{number:03}-{}.v{version}.bin", event.kind());
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
    files.extend(past_payloads().into_iter().map(|(name, ..)| name.to_owned()));
    for entry in std::fs::read_dir(folder()).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        let stray = name.ends_with(".bin") && !files.contains(&name);
        assert!(!stray, "{name}: no test decodes it");
    }
}

/// Returns payloads of earlier versions: name of the golden file, bytes, kind, and today's event.
fn past_payloads() -> Vec<(&'static str, Vec<u8>, u32, Event)> {
    let (environment, leftovers) = (env(), vec!["branch".to_owned()]);
    let unsaved = vec!["a.txt".to_owned()];
    let request = Some(RequestId::parse("key-2").expect("a key"));
    let rolled = || RolledBackV1 { environment: environment.clone(), leftovers: leftovers.clone() };
    let destroy = || DestroyRequestedV1 {
        environment: environment.clone(),
        force: true,
        actor: actor(),
        request: request.clone(),
    };
    let inspected =
        || TeardownInspectedV1 { environment: environment.clone(), unsaved: unsaved.clone() };
    let kept = || RetentionChangedV1 { trash_seconds: 604_800, trash_bytes: 1 << 34 };
    let keeps = || RetentionChangedV2::from(kept());
    let clean = || CleanRequestedV1 { environment: environment.clone(), actor: actor() };
    let cleaned = || CleanedV1 {
        environment: environment.clone(),
        paths: vec!["target".into()],
        size: Size { entries: 7, apparent: 70, allocated: 700 },
        fault: Some(fault()),
    };
    let undo = || {
        let migration = MigrationId::parse("43ed30c8").expect("a name");
        MigrationUndoRequestedV1 { migration, actor: actor() }
    };
    vec![
        ("133-MigrationUndoRequested.v1.bin", crate::payload::bytes(&undo()), 133, undo().into()),
        ("003-RetentionChanged.v1.bin", crate::payload::bytes(&kept()), 3, keeps().into()),
        ("003-RetentionChanged.v2.bin", crate::payload::bytes(&keeps()), 3, keeps().into()),
        ("085-CleanRequested.v1.bin", crate::payload::bytes(&clean()), 85, clean().into()),
        ("086-Cleaned.v1.bin", crate::payload::bytes(&cleaned()), 86, cleaned().into()),
        ("019-RolledBack.v1.bin", crate::payload::bytes(&rolled()), 19, rolled().into()),
        ("030-DestroyRequested.v1.bin", crate::payload::bytes(&destroy()), 30, destroy().into()),
        (
            "032-TeardownInspected.v1.bin",
            crate::payload::bytes(&inspected()),
            32,
            inspected().into(),
        ),
    ]
    .into_iter()
    .chain(payloads_without_nonce())
    .chain(single_commit_rescue_payloads())
    .collect()
}

/// Returns payloads from before incarnations had a nonce.
fn payloads_without_nonce() -> Vec<(&'static str, Vec<u8>, u32, Event)> {
    let (environment, key) = (env(), |key| Some(RequestId::parse(key).expect("a key")));
    let provision = || ProvisionRequestedV1 {
        environment: environment.clone(),
        incarnation: 2,
        plan: plan(),
        actor: actor(),
        request: key("key-1"),
    };
    let second = || ProvisionRequestedV2 {
        environment: environment.clone(),
        incarnation: 2,
        plan: plan(),
        actor: actor(),
        request: key("key-1"),
        nonce: Some(nonce()),
    };
    let restore = || RestoreRequestedV1 {
        environment: environment.clone(),
        incarnation: 3,
        from: RestoreFromV1 {
            incarnation: 2,
            trash: Some("/trash/demo.2/project".into()),
            head: commit(),
            rescue: commit(),
        },
        plan: plan(),
        actor: actor(),
        request: key("key-3"),
    };
    let adopt = || EnvironmentAdoptedV1 {
        environment: environment.clone(),
        incarnation: 4,
        plan: plan(),
        head: commit(),
        worktree: worktree(),
        actor: actor(),
    };
    vec![
        (
            "010-ProvisionRequested.v1.bin",
            crate::payload::bytes(&provision()),
            10,
            provision().into(),
        ),
        ("010-ProvisionRequested.v2.bin", crate::payload::bytes(&second()), 10, second().into()),
        ("022-RestoreRequested.v1.bin", crate::payload::bytes(&restore()), 22, restore().into()),
        ("025-EnvironmentAdopted.v1.bin", crate::payload::bytes(&adopt()), 25, adopt().into()),
    ]
}

/// Returns payloads from before a rescue could be more than one commit.
fn single_commit_rescue_payloads() -> Vec<(&'static str, Vec<u8>, u32, Event)> {
    let environment = env();
    let rescue = || RescueV1 {
        reference: "refs/groundskeeper/rescue/demo/2".into(),
        commit: commit(),
        holds: vec!["3 untracked files".into()],
        lacks: vec!["nested: a repository of its own".into()],
    };
    let rolled = || RolledBackV2 {
        environment: environment.clone(),
        leftovers: vec!["branch".into()],
        trash: Some("/trash/demo.1".into()),
    };
    let inspected = || TeardownInspectedV2 {
        environment: environment.clone(),
        unsaved: vec!["a.txt".into()],
        fingerprint: "ef".repeat(32),
        head: "0123456789012345678901234567890123456789".into(),
        rescue: true,
        has_hook: true,
        quiet: true,
    };
    let saved = || WorkRescuedV1 { environment: environment.clone(), rescue: Some(rescue()) };
    let late =
        || LateWorkRescuedV1 { environment: environment.clone(), incarnation: 2, rescue: rescue() };
    let setup = || SetupFinishedV1 {
        environment: environment.clone(),
        report: SetupReport { millis: 1_500, output_bytes: 42, transcript: "/t/demo.1".into() },
    };
    let hook = || TeardownHookFinishedV1 {
        environment: environment.clone(),
        millis: 250,
        fault: Some(fault()),
    };
    vec![
        ("015-SetupFinished.v1.bin", crate::payload::bytes(&setup()), 15, setup().into()),
        ("061-TeardownHookFinished.v1.bin", crate::payload::bytes(&hook()), 61, hook().into()),
        ("019-RolledBack.v2.bin", crate::payload::bytes(&rolled()), 19, rolled().into()),
        (
            "032-TeardownInspected.v2.bin",
            crate::payload::bytes(&inspected()),
            32,
            inspected().into(),
        ),
        ("063-WorkRescued.v1.bin", crate::payload::bytes(&saved()), 63, saved().into()),
        ("076-LateWorkRescued.v1.bin", crate::payload::bytes(&late()), 76, late().into()),
    ]
}

#[test]
fn past_payload_versions_upgrade() {
    for (name, written, kind, today) in past_payloads() {
        let golden = std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(written, golden, "{name}: the frozen struct has changed");
        let version = name.rsplit(".v").next().and_then(|v| v.strip_suffix(".bin"));
        let kind_version = version.and_then(|v| v.parse().ok()).expect("a version");
        let sealed = Envelope { kind, kind_version, ..envelope(&today, &golden) };
        match codec::decode(&sealed).expect("decoded") {
            Decoded::Record(record) => assert_eq!(record.event, today, "{name}"),
            Decoded::Newer(what) => panic!("{name}: {what}"),
        }
    }
}

/// Returns the frame of a payload, as a log without other records would have it.
pub(super) fn envelope<'a>(event: &Event, payload: &'a [u8]) -> Envelope<'a> {
    Envelope {
        crc: 0,
        version: envelope::VERSION,
        codec: codec::CODEC_BINCODE1,
        flags: envelope::FLAG_MUST_UNDERSTAND,
        seq: 1,
        at: 1,
        boot: 1,
        kind: event.kind_number(),
        kind_version: event.kind_version(),
        previous: 0,
        payload,
    }
}

/// The bytes are those from before these fields were options.
#[test]
fn none_is_stored_as_empty_value() {
    let plan = MigrationPlan::default();
    let stored = crate::payload::bytes(&("", "", "", "", "", "", "", false, 0_u64));
    assert_eq!(crate::payload::bytes(&plan), stored);
    let migration = MigrationId::parse("43ed30c8").expect("a name");
    let event = Event::from(MigrationRequested { migration, plan, actor: actor() });
    let bytes = codec::payload(&event).expect("encoded");
    match codec::decode(&envelope(&event, &bytes)).expect("decoded") {
        Decoded::Record(record) => assert_eq!(record.event, event),
        Decoded::Newer(what) => panic!("{what}"),
    }
}

/// Without the flag they are kept as opaque; with it they are refused.
#[test]
fn unknown_kinds_follow_must_understand_flag() {
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
fn payload_with_wrong_length_is_rejected() {
    let event = Event::from(EnvironmentReady { environment: env() });
    let mut bytes = codec::payload(&event).expect("encoded");
    bytes.push(0);
    assert!(codec::decode(&envelope(&event, &bytes)).is_err());
    bytes.truncate(bytes.len() - 2);
    assert!(codec::decode(&envelope(&event, &bytes)).is_err());
}

/// A snapshot with a flipped byte is not used.
#[test]
fn snapshot_round_trips_or_is_ignored() {
    let mut state = State::default();
    for (n, event) in samples().into_iter().enumerate() {
        let record = Record { seq: Seq(n as u64 + 1), at: Time(n as u64), boot: 1, event };
        state.apply(&record);
    }
    let bytes = codec::encode_snapshot(&state, 7).expect("encoded");
    assert_eq!(codec::decode_snapshot(&bytes), Some((state, 7)));
    for at in [0, 4, 5, 12, 20, bytes.len() - 1] {
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        assert_eq!(codec::decode_snapshot(&broken), None, "byte {at}");
    }
}
