//! What `ls`, `show`, `status` and `doctor` tell of worktrees that other programs changed: removed,
//! on another branch, or on a file system that does not answer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

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
    for found in [&harness.ok(&["ls"])[0], &harness.ok(&["show", "demo"])] {
        assert_eq!(found["branch"], "side/work", "{found:#}");
        assert_eq!(found["made_branch"], "gk/demo");
    }
    assert_eq!(started(&harness), processes, "a list starts no process");
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
