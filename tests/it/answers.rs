//! What commands say where nothing of the usual happens: command lines that do not parse, adopted
//! worktrees, branches of a remote, a daemon of another version, and previews.

use serde_json::Value;

use crate::api::call;
use crate::support::{Daemon, Harness};

#[test]
fn usage_errors_are_json_where_it_is_asked_for() {
    let harness = Harness::new();
    for args in [
        &["--json", "no-such-verb"][..],
        &["ls", "--no-such-flag", "--json"],
        &["--json", "new", "--branch"],
        &["--json", "logs", "x", "--incarnation", "many"],
        &["--json"],
        &["--json=true", "ls"],
    ] {
        let output = harness.command(args).output().expect("runs");
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(found["error"]["code"], "invalid_request", "{found:#}");
        let message = found["error"]["message"].as_str().expect("text");
        assert!(!message.is_empty() && !message.contains('\n'), "{found:#}");
        assert_eq!(output.stderr, b"", "{args:?}");
    }
    // What follows two dashes is another program's.
    let args = ["ls", "--no-such-flag", "--", "--json"];
    let output = harness.command(&args).output().expect("runs");
    assert_eq!((output.status.code(), output.stdout), (Some(64), Vec::new()));
    let output = harness.command(&["--json", "--help"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn adopted_worktree_is_released_in_words() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let place = harness.path("theirs");
    let text = place.to_str().expect("text");
    harness.git(&repo, &["worktree", "add", "-q", "-b", "theirs", text]);
    harness.ok(&["adopt", text, "--id", "theirs"]);
    harness.write(&place.join("work"), "work\n");
    let seen = harness.ok(&["rm", "theirs", "--dry-run"]);
    assert_eq!((&seen["safe"], &seen["adopted"]), (&true.into(), &true.into()), "{seen:#}");
    let said = harness.command(&["rm", "theirs"]).output().expect("runs");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("theirs is released\nnothing at "), "{said}");
    assert!(place.join("work").exists());
}

/// As `git switch` does.
#[test]
fn branch_of_remote_becomes_local_one() {
    let harness = Harness::new();
    let upstream = harness.repo("upstream", 3);
    harness.git(&upstream, &["branch", "fix/it"]);
    harness.git(&upstream, &["branch", "same"]);
    let repo = harness.path("clone of it");
    let to = repo.to_str().expect("text");
    let from = upstream.to_str().expect("text");
    harness.git(&harness.path("."), &["clone", "-q", from, to]);
    for wanted in ["origin/fix/it", "fix/it"] {
        let made = harness.ok(&["new", "demo", "--repo", to, "--branch", wanted]);
        assert_eq!((&made["phase"], &made["branch"]), (&"ready".into(), &"fix/it".into()));
        let upstream = ["rev-parse", "--abbrev-ref", "fix/it@{upstream}"];
        assert_eq!(harness.git(&repo, &upstream), "origin/fix/it");
        let again = harness.ok(&["new", "demo", "--repo", to, "--branch", wanted]);
        assert_eq!(again["incarnation"], made["incarnation"], "the same again changes nothing");
        harness.ok(&["rm", "demo"]);
        harness.git(&repo, &["rev-parse", "--verify", "-q", "fix/it"]);
        harness.git(&repo, &["branch", "-q", "-D", "fix/it"]);
    }
    // A local one of that name is another branch.
    harness.git(&repo, &["branch", "-q", "--no-track", "fix/it", "origin/fix/it"]);
    let (_, error) = harness.refused(&["new", "demo", "--repo", to, "--branch", "origin/fix/it"]);
    assert_eq!(error["code"], "branch_exists", "{error:#}");
    // Two remotes have it: what is meant must be said.
    harness.git(&repo, &["remote", "add", "other/one", from]);
    harness.git(&repo, &["fetch", "-q", "other/one"]);
    let (_, error) = harness.refused(&["new", "demo", "--repo", to, "--branch", "same"]);
    assert_eq!(error["code"], "branch_not_found", "{error:#}");
    let made = harness.ok(&["new", "demo", "--repo", to, "--branch", "other/one/same"]);
    assert_eq!(made["branch"], "same");
    let upstream = ["rev-parse", "--abbrev-ref", "same@{upstream}"];
    assert_eq!(harness.git(&repo, &upstream), "other/one/same");
}

/// A program that asks over the API is told the command.
#[test]
fn branch_of_remote_is_named_with_its_command() {
    let harness = Harness::new();
    let upstream = harness.repo("upstream", 3);
    harness.git(&upstream, &["branch", "fix/it"]);
    let repo = harness.path("clone of it");
    let to = repo.to_str().expect("text");
    harness.git(&harness.path("."), &["clone", "-q", upstream.to_str().expect("text"), to]);
    harness.ok(&["ls"]);
    let body = serde_json::json!({ "id": "demo", "repo": to, "branch": "origin/fix/it" });
    let path = "/v1/environments?wait=60";
    let (_, answer) = call(&harness, "POST", path, "", &body.to_string());
    let answer = if answer["error"].is_null() { answer } else { answer["error"].clone() };
    assert_eq!(answer["code"], "branch_not_found", "{answer:#}");
    let hint = answer["hint"].as_str().expect("text");
    let command = hint.split('`').nth(1).expect("a command");
    let done = std::process::Command::new("sh").args(["-c", command]).status();
    assert!(done.expect("runs").success(), "{command}");
    let made = harness.ok(&["new", "demo", "--repo", to, "--branch", "fix/it"]);
    assert_eq!(made["phase"], "ready", "{made:#}");
}

#[test]
fn daemon_of_other_version_is_named() {
    let harness = Harness::new();
    let daemon = Daemon::start(&harness);
    let place = harness.data().join("daemon.json");
    let said = || {
        let output = harness.command(&["ls"]).output().expect("runs");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(!said().contains("version"));
    let text = std::fs::read_to_string(&place).expect("an info file");
    let mut info: Value = serde_json::from_str(&text).expect("JSON");
    info["version"] = "0.0.9".into();
    std::fs::write(&place, info.to_string()).expect("written");
    let text = said();
    assert!(text.contains("the daemon is version 0.0.9"), "{text}");
    assert!(!harness.ok(&["ls"]).is_null(), "no word of it in JSON");
    drop(daemon);
}

#[test]
fn preview_of_clean_changes_nothing() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitignore"), "target\nnode_modules\n");
    harness.commit(&repo, "rules");
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("target/a"), &"a".repeat(100_000));
    harness.git(&path, &["init", "-q", "node_modules"]);
    harness.drain();
    let seq = || harness.ok(&["show", "demo"])["seq"].clone();
    let before = seq();
    let seen = harness.ok(&["clean", "demo", "--dry-run"]);
    assert_eq!(seen["paths"], serde_json::json!(["target"]), "{seen:#}");
    assert_eq!(seen["left"][0]["path"], "node_modules", "{seen:#}");
    assert!(path.join("target/a").exists());
    assert_eq!(seq(), before, "no record");
    // It is refused where the clean would be.
    let place = harness.path("theirs");
    let text = place.to_str().expect("text");
    harness.git(&repo, &["worktree", "add", "-q", "-b", "theirs", text]);
    harness.ok(&["adopt", text, "--id", "theirs"]);
    let refusals = [&["clean", "theirs"][..], &["clean", "theirs", "--dry-run"]];
    let [real, preview] = refusals.map(|args| harness.refused(args));
    assert_eq!(preview, real);
    let done = harness.ok(&["clean", "demo"]);
    for name in ["paths", "left"] {
        assert_eq!(done[name], seen[name], "{name}");
    }
    assert_eq!(done["size"]["apparent"], seen["size"]["apparent"]);
}

/// `doctor` names what would not run, and who else is there.
#[test]
fn doctor_names_broken_hooks_and_other_daemons() {
    let (harness, other) = (Harness::new(), Harness::new());
    let _other = Daemon::start(&other);
    let repo = harness.repo("project", 3);
    let text = repo.to_str().expect("text");
    harness.new_env("demo", &repo, &[]);
    let check = |name: &str| {
        let checks = harness.ok(&["doctor"]);
        let list = checks.as_array().expect("a list").clone();
        let found = list.into_iter().find(|check| check["name"] == name).expect("a check");
        let word = |key: &str| found[key].as_str().expect("text").to_owned();
        (word("status"), word("detail"), word("hint"))
    };
    assert_eq!(check("hooks"), ("ok".to_owned(), "none".to_owned(), String::new()));
    harness.hook(&repo, "#!/bin/sh\nexit 0\n");
    let (status, detail, hint) = check("hooks");
    assert!(status == "warn" && detail.contains("is not trusted as it is now"), "{detail}");
    assert!(hint.contains("`groundskeeper trust --repo "), "{hint}");
    harness.ok(&["trust", "--repo", text]);
    assert_eq!(check("hooks").1, "1 hook, all trusted");
    let hook = repo.join(".groundskeeper/setup");
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("");
    let (status, detail, hint) = check("hooks");
    assert!(status == "warn" && detail.contains("is not executable"), "{detail}");
    assert!(hint.starts_with("`chmod +x "), "{hint}");
    let (status, detail, _) = check("other daemons");
    let named = format!("of {}", other.data().display());
    let own = format!("of {}", harness.data().display());
    assert!(status == "ok" && detail.contains(&named) && !detail.contains(&own), "{detail}");
}
