//! Snapshots of the output of every verb: help, JSON and text.
//!
//! Help and JSON are contracts: a difference here breaks users' scripts. The text for people may
//! change, but a change must be reviewed here. Values that differ between runs (paths, ids, times,
//! sizes) are replaced by their kind.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Harness, PROGRAM, wait_for};

pub(crate) fn check_current(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/contracts").join(name);
    if std::env::var_os("GROUNDSKEEPER_BLESS").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (was, is)) in committed.lines().zip(text.lines()).enumerate() {
        assert_eq!(is, was, "{name}, line {}: a contract has changed", number + 1);
    }
    assert_eq!(text.lines().count(), committed.lines().count(), "{name}: lines came or went");
}

/// Replaces numbers, ids and times by their kind, and collapses the padding of table columns.
pub(crate) fn redacted(text: &str, harness: &Harness) -> String {
    let text = text.replace(harness.dir.path().to_str().expect("text"), "DIR");
    let mut out = String::new();
    for line in text.lines() {
        let words: Vec<String> = line.trim_end().split(' ').map(redact_word).collect();
        let mut line = words.join(" ");
        while line.trim_start().contains("   ") {
            let indent = line.len() - line.trim_start().len();
            let rest = line[indent..].replace("   ", "  ");
            line = format!("{}{rest}", " ".repeat(indent));
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// Replaces the ids, times and numbers in one word.
fn redact_word(text: &str) -> String {
    if let Some((before, rest)) = text.split_once("lease-") {
        let id = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        return format!("{}lease-ID{}", redact_word(before), redact_word(&rest[id..]));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (token, after) = rest.split_at(run.max(first.len_utf8()));
        let digits = token.bytes().filter(u8::is_ascii_digit).count();
        let hex = token.bytes().all(|b| b.is_ascii_hexdigit()) && token.len() >= 7;
        if time(rest) > 0 {
            out += "TIME";
            rest = &rest[time(rest)..];
            continue;
        }
        // One commit in a thousand begins with seven letters, so letters alone count as well.
        if hex {
            out += "HEX";
        } else if digits > 0 && is_measure(token, after) {
            out += "N";
            out += token.trim_start_matches(|c: char| c.is_ascii_digit());
        } else {
            out += token;
        }
        rest = after;
    }
    while out.contains("N.N") {
        out = out.replace("N.N", "N");
    }
    out
}

/// Returns whether a run of characters is a number or a measure, and not part of a name.
fn is_measure(token: &str, after: &str) -> bool {
    let unit = token.trim_start_matches(|c: char| c.is_ascii_digit());
    let starts = unit.len() < token.len();
    starts && matches!(unit, "" | "s" | "ms" | "m" | "h" | "d") && !after.starts_with('-')
}

/// Returns the length of the date or time at the start of a text. A time of any other form than the
/// one that the program has, UTC with milliseconds, is not replaced: its contract would change with
/// every run.
fn time(text: &str) -> usize {
    let is_date = |b: &[u8]| {
        let digit = |at: usize| b[at].is_ascii_digit();
        [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(digit) && b[4] == b'-' && b[7] == b'-'
    };
    let bytes = text.as_bytes();
    if bytes.len() < 10 || !is_date(bytes) {
        return 0;
    }
    match bytes[10..].iter().take_while(|b| b"0123456789T:.+Z".contains(b)).count() {
        0 => 10,
        14 if bytes[23] == b'Z' => 24,
        _ => 0,
    }
}

#[test]
fn volatile_values_are_masked() {
    for (was, is) in [
        ("2026-11-28T10:00:00.123Z", "TIME"),
        ("(2026-12-05)", "(TIME)"),
        ("2026-11-28T10:00:00Z", "2026-11-28T10:N:00Z"),
        ("3de5f1a9c2", "HEX"),
        ("one.1-cabddebf", "one.1-HEX"),
        ("decade", "decade"),
        ("x1", "x1"),
        ("v1.2", "v1.N"),
        ("12.5", "N"),
        ("17ms,", "Nms,"),
        ("file7.txt", "file7.txt"),
        ("lease-z8hwtwjc:", "lease-ID:"),
    ] {
        assert_eq!(redact_word(was), is, "{was}");
    }
}

/// A repository in which the snapshots play a typical day of work.
pub(crate) struct Day {
    pub(crate) harness: Harness,
    repo: PathBuf,
}

impl Day {
    pub(crate) fn new() -> Self {
        let harness = Harness::new();
        let repo = harness.repo("project", 3);
        harness.write(&repo.join(".gitignore"), "target/\n");
        harness.commit(&repo, "ignore");
        Self { harness, repo }
    }

    /// Returns the redacted text output of a verb, with stderr marked by `!`, and its exit code.
    pub(crate) fn text_output(&self, args: &[&str]) -> String {
        let output = self.harness.command(args).current_dir(&self.repo).output().expect("it runs");
        let text = |bytes: &[u8]| redacted(&String::from_utf8_lossy(bytes), &self.harness);
        let code = output.status.code().unwrap_or(-1);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let err: Vec<String> = err.lines().map(|line| format!("! {line}\n")).collect();
        format!("{out}{}[{code}]", err.concat())
    }

    pub(crate) fn json(&self, args: &[&str]) -> String {
        let args = [&["--json"], args].concat();
        let output = self.harness.command(&args).current_dir(&self.repo).output().expect("it runs");
        let code = output.status.code().unwrap_or(-1);
        let mut text = format!("$ groundskeeper {}  [{code}]\n", args.join(" "));
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let value = serde_json::from_str::<Value>(line).expect("JSON");
            let shown = serde_json::to_string_pretty(&shape(value)).expect("text");
            text += &redacted(&shown, &self.harness);
        }
        // The refresh of the index is owed for about a second; it may be done by now.
        text.replace("\"step\": \"refresh_index\"", "\"step\": null")
    }
}

/// Replaces the numbers in a JSON value by their kind.
fn shape(value: Value) -> Value {
    match value {
        Value::Number(_) => Value::String("NUMBER".to_owned()),
        Value::Array(list) => list.into_iter().map(shape).collect(),
        Value::Object(map) => map.into_iter().map(|(name, value)| (name, shape(value))).collect(),
        other => other,
    }
}

#[test]
fn help_matches_snapshot() {
    let mut text = String::new();
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let help = help(&path);
        let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
        let lines = listed.lines().take_while(|line| line.starts_with("  "));
        let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        for name in names.filter(|name| !name.is_empty() && *name != "help") {
            todo.push([path.clone(), vec![name.to_owned()]].concat());
        }
        text += &format!("$ groundskeeper {} --help\n{help}\n", path.join(" "));
    }
    assert!(text.matches("--help\n").count() > 35, "{text}");
    check_current("help.txt", &text);
}

fn help(path: &[String]) -> String {
    let mut command = Command::new(PROGRAM);
    command.args(path).arg("--help").env("COLUMNS", "100");
    command.env_remove("GROUNDSKEEPER_HOME").env_remove("GROUNDSKEEPER_LOG_FORMAT");
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{path:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Compares the JSON of one verb after another. Waits for fields that a background inspection adds.
#[test]
fn json_matches_snapshot() {
    let day = Day::new();
    let mut text = String::new();
    let mut verb = |args: &[&str]| text += &day.json(args);
    verb(&["new", "one"]);
    verb(&["new", "two", "--base", "HEAD~1"]);
    verb(&["new", "one"]);
    verb(&["new", "bad name"]);
    day.harness.drain();
    let at = day.harness.data().join("worktrees/one/project");
    day.harness.write(&at.join("README"), "edited\n");
    day.harness.write(&at.join("new"), "new\n");
    day.harness.write(&at.join("target/out"), "built\n");
    day.harness.ok(&["status"]);
    for args in [
        &["show", "one"][..],
        &["show", "none"],
        &["status", "one"],
        &["diff", "one"],
        &["ps", "one"],
        &["logs", "one"],
        &["rm", "one"],
        &["rm", "one", "--dry-run"],
        &["clean", "one"],
        &["clean", "one", "--undo"],
        &["lease", "two", "--for", "2h", "--purpose", "test"],
        &["rm", "two"],
        &["release", "none"],
        &["rm", "one", "--force"],
    ] {
        verb(args);
    }
    day.harness.drain();
    for args in [
        &["trash", "ls"][..],
        &["rescue", "ls"],
        &["rescue", "show", "one"],
        &["restore", "one"],
        &["rescue", "drop", "one", "--incarnation", "1"],
        &["gc", "--age", "0s", "--dry-run"],
        &["sweep"],
        &["trust", "--show"],
        &["cancel", "two"],
        &["reconcile", "--live", "one", "--epoch", "1"],
        &["migrate", "status"],
        &["trash", "empty"],
        &["stop"],
    ] {
        verb(args);
    }
    check_current("json.txt", &text);
}

/// Compares the text of one verb after another. `cargo insta` shows and accepts changes.
#[test]
fn text_matches_snapshot() {
    let day = Day::new();
    insta::assert_snapshot!(day.text_output(&["new", "one"]), @"
    DIR/data/worktrees/one/project
    !   base refs/heads/main HEX
    !   N files checked out
    ! one is ready: branch gk/one from refs/heads/main
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["new", "one"]), @"
    DIR/data/worktrees/one/project
    ! one is ready: branch gk/one from refs/heads/main
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["new", "two", "--base", "nothing"]), @r#"
    !   failed: no such branch, tag or commit: "nothing"
    ! error: no such branch, tag or commit: "nothing" [base_not_found]
    ! hint: name a branch, tag, commit or remote branch; --fetch updates the base first
    [1]
    "#);
    insta::assert_snapshot!(day.text_output(&["new", "bad name"]), @r#"
    ! error: "bad name" is not a valid environment id: the character ' ' is not allowed [invalid_request]
    ! hint: check the request against the API description at /v1/openapi.json
    [64]
    "#);
    day.harness.drain();
    // A list waits 150 ms for changes; a loaded machine may need more.
    day.harness.ok(&["status"]);
    insta::assert_snapshot!(day.text_output(&["ls"]), @"
     ID  PHASE  BRANCH  CHANGES  BASE  AGE  PATH
     one  ready  gk/one  clean  HEX  Ns  DIR/data/worktrees/one/project
     two  failed  gk/two  -  -  Ns  DIR/data/worktrees/two/project
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["show", "one"]), @"
    id  one
    phase  ready
    incarnation  N
    path  DIR/data/worktrees/one/project
    branch  gk/one
    changes  clean
    base  HEX
    from  refs/heads/main
    repository  DIR/project/.git
    created  TIME (Ns ago)
    checkout  N files by git (few files)
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["show", "none"]), @"
    ! error: there is no environment none [environment_not_found]
    ! hint: did you mean `one`? `groundskeeper ls` lists all
    [3]
    ");
    let at = day.harness.data().join("worktrees/one/project");
    day.harness.write(&at.join("README"), "edited\n");
    day.harness.write(&at.join("new"), "new\n");
    day.harness.write(&at.join("target/out"), "built\n");
    check_inspection_verbs(&day);
}

/// Snapshots of the verbs that show the work in the environment.
fn check_inspection_verbs(day: &Day) {
    insta::assert_snapshot!(day.text_output(&["status"]), @"
     ID  BRANCH  CHANGES  LINES  BASE  UPSTREAM  OPERATION  CHANGED
     one  gk/one  ~N ?N  +N -N ...  up to date  -  -  Ns ago
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["status", "one"]), @"
    DIR/data/worktrees/one/project on gk/one
    base  HEX, up to date
    changes  ~N ?N
    lines  +N -N ...
    changed  Ns ago
      .M README
      ?? new
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["diff", "one"]), @"
    diff --git a/README b/README
    index HEX..HEX N
    --- a/README
    +++ b/README
    @@ -N +N @@
    -hello
    +edited
    ! untracked files, not part of this diff: new
    [0]
    ");
    check_usage_verbs(day);
}

/// Snapshots of the verbs that use the environment.
fn check_usage_verbs(day: &Day) {
    insta::assert_snapshot!(day.text_output(&["exec", "one", "--", "cat", "README"]), @"
    edited
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["exec", "one", "--", "no-such-program"]), @"
    ! error: there is no program no-such-program [path_not_found]
    ! hint: check its name, or install it
    [127]
    ");
    insta::assert_snapshot!(day.text_output(&["ps", "one"]), @"
    ! no processes use one
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["lease", "one", "--for", "2h"]), @"
    lease-ID
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["lease", "one", "--for", "9d"]), @"
    ! error: a lease must end in the future and last at most N days [invalid_request]
    ! hint: choose a duration of N second to N days
    [64]
    ");
    insta::assert_snapshot!(day.text_output(&["release", "none"]), @"
    ! there is no lease none: it has ended, or never was
    [0]
    ");
    check_removal_verbs(day);
}

/// Snapshots of the removal of the environment.
fn check_removal_verbs(day: &Day) {
    insta::assert_snapshot!(day.text_output(&["rm", "one", "--dry-run"]), @"
    changed: README
    untracked: new
    in use: lease lease-ID:
    remove it with `groundskeeper rm one --force`
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["rm", "one"]), @"
    ! error: environment one is in use [environment_busy]
    !   | lease lease-ID:
    ! hint: release its leases with `groundskeeper release LEASE`, wait until they expire, or run `groundskeeper rm one --force`
    [4]
    ");
    insta::assert_snapshot!(day.text_output(&["clean", "one"]), @"
    N KiB in N path: target
    !   moving rebuildable files to the trash
    ! `groundskeeper clean one --undo` puts it back until TIME
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["clean", "one", "--undo"]), @"
    put back: target
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["cancel", "one"]), @"
    one is ready; no provision or postponed removal is pending
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["gc", "--age", "0s"]), @"
     ID  OUTCOME  REASON
     one  kept  leased
    !   checking one
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["rm", "one", "--force"]), @"
    ! one is removed; its directory is in the trash: DIR/data/trash/one.1-HEX/project
    ! `groundskeeper restore one` brings it back
    ! work that no branch has is saved under refs/groundskeeper/rescue/one/1-HEX-HEX
    ! its branch is deleted: all its commits are reachable elsewhere
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["rm", "one"]), @"
    ! one is removed; its directory is in the trash: DIR/data/trash/one.1-HEX/project
    ! `groundskeeper restore one` brings it back
    ! work that no branch has is saved under refs/groundskeeper/rescue/one/1-HEX-HEX
    ! its branch is deleted: all its commits are reachable elsewhere
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["rm", "none"]), @"
    ! error: there is no environment none [environment_not_found]
    ! hint: `groundskeeper ls` lists all; with --if-exists this is a success
    [3]
    ");
    insta::assert_snapshot!(day.text_output(&["restore", "none"]), @"
    ! error: there is no trash entry or rescue ref of none to restore [environment_not_found]
    ! hint: list what can be restored: `groundskeeper trash ls`, `groundskeeper rescue ls`
    [3]
    ");
}

#[test]
fn trash_and_rescue_text_matches_snapshot() {
    let day = Day::new();
    day.text_output(&["new", "one"]);
    let at = day.harness.data().join("worktrees/one/project");
    day.harness.write(&at.join("new"), "new\n");
    day.text_output(&["rm", "one", "--force"]);
    day.harness.drain();
    insta::assert_snapshot!(day.text_output(&["trash", "ls"]), @"
     ID  INCARNATION  KIND  REMOVED  KEPT UNTIL  SIZE  FILES  PATH
     one  N  removed  Ns ago  TIME  N KiB  N  DIR/data/trash/one.1-HEX/project
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["rescue", "ls"]), @"
     ID  INCARNATION  REMOVED  KEPT UNTIL  COMMIT  HOLDS  LACKS  REF
     one  N  Ns ago  dropped  HEX  the working tree  -  refs/groundskeeper/rescue/one/1-HEX-HEX
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["rescue", "show", "one"]), @"
    id  one, incarnation N
    removed  TIME (Ns ago)
    kept  until it is dropped
    repository  DIR/project/.git
    branch  gk/one
    ref  refs/groundskeeper/rescue/one/1-HEX-HEX
    commit  HEX
    holds  the working tree
    inspect  git diff refs/groundskeeper/rescue/one/1-HEX-HEX^N refs/groundskeeper/rescue/one/1-HEX-HEX
    restore  groundskeeper restore one
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["ls", "--all"]), @"
     ID  PHASE  BRANCH  CHANGES  BASE  AGE  PATH
     one  removed  gk/one  -  HEX  Ns  DIR/data/worktrees/one/project
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["restore", "one"]), @"
    DIR/data/worktrees/one/project
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["trash", "empty"]), @"
    !   unlinking trash entries
    ! the trash is empty
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["rescue", "drop", "one", "--incarnation", "1"]), @"
    dropped the rescue of one, incarnation N
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["rescue", "ls"]), @"
    ! no rescues
    [0]
    ");
    check_host_verbs(&day);
}

/// Snapshots of the verbs about the host and its repositories.
fn check_host_verbs(day: &Day) {
    insta::assert_snapshot!(day.text_output(&["sweep"]), @"
    ! no findings
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["trust"]), @"
    this repository has no setup hook
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["trust", "--show"]), @"
    this repository has no setup hook
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["reconcile", "--live", "one", "--epoch", "1"]), @"
    nothing to do
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["reconcile", "--live", "other", "--epoch", "2"]), @"
    retired: one
    missing: other
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["migrate", "status"]), @"
    no migrations are recorded
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["host", "ls"]), @"
    ! error: cannot reach a control server for DIR/data/server [daemon_unreachable]
    !   caused by: No such file or directory (os error N)
    ! hint: start one with `groundskeeper server` or `groundskeeper up`
    [2]
    ");
    check_foreign_worktrees(day);
}

/// Snapshots for foreign worktrees, and for the end of the daemon.
fn check_foreign_worktrees(day: &Day) {
    let theirs = day.harness.path("theirs");
    let text = theirs.to_str().expect("text");
    day.harness.git(&day.repo, &["worktree", "add", "-q", "-b", "theirs", text]);
    insta::assert_snapshot!(day.text_output(&["adopt", text, "--id", "theirs"]), @"
    theirs
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["rm", "theirs"]), @"
    ! theirs is released
    ! nothing at DIR/theirs was touched: an adopted worktree is never deleted
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["stop"]), @"
    stopped
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["stop"]), @"
    no daemon is running
    [0]
    ");
    insta::assert_snapshot!(day.text_output(&["--no-autostart", "ls"]), @"
    ! error: cannot reach a daemon for DIR/data [daemon_unreachable]
    !   caused by: No such file or directory (os error N)
    ! hint: start one with `groundskeeper daemon`, or omit --no-autostart
    [2]
    ");
    wait_for("the daemon is gone", || !day.harness.data().join("daemon.sock").exists());
}
