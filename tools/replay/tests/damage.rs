//! Logs as they are found: cut, flipped, foreign, newer, empty. Never a panic, never a write, never
//! a wrong record; and what is partial says so. Where no log is named, which one is found.

#![allow(clippy::expect_used, reason = "test code: a failed expectation ends the test")]

mod story;

use std::ops::ControlFlow;
use std::path::Path;

use groundskeeper_journal::codec::{self, Decoded};
use groundskeeper_journal::forensic::Range;
use groundskeeper_journal::salvage::Salvage;
use groundskeeper_journal::{ReadOnlyLog, envelope};
use proptest::prelude::*;

use story::{Scene, long, ok, records, replay, started, story, sum};

const VERBS: [&str; 7] = ["verify", "stats", "list", "at", "owed", "timeline", "check-replay"];

/// Every verb says what is wrong, with a hint, and the file is as it was.
fn check_all_verbs_refuse(path: &Path, codes: &[i32], says: &str) {
    let before = path.is_file().then(|| sum(path));
    for verb in VERBS {
        let printed = replay(&[verb, path.to_str().expect("text")]);
        assert!(codes.contains(&printed.code), "{verb}: {} {}", printed.code, printed.all());
        assert!(
            printed.all().contains(says) && printed.err.contains("hint:"),
            "{verb}: {}",
            printed.all()
        );
    }
    assert!(path.is_file().then(|| sum(path)) == before, "the input file was changed");
}

#[test]
fn non_log_files_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    check_all_verbs_refuse(&path("missing"), &[3], "No such file");
    check_all_verbs_refuse(dir.path(), &[3], "log.redb");
    // Nobody will ever write to this pipe.
    let made = std::process::Command::new("mkfifo").arg(path("pipe")).status();
    assert!(made.expect("mkfifo runs").success());
    check_all_verbs_refuse(&path("pipe"), &[3], "it is not a file");
    std::fs::write(path("empty"), "").expect("written");
    check_all_verbs_refuse(&path("empty"), &[1], "the file is empty");
    std::fs::write(path("text"), "once upon a time\n".repeat(1_000)).expect("written");
    check_all_verbs_refuse(&path("text"), &[3], "is not a log");
    let printed = replay(&["salvage", path("text").to_str().expect("text"), "/nonexistent/new"]);
    assert!(printed.code == 3 && printed.err.contains("no whole record"), "{}", printed.err);
    std::fs::write(path("half"), b"redb").expect("written");
    check_all_verbs_refuse(&path("half"), &[1], "cannot be read");
    std::fs::write(path("flat"), b"GKF1").expect("written");
    check_all_verbs_refuse(&path("flat"), &[1], "shorter than its head");
}

#[test]
fn flipped_bit_is_located_rest_readable() {
    let scene = Scene::new(&story());
    let mut bytes = std::fs::read(&scene.log).expect("read");
    let needle = b"untracked: secret-notes.txt";
    // The last copy is the one that counts; others lie in pages that are not in use any more.
    let spots: Vec<usize> =
        (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    for at in &spots {
        bytes[*at] ^= 1;
    }
    std::fs::write(&scene.log, &bytes).expect("written");
    let file = scene.file();
    let printed = replay(&["verify", file]);
    assert!(
        printed.code == 1 && printed.out.contains("record 12 has a wrong checksum"),
        "{}",
        printed.all()
    );
    assert!(printed.out.contains("record 14 has a wrong checksum"), "all damage is listed");
    assert!(printed.out.contains("checked up to record 11 only"), "{}", printed.out);
    let printed = replay(&["list", file]);
    assert!(printed.code == 1 && printed.out.lines().count() == 22, "{}", printed.all());
    assert!(printed.err.contains("partial: 2 records"), "{}", printed.err);
    let printed = replay(&["at", file, "--json"]);
    assert_eq!((printed.code, &printed.json()["seq"]), (1, &11.into()));
    assert!(printed.json()["partial"].as_str().expect("partial").contains("record 12"));
    assert_eq!(replay(&["at", file, "11"]).code, 0, "before the damage all is well");
    assert_eq!(replay(&["explain", file, "demo"]).code, 1);
    assert_eq!(replay(&["stats", file, "--json"]).json()["damaged"], 2);
    assert!(std::fs::read(&scene.log).expect("read") == bytes, "the input file was changed");
    let new = scene.path("new.redb");
    let printed = replay(&["salvage", file, new.to_str().expect("text"), "--json"]);
    assert_eq!(
        (printed.code, printed.json()["lost_ranges"].to_string()),
        (1, "[[12,12],[14,14]]".into())
    );
    let listed = replay(&["list", new.to_str().expect("text")]);
    assert!(listed.out.contains("this record was lost"), "{}", listed.out);
    assert_eq!(listed.out.lines().count(), 24);
}

#[test]
fn file_without_header_is_salvaged() {
    let all = long(40);
    let scene = Scene::new(&all);
    let id = ok(&["stats", scene.file(), "--json"]).json()["log_id"].clone();
    let mut bytes = std::fs::read(&scene.log).expect("read");
    bytes[..512].fill(0);
    std::fs::write(&scene.log, &bytes).expect("written");
    check_all_verbs_refuse(&scene.log, &[3], "is not a log");
    let new = scene.path("new.redb");
    let printed = ok(&["salvage", scene.file(), new.to_str().expect("text"), "--json"]).json();
    assert_eq!(printed["records"].as_u64(), Some(all.len() as u64));
    assert_eq!((&printed["log_id"], &printed["lost"]), (&id, &0.into()));
    ok(&["verify", new.to_str().expect("text")]);
    assert!(std::fs::read(&scene.log).expect("read") == bytes, "the input file was changed");
}

#[test]
fn truncated_file_fails_or_salvages_partly() {
    let all = long(40);
    let scene = Scene::new(&all);
    let bytes = std::fs::read(&scene.log).expect("read");
    let cut = scene.path("cut.redb");
    for tenths in 1..10 {
        std::fs::write(&cut, &bytes[..bytes.len() * tenths / 10]).expect("written");
        let before = sum(&cut);
        let file = cut.to_str().expect("text");
        for verb in ["verify", "list", "stats"] {
            let printed = replay(&[verb, file]);
            assert!(
                printed.code == 1 || printed.code == 3,
                "{verb} at {tenths}: {}",
                printed.all()
            );
        }
        let new = scene.path(&format!("new{tenths}.redb"));
        let printed = replay(&["salvage", file, new.to_str().expect("text"), "--json"]);
        assert!([0, 1, 3].contains(&printed.code), "{}", printed.all());
        if printed.code < 3 {
            let (found, lost) = (printed.json()["records"].clone(), printed.json()["lost"].clone());
            let sum = found.as_u64().unwrap_or(0) + lost.as_u64().unwrap_or(0);
            assert!(sum <= all.len() as u64, "{tenths}: {found} found, {lost} lost");
        }
        assert!(sum(&cut) == before, "the input file was changed");
    }
}

#[test]
fn truncated_flat_log_reports_cut() {
    let scene = Scene::new(&story());
    let flat = scene.path("log.flat");
    let file = flat.to_str().expect("text");
    ok(&["export", scene.file(), "--format", "flat", "-O", file]);
    let bytes = std::fs::read(&flat).expect("read");
    for cut in [bytes.len() - 1, bytes.len() - 20, bytes.len() - 21, bytes.len() / 2, 41] {
        std::fs::write(&flat, &bytes[..cut]).expect("written");
        for verb in ["verify", "list", "at"] {
            let printed = replay(&[verb, file]);
            assert_eq!(printed.code, 1, "{verb} at {cut}: {}", printed.all());
        }
    }
}

#[test]
fn newer_record_is_refused_if_required() {
    let newer = groundskeeper_core::event::Opaque { kind: 9_999, version: 3, payload: vec![1, 2] };
    let mut events = vec![started()];
    events.push(groundskeeper_core::Event::Opaque(newer));
    let scene = Scene::new(&records(events));
    // It need not be understood, so everything goes on; it is shown as what it is.
    ok(&["verify", scene.file()]);
    assert!(ok(&["list", scene.file()]).out.contains("kind 9999 version 3, 2 bytes"));
}

#[test]
fn unreadable_log_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new(&story());
    let mode = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(&scene.log, mode).expect("mode");
    if std::fs::File::open(&scene.log).is_ok() {
        // A user who may read everything has nothing to be refused.
        return;
    }
    check_all_verbs_refuse(&scene.log, &[3], "Permission denied");
}

/// What a damaged file still gives must be what was written.
fn read_all(path: &Path, original: &[(u64, Vec<u8>)]) -> Result<(), TestCaseError> {
    let Ok(log) = ReadOnlyLog::open(path) else { return Ok(()) };
    let mut wrong = None;
    // What redb cannot walk comes back as an error, and that is fine.
    let _walked = log.walk(Range::ALL, &mut |key, bytes| {
        let Ok(sealed) = envelope::open(key, bytes) else { return ControlFlow::Continue(()) };
        let known = original.iter().any(|(seq, record)| *seq == sealed.seq && record == bytes);
        let decodes = matches!(codec::decode(&sealed), Ok(Decoded::Record(_)));
        if !known || !decodes {
            wrong = Some(key);
        }
        ControlFlow::Continue(())
    });
    prop_assert_eq!(wrong, None, "a record that was never written was returned");
    Ok(())
}

fn bytes_of(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let log = ReadOnlyLog::open(path).expect("intact");
    let mut all = Vec::new();
    log.walk(Range::ALL, &mut |key, bytes| {
        all.push((key, bytes.to_vec()));
        ControlFlow::Continue(())
    })
    .expect("intact");
    all
}

#[test]
fn flipped_bits_yield_no_wrong_record() {
    // What redb says by panicking comes back as an error; thousands of its messages help nobody.
    std::panic::set_hook(Box::new(|_| {}));
    let scene = Scene::new(&story());
    let original = bytes_of(&scene.log);
    let clean = std::fs::read(&scene.log).expect("read");
    let used = clean.iter().rposition(|b| *b != 0).unwrap_or(0) + 1;
    let broken = scene.path("broken.redb");
    let config = ProptestConfig { cases: 2_000, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let flips = proptest::collection::vec((0..used, 0..8_u32), 1..4);
    let done = runner.run(&flips, |flips| {
        let mut bytes = clean.clone();
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
        }
        std::fs::write(&broken, &bytes).expect("written");
        read_all(&broken, &original)?;
        let found = Salvage::scan(&broken).expect("scanned");
        let mut buffer = Vec::new();
        for place in &found.records {
            let record = found.read(place, &mut buffer).expect("whole");
            prop_assert!(original.iter().any(|(seq, _)| *seq == record.seq), "{}", record.seq);
        }
        // Three bits damage three records at most; older copies may stand in for them.
        prop_assert!(found.records.len() + 3 >= original.len(), "{:?}", found.lost);
        prop_assert!(std::fs::read(&broken).expect("read") == bytes, "the input file was changed");
        Ok(())
    });
    drop(std::panic::take_hook());
    done.expect("no flip gives a wrong record");
}

/// Without a log it is that of the daemon of this user.
#[test]
fn data_directory_of_user_is_read_where_none_is_named() {
    let scene = Scene::new(&story());
    let home = scene.path("home");
    let data = home.join(".local/share/groundskeeper");
    std::fs::create_dir_all(&data).expect("a folder");
    std::fs::copy(scene.file(), data.join("log.redb")).expect("copied");
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_replay"));
        command.args(args).env("HOME", &home).env_remove("XDG_DATA_HOME");
        let output = command.env_remove("GROUNDSKEEPER_HOME").output().expect("it runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(run(&["list", "--last", "3"]), ok(&["list", scene.file(), "--last", "3"]).out);
    assert_eq!(run(&["explain", "demo"]), ok(&["explain", scene.file(), "demo"]).out);
    for verb in ["verify", "stats", "timeline", "check-replay"] {
        assert!(!run(&[verb]).is_empty(), "{verb}");
    }
}
