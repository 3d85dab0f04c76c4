//! The golden files of `schema/snapshots/`: one state per version of the snapshot format.
//!
//! A file that exists is never rewritten. A missing one is written when the tests run with
//! `GROUNDSKEEPER_BLESS=1`, and committed with the change that adds the version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use crate::codec;
use crate::testing::sample_state::{earlier_state, sample_state, state_without_labels};
use groundskeeper_core::State;
use groundskeeper_core::snapshot::{Frozen as _, v8, v9, v10, v11};

/// Fields of the state that are structs. The other fields are maps, whose keys are ids.
const STRUCTS: [&str; 3] = [".retention", ".sweep", ".live"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schema/snapshots")
}

/// Returns the body of a golden file as its frozen structs encode it.
fn encoded_again(version: u32, body: &[u8]) -> Vec<u8> {
    let encoded = match version {
        v8::VERSION => codec::read_frozen::<v8::State<'_>>(body).map(|s| codec::frozen_body(&s)),
        v9::VERSION => codec::read_frozen::<v9::State<'_>>(body).map(|s| codec::frozen_body(&s)),
        v10::VERSION => codec::read_frozen::<v10::State<'_>>(body).map(|s| codec::frozen_body(&s)),
        v11::VERSION => codec::read_frozen::<v11::State<'_>>(body).map(|s| codec::frozen_body(&s)),
        other => panic!("version {other} is not read"),
    };
    encoded.expect("decoded").expect("encoded")
}

/// Covers every version that is read. The current one is written where its file is missing.
#[test]
fn golden_snapshots_match_frozen_structs() {
    let current = folder().join(format!("v{}.bin", codec::SNAPSHOT_VERSION));
    if !current.exists() && std::env::var_os("GROUNDSKEEPER_BLESS").is_some() {
        let written = codec::encode_snapshot(&sample_state(), 7).expect("encoded");
        std::fs::create_dir_all(folder()).expect("a folder");
        std::fs::write(&current, written).expect("written");
    }
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let golden = std::fs::read(&path).expect("a golden file");
        let name = path.file_stem().and_then(|name| name.to_str()).expect("text");
        let version = name.trim_start_matches('v').parse().expect("a version");
        let same = encoded_again(version, &golden[16..]) == golden[16..];
        assert!(same, "{name}: the frozen structs have changed");
        assert!(codec::decode_snapshot(&golden).is_some(), "{name} is not read");
        found.insert(version);
    }
    assert_eq!(found, BTreeSet::from([v8::VERSION, v9::VERSION, v10::VERSION, v11::VERSION]));
}

/// What is written is of the current version, and the state that is read equals the one written.
#[test]
fn current_snapshot_round_trips() {
    let state = sample_state();
    let written = codec::encode_snapshot(&state, 7).expect("encoded");
    let name = format!("v{}.bin", codec::SNAPSHOT_VERSION);
    let golden = std::fs::read(folder().join(name)).expect("a golden file");
    assert!(written == golden, "the encoding of the state has changed: it needs a new version");
    assert_eq!(codec::decode_snapshot(&written), Some((state, 7)));
}

/// Each earlier version differs only in what it has no place for.
#[test]
fn earlier_snapshots_upgrade() {
    let json = |state: &State| serde_json::to_value(state).expect("json");
    let mut expected = json(&earlier_state());
    let upgraded = |name: &str| {
        let golden = std::fs::read(folder().join(name)).expect("a golden file");
        let (state, crc) = codec::decode_snapshot(&golden).expect("read");
        (json(&state), crc)
    };
    assert_eq!(upgraded("v10.bin"), (json(&state_without_labels()), 7));
    for name in ["rescue_seconds", "rescue_limit_set", "rescue_ends"] {
        empty(&mut expected, name);
    }
    assert_eq!(upgraded("v9.bin"), (expected.clone(), 7));
    empty(&mut expected, "attributes");
    assert_eq!(upgraded("v8.bin"), (expected, 7));
}

/// Empties every field of this name.
fn empty(value: &mut Value, name: &str) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == name {
                    *value = Value::Null;
                }
                empty(value, name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| empty(item, name)),
        _ => {}
    }
}

#[test]
fn unknown_snapshot_version_is_ignored() {
    let state = sample_state();
    let body = codec::frozen_body(&v11::State::freeze(&state)).expect("encoded");
    assert!(codec::decode_snapshot(&codec::frame_snapshot(v11::VERSION, 7, &body)).is_some());
    for version in [0, v8::VERSION - 1, codec::SNAPSHOT_VERSION + 1, u32::MAX] {
        assert_eq!(codec::decode_snapshot(&codec::frame_snapshot(version, 7, &body)), None);
    }
}

/// Notes for every field below a value whether it is set anywhere.
fn collect(path: &str, value: &Value, found: &mut BTreeMap<String, bool>) {
    let is_set = match value {
        Value::Object(fields) => {
            let is_map = path.matches('.').count() == 1 && !STRUCTS.contains(&path);
            for (name, value) in fields {
                let is_key = is_map || name.parse::<u64>().is_ok();
                let name = if is_key { "*" } else { name };
                // All owed steps have the same form, whatever their subject is.
                let path = if path.ends_with(".owed") { ".owed" } else { path };
                collect(&format!("{path}.{name}"), value, found);
            }
            !fields.is_empty()
        }
        Value::Array(items) => {
            for item in items {
                collect(&format!("{path}[]"), item, found);
            }
            !items.is_empty()
        }
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
    };
    *found.entry(path.to_owned()).or_default() |= is_set;
}

/// A field that is at its default everywhere would be missing in the golden files.
#[test]
fn sample_state_sets_every_field() {
    let value = serde_json::to_value(sample_state()).expect("json");
    let mut found = BTreeMap::new();
    collect("", &value, &mut found);
    let unset: Vec<_> = found.iter().filter(|(_, set)| !**set).map(|(path, _)| path).collect();
    assert!(unset.is_empty(), "{unset:#?}");
}
