//! Linux without `/proc`: what cannot be seen counts as in use, and not as absent.
//!
//! The program runs in a mount namespace of its own, in which an empty file system covers `/proc`.
//! That needs root; elsewhere these tests say that they are skipped.

use std::path::Path;
use std::process::{Command, Stdio};

use groundskeeper::world::process::table;

use crate::migrate::{TENANT, migrate, set_up_case};
use crate::support::{Daemon, Harness, PROGRAM};

const UNSEEN: &str = "this system has no /proc";
/// Covers `/proc` in a new mount namespace, then runs a program there.
const WITHOUT_PROC: [&str; 5] =
    ["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"];

fn may_mount() -> bool {
    let mut command = Command::new("unshare");
    command.args(WITHOUT_PROC).arg("true").stderr(Stdio::null());
    let may = command.status().is_ok_and(|status| status.success());
    if !may {
        eprintln!("SKIPPED: /proc cannot be covered here; run this test as root");
    }
    may
}

/// Starts a daemon in a mount namespace of its own.
fn start_apart(harness: &Harness) -> Daemon {
    let mut command = Command::new("unshare");
    command.args(["--mount", PROGRAM, "--data-dir"]).arg(harness.data()).arg("daemon");
    Daemon::of(harness, command)
}

fn in_namespace_of(daemon: &Daemon, command: &[&str]) {
    let mut enter = Command::new("nsenter");
    enter.args(["--target", &daemon.child.id().to_string(), "--mount"]).args(command);
    assert!(enter.status().expect("nsenter runs").success(), "{command:?}");
}

#[test]
fn removal_without_proc_keeps_environment() {
    if !may_mount() {
        return;
    }
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let daemon = start_apart(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    let mut user = Command::new("sleep").arg("1013").current_dir(&path).spawn().expect("started");

    in_namespace_of(&daemon, &["mount", "-t", "tmpfs", "none", "/proc"]);
    let (code, fault) = harness.refused(&["ps", "demo"]);
    assert_ne!(code, 0, "{fault:#}");
    assert!(fault.to_string().contains(UNSEEN), "{fault:#}");
    for flags in [&["rm", "demo"][..], &["rm", "demo", "--force"]] {
        let (code, answer) = harness.gk(flags);
        assert_ne!(code, 0, "{answer:#}");
        assert!(answer.to_string().contains(UNSEEN), "{answer:#}");
        assert!(path.join("README").exists(), "the worktree is kept");
        assert_eq!(user.try_wait().expect("asked"), None, "the process in it lives");
    }

    in_namespace_of(&daemon, &["umount", "/proc"]);
    let removed = harness.ok(&["rm", "demo", "--force"]);
    assert!(!path.exists(), "{removed:#}");
    drop((user.kill(), user.wait()));
    harness.check(&[&repo]);
}

/// Nothing recorded as running is taken for ended, and nothing is purged, while `/proc` is covered.
#[test]
fn recorded_process_without_proc_is_kept() {
    if !may_mount() {
        return;
    }
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let daemon = start_apart(&harness);
    harness.new_env("demo", &repo, &[]);
    let mut command = harness.command(&["exec", "demo", "--", "sleep", "1014"]);
    let mut exec = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    crate::support::wait_for("the command", || harness.ok(&["ps", "demo"])[0]["pid"].is_u64());
    let pid = harness.ok(&["ps", "demo"])[0]["pid"].as_u64().expect("a pid");
    let pid = u32::try_from(pid).expect("a pid");

    in_namespace_of(&daemon, &["mount", "-t", "tmpfs", "none", "/proc"]);
    let (code, answer) = harness.gk(&["rm", "demo", "--force"]);
    assert!(code != 0 && answer.to_string().contains(UNSEEN), "{answer:#}");
    in_namespace_of(&daemon, &["umount", "/proc"]);
    assert!(table::start_time(pid).expect("seen").is_some(), "the command still runs");

    harness.ok(&["rm", "demo", "--force"]);
    assert_eq!(table::start_time(pid).expect("seen"), None, "the removal ended it");
    drop((exec.kill(), exec.wait()));
    harness.check(&[&repo]);
}

fn migrate_without_proc(harness: &Harness, args: &[String]) -> (Option<i32>, String) {
    // Only the program is replaced; the harness isolates the rest.
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let inner = harness.command(&args);
    let mut command = Command::new("unshare");
    command.args(WITHOUT_PROC).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.args(["--no-daemon", "--json"]).stdin(Stdio::null()).output();
    let output = output.expect("unshare runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the database is a mount of its own is unknown, and another program's lock still counts.
#[test]
fn migration_without_proc_changes_nothing() {
    if !may_mount() {
        return;
    }
    let harness = Harness::new();
    let place = set_up_case(&harness, "01-openapi-file-basic", "one");
    let before = std::fs::read(place.database()).expect("read");
    let unchanged = |path: &Path| assert_eq!(std::fs::read(path).expect("read"), before);

    let (code, answer) = migrate_without_proc(&harness, &migrate(&place, TENANT));
    assert_eq!(code, Some(2), "{answer}");
    assert!(answer.contains("cannot see mounts") && answer.contains(UNSEEN), "{answer}");
    unchanged(&place.database());

    let other = rusqlite::Connection::open(place.database()).expect("open");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let (code, answer) = migrate_without_proc(&harness, &migrate(&place, TENANT));
    assert_eq!(code, Some(4), "{answer}");
    assert!(answer.contains("database_in_use"), "{answer}");
    drop(other);
    unchanged(&place.database());
}
