//! Settings: shown with where they come from, checked, and reloaded by a daemon that runs.

use std::path::Path;
use std::process::Stdio;

use crate::support::{Daemon, Harness, wait_for};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn settings_are_shown_and_checked() {
    let harness = Harness::new();
    let config = harness.path("config.toml");
    let with = |args: &[&str]| {
        let mut command = harness.command(args);
        command.env("GROUNDSKEEPER_CONFIG", &config).output().expect("runs")
    };
    let missing = with(&["config", "show"]);
    let why = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(64), "{why}");
    assert!(why.contains("which does not exist"), "{why}");
    assert_eq!(with(&["ls"]).status.code(), Some(64), "no daemon starts with other settings");

    harness.write(&config, "trash_days = 3\n");
    let shown = with(&["config", "show", "--origin"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&format!("trash_days = 3  # {}\n", text(&config))), "{shown}");
    assert!(shown.contains("branch_prefix = \"gk/\"  # default\n"), "{shown}");
    let path = with(&["config", "path"]);
    assert_eq!(String::from_utf8_lossy(&path.stdout), format!("{}\n", text(&config)));
    assert_eq!(with(&["config", "check"]).status.code(), Some(0));

    let bad = harness.path("bad.toml");
    harness.write(&bad, "trash_dais = 3\n");
    let (code, error) = harness.refused(&["config", "check", text(&bad)]);
    assert_eq!((code, error["code"].as_str()), (64, Some("invalid_config")), "{error}");
    assert!(error["causes"].to_string().contains("trash_dais"), "{error}");
    let (code, _) = harness.refused(&["config", "check", text(&harness.path("none.toml"))]);
    assert_eq!(code, 3);
}

#[test]
fn reload_takes_new_settings_in_the_same_process() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let config = harness.path("config.toml");
    harness.write(&config, "");
    let env = [("GROUNDSKEEPER_CONFIG", text(&config))];
    let with = |args: &[&str]| {
        let output = harness.command(args).envs(env).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &said)
    };
    let (code, said) = with(&["daemon", "status"]);
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(with(&["daemon", "reload"]).0, Some(3));
    let daemon = Daemon::start_with(&harness, &env);
    let pid = daemon.child.id();
    harness.new_env("one", &repo, &[]);
    let before = harness.ok(&["daemon", "status"]);
    assert_eq!(before["pid"], pid);

    // What cannot be used is refused, by the command and by the daemon.
    harness.write(&config, "branch_prefix = 7\n");
    let (code, said) = with(&["daemon", "reload"]);
    assert_eq!(code, Some(64), "{said}");
    let daemon_pid = rustix::process::Pid::from_child(&daemon.child);
    rustix::process::kill_process(daemon_pid, rustix::process::Signal::HUP).expect("signalled");
    wait_for("a refusal in the log", || {
        std::fs::read_to_string(harness.path("daemon.err"))
            .is_ok_and(|t| t.contains("not reloaded"))
    });
    assert_eq!(harness.ok(&["daemon", "status"])["boot"], before["boot"]);

    harness.write(&config, "branch_prefix = \"agents/\"\n");
    let (code, said) = with(&["daemon", "reload"]);
    assert_eq!(code, Some(0), "{said}");
    let after = harness.ok(&["daemon", "status"]);
    assert_eq!(after["pid"], pid, "it is the same process");
    assert!(after["boot"].as_u64() > before["boot"].as_u64());
    harness.new_env("two", &repo, &[]);
    assert_eq!(harness.ok(&["show", "two"])["branch"], "agents/two");
    assert_eq!(harness.ok(&["show", "one"])["branch"], "gk/one");
    harness.check(&[&repo]);
}

#[test]
fn log_of_background_daemon_is_printed() {
    let harness = Harness::new();
    let output = harness.command(&["daemon", "logs"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(3), "there is none yet");
    harness.ok(&["ls"]);
    let output = harness.command(&["daemon", "logs", "-n", "2"]).output().expect("runs");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.contains("ready"), "{lines}");
    harness.ok(&["stop"]);
}

/// No other daemon takes the place of one that reloads, and no signal ends it meanwhile.
#[test]
fn reloads_beside_other_commands_keep_the_daemon() {
    let harness = Harness::new();
    let daemon = Daemon::start(&harness);
    let pid = daemon.child.id();
    std::thread::scope(|scope| {
        // Those that a reload cuts off are told so; none starts a daemon of its own.
        let ask = || (0..10).for_each(|_| drop(harness.gk(&["ls"])));
        let others: Vec<_> = (0..2).map(|_| scope.spawn(ask)).collect();
        for _ in 0..4 {
            let reload = || harness.ok(&["daemon", "reload"]);
            let reloads: Vec<_> = (0..2).map(|_| scope.spawn(reload)).collect();
            for reload in reloads {
                assert_eq!(reload.join().expect("reloaded")["pid"], pid);
            }
        }
        for other in others {
            other.join().expect("answered");
        }
    });
    let before = harness.ok(&["daemon", "status"])["boot"].as_u64();
    let daemon_pid = rustix::process::Pid::from_child(&daemon.child);
    for _ in 0..5 {
        rustix::process::kill_process(daemon_pid, rustix::process::Signal::HUP).expect("signalled");
    }
    wait_for("a reload", || harness.ok(&["daemon", "status"])["boot"].as_u64() > before);
    assert_eq!(harness.ok(&["daemon", "status"])["pid"], pid);
}

/// The step that a reload interrupts is ended before it begins anew: never two at once.
#[test]
fn reload_ends_running_step_before_it_begins_anew() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let times = harness.path("times");
    let script = format!(
        "#!/bin/sh\necho begin >>{0}\ntrap '' TERM\n[ $(wc -l <{0}) -gt 1 ] || sleep 600\n\
         echo end >>{0}\n",
        text(&times)
    );
    harness.hook(&repo, &script);
    let daemon = Daemon::start(&harness);
    harness.ok(&["trust", "--repo", text(&repo)]);
    let mut new = harness.command(&["new", "demo", "--repo", text(&repo)]);
    let mut new = new.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let read = || std::fs::read_to_string(&times).unwrap_or_default();
    wait_for("the hook", || read() == "begin\n");
    assert_eq!(harness.ok(&["daemon", "reload"])["pid"], daemon.child.id());
    wait_for("the environment", || harness.gk(&["show", "demo"]).1["phase"] == "ready");
    assert_eq!(read(), "begin\nbegin\nend\n");
    new.wait().expect("ended");
    harness.check(&[&repo]);
}

/// A control server in the same process would not start again with it.
#[test]
fn daemon_with_control_server_refuses_to_reload() {
    let harness = Harness::new();
    let mut up = harness.command(&["up"]);
    let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    wait_for("the daemon", || harness.gk(&["daemon", "status"]).0 == 0);
    let (code, error) = harness.refused(&["daemon", "reload"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsupported_command")), "{error}");
    assert_eq!(harness.ok(&["daemon", "status"])["pid"], up.id());
    harness.ok(&["stop"]);
    up.wait().expect("ended");
}
