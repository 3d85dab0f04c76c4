//! What a person at a terminal is asked, and what a script is not.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{Daemon, Harness, wait_for};

/// Width of the terminal.
const COLUMNS: u16 = 80;

/// Runs a command at a terminal of its own, and types `answer` once it asks. Returns the exit code
/// and everything that the terminal showed.
fn at_terminal(harness: &Harness, args: &[&str], answer: &str) -> (i32, String) {
    at_width(harness.command(args), COLUMNS, answer)
}

/// Does the same at a terminal of another width.
pub(crate) fn at_width(command: Command, columns: u16, answer: &str) -> (i32, String) {
    let mut asked = false;
    watched(command, columns, &mut |shown, terminal, _| {
        if !asked && shown.ends_with("[y/N] ") {
            terminal.write_all(answer.as_bytes()).expect("typed");
            asked = true;
        }
    })
}

/// Runs a command at a terminal, and calls `seen` with all that the terminal has shown so far, the
/// terminal, and the pid of the command, whenever there is more.
fn watched(
    mut command: Command,
    columns: u16,
    seen: &mut dyn FnMut(&str, &mut File, u32),
) -> (i32, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("granted");
    let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).expect("a size");
    let name = ptsname(&ours, Vec::new()).expect("a name").into_string().expect("text");
    // Otherwise it would become that of all tests, and its end would hang them up.
    let theirs =
        rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("opened");
    let end = || Stdio::from(theirs.as_fd().try_clone_to_owned().expect("cloned"));
    let child = command.stdin(end()).stdout(end()).stderr(end()).spawn();
    let mut child = child.expect("starts");
    drop((command, theirs));
    let (mut ours, mut shown) = (File::from(ours), String::new());
    let mut buffer = [0; 4096];
    // A terminal that the last process has left gives an error.
    while let Ok(count @ 1..) = ours.read(&mut buffer) {
        shown += &String::from_utf8_lossy(&buffer[..count]);
        seen(&shown, &mut ours, child.id());
    }
    (child.wait().expect("ends").code().unwrap_or(-1), shown)
}

/// Runs a command as the only one of a terminal, which turns keys into signals for it.
fn in_session(harness: &Harness, args: &[&str]) -> Command {
    let wanted = harness.command(args);
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(wanted.get_program()).args(wanted.get_args());
    for (name, value) in wanted.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn send(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("sent");
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

/// What takes much away asks a person, and changes nothing without a yes.
#[test]
fn person_is_asked_before_much_is_taken_away() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let count = |args: &[&str]| harness.ok(args).as_array().expect("a list").len();
    for id in ["one", "two"] {
        harness.new_env(id, &repo, &[]);
    }
    let (code, shown) = at_terminal(&harness, &["gc"], "n\n");
    assert!(
        shown.contains("would be removed") && shown.contains("these 2 environments?"),
        "{shown}"
    );
    assert_eq!((code, count(&["ls"])), (1, 2), "{shown}");
    let (code, shown) = at_terminal(&harness, &["gc"], "y\n");
    assert_eq!((code, count(&["ls"]), count(&["trash", "ls"])), (0, 0, 2), "{shown}");

    let (code, shown) = at_terminal(&harness, &["trash", "empty"], "\n");
    assert!(shown.contains("Unlink 2 entries"), "{shown}");
    assert_eq!((code, count(&["trash", "ls"])), (1, 2), "{shown}");
    let (code, shown) = at_terminal(&harness, &["trash", "empty", "one", "--yes"], "");
    assert_eq!((code, count(&["trash", "ls"])), (0, 1), "{shown}");
    let (code, shown) = at_terminal(&harness, &["--no-input", "trash", "empty"], "");
    assert_eq!((code, count(&["trash", "ls"])), (0, 0), "{shown}");

    let path = harness.new_env("work", &repo, &[]);
    harness.write(&path.join("file"), "unsaved\n");
    harness.ok(&["rm", "work", "--force"]);
    harness.ok(&["trash", "empty"]);
    let (code, shown) = at_terminal(&harness, &["rescue", "drop", "work"], "no\n");
    assert!(shown.contains("the working tree") && shown.contains("Drop it?"), "{shown}");
    assert_eq!((code, count(&["rescue", "ls"])), (1, 1), "{shown}");
    let (code, shown) = at_terminal(&harness, &["rescue", "drop", "work"], "YES\n");
    assert_eq!((code, count(&["rescue", "ls"])), (0, 0), "{shown}");

    // A folder of ours that no record explains.
    let left = harness.data().join("trash/work.1-00000000");
    std::fs::create_dir_all(&left).expect("a folder");
    let (code, shown) = at_terminal(&harness, &["sweep", "--apply"], "n\n");
    assert_eq!((code, left.exists()), (1, true), "{shown}");
    let (code, shown) = at_terminal(&harness, &["sweep", "--apply"], "y\n");
    assert_eq!((code, left.exists()), (0, false), "{shown}");
    harness.check(&[&repo]);
}

/// No line of a list is wrapped, and what says most of a path is there.
#[test]
fn list_fits_terminal() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let other = harness.repo("other-project", 3);
    let _daemon = Daemon::start(&harness);
    for id in ["fix-10", "fix-9"] {
        harness.new_env(id, &repo, &[]);
    }
    let long = "a-name-as-long-as-people-like";
    harness.new_env(long, &other, &[]);
    let (_, shown) = at_terminal(&harness, &["ls"], "");
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS.into()), "{shown}");
    assert!(lines[0].contains("REPOSITORY") && lines[1].contains("-project  ready"), "{shown}");
    assert!(!lines[0].contains("BASE") && lines[2].ends_with("/project"), "{shown}");
    assert!(lines[2].contains("fix-9") && lines[3].contains("fix-10"), "{shown}");
    // A reader that is no terminal gets whole values.
    let whole = harness.command(&["ls"]).output().expect("runs");
    let whole = String::from_utf8_lossy(&whole.stdout).into_owned();
    let place = harness.data().join("worktrees").join(long).join("other-project");
    assert!(whole.contains(place.to_str().expect("text")), "{whole}");
    let ids = harness.command(&["-q", "ls", "--repo"]).arg(&repo).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&ids.stdout), "fix-9\nfix-10\n");
}

/// A script behaves as it always did: no question, also with `--json` at a terminal.
#[test]
fn script_is_never_asked() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    harness.new_env("one", &repo, &[]);
    let (code, shown) = at_terminal(&harness, &["--json", "gc"], "");
    assert_eq!((code, shown.contains("[y/N]")), (0, false), "{shown}");
    let output = harness.command(&["trash", "empty"]).output().expect("runs");
    assert!(output.status.success());
    assert_eq!(harness.ok(&["trash", "ls"]).as_array().map(Vec::len), Some(0));
}

/// Without an id a person is offered what was removed last; a script is told to name it.
#[test]
fn last_removed_environment_is_offered() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let (code, error) = harness.refused(&["restore"]);
    assert_eq!((code, error["code"].as_str()), (3, Some("not_found")), "{error}");
    for id in ["one", "two"] {
        let path = harness.new_env(id, &repo, &[]);
        harness.write(&path.join("new"), "work\n");
        harness.ok(&["rm", id, "--force"]);
    }
    let (code, error) = harness.refused(&["restore"]);
    assert_eq!((code, &error["hint"]), (64, &"run `groundskeeper restore two`".into()), "{error}");
    let (code, shown) = at_terminal(&harness, &["restore"], "n\n");
    assert!(code == 1 && shown.contains("restore two, which was removed"), "{shown}");
    let (code, shown) = at_terminal(&harness, &["restore"], "y\n");
    assert_eq!(code, 0, "{shown}");
    assert_eq!(harness.ok(&["show", "two"])["phase"], "ready");
}

#[test]
fn misspelt_base_is_told_the_nearest() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.git(&repo, &["branch", "feature-login"]);
    let mut command = harness.command(&["new", "one", "--base", "feature-lgoin"]);
    let output = command.current_dir(&repo).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("did you mean `feature-login`?"), "{said}");
}

/// Ctrl-C ends the command and not the work, and says so.
#[test]
fn interrupted_command_tells_that_daemon_goes_on() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let end = harness.path("end");
    // Again and again: what it prints before the command listens is not shown.
    let wait = format!(
        "#!/bin/sh\nuntil test -e '{}'; do echo at work; sleep 0.02; done\n",
        end.display()
    );
    harness.hook(&repo, &wait);
    harness.teardown_hook(&repo, &wait);
    let text = repo.to_str().expect("text");
    harness.ok(&["trust", "--repo", text]);
    harness.ok(&["trust", "--repo", text, "--hash", &harness.teardown_hash(&repo)]);
    let interrupted = |args: &[&str], awaited: &str| {
        let mut sent = false;
        watched(harness.command(args), COLUMNS, &mut |shown, _, pid| {
            if !sent && shown.contains(awaited) && shown.contains("at work") {
                send(pid, rustix::process::Signal::INT);
                sent = true;
            }
        })
    };
    let (code, shown) = interrupted(&["new", "demo", "--repo", text], "");
    assert!(code == 130 && shown.contains("the provision goes on"), "{code}: {shown}");
    std::fs::write(&end, "").expect("written");
    wait_for("the provision", || harness.phase("demo") == "ready");
    std::fs::remove_file(&end).expect("removed");
    let (code, shown) = interrupted(&["rm", "demo"], "running the teardown hook");
    assert!(code == 130 && shown.contains("the removal goes on"), "{code}: {shown}");
    std::fs::write(&end, "").expect("written");
    wait_for("the removal", || harness.phase("demo") == "tombstoned");
}

/// The table follows what happens, gives the terminal back while it is stopped, and at its end.
#[test]
fn watched_status_follows_and_leaves_terminal_as_it_was() {
    const ENTERS: &str = "\x1b[?1049h";
    const LEAVES: &str = "\x1b[?25h\x1b[?1049l";
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    for (n, end) in ["\x03", "TERM"].into_iter().enumerate() {
        let file = path.join(format!("new-{n}"));
        let mut step = 0;
        let command = in_session(&harness, &["status", "--watch"]);
        let (code, shown) = watched(command, COLUMNS, &mut |shown, terminal, pid| {
            let drawn = shown.rsplit(ENTERS).next().unwrap_or_default();
            match step {
                0 if drawn.contains("gk/demo") => harness.write(&file, "work\n"),
                1 if drawn.contains(&format!("?{}", n + 1)) => {
                    terminal.write_all(b"\x1a").expect("typed");
                }
                2 if shown.ends_with(LEAVES) => {
                    // It leaves the screen before it stops.
                    wait_for("the stop", || is_stopped(pid));
                    send(pid, rustix::process::Signal::CONT);
                }
                3 if shown.matches(ENTERS).count() == 2 && drawn.contains("gk/demo") => match end {
                    "TERM" => send(pid, rustix::process::Signal::TERM),
                    key => terminal.write_all(key.as_bytes()).expect("typed"),
                },
                _ => return,
            }
            step += 1;
        });
        let expected = if end == "TERM" { 143 } else { 0 };
        assert_eq!((code, step), (expected, 4), "{end:?}: {shown:?}");
        assert!(shown.ends_with(LEAVES), "{end:?}: {shown:?}");
    }
}

/// A command has the terminal: what is typed, its size, and its keys.
#[test]
fn command_in_environment_has_terminal() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    harness.new_env("demo", &repo, &[]);
    let script = "stty size; echo ask; read line; echo got $line; exec sleep 600";
    let mut step = 0;
    let command = in_session(&harness, &["exec", "demo", "--", "sh", "-c", script]);
    let (code, shown) = watched(command, COLUMNS, &mut |shown, terminal, _| {
        match step {
            0 if shown.contains("ask") => terminal.write_all(b"hello\n").expect("typed"),
            1 if shown.contains("got hello") => {
                let env = harness.ok(&["show", "demo"]);
                assert_eq!(env["leases"][0]["purpose"], "exec sh", "{env:#}");
                terminal.write_all(b"\x03").expect("typed");
            }
            _ => return,
        }
        step += 1;
    });
    assert!(shown.contains("40 80"), "{shown}");
    assert_eq!((code, step), (130, 2), "{shown}");
    let env = harness.ok(&["show", "demo"]);
    assert_eq!(env["leases"], serde_json::json!([]), "{env:#}");
}

/// What a file contains does nothing to a terminal; a program that applies a patch gets its bytes.
#[test]
fn patch_is_escaped_at_terminal_only() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let _daemon = Daemon::start(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("README"), "\x1b]0;title\x07 and\ta tab\u{9b}31m\n");
    let mut command = harness.command(&["diff", "demo"]);
    command.env("PAGER", "cat");
    let (code, shown) = at_width(command, COLUMNS, "");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("+\\u{1b}]0;title\\u{7} and\ta tab\\u{9b}31m"), "{shown:?}");
    let printed = harness.command(&["diff", "demo"]).output().expect("runs").stdout;
    let printed = String::from_utf8(printed).expect("text");
    assert!(printed.contains("+\x1b]0;title\x07 and\ta tab\u{9b}31m\n"), "{printed:?}");
}
