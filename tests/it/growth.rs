//! Nothing grows with the number of incarnations that are over: once the trash is empty and the
//! rescues are dropped, no file in the data directory or in the repository tells how many there
//! were.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::support::{Daemon, Harness, wait_for};

/// Files of which there may be more after more work: objects, which `git gc` collects. Everything
/// else must be the same set.
const MAY_GROW: [&str; 1] = ["objects/"];

/// Returns the paths of everything below a folder, folders included.
fn paths_below(root: &Path) -> BTreeSet<String> {
    let (mut all, mut todo) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            if MAY_GROW.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                todo.push(path);
            }
            all.insert(name);
        }
    }
    all
}

fn try_gk(harness: &Harness, args: &[&str]) {
    harness.gk(args);
}

/// Runs environments through every way to end: clean, with work, with commits, restored, cleaned,
/// and failed in their setup.
fn live_and_end(harness: &Harness, repo: &Path, round: usize) {
    let text = repo.to_str().expect("text");
    let id = |what: &str| format!("{what}-{round}");
    let path = harness.new_env(&id("work"), repo, &[]);
    harness.write(&path.join("notes"), "work\n");
    let key = path.join("key");
    harness.write(&key, "secret\n");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("set");
    harness.write(&path.join("target/object"), "built\n");
    harness.ok(&["clean", &id("work")]);
    harness.ok(&["rm", &id("work"), "--force"]);
    harness.ok(&["restore", &id("work")]);
    harness.ok(&["rm", &id("work"), "--force"]);
    let path = harness.new_env(&id("commit"), repo, &[]);
    harness.write(&path.join("new"), "new\n");
    harness.commit(&path, "own");
    harness.ok(&["rm", &id("commit"), "--force", "--branch", "delete"]);
    harness.new_env(&id("plain"), repo, &[]);
    harness.ok(&["exec", &id("plain"), "--", "true"]);
    harness.ok(&["rm", &id("plain")]);
    harness.refused(&["new", &id("bad"), "--repo", text]);
    try_gk(harness, &["rm", &id("bad"), "--force"]);
    harness.drain();
}

fn forget_all(harness: &Harness) {
    harness.ok(&["trash", "empty"]);
    harness.drain();
    wait_for("an empty trash", || harness.ok(&["trash", "ls"]) == Value::Array(Vec::new()));
    for kept in harness.ok(&["rescue", "ls"]).as_array().expect("a list") {
        let (id, number) = (kept["id"].as_str().expect("text"), kept["incarnation"].to_string());
        harness.ok(&["rescue", "drop", id, "--incarnation", &number]);
    }
    harness.drain();
    harness.ok(&["sweep", "--apply"]);
    harness.drain();
}

#[test]
fn ended_incarnations_leave_no_files() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitignore"), "target/\n");
    harness.hook(&repo, "#!/bin/sh\necho up\ncase $GROUNDSKEEPER_ENV in bad*) exit 1;; esac\n");
    harness.teardown_hook(&repo, "#!/bin/sh\necho down\n");
    // Nothing is kept for its age: what goes by age goes with the sweep.
    harness.write(&harness.path("home/.config/groundskeeper/config.toml"), "trash_days = 0\n");
    let _daemon = Daemon::start(&harness);
    let text = repo.to_str().expect("text");
    harness.ok(&["trust", "--repo", text]);
    harness.ok(&["trust", "--repo", text, "--hash", &harness.teardown_hash(&repo)]);
    let mut before = None;
    for round in 0..4 {
        live_and_end(&harness, &repo, round);
        forget_all(&harness);
        let now = [paths_below(&harness.data()), paths_below(&repo.join(".git"))];
        let Some(before) = &before else {
            before = Some(now);
            continue;
        };
        for (now, before) in now.iter().zip(before) {
            let more: Vec<&String> = now.difference(before).collect();
            assert!(more.is_empty(), "after {round} more rounds: {more:#?}");
        }
    }
    // And of what remains, nothing is named for an incarnation.
    for path in before.iter().flatten().flatten() {
        let is_named = |id: &&str| (0..4).any(|round| path.contains(&format!("{id}-{round}")));
        let named = ["work", "commit", "plain", "bad"].iter().any(is_named);
        assert!(!named, "{path}");
    }
    harness.check(&[&repo]);
}
