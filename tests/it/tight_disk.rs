//! A data directory on a small disk without free bytes or inodes, and folders that vanish under a
//! running daemon: what makes room works, and everything else is refused in time.
//!
//! The disk is a small tmpfs that one process tree sees.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Daemon, Harness};

/// Longest time of one command.
const ANSWERED: Duration = Duration::from_secs(60);

/// Mounts the disk, and keeps the mount until its input ends.
const MOUNT: &str = r#"mount -t tmpfs -o "$OPTIONS" none "$DISK" && echo mounted && exec cat"#;

/// A disk at the place of the data directory, in a mount namespace of its own.
struct Disk {
    harness: Harness,
    holder: Child,
}

impl Disk {
    fn new(options: &str) -> Self {
        let harness = Harness::new();
        std::fs::create_dir(harness.data()).expect("a folder");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", MOUNT]);
        command.env("OPTIONS", options).env("DISK", harness.data());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare runs");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("read");
        assert_eq!(line, "mounted\n", "this user must be able to mount a tmpfs with `unshare`");
        Self { harness, holder }
    }

    /// Returns a command that runs where the disk is.
    fn enter(&self, inner: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--mount", "--preserve-credentials", "--target"]);
        command.arg(self.holder.id().to_string()).arg("--");
        command.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null()).current_dir("/");
        command
    }

    fn gk(&self, args: &[&str]) -> (i32, Value) {
        let mut all = vec!["--json"];
        all.extend(args);
        let began = Instant::now();
        let output = self.enter(&self.harness.command(&all)).output().expect("it runs");
        assert!(began.elapsed() < ANSWERED, "{args:?} took {:?}", began.elapsed());
        let text = String::from_utf8_lossy(&output.stdout);
        let json = serde_json::from_str(text.trim()).unwrap_or_else(|_| {
            Value::String(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
        });
        (output.status.code().unwrap_or(-1), json)
    }

    fn ok(&self, args: &[&str]) -> Value {
        let (code, json) = self.gk(args);
        assert_eq!(code, 0, "{args:?}: {json:#}\n{}", self.log());
        json
    }

    fn refused_for_space(&self, args: &[&str]) {
        let (code, json) = self.gk(args);
        assert_eq!(
            (code, &json["error"]["code"]),
            (2, &Value::from("disk_full")),
            "{args:?}: {json:#}"
        );
        assert!(
            json["error"]["hint"].as_str().is_some_and(|h| h.contains("`groundskeeper rm ID`"))
        );
    }

    fn shell(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).env("DISK", self.harness.data());
        let output = self.enter(&command).output().expect("sh runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn log(&self) -> String {
        self.shell("tail -n 20 \"$DISK/daemon.log\"")
    }

    fn new_env(&self, id: &str, repo: &Path) -> PathBuf {
        let made = self.ok(&["new", id, "--repo", repo.to_str().expect("text")]);
        PathBuf::from(made["path"].as_str().expect("a path"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.enter(&self.harness.command(&["stop"])).output());
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// What takes room is refused; what makes room works, also after a restart on the full disk.
fn full_disk(disk: &Disk, fill: &str) {
    let repo = disk.harness.repo("project", 20);
    let foreign = disk.harness.repo("foreign", 1);
    for id in ["ended", "cleaned", "first", "second", "third"] {
        disk.new_env(id, &repo);
    }
    let at = disk.harness.data().join("worktrees");
    disk.shell(
        "for id in first third; do echo work > \"$DISK/worktrees/$id/project/README\"; done",
    );
    disk.shell("mkdir -p \"$DISK/worktrees/cleaned/project/target/debug\"");
    disk.ok(&["rm", "ended"]);
    assert_ne!(disk.shell("ls \"$DISK/spare\" \"$DISK/ballast\""), "", "nothing was set aside");
    crate::support::wait_for("a full disk", || disk.shell(fill) == "filled");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    disk.refused_for_space(&["new", "more", "--repo", &text(&repo)]);
    disk.refused_for_space(&["restore", "ended"]);
    disk.refused_for_space(&["adopt", &text(&foreign)]);
    let (code, _) = disk.gk(&["exec", "second", "--", "true"]);
    assert_ne!(code, 0, "a command was started on a full disk");
    for args in [&["ls"][..], &["status", "first"], &["trash", "ls"], &["df"], &["sweep"]] {
        disk.ok(args);
    }
    let lease = disk.ok(&["lease", "second", "--for", "1h"]);
    disk.ok(&["release", lease["id"].as_str().or(lease["lease"].as_str()).expect("a lease")]);
    // Work at risk: a rescue ref is made in the repository, and locks and scratch files here.
    let removed = disk.ok(&["rm", "first", "--force"]);
    assert_eq!(removed["phase"], "tombstoned", "{removed:#}");
    disk.ok(&["stop"]);
    let listed = disk.ok(&["ls"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed:#}");
    assert_eq!(disk.ok(&["rm", "second"])["phase"], "tombstoned");
    disk.ok(&["trash", "empty"]);
    assert_eq!(disk.ok(&["rm", "third", "--force"])["phase"], "tombstoned");
    disk.ok(&["clean", "cleaned"]);
    disk.shell("rm -rf \"$DISK/filler\"");
    disk.ok(&["trash", "empty"]);
    // With room again new work is accepted.
    crate::support::wait_for("room", || disk.gk(&["new", "more", "--repo", &text(&repo)]).0 == 0);
    assert_eq!(disk.shell(&format!("ls {}", at.display())), "cleaned\nmore");
}

#[test]
fn disk_without_free_bytes_can_be_emptied() {
    let disk = Disk::new("size=30m");
    full_disk(&disk, "cat /dev/zero > \"$DISK/filler\" 2> /dev/null; echo filled");
}

#[test]
fn disk_without_free_inodes_can_be_emptied() {
    let disk = Disk::new("size=200m,nr_inodes=3000");
    // In a shell of its own, which ends with the first file that cannot be made.
    let fill = "mkdir -p \"$DISK/filler\"; n=0; \
                (while : 2> /dev/null > \"$DISK/filler/$n\"; do n=$((n + 1)); done); echo filled";
    full_disk(&disk, fill);
}

/// Each of these is removed, emptied or closed to its owner while the daemon runs.
#[test]
fn removed_folders_are_made_again() {
    let harness = Harness::new();
    let repo = harness.repo("project", 5);
    // Without the right of root to pass by modes.
    let inner = harness.command(&["daemon"]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search", "--"]);
    command.arg(inner.get_program()).args(inner.get_args());
    let daemon = Daemon::of(&harness, command);
    let folders = ["locks", "scratch", "transcripts", "rescue", "trash"];
    for (n, folder) in folders.iter().enumerate() {
        for (how, id) in [("rm -rf", format!("a{n}")), ("chmod 000", format!("b{n}"))] {
            let at = harness.new_env(&id, &repo, &[]);
            harness.write(&at.join("README"), "work\n");
            let place = harness.data().join(folder);
            let script = format!("{how} '{}'", place.display());
            assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success());
            let began = Instant::now();
            assert_eq!(harness.ok(&["rm", &id, "--force"])["phase"], "tombstoned", "{script}");
            assert!(began.elapsed() < ANSWERED, "{script}: {:?}", began.elapsed());
            harness.ok(&["trash", "empty"]);
        }
    }
    assert!(daemon.terminate().success());
    std::fs::remove_dir_all(harness.data().join("locks")).expect("removed");
    let _again = Daemon::start(&harness);
    assert_eq!(harness.ok(&["ls"]), serde_json::json!([]));
}
