//! The program on logs as it will meet them: intact, damaged, missing; and it changes none.

use std::path::Path;
use std::process::{Command, Output};

use groundskeeper::core::event::{DaemonStarted, Record};
use groundskeeper::core::{Event, Seq, State, Time};
use groundskeeper::journal::{Journal, Options};

fn log(path: &Path, records: u64) {
    let (mut journal, _) = Journal::open(path, Options::default()).expect("a new log");
    let mut state = State::default();
    for seq in 1..=records {
        let event: Event = DaemonStarted { pid: 7, version: format!("v{seq}") }.into();
        let record = Record { seq: Seq(seq), at: Time(seq), boot: 1, event };
        state.apply(&record);
        journal.append(&[record], &state).expect("appended");
    }
}

fn replay(args: &[&str]) -> (Option<i32>, String) {
    let output: Output =
        Command::new(env!("CARGO_BIN_EXE_replay")).args(args).output().expect("it runs");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

#[test]
fn an_intact_log_is_shown_and_verified() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log.redb");
    log(&path, 5);
    let before = std::fs::read(&path).expect("read");
    let file = path.to_str().expect("text");
    let (code, text) = replay(&["verify", file]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("5 records, 1 to 5"), "{text}");
    let (code, text) = replay(&["--json", "show", file]);
    assert_eq!((code, text.lines().count()), (Some(0), 5));
    let (code, text) = replay(&["show", file, "3"]);
    assert!(code == Some(0) && text.contains("\"v3\""), "{text}");
    assert_eq!(replay(&["show", file, "6"]).0, Some(1));
    assert!(std::fs::read(&path).expect("read") == before, "the evidence was changed");
}

#[test]
fn damage_is_reported_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log.redb");
    log(&path, 5);
    let mut bytes = std::fs::read(&path).expect("read");
    let at = bytes.windows(2).position(|w| w == b"v3").expect("the third record");
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    let (code, text) = replay(&["verify", path.to_str().expect("text")]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("record 3 has a wrong checksum") && text.contains("hint:"), "{text}");
    assert!(std::fs::read(&path).expect("read") == bytes, "the evidence was changed");
}

#[test]
fn what_is_no_log_is_said_to_be_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("missing");
    assert_eq!(replay(&["verify", missing.to_str().expect("text")]).0, Some(3));
    assert_eq!(replay(&["verify", dir.path().to_str().expect("text")]).0, Some(3));
    assert_eq!(replay(&["verify"]).0, Some(2));
}
