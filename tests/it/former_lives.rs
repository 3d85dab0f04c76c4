//! Lives that are over and that the daemon has forgotten: its memory is that of what lives, and
//! every answer is the same as if it remembered them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use groundskeeper::core::EnvironmentId;
use groundskeeper::journal::inspect::Depth;
use groundskeeper::journal::testing::lives;
use groundskeeper::journal::{ReadOnlyLog, inspect};
use serde_json::Value;

use crate::api::call;
use crate::support::{Daemon, Harness, wait_for};

/// Lives in the log before the daemon starts.
const LIVES: usize = 3_000;
/// Fewer than this many finished lives are remembered.
const REMEMBERED: usize = 1_250;

pub(crate) fn name(n: usize) -> String {
    format!("life-{n:05}")
}

/// Appends finished lives to a log that no daemon has open.
pub(crate) fn append(log: &Path, lives: impl Iterator<Item = usize>) {
    let id = |n| EnvironmentId::parse(&name(n)).expect("an id");
    let ids: Vec<EnvironmentId> = lives.map(id).collect();
    lives::append(log, &ids, groundskeeper::clock::now(), Duration::ZERO).expect("appended");
}

/// Returns a harness whose log holds finished lives, and how many of them its daemon remembers.
fn with_lives(count: usize) -> (Harness, Daemon) {
    let harness = Harness::new();
    drop(Daemon::start(&harness));
    harness.ok(&["ls"]);
    harness.ok(&["stop"]);
    append(&harness.data().join("log.redb"), 0..count);
    let daemon = Daemon::start(&harness);
    wait_for("forgotten lives", || count - forgotten(&harness).len() < REMEMBERED);
    (harness, daemon)
}

/// Returns the records of the log, as `events` prints them.
pub(crate) fn events(harness: &Harness, more: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["events", "--json"].iter().chain(more).copied().collect();
    let output = harness.command(&args).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Returns the ids of the lives that the daemon has forgotten.
fn forgotten(harness: &Harness) -> BTreeSet<String> {
    let all = events(harness, &[]).into_iter().filter(|event| event["kind"] == "LivesForgotten");
    let lives = all.flat_map(|event| event["lives"].as_array().cloned().unwrap_or_default());
    lives.filter_map(|life| life["environment"].as_str().map(str::to_owned)).collect()
}

const INDEXED: redb::TableDefinition<'_, u8, u64> = redb::TableDefinition::new("indexed");
const RECORDS_OF: redb::TableDefinition<'_, (&str, u64), ()> =
    redb::TableDefinition::new("records_of");
const LIVES_OF: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("lives");

/// Removes the index from the log, as an earlier version would have written it.
fn drop_index(log: &Path) {
    let db = redb::Database::open(log).expect("opened");
    let txn = db.begin_write().expect("begun");
    assert!(
        txn.delete_table(RECORDS_OF).expect("deleted")
            && txn.delete_table(LIVES_OF).expect("deleted")
    );
    assert!(txn.delete_table(INDEXED).expect("deleted"));
    txn.commit().expect("committed");
}

#[test]
fn forgotten_lives_answer_as_remembered_ones() {
    let (harness, daemon) = with_lives(LIVES);
    let (first, last) = (name(0), name(LIVES - 1));
    let forgotten = forgotten(&harness);
    assert!(forgotten.contains(&first) && !forgotten.contains(&last), "the oldest are forgotten");
    for id in [&first, &last] {
        let (code, shown) = harness.refused(&["show", id]);
        assert_eq!((code, &shown["code"]), (3, &Value::from("environment_destroyed")));
        let (code, refused) = harness.refused(&["lease", id, "--for", "1h"]);
        assert_eq!((code, &refused["code"]), (3, &Value::from("environment_destroyed")));
        let removed = harness.ok(&["rm", id]);
        assert_eq!((&removed["phase"], &removed["incarnation"]), (&"tombstoned".into(), &1.into()));
        assert_eq!(removed["branch_reason"], "merged", "{removed:#}");
    }
    let (code, unknown) = harness.refused(&["show", "life-of-another"]);
    assert_eq!((code, &unknown["code"]), (3, &Value::from("environment_not_found")));
    let events = events(&harness, &["--env", &first]);
    assert_eq!(events.len(), lives::RECORDS);
    // A new life of an old name has the next number, and is what the name means from then on.
    let repo = harness.repo("project", 2);
    let at = harness.new_env(&first, &repo, &[]);
    assert!(at.join("README").exists());
    assert_eq!(harness.ok(&["show", &first])["incarnation"], 2);
    assert_eq!(harness.ok(&["rm", &first])["incarnation"], 2);
    daemon.terminate();
}

#[test]
fn every_life_is_listed_once() {
    let (harness, daemon) = with_lives(LIVES);
    let repo = harness.repo("project", 2);
    harness.new_env(&name(7), &repo, &[]);
    let listed = harness.ok(&["ls", "--all"]);
    let listed = listed.as_array().expect("a list");
    let ids: Vec<&str> = listed.iter().filter_map(|env| env["id"].as_str()).collect();
    assert!(ids.is_sorted() && ids.len() == LIVES, "{} are listed", ids.len());
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), LIVES);
    let of = |id: &str| listed.iter().find(|env| env["id"] == id).expect("listed");
    assert_eq!(of(&name(7))["phase"], "ready");
    assert_eq!(of(&name(8))["phase"], "tombstoned");
    assert_eq!(of(&name(8))["path"], format!("/gone/{}", name(8)));
    assert_eq!(harness.ok(&["ls"]).as_array().map(Vec::len), Some(1));
    daemon.terminate();
    // The index is made of the records: without it, the next daemon makes it again.
    drop_index(&harness.data().join("log.redb"));
    let _daemon = Daemon::start(&harness);
    assert_eq!(harness.ok(&["ls", "--all"]).as_array().map(Vec::len), Some(LIVES));
}

/// redb verifies no checksum when it reads. A damaged entry must not be taken for no life at all,
/// which would give the number of its incarnation a second time.
#[test]
fn damaged_index_is_noticed() {
    let (harness, daemon) = with_lives(LIVES);
    let seq = events(&harness, &["--env", &name(0)])[0]["seq"].as_u64().expect("a seq");
    assert!(daemon.terminate().success());
    let (log, first) = (harness.data().join("log.redb"), name(0));
    let check = || ReadOnlyLog::open(&log).expect("opened").check_index();
    check().expect("it fits");
    let change = |change: &dyn Fn(&redb::WriteTransaction)| {
        let db = redb::Database::open(&log).expect("opened");
        let txn = db.begin_write().expect("begun");
        change(&txn);
        txn.commit().expect("committed");
    };
    change(&|txn| {
        use redb::ReadableTable as _;
        let mut lives = txn.open_table(LIVES_OF).expect("there");
        let mut entry = lives.get(first.as_str()).expect("read").expect("known").value().to_vec();
        *entry.last_mut().expect("bytes") ^= 1;
        drop(lives.insert(first.as_str(), entry.as_slice()).expect("written"));
    });
    assert!(check().is_err_and(|error| format!("{error:?}").contains(&first)));
    let repo = harness.repo("project", 2);
    let daemon = Daemon::start(&harness);
    let (code, refused) = harness.refused(&["new", &first, "--repo", repo.to_str().expect("text")]);
    assert_eq!((code, &refused["code"]), (2, &Value::from("journal_failed")), "{refused:#}");
    harness.new_env(&name(1), &repo, &[]);
    assert!(daemon.terminate().success());
    drop_index(&log);
    let daemon = Daemon::start(&harness);
    let at = harness.new_env(&first, &repo, &[]);
    assert!(at.exists() && harness.ok(&["show", &first])["incarnation"] == 2);
    assert!(daemon.terminate().success());
    change(&|txn| {
        let mut records_of = txn.open_table(RECORDS_OF).expect("there");
        drop(records_of.remove((first.as_str(), seq)).expect("removed"));
    });
    assert!(
        check().is_err_and(|error| format!("{error:?}").contains(&format!("lacks record {seq}")))
    );
}

/// A list of more lives than one answer should have is asked for in pages.
#[test]
fn long_list_is_refused_without_pages() {
    let (harness, _daemon) = with_lives(10_050);
    let list = |query: &str| call(&harness, "GET", &format!("/v1/environments?{query}"), "", "");
    let (status, refused) = list("all=true");
    assert_eq!((status, &refused["code"]), (429, &"limit_reached".into()), "{refused:#}");
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("after")), "{refused:#}");
    let (status, refused) = list("all=true&limit=10001");
    assert_eq!((status, &refused["code"]), (400, &"invalid_request".into()), "{refused:#}");
    let (status, page) = list("all=true&limit=10000");
    assert_eq!((status, page.as_array().map(Vec::len)), (200, Some(10_000)));
    assert_eq!(harness.ok(&["ls", "--all"]).as_array().map(Vec::len), Some(10_050));
}

/// A kill while lives are forgotten: the next daemon forgets the rest, and none twice.
#[test]
fn kills_while_lives_are_forgotten_are_survived() {
    for (point, times) in [("decided", 2), ("committed", 2), ("decided", 4), ("committed", 4)] {
        let harness = Harness::new();
        drop(Daemon::start(&harness));
        append(&harness.data().join("log.redb"), 0..LIVES);
        let armed = format!("engine.{point}:{times}");
        let mut daemon = Daemon::start_with(&harness, &[("GROUNDSKEEPER_KILL_AT", &armed)]);
        // Under load it decides more at once, and then has to be given something to decide.
        wait_for("the end of a killed daemon", || {
            drop(harness.command(&["--no-autostart", "sweep"]).output());
            daemon.is_dead()
        });
        harness.check_log();
        let _daemon = Daemon::start(&harness);
        wait_for("forgotten lives", || LIVES - forgotten(&harness).len() < REMEMBERED);
        assert_eq!(harness.ok(&["ls", "--all"]).as_array().map(Vec::len), Some(LIVES));
        harness.check_log();
    }
}

/// After an orderly stop the next daemon folds nothing, however many records came.
#[test]
fn orderly_stop_leaves_nothing_to_fold() {
    let harness = Harness::new();
    drop(Daemon::start(&harness));
    let log = harness.data().join("log.redb");
    append(&log, 0..200);
    let daemon = Daemon::start(&harness);
    harness.ok(&["ls"]);
    assert!(daemon.terminate().success());
    let found = inspect(&log, Depth::FromSnapshot, &mut |_, _| {}).expect("read");
    assert_eq!(found.folded, 0);
    assert!(found.state.seq().0 > 2_000);
}
