//! Every verb, through the program, on an intact log: what it says, and that it changes nothing.

#![allow(clippy::expect_used, reason = "test code: a failed expectation ends the test")]

mod story;

use std::path::Path;

use groundskeeper_core::Seq;
use groundskeeper_journal::inspect::Depth;
use groundskeeper_journal::{Journal, Options, inspect};
use serde_json::Value;

use story::{Scene, ok, replay, story, sum};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("json")).collect()
}

#[test]
fn records_can_be_listed_and_filtered() {
    let scene = Scene::new(&story());
    let (file, before) = (scene.file(), sum(&scene.log));
    assert_eq!(ok(&["list", file]).out.lines().count(), 24);
    let seqs = |args: &[&str]| -> Vec<u64> {
        let mut all = vec!["list", file, "--json"];
        all.extend(args);
        lines(&ok(&all).out).iter().map(|r| r["seq"].as_u64().expect("seq")).collect()
    };
    assert_eq!(seqs(&["--env", "fails"]), [22, 23, 24]);
    assert_eq!(seqs(&["--kind", "tombstoned"]), [20]);
    assert_eq!(seqs(&["-o", "daemon", "-o", "trash"]), [1, 2, 21]);
    assert_eq!(seqs(&["--from", "3", "--to", "5"]), [3, 4, 5]);
    assert_eq!(seqs(&["--last", "2"]), [23, 24]);
    assert_eq!(seqs(&["--last", "2", "--reverse"]), [24, 23]);
    assert_eq!(seqs(&["--reverse", "--env", "other", "--kind", "BaseResolved"]), [8]);
    assert_eq!(seqs(&["--since", "2026-11-22T00:00:23Z"]), [23, 24]);
    assert_eq!(seqs(&["--until", "2026-11-22 00:00:02"]), [1, 2]);
    assert_eq!(seqs(&["--actor", "pid:4242", "--env", "demo"]), [3, 11, 13]);
    assert_eq!(seqs(&["--grep", "secret-notes"]), [12, 14]);
    assert_eq!(seqs(&["--boot", "2"]), Vec::<u64>::new());
    let shown = ok(&["show", file, "12"]).out;
    assert!(shown.contains("record 12: DestroyRefused") && shown.contains("crc "), "{shown}");
    assert_eq!(ok(&["show", file, "last", "--json"]).json()["kind"], "RolledBack");
    assert_eq!(ok(&["show", file]).out.lines().count(), 24);
    assert_eq!(replay(&["show", file, "25"]).code, 1);
    assert!(sum(&scene.log) == before, "the input file was changed");
}

#[test]
fn state_at_point_and_diff() {
    let scene = Scene::new(&story());
    let file = scene.file();
    let at = ok(&["at", file, "6", "--json"]).json();
    assert_eq!(at["state"]["environments"]["demo"]["phase"], "ready");
    assert_eq!(at["state"]["environments"]["demo"]["created_at"], "2026-11-22T00:00:03.000Z");
    // A time is as good as a number.
    let timed = ok(&["at", file, "2026-11-22T00:00:06Z", "--json"]).json();
    assert_eq!(timed, at);
    let one = ok(&["at", file, "--env", "demo", "--json"]).json();
    assert_eq!(one["environment"]["phase"], "tombstoned");
    assert_eq!(one["remains"][0]["trash"], "/data/trash/demo.1/project");
    let text = ok(&["at", file]).out;
    assert!(text.contains("other") && text.contains("1 tombstone"), "{text}");
    let changes = ok(&["diff", file, "10", "last", "--env", "demo", "--json"]).json();
    let phase = changes["changes"].as_array().expect("changes").iter();
    let phase = phase.filter(|c| c["path"] == "environment.phase").collect::<Vec<_>>();
    assert_eq!((&phase[0]["from"], &phase[0]["to"]), (&"ready".into(), &"tombstoned".into()));
    let none = ok(&["diff", file, "10", "10"]).out;
    assert!(none.contains("nothing changed"), "{none}");
    for beyond in [["at", file, "99"], ["owed", file, "99"]] {
        let printed = replay(&beyond);
        assert!(printed.code == 1 && printed.err.contains("the log ends at 24"), "{}", printed.err);
    }
}

#[test]
fn owed_matches_daemon_steps() {
    let scene = Scene::new(&story());
    let file = scene.file();
    let steps: Vec<Value> = ["3", "4", "6", "15", "16", "20"]
        .map(|seq| ok(&["owed", file, seq, "--json"]).json()["owed"][0]["step"].clone())
        .to_vec();
    let expected = ["resolve_base", "add_worktree", "", "rescue", "move_to_trash", "measure"];
    for (step, expected) in steps.iter().zip(expected) {
        assert_eq!(step.as_str().unwrap_or_default(), expected);
    }
    let owed = ok(&["owed", file, "3", "--json"]).json();
    assert_eq!(owed["owed"][0]["effect"], "demo@3");
    assert!(ok(&["owed", file]).out.contains("nothing is owed"));
}

#[test]
fn environment_is_explained() {
    let scene = Scene::new(&story());
    let file = scene.file();
    let text = ok(&["explain", file, "demo"]).out;
    for printed in [
        "incarnation 1 ended at",
        "requested by api (uid 1000, pid 4242), forced, reason request (record 13)",
        "untracked: secret-notes.txt",
        "was deleted: all its commits are reachable elsewhere",
        "refs/groundskeeper/rescue/demo/1",
        "/data/trash/demo.1/project (8.0 KiB), until 2026-11-29T00:00:20.000Z",
        "groundskeeper restore demo --incarnation 1",
    ] {
        assert!(text.contains(printed), "{printed}: {text}");
    }
    let json = ok(&["explain", file, "demo", "--json"]).json();
    let life = &json["incarnations"][0];
    assert_eq!(life["removal_asked"]["actor"]["pid"], 4242);
    assert_eq!(life["ended"]["seq"], 20);
    assert_eq!(life["work"]["rescue"]["reference"], "refs/groundskeeper/rescue/demo/1");
    assert_eq!(life["steps"][1]["after_ms"], 1_000);
    let failed = ok(&["explain", file, "fails"]).out;
    assert!(failed.contains("no such commit") && failed.contains("hint: fetch"), "{failed}");
    assert_eq!(replay(&["explain", file, "nobody"]).code, 1);
    assert_eq!(replay(&["explain", file, "../x"]).code, 2);
}

#[test]
fn hook_output_is_shown_on_request() {
    use groundskeeper_core::event::{
        Base, BaseResolved, EnvironmentReady, SetupFinished, SetupReport, Worktree, WorktreeAdded,
    };
    let dir = tempfile::tempdir().expect("a directory");
    let transcript = dir.path().join("demo.1");
    std::fs::write(&transcript, "building\n\u{1b}[31mdone\n").expect("written");
    let environment = || story::env("demo");
    let report = SetupReport {
        millis: 1_500,
        output_bytes: 14,
        transcript: transcript.to_str().expect("text").into(),
    };
    let worktree = Worktree { has_setup: true, ..Worktree::default() };
    let scene = Scene::new(&story::records(vec![
        story::started(),
        story::provision("demo", 1),
        BaseResolved { environment: environment(), base: Base::default() }.into(),
        WorktreeAdded { environment: environment(), worktree }.into(),
        SetupFinished { environment: environment(), report, tail: Vec::new() }.into(),
        EnvironmentReady { environment: environment() }.into(),
    ]));
    let plain = ok(&["explain", scene.file(), "demo"]).out;
    assert!(plain.contains("took 1.5 s, printed 14 B") && !plain.contains("building"), "{plain}");
    let shown = ok(&["explain", scene.file(), "demo", "--output"]).out;
    assert!(shown.contains("| building") && shown.contains("| \\u{1b}[31mdone"), "{shown}");
    std::fs::remove_file(&transcript).expect("removed");
    let gone = ok(&["explain", scene.file(), "demo", "--output"]).out;
    assert!(gone.contains("its output cannot be read"), "{gone}");
}

#[test]
fn timeline_page_is_harmless() {
    let mut records = story();
    let hostile = "<script>alert(1)</script>\u{202e}\u{1b}[2J";
    if let groundskeeper_core::Event::DestroyRefused(e) = &mut records[11].event {
        e.fault.message = hostile.into();
    }
    let scene = Scene::new(&records);
    let file = scene.file();
    let text = ok(&["timeline", file]).out;
    assert!(text.contains("demo") && text.contains("====") && !text.contains('\u{1b}'), "{text}");
    let page = scene.path("page.html");
    ok(&["timeline", file, "--html", page.to_str().expect("text")]);
    let again = replay(&["timeline", file, "--html", page.to_str().expect("text")]);
    assert!(
        again.code != 0 && again.err.contains("exists"),
        "it is not overwritten: {}",
        again.err
    );
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("&lt;script&gt;") && page.contains("class=\"tearing_down\""));
    for bad in ["<script", "http://", "https://", "\u{202e}", "\u{1b}", "<link", "@import"] {
        assert!(!page.contains(bad), "{bad}");
    }
    assert!(page.contains("default-src 'none'") && page.contains("prefers-color-scheme: dark"));
    let bars = lines(&ok(&["timeline", file, "--env", "demo", "--json"]).out);
    let phases: Vec<&str> = bars.iter().map(|b| b["phase"].as_str().expect("phase")).collect();
    assert_eq!(phases, ["provisioning", "ready", "tearing_down", "ready", "tearing_down"]);
}

/// An intact log passes both.
#[test]
fn verify_and_bisect_find_violation() {
    let scene = Scene::with(&story(), Options { snapshot_every: 10 });
    let file = scene.file();
    let text = ok(&["verify", file]).out;
    assert!(text.contains("24 records, 1 to 24") && text.contains("2 snapshots"), "{text}");
    assert!(ok(&["bisect", file, "any"]).out.contains("no record up to 24"));
    // Two lives end; then something is recorded about the first, which is over.
    let mut events: Vec<_> = story().into_iter().map(|r| r.event).collect();
    let ready = groundskeeper_core::event::EnvironmentReady { environment: story::env("demo") };
    events.push(ready.into());
    let forged = Scene::new(&story::records(events));
    let printed = replay(&["verify", forged.file(), "--json"]);
    assert_eq!(printed.code, 1);
    assert_eq!(printed.json()["breaches"][0]["invariant"], "tombstone-final");
    let printed = replay(&["bisect", forged.file(), "tombstone-final"]);
    assert!(
        printed.code == 1 && printed.out.contains("record 25 is the first"),
        "{}",
        printed.all()
    );
    assert_eq!(ok(&["bisect", forged.file(), "tombstone-final", "--to", "24"]).code, 0);
    assert_eq!(replay(&["bisect", file, "no-such-rule"]).code, 2);
    let list = lines(&ok(&["bisect", "--list", "--json"]).out);
    assert!(list.len() >= 25 && list.iter().all(|i| i["says"].is_string()));
}

#[test]
fn statistics_match_log() {
    let scene = Scene::new(&story());
    for more in [&[][..], &["--no-checksums"]] {
        let mut args = vec!["stats", scene.file(), "--json"];
        args.extend(more);
        let stats = ok(&args).json();
        assert_eq!((&stats["records"], &stats["environments"]), (&24.into(), &3.into()));
        assert_eq!(stats["checksums_checked"], more.is_empty());
        let kinds = stats["kinds"].as_array().expect("kinds");
        let sum: u64 = kinds.iter().map(|k| k["records"].as_u64().expect("a number")).sum();
        assert_eq!(sum, 24);
        let demo = stats["top_environments"][0].clone();
        assert_eq!((&demo["name"], &demo["records"]), (&"demo".into(), &15.into()));
        assert_eq!(stats["days"][0]["name"], "2026-11-22");
    }
    assert!(ok(&["stats", scene.file()]).out.contains("the checksum of each was checked"));
}

#[test]
fn log_exports_in_three_formats() {
    let scene = Scene::new(&story());
    let file = scene.file();
    let rows = lines(&ok(&["export", file, "--env", "demo"]).out);
    assert_eq!((rows.len(), &rows[0]["seq"]), (15, &3.into()));
    let flat = scene.path("log.flat");
    let flat = flat.to_str().expect("text");
    ok(&["export", file, "--format", "flat", "-O", flat]);
    for verb in ["verify", "stats", "list", "at", "owed", "check-replay"] {
        assert_eq!(ok(&[verb, flat, "--json"]).code, 0, "{verb}");
    }
    assert_eq!(ok(&["list", flat]).out, ok(&["list", file]).out);
    assert_eq!(ok(&["list", flat, "--reverse"]).out, ok(&["list", file, "--reverse"]).out);
    let printed = replay(&["export", file, "--format", "flat", "-O", flat]);
    assert!(printed.code == 3 && printed.err.contains("exists"), "{}", printed.err);
    let db = scene.path("log.db");
    ok(&["export", file, "--format", "sqlite", "-O", db.to_str().expect("text")]);
    let db = rusqlite::Connection::open(db).expect("a database");
    let count =
        "SELECT count(*) FROM records WHERE environment = 'demo' AND operation = 'teardown'";
    let count: i64 = db.query_row(count, [], |row| row.get(0)).expect("counted");
    assert_eq!(count, 10);
    assert_eq!(replay(&["export", file, "--format", "sqlite"]).code, 2);
}

#[test]
fn fork_is_valid_log() {
    let scene = Scene::new(&story());
    let new = scene.path("fork.redb");
    let new = new.to_str().expect("text");
    ok(&["fork", scene.file(), "--at", "15", new]);
    assert_eq!(ok(&["owed", new, "--json"]).json()["owed"][0]["step"], "rescue");
    ok(&["verify", new]);
    let at = |file: &str| ok(&["at", file, "15", "--json"]).json()["sha256"].clone();
    assert_eq!(at(new), at(scene.file()));
    // A daemon's journal opens it and goes on.
    let (mut journal, found) =
        Journal::open(std::path::Path::new(new), Options::default()).expect("opened");
    let next = story().remove(15);
    let mut state = found.state;
    state.apply(&next);
    journal.append(&[next], &state).expect("appended");
    drop(journal);
    assert!(ok(&["verify", new]).out.contains("16 records"));
    assert_eq!(replay(&["fork", scene.file(), "--at", "15", new]).code, 3, "it is there already");
    let other = scene.path("other.redb");
    assert_eq!(
        replay(&["fork", scene.file(), "--at", "99", other.to_str().expect("text")]).code,
        1
    );
    assert!(!other.exists(), "nothing is left of what failed");
}

#[test]
fn redacted_log_hides_names_and_verifies() {
    let scene = Scene::new(&story());
    let new = scene.path("shared.redb");
    ok(&["redact", scene.file(), new.to_str().expect("text")]);
    let bytes = std::fs::read(&new).expect("read");
    for name in ["alice", "demo", "secret-notes", "no such commit", "other"] {
        let found = bytes.windows(name.len()).any(|w| w == name.as_bytes());
        assert!(!found, "{name} is in it");
    }
    let file = new.to_str().expect("text");
    ok(&["verify", file]);
    let kinds = |file: &str| -> Vec<Value> {
        lines(&ok(&["list", file, "--json"]).out).iter().map(|r| r["kind"].clone()).collect()
    };
    assert_eq!(kinds(file), kinds(scene.file()));
    let stats = ok(&["stats", file, "--json"]).json();
    assert_eq!(stats["environments"], 3);
    // The same salt gives the same names.
    let salted = || ok(&["redact", scene.file(), "--salt", "s"]).out;
    assert_eq!(salted(), salted());
}

/// The tool and the library compute the same digest.
#[test]
fn fold_is_deterministic() {
    let scene = Scene::with(&story(), Options { snapshot_every: 10 });
    let checked = ok(&["check-replay", scene.file(), "--json"]).json();
    assert_eq!((&checked["snapshots"], &checked["folded"]), (&2.into(), &24.into()));
    let found = inspect(&scene.log, Depth::Everything, &mut |_, _| {}).expect("intact");
    assert_eq!(found.state.seq(), Seq(24));
    let digest = groundskeeper_journal::codec::state_digest(&found.state).expect("hashed");
    assert_eq!(checked["sha256"], groundskeeper_journal::format::hex(&digest));
}

#[test]
fn help_and_manual_pages_exist() {
    let help = ok(&["--help"]).out;
    for verb in [
        "list",
        "show",
        "at",
        "diff",
        "owed",
        "explain",
        "timeline",
        "verify",
        "bisect",
        "stats",
        "export",
        "fork",
        "check-replay",
        "salvage",
        "redact",
    ] {
        assert!(help.contains(&format!("  {verb}")), "{verb}");
        assert!(ok(&[verb, "--help"]).out.contains("Examples:"), "{verb}");
    }
    assert!(ok(&["man"]).out.contains(".TH replay"));
    assert!(ok(&["completions", "bash"]).out.contains("check-replay"));
    assert_eq!(replay(&["no-such-verb"]).code, 2);
    assert_eq!(replay(&["list", "x", "--since", "soon"]).code, 2);
}

/// The JSON of every verb is a contract: a difference breaks somebody's script.
#[test]
fn json_matches_snapshot() {
    let scene = Scene::new(&story());
    let file = scene.file();
    let mut text = String::new();
    for args in [
        &["list", file][..],
        &["show", file, "3"],
        &["at", file, "6"],
        &["at", file],
        &["at", file, "--env", "demo"],
        &["diff", file, "10", "last"],
        &["owed", file, "9"],
        &["explain", file, "demo"],
        &["timeline", file],
        &["verify", file],
    ] {
        let printed = replay(&[args, &["--json"]].concat());
        let command = args.join(" ").replace(file, "LOG");
        text += &format!("$ replay {command} --json  [{}]\n{}\n", printed.code, printed.out);
    }
    let mut text = text.replace(file, "LOG");
    // Every new log has an id of its own.
    let id = "\"log_id\":\"";
    let at = text.find(id).expect("verify names the log") + id.len();
    text.replace_range(at..at + 32, "ID");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json.txt");
    if std::env::var_os("GROUNDSKEEPER_BLESS").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let committed = std::fs::read_to_string(&path).expect("the contract");
    for (number, (was, is)) in committed.lines().zip(text.lines()).enumerate() {
        assert_eq!(is, was, "line {}", number + 1);
    }
    assert_eq!(text.len(), committed.len());
}
