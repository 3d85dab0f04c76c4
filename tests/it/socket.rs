//! The socket of a running daemon: removed, replaced, or in the hands of another process.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Daemon, Harness, wait_for};

/// Longest time until a daemon listens again.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest time of a command that finds no socket.
const ANSWERED: Duration = Duration::from_secs(30);

fn socket(harness: &Harness) -> PathBuf {
    harness.data().join("daemon.sock")
}

fn info(harness: &Harness) -> Value {
    let text = std::fs::read(harness.data().join("daemon.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket())
}

fn doctor(harness: &Harness) -> Value {
    let (_, checks) = harness.gk(&["doctor"]);
    let checks = checks.as_array().expect("a list").clone();
    checks.into_iter().find(|check| check["name"] == "daemon").expect("a check")
}

#[test]
fn removed_socket_is_made_again() {
    let harness = Harness::new();
    let daemon = Daemon::start(&harness);
    for also in [None, Some("daemon.json")] {
        std::fs::remove_file(socket(&harness)).expect("removed");
        if let Some(name) = also {
            std::fs::remove_file(harness.data().join(name)).expect("removed");
        }
        let removed = Instant::now();
        // Without a socket a command waits for it. It starts no other daemon.
        assert_eq!(harness.ok(&["--no-autostart", "ls"]), serde_json::json!([]));
        assert!(removed.elapsed() < AGAIN + Duration::from_secs(1), "{:?}", removed.elapsed());
        wait_for("the info file", || info(&harness)["pid"] == daemon.child.id());
    }
    let mode = socket(&harness).metadata().expect("there").mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!harness.data().join("daemon.log").exists(), "no other daemon was started");
    assert!(daemon.terminate().success());
    assert!(!socket(&harness).exists());
}

/// Each of these has the place of the socket, and stays there untouched.
#[test]
fn foreign_file_in_place_of_socket_stays_and_is_reported() {
    let harness = Harness::new();
    let _daemon = Daemon::start(&harness);
    let address = socket(&harness);
    for what in ["a plain file", "a directory", "a FIFO", "a symbolic link", "a socket"] {
        let mut listener = None;
        // The daemon may be faster and make its socket in between.
        wait_for("a free name", || {
            std::fs::remove_file(&address).expect("removed");
            match what {
                "a plain file" => std::fs::write(&address, "theirs").is_ok(),
                "a directory" => std::fs::create_dir(&address).is_ok(),
                "a FIFO" => {
                    let made = std::process::Command::new("mkfifo").arg(&address).status();
                    made.expect("mkfifo runs").success()
                }
                "a symbolic link" => std::os::unix::fs::symlink("none", &address).is_ok(),
                _ => {
                    listener = UnixListener::bind(&address).ok();
                    listener.is_some()
                }
            }
        });
        let before = address.symlink_metadata().expect("there");
        wait_for("a note in the info file", || {
            info(&harness)["unreachable"].as_str().is_some_and(|why| why.starts_with(what))
        });
        let began = Instant::now();
        let (code, error) = harness.refused(&["ls"]);
        assert_eq!((code, error["code"].as_str()), (2, Some("daemon_unreachable")), "{error:#}");
        assert!(error.to_string().contains(what), "{error:#}");
        assert!(began.elapsed() < ANSWERED, "{what}: {:?}", began.elapsed());
        let check = doctor(&harness);
        assert_eq!(check["status"], "fail", "{check:#}");
        let after = address.symlink_metadata().expect("there");
        assert_eq!((before.ino(), before.file_type()), (after.ino(), after.file_type()), "{what}");
        drop(listener);
        if what == "a directory" {
            std::fs::remove_dir(&address).expect("removed");
        } else {
            std::fs::remove_file(&address).expect("removed");
        }
        let freed = Instant::now();
        wait_for("a socket", || is_socket(&address));
        assert!(freed.elapsed() < AGAIN, "{what}: {:?}", freed.elapsed());
        assert_eq!(harness.ok(&["--no-autostart", "ls"]), serde_json::json!([]));
        assert_eq!(info(&harness)["unreachable"], Value::Null);
    }
    let printed = std::fs::read_to_string(harness.path("daemon.err")).expect("a log");
    assert!(printed.contains("no client can connect"), "{printed}");
}

#[test]
fn stop_ends_daemon_without_socket() {
    let harness = Harness::new();
    let mut daemon = Daemon::start(&harness);
    std::fs::remove_file(socket(&harness)).expect("removed");
    std::fs::write(socket(&harness), "theirs").expect("written");
    wait_for("a note", || info(&harness)["unreachable"].is_string());
    let pid = daemon.child.id();
    // A zombie still has its start time, so the test has to wait for its child meanwhile.
    let stopped = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| harness.ok(&["stop"]));
        wait_for("the end of the daemon", || daemon.is_dead());
        stopping.join().expect("it ends")
    });
    assert_eq!(
        (stopped["stopped"].as_bool(), stopped["pid"].as_u64()),
        (Some(true), Some(pid.into()))
    );
    assert_eq!(std::fs::read(socket(&harness)).expect("there"), b"theirs");
    let (code, error) = harness.refused(&["ls"]);
    assert_eq!(code, 2, "{error:#}");
    assert!(error.to_string().contains("daemon.sock is a plain file"), "{error:#}");
}

/// The info file names a process that reuses the pid of the daemon.
#[test]
fn stop_spares_process_with_reused_pid() {
    let harness = Harness::new();
    let mut daemon = Daemon::start(&harness);
    let text = std::fs::read_to_string(harness.data().join("daemon.json")).expect("read");
    daemon.kill();
    let mut other = std::process::Command::new("sleep").arg("600").spawn().expect("started");
    let forged =
        text.replace(&format!("\"pid\":{}", daemon.child.id()), &format!("\"pid\":{}", other.id()));
    assert_ne!(forged, text);
    std::fs::write(harness.data().join("daemon.json"), forged).expect("written");
    // As if the daemon were there: its lock is held.
    let lock = std::fs::File::open(harness.data().join("daemon.lock")).expect("opened");
    lock.lock().expect("locked");
    let (code, error) = harness.refused(&["stop"]);
    assert_eq!((code, error["code"].as_str()), (2, Some("daemon_unreachable")), "{error:#}");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("`fuser ")), "{error:#}");
    assert!(other.try_wait().expect("asked").is_none(), "it was not signalled");
    other.kill().expect("killed");
    other.wait().expect("ended");
    drop(lock);
    assert_eq!(harness.ok(&["stop"])["stopped"], false);
}

/// A socket of a daemon that was killed is replaced, one with a listener is not.
#[test]
fn start_replaces_stale_socket_only() {
    let harness = Harness::new();
    let mut daemon = Daemon::start(&harness);
    daemon.kill();
    assert!(is_socket(&socket(&harness)), "it is left");
    assert_eq!(harness.ok(&["ls"]), serde_json::json!([]));
    assert_eq!(harness.ok(&["stop"])["stopped"], true);
    let _theirs = UnixListener::bind(socket(&harness)).expect("bound");
    let output = harness.command(&["daemon"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(printed.contains("another process listens at"), "{printed}");
    assert!(is_socket(&socket(&harness)));
}
