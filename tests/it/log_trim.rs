//! A log that is trimmed by size and by age: every answer is the same, what was trimmed is read
//! with the rest, and a kill in the middle changes nothing.

use std::path::PathBuf;

use groundskeeper::failpoint::kill::POINTS;
use groundskeeper::journal::ReadOnlyLog;
use serde_json::Value;

use crate::former_lives::{append, events, name};
use crate::replay::{json, replay, text};
use crate::support::{Daemon, Harness, wait_for};

/// Lives in the log before the daemon starts: more than one MiB of records.
const LIVES: usize = 2_000;

/// Returns a harness with a live environment and a long log, whose daemons use these settings.
fn long_log(settings: &str) -> (Harness, PathBuf) {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let daemon = Daemon::start(&harness);
    harness.new_env("demo", &repo, &[]);
    harness.drain();
    harness.ok(&["stop"]);
    drop(daemon);
    append(&harness.data().join("log.redb"), 0..LIVES);
    harness.write(&harness.path("config.toml"), settings);
    (harness, repo)
}

fn start(harness: &Harness, more: &[(&str, &str)]) -> Daemon {
    let config = harness.path("config.toml");
    let mut env = vec![("GROUNDSKEEPER_CONFIG", text(&config))];
    env.extend_from_slice(more);
    Daemon::start_with(harness, &env)
}

const BY_SIZE: &str = "log_megabytes = 1\n";

fn trims(harness: &Harness) -> Vec<Value> {
    events(harness, &[]).into_iter().filter(|event| event["kind"] == "LogTrimmed").collect()
}

/// Waits until the log is trimmed and the trimmed records are gone. Returns the last trimmed one.
fn await_trim(harness: &Harness) -> u64 {
    wait_for("a trim", || !trims(harness).is_empty());
    let last = || trims(harness).last().and_then(|trim| trim["last"].as_u64()).expect("a seq");
    wait_for("the end of the removal", || {
        events(harness, &[]).first().is_some_and(|first| first["first"] == last() + 1)
    });
    last()
}

fn segments(harness: &Harness) -> Vec<String> {
    let entries = std::fs::read_dir(harness.data().join("log-archive"));
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Checks that log and segments are one log, which leads to the daemon's state.
fn check_whole(harness: &Harness) {
    let data = harness.data();
    let verified = json(&["verify", text(&data)]);
    assert_eq!((&verified["ok"], &verified["first"]), (&Value::Bool(true), &Value::from(1)));
    let checked = json(&["check-replay", text(&data)]);
    assert_eq!(checked["ok"], true, "{checked:#}");
    let told = replay(&["explain", text(&data), &name(7)]);
    assert!(told.code == 0 && told.out.contains("incarnation 1"), "{} {}", told.out, told.err);
}

#[test]
fn log_is_trimmed_by_size_and_read_with_its_segments() {
    let (harness, repo) = long_log(BY_SIZE);
    let daemon = start(&harness, &[]);
    let last = await_trim(&harness);
    let trimmed = trims(&harness).remove(0);
    assert_eq!((&trimmed["reason"], &trimmed["last"]), (&"size".into(), &last.into()));
    assert_eq!(segments(&harness), [format!("1-{last}.flat.zst")]);
    // Through the daemon, and from its files.
    check_whole(&harness);
    harness.check_log();
    harness.check(&[&repo]);
    harness.new_env("later", &repo, &[]);
    // A life whose records are trimmed is over, and known.
    assert_eq!(harness.phase(&name(7)), "tombstoned");
    assert_eq!(harness.ok(&["logs", &name(7)])["incarnation"], 1);
    let (_, refused) = harness.refused(&["exec", &name(7), "--", "true"]);
    assert_eq!(refused["code"], "environment_destroyed", "{refused:#}");
    harness.ok(&["stop"]);
    drop(daemon);
    check_whole(&harness);
    let log = ReadOnlyLog::open(&harness.data().join("log.redb")).expect("opened");
    assert_eq!(log.first(), last + 1);
    let _daemon = start(&harness, &[]);
    assert_eq!(harness.phase("demo"), "ready");
    harness.ok(&["rm", "demo"]);
    harness.ok(&["rm", "later"]);
    harness.drain();
    harness.check(&[&repo]);
}

/// A reader from before gets told where the log begins, and nothing is passed over silently.
#[test]
fn readers_are_told_where_the_log_begins() {
    let (harness, _repo) = long_log(BY_SIZE);
    let _daemon = start(&harness, &[]);
    let last = await_trim(&harness);
    for since in ["0", "17"] {
        let read = events(&harness, &["--since", since]);
        assert_eq!((&read[0]["fresh"], &read[0]["first"]), (&true.into(), &(last + 1).into()));
        assert_eq!(read[1]["seq"], last + 1);
    }
    let read = events(&harness, &["--since", &last.to_string()]);
    assert_eq!(read[0]["seq"], last + 1, "nothing is missing");
    let shown = harness.command(&["events"]).output().expect("it runs");
    let note = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(note.contains("trimmed") && note.contains("replay list"), "{note}");
    // Its beginning is trimmed.
    let logs = harness.ok(&["logs", "demo"]);
    assert_eq!(logs["incarnation"], 1, "{logs:#}");
}

/// The clock goes on by 110 days.
#[test]
fn log_is_trimmed_by_age() {
    let (harness, _repo) = long_log("");
    let clock = harness.path("clock");
    harness.write(&clock, "0");
    let env = [("GROUNDSKEEPER_CLOCK_FILE", text(&clock))];
    let daemon = start(&harness, &env);
    harness.ok(&["ls"]);
    assert_eq!(trims(&harness), Vec::<Value>::new(), "nothing is that old");
    harness.ok(&["stop"]);
    drop(daemon);
    harness.write(&clock, &(110 * 86_400).to_string());
    let _daemon = start(&harness, &env);
    await_trim(&harness);
    let trimmed = trims(&harness).remove(0);
    assert_eq!(trimmed["reason"], "age");
    assert_eq!(harness.phase("demo"), "ready", "what lives stays, however old it is");
    check_whole(&harness);
}

#[test]
fn unlimited_log_is_never_trimmed() {
    let (harness, _repo) = long_log("log_days = \"never\"\nlog_megabytes = \"never\"\n");
    let clock = harness.path("clock");
    harness.write(&clock, &(4_000 * 86_400).to_string());
    let _daemon = start(&harness, &[("GROUNDSKEEPER_CLOCK_FILE", text(&clock))]);
    // An answer after the start: a trim that is due begins before it.
    harness.ok(&["sweep"]);
    assert_eq!(trims(&harness), Vec::<Value>::new());
    assert_eq!(segments(&harness), Vec::<String>::new());
}

/// Without segments the log, its backup and its fork begin with the same state.
#[test]
fn trimmed_log_without_segments_is_backed_up_and_put_back() {
    let (harness, repo) = long_log("log_megabytes = 1\nlog_archive = \"off\"\n");
    let daemon = start(&harness, &[]);
    let last = await_trim(&harness);
    assert_eq!(segments(&harness), Vec::<String>::new());
    assert_eq!(trims(&harness)[0]["segment"], Value::Null);
    let data = harness.data();
    let verified = json(&["verify", text(&data)]);
    let first = Value::from(last + 1);
    assert_eq!((&verified["ok"], &verified["first"]), (&true.into(), &first), "{verified:#}");
    let backup = harness.path("backup.flat");
    let made = harness.ok(&["backup", text(&backup)]);
    assert_eq!(made["first"], first);
    assert_eq!(json(&["verify", text(&backup)])["ok"], true);
    harness.ok(&["stop"]);
    drop(daemon);
    let fork = harness.path("fork.redb");
    let forked = replay(&["fork", "--at", "last", text(&data), text(&fork)]);
    assert_eq!(forked.code, 0, "{}", forked.err);
    assert_eq!(json(&["verify", text(&fork)])["ok"], true);
    let log = data.join("log.redb");
    let whole = std::fs::read(&log).expect("read");
    std::fs::remove_file(&log).expect("removed");
    let restored = replay(&["restore", text(&backup), text(&data)]);
    assert_eq!(restored.code, 0, "{}", restored.err);
    let daemon = start(&harness, &[]);
    assert_eq!(harness.phase("demo"), "ready", "it is managed as before");
    // A forgotten life, of which no record is left, is over in the copy, too.
    let (_, refused) = harness.refused(&["exec", &name(7), "--", "true"]);
    assert_eq!(refused["code"], "environment_destroyed", "{refused:#}");
    harness.new_env(&name(7), &repo, &[]);
    assert_eq!(harness.ok(&["show", &name(7)])["incarnation"], 2);
    harness.ok(&["stop"]);
    drop(daemon);
    // A scan finds the base, too.
    let (broken, saved) = (harness.path("broken.redb"), harness.path("saved.redb"));
    std::fs::write(&broken, &whole[..whole.len() - 1]).expect("written");
    let report = replay(&["salvage", text(&broken), text(&saved), "--json"]);
    let report: Value = serde_json::from_str(&report.out).expect("one object");
    assert_eq!((&report["trimmed"], &report["lost"]), (&last.into(), &0.into()), "{report:#}");
    std::fs::rename(&saved, &log).expect("renamed");
    let _daemon = start(&harness, &[]);
    let (_, refused) = harness.refused(&["exec", &name(8), "--", "true"]);
    assert_eq!(refused["code"], "environment_destroyed", "{refused:#}");
    harness.ok(&["rm", "demo"]);
    harness.drain();
}

#[test]
fn kills_during_trims_are_survived() {
    for point in POINTS.iter().filter(|point| point.starts_with("trim.")) {
        for times in 1..=2 {
            let (harness, repo) = long_log(BY_SIZE);
            let armed = format!("{point}:{times}");
            let mut daemon = start(&harness, &[("GROUNDSKEEPER_KILL_AT", &armed)]);
            // Only the removal has a second step.
            let is_reached = times == 1 || *point == "trim.removed_some";
            if is_reached {
                wait_for("the end of a killed daemon", || daemon.is_dead());
            } else {
                await_trim(&harness);
                daemon.kill();
            }
            drop(daemon);
            harness.check_log();
            let _daemon = start(&harness, &[]);
            await_trim(&harness);
            check_whole(&harness);
            assert!(segments(&harness).iter().all(|name| !name.starts_with('.')), "{armed}");
            harness.ok(&["rm", "demo"]);
            harness.drain();
            harness.check(&[&repo]);
        }
    }
}
