//! What people see: lists in the form they ask for, colours where they are wanted, and records in
//! words.

use std::process::Command;

use crate::support::Harness;

/// Runs a verb without `--json`, and returns its exit code, stdout and stderr.
fn run(harness: &Harness, args: &[&str]) -> (i32, String, String) {
    let mut command: Command = harness.command(args);
    let output = command.output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("a code");
    (code, text(&output.stdout), text(&output.stderr))
}

#[test]
fn list_is_filtered_and_written_as_asked() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    for id in ["fix-10", "fix-9"] {
        harness.new_env(id, &repo, &[]);
    }
    let path = harness.new_env("dirty", &repo, &[]);
    harness.write(&path.join("new"), "work\n");
    harness.ok(&["status"]);
    let printed = |args: &[&str]| {
        let (code, out, err) = run(&harness, args);
        assert_eq!(code, 0, "{args:?}: {err}");
        out
    };
    assert_eq!(
        printed(&["ls", "--format", "{id}\\t{branch}"]).lines().next(),
        Some("dirty\tgk/dirty")
    );
    let clean = ["ls", "--filter", "known.clean=true", "--format", "{id}"];
    assert_eq!(printed(&clean), "fix-9\nfix-10\n");
    assert_eq!(
        printed(&["ls", "-q", "--filter", "id=dirty", "--filter", "phase=ready"]),
        "dirty\n"
    );
    let json = printed(&["ls", "--json", "--filter", "branch=gk/dirty"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).expect("json")[0]["id"], "dirty");
    let (code, out, err) = run(&harness, &["ls", "--filter", "phase=failed"]);
    assert!(code == 0 && out.is_empty() && err.contains("match the filter"), "{out}{err}");
    for bad in [["--format", "{nope}"], ["--format", "{id"], ["--filter", "nope=1"]] {
        let (code, _, err) = run(&harness, &["ls", bad[0], bad[1]]);
        assert!(code == 64 && err.contains("hint: "), "{bad:?}: {err}");
    }
    assert_eq!(run(&harness, &["ls", "--filter", "nope"]).0, 64);
    let bracketed = ["ls", "--filter", "id=dirty", "--format", "{{x}} {id}}}"];
    assert_eq!(printed(&bracketed), "{x} dirty}\n");
    let (code, out, _) = run(&harness, &["--json", "new", "more", "-x", "true"]);
    assert!(code == 64 && out.contains("prints to stdout"), "{out}");
    assert_eq!(harness.ok(&["ls"]).as_array().map(Vec::len), Some(3), "nothing was made");
    assert_eq!(printed(&["ls", "--all", "--filter", "id=fix-9", "--format", "{phase}"]), "ready\n");
}

#[test]
fn colours_are_where_they_are_wanted() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let path = harness.new_env("dirty", &repo, &[]);
    harness.write(&path.join("README"), "changed\n");
    harness.ok(&["status"]);
    let (_, plain, _) = run(&harness, &["ls"]);
    assert!(!plain.contains('\u{1b}'), "a pipe has none: {plain}");
    let (_, colored, _) = run(&harness, &["ls", "--color", "always"]);
    let line = colored.lines().nth(1).expect("a row");
    assert!(line.starts_with("\u{1b}[33m") && line.ends_with("\u{1b}[0m"), "{line:?}");
    let (_, patch, _) = run(&harness, &["diff", "dirty", "--color=always"]);
    assert!(patch.contains("\u{1b}[32m+changed\u{1b}[0m"), "{patch:?}");
    let (_, patch, _) = run(&harness, &["diff", "dirty"]);
    assert!(patch.contains("\n+changed\n"), "{patch}");
}

#[test]
fn records_are_told_in_words_from_where_one_asks() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.new_env("one", &repo, &[]);
    harness.new_env("two", &repo, &[]);
    let lines = |args: &[&str]| {
        let (code, out, err) = run(&harness, args);
        assert_eq!(code, 0, "{args:?}: {err}");
        out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = lines(&["events"]);
    let made = all.iter().find(|line| line.contains("ProvisionRequested")).expect("a record");
    assert!(made.contains("incarnation 1 of project from the default branch"), "{made}");
    assert_eq!(lines(&["events", "--last", "2"]), all[all.len() - 2..]);
    let of_one: Vec<String> = all.iter().filter(|l| l.contains(" one  ")).cloned().collect();
    assert!(of_one.len() > 2, "{all:?}");
    assert_eq!(lines(&["events", "--env", "one", "-n", "2"]), of_one[of_one.len() - 2..]);
    assert_eq!(lines(&["events", "--env", "one", "-n", "999"]), of_one);
    assert_eq!(lines(&["events", "--since", "1h"]), all);
    assert!(lines(&["events", "--since", "2100-01-01"]).is_empty());
    assert_eq!(lines(&["events", "--since", "3"]), all[3..]);
    assert_eq!(run(&harness, &["events", "--since", "parsec"]).0, 64);
    assert_eq!(run(&harness, &["events", "--last", "10001"]).0, 64);
}

/// Whoever follows learns that the daemon has stopped, and that nothing more will come.
#[test]
fn follower_is_told_that_daemon_stops() {
    let harness = Harness::new();
    harness.ok(&["ls"]);
    let mut follower = harness.command(&["events", "--follow", "--json"]);
    follower.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut follower = follower.spawn().expect("started");
    let mut first = String::new();
    let mut out = std::io::BufReader::new(follower.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut out, &mut first).expect("a record");
    harness.ok(&["stop"]);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).expect("read");
    assert!(rest.contains("{\"kind\":\"daemon.stopping\"}\n"), "{rest}");
    assert!(rest.contains("daemon_unreachable"), "{rest}");
    assert_eq!(follower.wait().expect("ended").code(), Some(2));
}
