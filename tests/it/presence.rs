//! What `ls`, `show`, `status` and `doctor` tell of worktrees that other programs changed: removed,
//! on another branch, or on a file system that does not answer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::call;
use crate::clean_check::started;
use crate::support::Harness;

fn of<'a>(list: &'a Value, id: &str) -> &'a Value {
    let found = list.as_array().and_then(|all| all.iter().find(|entry| entry["id"] == id));
    found.unwrap_or_else(|| panic!("{id} is not in {list:#}"))
}

/// Returns what a command prints for people: the line of stdout with this word.
fn line(harness: &Harness, args: &[&str], word: &str) -> String {
    let output = harness.command(args).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().find(|line| line.contains(word));
    found.unwrap_or_else(|| panic!("{word} is not in {text}")).to_owned()
}

fn admin_of(harness: &Harness, path: &Path) -> PathBuf {
    PathBuf::from(harness.git(path, &["rev-parse", "--absolute-git-dir"]))
}

#[test]
fn worktree_removed_by_hand_is_missing() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("gone", &repo, &[]);
    harness.new_env("here", &repo, &[]);
    std::fs::remove_dir_all(path.parent().expect("a place")).expect("removed");
    let list = harness.ok(&["ls"]);
    assert_eq!(
        (&of(&list, "gone")["missing"], &of(&list, "gone")["phase"]),
        (&true.into(), &"ready".into())
    );
    assert_eq!(of(&list, "here")["missing"], false);
    assert_eq!(harness.ok(&["show", "gone"])["missing"], true);
    assert!(line(&harness, &["ls"], "gone").contains("missing"));
    assert!(line(&harness, &["ls"], "here").contains("ready"));
    assert!(line(&harness, &["show", "gone"], "phase").contains("missing"));
    let status = harness.ok(&["status"]);
    assert_eq!(of(&status, "gone")["missing"], true, "{status:#}");
    assert!(line(&harness, &["status"], "gone").contains("missing"));
    let (_, fault) = harness.refused(&["status", "gone"]);
    assert!(fault["message"].as_str().is_some_and(|m| m.contains("missing")), "{fault:#}");
    let (_, checks) = harness.gk(&["doctor"]);
    let check = checks.as_array().expect("checks").iter().find(|c| c["name"] == "worktrees");
    let check = check.expect("a check of the worktrees");
    assert_eq!(check["status"], "warn", "{checks:#}");
    assert!(check["detail"].as_str().is_some_and(|d| d.contains("gone") && !d.contains("here")));
    // The removal that the hint names records it.
    harness.ok(&["rm", "gone", "--force"]);
    assert_eq!(harness.ok(&["ls"]).as_array().map(Vec::len), Some(1));
    harness.check(&[&repo]);
}

#[test]
fn list_names_branch_of_head() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("demo", &repo, &[]);
    harness.git(&path, &["checkout", "-q", "-b", "side/work"]);
    harness.drain();
    let processes = started(&harness);
    let (_, listed) = call(&harness, "GET", "/v1/environments", "", "");
    assert_eq!(listed[0]["branch"], "side/work", "{listed:#}");
    assert_eq!(started(&harness), processes, "a list without changes starts no process");
    for found in [&harness.ok(&["ls"])[0], &harness.ok(&["show", "demo"])] {
        assert_eq!(found["branch"], "side/work", "{found:#}");
        assert_eq!(found["made_branch"], "gk/demo");
    }
    assert!(line(&harness, &["ls"], "demo").contains("side/work"));
    assert!(line(&harness, &["show", "demo"], "branch").contains("side/work"));
    harness.git(&path, &["checkout", "-q", "--detach"]);
    let head = harness.git(&path, &["rev-parse", "HEAD"]);
    let found = harness.ok(&["show", "demo"]);
    assert_eq!((&found["detached"], &found["branch"]), (&head.as_str().into(), &"gk/demo".into()));
    assert!(line(&harness, &["ls"], "demo").contains(&format!("({})", &head[..10])));
}

/// HEAD is a pipe without a writer: a read of it hangs, as on a network mount that is gone.
#[test]
fn hung_worktree_shows_when_it_was_seen() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("hung", &repo, &[]);
    let other = harness.repo("other", 3);
    harness.new_env("good", &other, &[]);
    harness.drain();
    assert_eq!(of(&harness.ok(&["ls"]), "hung")["unseen"], Value::Null);
    let head = admin_of(&harness, &path).join("HEAD");
    let aside = harness.path("HEAD");
    std::fs::rename(&head, &aside).expect("moved");
    let made = std::process::Command::new("mkfifo").arg(&head).status();
    assert!(made.expect("mkfifo runs").success());
    for _ in 0..20 {
        let begun = Instant::now();
        let list = harness.ok(&["ls"]);
        assert!(begun.elapsed() < Duration::from_secs(5), "a list does not wait for the mount");
        let hung = of(&list, "hung");
        assert_eq!((&hung["unseen"], &hung["branch"]), (&true.into(), &"gk/hung".into()));
        assert!(hung["seen_at"].is_string(), "{hung:#}");
        assert_eq!(of(&list, "good")["unseen"], Value::Null, "other repositories are looked at");
    }
    assert!(line(&harness, &["ls"], "hung").contains("seen"));
    // An open writer ends the reads that hang.
    drop(std::fs::File::options().write(true).open(&head));
    std::fs::rename(&aside, &head).expect("moved back");
    crate::support::wait_for("a list of all", || {
        of(&harness.ok(&["ls"]), "hung")["unseen"] == Value::Null
    });
}

/// Nothing watches these worktrees: what has changed is found out when it is asked for.
#[test]
fn list_tells_changes_of_this_moment() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let paths: Vec<PathBuf> =
        ["one", "two", "three"].iter().map(|id| harness.new_env(id, &repo, &[])).collect();
    let changes = |id: &str| {
        let listed = harness.ok(&["ls"]);
        let shown = harness.ok(&["show", id]);
        assert_eq!(of(&listed, id)["known"]["changes"], shown["known"]["changes"]);
        shown["known"]["changes"].as_str().expect("known").to_owned()
    };
    for (n, path) in paths.iter().enumerate() {
        harness.write(&path.join("README"), &format!("changed {n}\n"));
    }
    for id in ["one", "two", "three"] {
        crate::support::wait_for("a list in time", || changes(id) == "~1");
    }
    harness.write(&paths[1].join("new"), "work\n");
    crate::support::wait_for("a list in time", || changes("two") == "~1 ?1");
    assert!(line(&harness, &["ls"], "two").contains("~1 ?1"));
    assert!(line(&harness, &["show", "two"], "changes").contains("~1 ?1"));
    harness.git(&paths[0], &["checkout", "-q", "README"]);
    crate::support::wait_for("a list in time", || changes("one").is_empty());
    assert!(line(&harness, &["ls"], "one").contains("clean"));
    harness.ok(&["rm", "one"]);
    assert_eq!(harness.ok(&["ls"]).as_array().map(Vec::len), Some(2));
}

/// A repository whose filter never ends holds up no list, and no other repository in it.
#[test]
fn hung_status_delays_no_list() {
    let harness = Harness::new();
    let hung = harness.repo("hung", 3);
    let end = harness.path("end");
    let filter = format!("until test -e '{}'; do sleep 0.02; done; cat", end.display());
    harness.git(&hung, &["config", "filter.slow.clean", &filter]);
    let good = harness.repo("good", 3);
    let path = harness.new_env("good", &good, &[]);
    let slow: Vec<String> = (0..6).map(|n| format!("slow-{n}")).collect();
    for id in &slow {
        let path = harness.new_env(id, &hung, &[]);
        harness.write(&path.join(".gitattributes"), "README filter=slow\n");
        harness.write(&path.join("README"), "later\n");
    }
    for n in 0..4 {
        let file = path.join(format!("new-{n}"));
        harness.write(&file, "work\n");
        let expected = format!("?{}", n + 1);
        crate::support::wait_for("a list with the other repository", || {
            let begun = Instant::now();
            let listed = harness.ok(&["ls"]);
            assert!(begun.elapsed() < Duration::from_secs(5), "a list waits for no filter");
            of(&listed, "good")["known"]["changes"] == expected.as_str()
        });
    }
    std::fs::write(&end, "").expect("written");
    crate::support::wait_for("the end of the filters", || {
        let listed = harness.ok(&["ls"]);
        slow.iter().all(|id| of(&listed, id)["known"]["changes"] == "~1 ?1")
    });
}
