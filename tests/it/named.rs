//! What is typed to name an environment, and what is answered where it names none.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Daemon, Harness};

/// Runs a command in a directory, and returns its exit code, stdout and stderr.
fn run_in(harness: &Harness, at: &Path, args: &[&str]) -> (i32, String, String) {
    let output = harness.command(args).current_dir(at).env("PWD", at).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Whoever stands in an environment need not name it.
#[test]
fn environment_that_one_stands_in_needs_no_name() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    harness.new_env("other", &repo, &[]);
    // As near to `.` as a name can be, and never meant by it.
    harness.new_env("y", &repo, &[]);
    let folder = path.join("dir0");
    for args in [&["show", "--json"][..], &["status", ".", "--json"], &["show", ".", "--json"]] {
        let (code, out, err) = run_in(&harness, &folder, args);
        let found: Value = serde_json::from_str(&out).unwrap_or_default();
        assert_eq!((code, found["id"].as_str()), (0, Some("demo")), "{args:?}: {err}");
    }
    let (code, out, _) = run_in(&harness, &folder, &["exec", ".", "--", "pwd"]);
    assert_eq!((code, out.trim_end()), (0, path.to_str().expect("text")));
    for args in [&["diff"][..], &["ps"], &["logs"], &["clean", "."], &["events", "--env", "."]] {
        let (code, _, err) = run_in(&harness, &folder, args);
        assert_eq!(code, 0, "{args:?}: {err}");
    }
    for args in [&["show"][..], &["rm", "."], &["clean", "."]] {
        let (code, _, err) = run_in(&harness, &repo, args);
        assert_eq!(code, 3, "{args:?}: {err}");
        assert!(err.contains("is in no environment") && !err.contains("did you mean"), "{err}");
    }
    let (code, _, err) = run_in(&harness, &folder, &["rm", "."]);
    assert_eq!(code, 0, "{err}");
    let way = format!("`cd {}` leads to its repository", repo.display());
    assert!(err.contains("demo is removed") && err.contains(&way), "{err}");
    harness.check(&[&repo]);
}

/// In a directory that was removed every command says so, and the way out.
#[test]
fn way_out_of_removed_directory_is_shown() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    let folder = path.join("below");
    let way = format!("`cd {}` leads to its repository", repo.display());
    for args in [&["ls"][..], &["show"], &["new"]] {
        std::fs::create_dir_all(&folder).expect("a folder");
        let inner = harness.command(args);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(r#"cd "$0" && rm -rf "$0" && exec "$@""#).arg(&folder);
        shell.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let output = shell.output().expect("runs");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(err.contains("was removed; ") && err.contains(&way), "{args:?}: {err}");
        assert!(!err.contains("git init"), "{args:?}: {err}");
    }
}

/// A beginning serves where nothing changes, and an id that ever lived comes first.
#[test]
fn beginning_of_id_serves_where_nothing_changes() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    for id in ["fix-login", "fix-logout", "docs", "doc"] {
        harness.new_env(id, &repo, &[]);
    }
    assert_eq!(harness.ok(&["show", "fix-logi"])["id"], "fix-login");
    assert_eq!(harness.ok(&["show", "doc"])["id"], "doc");
    harness.ok(&["rm", "doc"]);
    let (code, error) = harness.refused(&["show", "doc"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("environment_destroyed")));
    let (code, error) = harness.refused(&["show", "fix"]);
    assert_eq!((code, &error["evidence"]), (3, &serde_json::json!(["fix-login", "fix-logout"])));
    for args in [&["rm", "fix-logi"][..], &["clean", "fix-logi"], &["exec", "fix-logi", "true"]] {
        let (code, error) = harness.refused(args);
        assert_eq!((code, error["code"].as_str()), (3, Some("environment_not_found")), "{args:?}");
        let hint = error["hint"].as_str().expect("a hint");
        assert!(hint.starts_with("did you mean `fix-login`"), "{args:?}: {hint}");
    }
    harness.check(&[&repo]);
}

/// Nothing that does not exist is told to have been removed, emptied or released.
#[test]
fn no_success_is_told_of_what_was_not_there() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    harness.new_env("demo", &repo, &[]);
    for args in [
        &["rm", "dmeo"][..],
        &["trash", "empty", "dmeo"],
        &["events", "--env", "dmeo"],
        &["logs", "dmeo"],
    ] {
        let (code, error) = harness.refused(args);
        assert_eq!((code, error["code"].as_str()), (3, Some("environment_not_found")), "{args:?}");
        assert!(
            error["hint"].as_str().is_some_and(|h| h.contains("`demo`")),
            "{args:?}: {error:#}"
        );
    }
    assert_eq!(harness.ok(&["rm", "dmeo", "--if-exists"])["incarnation"], 0);
    let (_, _, err) = run_in(&harness, &repo, &["trash", "empty", "demo"]);
    assert_eq!(err.trim_end(), "the trash holds nothing of demo");
    let (code, _, err) = run_in(&harness, &repo, &["release", "lease-none"]);
    assert_eq!((code, err.contains("there is no lease lease-none")), (0, true), "{err}");
    assert_eq!(harness.ok(&["release", "lease-none"])["released"], false);
    let lease =
        harness.ok(&["lease", "demo", "--for", "1h"])["id"].as_str().expect("an id").to_owned();
    assert_eq!(harness.ok(&["release", &lease])["released"], true);
    harness.check(&[&repo]);
}

/// One that cannot be removed keeps none of the others, and the exit code is that of the first.
#[test]
fn several_environments_are_removed_at_once() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let dirty = harness.new_env("dirty", &repo, &[]);
    harness.write(&dirty.join("work"), "unsaved\n");
    for id in ["one", "two"] {
        harness.new_env(id, &repo, &[]);
    }
    let seen = harness.ok(&["rm", "one", "dirty", "--dry-run"]);
    assert_eq!(seen.as_array().map(Vec::len), Some(2), "{seen:#}");
    let (code, done) = harness.gk(&["rm", "one", "dirty", "nothing", "two"]);
    assert_eq!(
        (code, done[0]["id"].as_str(), done[3]["id"].as_str()),
        (1, Some("one"), Some("two"))
    );
    assert_eq!(done[1]["error"]["code"], "unsafe_to_remove");
    assert_eq!(done[2]["error"]["code"], "environment_not_found");
    assert_eq!(harness.ok(&["ls"]).as_array().map(Vec::len), Some(1));
    harness.check(&[&repo]);
}

/// An environment may be named like a branch. An id that is taken is never shared.
#[test]
fn environment_is_named_like_its_branch() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let at = repo.to_str().expect("text");
    let made = harness.ok(&["new", "feature/x", "--repo", at]);
    assert_eq!(
        (made["id"].as_str(), made["branch"].as_str()),
        (Some("feature-x"), Some("feature/x"))
    );
    assert_eq!(harness.ok(&["new", "feature/x", "--repo", at])["seq"], made["seq"]);
    let (code, error) = harness.refused(&["new", "feature-x", "--repo", at]);
    assert_eq!((code, error["code"].as_str()), (1, Some("environment_exists")));
    let hint = error["hint"].as_str().expect("a hint");
    assert!(hint.contains("`groundskeeper new feature-x-2 --repo "), "{hint}");
    let made = harness.ok(&["new", "other", "-b", "topic", "--repo", at]);
    assert_eq!(made["branch"], "topic");
    let (_, error) = harness.refused(&["new", "other", "-b", "topic-2", "--repo", at]);
    assert!(
        error["hint"]
            .as_str()
            .is_some_and(|h| h.contains("new other-2 ") && h.contains(" -b topic-2-2`")),
        "{error:#}"
    );
    // Both branches were made here, so they go with their environments.
    harness.ok(&["rm", "feature-x", "other"]);
    assert_eq!(harness.git(&repo, &["branch", "--list", "feature/x", "topic"]), "");
    let (code, _) = harness.gk(&["new", "third", "-b", "main", "--repo", at]);
    assert_eq!(code, 1, "a branch that exists is not made anew");
    harness.check(&[&repo]);
}

/// A file name cannot forge a line of the output.
#[test]
fn file_name_forges_no_line() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("a\nerror: forged [io_error]\n\u{1b}[2J"), "x\n");
    for args in
        [&["rm", "demo"][..], &["rm", "demo", "--dry-run"], &["status", "demo"], &["status"]]
    {
        let (_, out, err) = run_in(&harness, &repo, args);
        for line in out.lines().chain(err.lines()) {
            assert!(
                !line.starts_with("error: forged") && !line.contains('\u{1b}'),
                "{args:?}: {line}"
            );
        }
    }
}

/// A label is for people: the id stays as it is, and names the environment alone.
#[test]
fn label_is_shown_and_comes_back_with_environment() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let mut daemon = Daemon::start(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    harness.new_env("other", &repo, &[]);
    let listed = |harness: &Harness| {
        let printed = harness.command(&["ls"]).output().expect("runs").stdout;
        String::from_utf8_lossy(&printed).into_owned()
    };
    assert!(!listed(&harness).contains("LABEL"));
    let named = harness.ok(&["rename", "demo", "  the login fix "]);
    assert_eq!((&named["id"], &named["label"]), (&"demo".into(), &"the login fix".into()));
    assert_eq!(named["path"], path.to_str().expect("text"));
    let shown = listed(&harness);
    assert!(shown.contains("LABEL") && shown.contains("the login fix"), "{shown}");
    let format = ["ls", "--filter", "label=the login fix", "--format", "{id}: {label}"];
    let printed = harness.command(&format).output().expect("runs").stdout;
    assert_eq!(String::from_utf8_lossy(&printed), "demo: the login fix\n");
    let events = |harness: &Harness| {
        let all = harness.command(&["events", "--env", "demo"]).output().expect("runs").stdout;
        String::from_utf8_lossy(&all).matches("EnvironmentLabeled").count()
    };
    harness.ok(&["rename", "demo", "the login fix"]);
    assert_eq!(events(&harness), 1, "the same one again is not recorded");

    let (code, error) = harness.refused(&["rename", "demo", "two\nlines"]);
    assert_eq!((code, error["code"].as_str()), (64, Some("invalid_request")), "{error}");
    assert_eq!(harness.refused(&["show", "the login fix"]).0, 64, "it is no id");
    assert_eq!(harness.refused(&["rename", "dem", "x"]).0, 3, "a beginning changes nothing");
    assert_eq!(harness.refused(&["rename", "nowhere", "x"]).0, 3);

    daemon.kill();
    drop(daemon);
    let _daemon = Daemon::start(&harness);
    assert_eq!(harness.ok(&["show", "demo"])["label"], "the login fix");
    harness.ok(&["rm", "demo"]);
    assert_eq!(harness.refused(&["rename", "demo", "x"]).1["code"], "environment_destroyed");
    harness.ok(&["restore", "demo"]);
    assert_eq!(harness.ok(&["show", "demo"])["label"], "the login fix");
    harness.ok(&["rename", "demo", "--clear"]);
    assert_eq!(harness.ok(&["show", "demo"])["label"], serde_json::Value::Null);
    harness.ok(&["rename", "demo", "again"]);
    harness.ok(&["rm", "demo"]);
    harness.new_env("demo", &repo, &[]);
    assert_eq!(harness.ok(&["show", "demo"])["label"], serde_json::Value::Null, "a new life");
    harness.check(&[&repo]);
}
