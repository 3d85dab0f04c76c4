//! The service manager and the daemon: the files that it reads, the socket that it opens before the
//! daemon, and what the daemon tells it.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Daemon, Harness, wait_for};

/// What a service manager does with a socket: it listens, starts the daemon for the first client,
/// and starts it again when it has ended and the next client comes.
const MANAGER: &str = r#"
import os, select, socket, sys
path, program, data, state = sys.argv[1:5]
os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(16)
if state != "fresh":
    os.unlink(path)
if state == "stale":
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
while True:
    if state == "fresh":
        select.select([listener], [], [])
    child = os.fork()
    if child == 0:
        os.dup2(listener.fileno(), 3, inheritable=True)
        os.set_inheritable(3, True)
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = "1"
        os.execv(program, [program, "--data-dir", data, "daemon"])
    os.waitpid(child, 0)
"#;

struct Manager(Child);

impl Manager {
    /// Starts it with a name of its socket that is `fresh`, `gone`, or `stale`: that of another
    /// socket that has no listener any more.
    fn start(harness: &Harness, state: &str) -> Self {
        let mut command = harness.command(&[]);
        let program = command.get_program().to_owned();
        command = {
            let mut python = Command::new("python3");
            python.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            python
        };
        let data = harness.data();
        command.arg("-c").arg(MANAGER).arg(data.join("daemon.sock")).arg(program).arg(&data);
        command.arg(state);
        let log = std::fs::File::create(harness.path("manager.err")).expect("a log");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let manager = Self(child.expect("python3 runs"));
        wait_for("the socket", || data.join("daemon.sock").exists());
        manager
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

#[test]
fn passed_socket_starts_daemon_and_outlives_it() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let socket = harness.data().join("daemon.sock");
    let _manager = Manager::start(&harness, "fresh");
    // Nothing runs, and a question about the daemon starts none.
    assert_eq!(harness.gk(&["daemon", "status"]).0, 3);
    assert_eq!(harness.ok(&["stop"])["stopped"], false);
    assert!(!harness.data().join("daemon.lock").exists(), "no daemon was started");
    for round in 0..2 {
        let made = harness.ok(&["--no-autostart", "new", "demo", "--repo", text(&repo)]);
        assert_eq!(made["phase"], "ready", "{made:#}");
        let mode = socket.metadata().expect("a socket").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let first = harness.ok(&["daemon", "status"]);
        assert_eq!(harness.ok(&["daemon", "reload"])["reloaded"], true);
        let second = harness.ok(&["daemon", "status"]);
        assert_eq!(first["pid"], second["pid"]);
        assert_ne!(first["boot"], second["boot"], "round {round}");
        harness.ok(&["stop"]);
        assert!(socket.exists(), "the next client still reaches the service manager");
        assert_eq!(harness.gk(&["daemon", "status"]).0, 3);
    }
}

/// A name that leads to no listener is made anew; a living listener of another process is left.
#[test]
fn lost_name_of_passed_socket_is_made_anew() {
    for state in ["gone", "stale"] {
        let harness = Harness::new();
        let _manager = Manager::start(&harness, state);
        let reached = || harness.gk(&["--no-autostart", "ls"]).0 == 0;
        wait_for("a daemon that can be reached", reached);
        let first = harness.ok(&["daemon", "status"]);
        assert_eq!(harness.ok(&["daemon", "reload"])["reloaded"], true, "{state}");
        assert_eq!(harness.ok(&["daemon", "status"])["pid"], first["pid"], "{state}");
    }
    let harness = Harness::new();
    let manager = Manager::start(&harness, "fresh");
    let socket = harness.data().join("daemon.sock");
    std::fs::rename(&socket, harness.path("elsewhere.sock")).expect("moved");
    let theirs = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let _asked = std::os::unix::net::UnixStream::connect(harness.path("elsewhere.sock"));
    let said = || std::fs::read_to_string(harness.path("manager.err")).unwrap_or_default();
    wait_for("the refusal", || {
        said().contains("the socket that the service manager opened is not")
    });
    assert!(said().contains("`groundskeeper service install`"), "{}", said());
    // In this order: with the name free, the next daemon would start and outlive its test.
    drop(manager);
    drop(theirs);
}

/// What was removed while the daemon ran is made again, and a reload keeps that.
#[test]
fn removed_name_of_passed_socket_survives_reload() {
    let harness = Harness::new();
    let _manager = Manager::start(&harness, "fresh");
    let socket = harness.data().join("daemon.sock");
    harness.ok(&["ls"]);
    std::fs::remove_file(&socket).expect("removed");
    wait_for("the socket to be made again", || socket.exists());
    assert_eq!(harness.ok(&["daemon", "reload"])["reloaded"], true);
    harness.ok(&["--no-autostart", "ls"]);
}

/// An engine that hangs is no living daemon, however well the rest of it does.
#[test]
fn watchdog_hears_nothing_of_hanging_engine() {
    let harness = Harness::new();
    let place = harness.path("notify.sock");
    let manager = UnixDatagram::bind(&place).expect("bound");
    let variables = [
        ("GROUNDSKEEPER_FAULT", "checkpoint:3000ms:1"),
        ("NOTIFY_SOCKET", text(&place)),
        ("WATCHDOG_USEC", "100000"),
    ];
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(length) = manager.recv(&mut buffer) {
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if sender.send((Instant::now(), said)).is_err() {
                return;
            }
        }
    });
    let next = || heard.recv_timeout(Duration::from_secs(60)).expect("a message");
    let daemon = Daemon::start_with(&harness, &variables);
    // The engine writes its checkpoint after the records of an environment, when it is idle.
    let repo = harness.repo("project", 3);
    harness.new_env("demo", &repo, &[]);
    wait_for("the daemon", || next().1.contains("READY=1"));
    let begin = Instant::now();
    let (mut before, mut beats) = (None::<Instant>, 0);
    loop {
        let (at, said) = next();
        assert!(begin.elapsed() < Duration::from_secs(60), "{beats} signs of life, no silence");
        if said.contains("WATCHDOG=1") {
            beats += 1;
            if before.is_some_and(|before| at - before >= Duration::from_secs(2)) {
                break;
            }
            before = Some(at);
        }
    }
    assert!(daemon.terminate().success());
    wait_for("the end", || next().1.contains("STOPPING=1"));
}

/// Answers like `systemctl`, and writes down what it was asked.
const SYSTEMCTL: &str = "#!/bin/sh\necho \"$*\" >>\"$HOME/asked\"\n\
    test ! -e \"$HOME/dead\" || { echo no bus >&2; exit 1; }\n\
    case \"$*\" in *restart*) test ! -e \"$HOME/fails\" || { echo no unit >&2; exit 1; } ;; esac\n\
    case \"$*\" in *status*) echo active ;; esac\n";

/// A home with a service manager that only answers.
struct Scene {
    harness: Harness,
    path: String,
}

impl Scene {
    fn new() -> Self {
        let harness = Harness::new();
        let tools = harness.path("tools");
        harness.write(&tools.join("systemctl"), SYSTEMCTL);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(tools.join("systemctl"), mode).expect("mode");
        let path = format!("{}:/usr/bin:/bin", tools.display());
        Self { harness, path }
    }

    /// Runs a command, and returns its exit code and all that it said.
    fn run(&self, args: &[&str]) -> (i32, String) {
        let output = self.harness.command(args).env("PATH", &self.path).output().expect("it runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), output.stderr);
        let said = format!("{out}{}", String::from_utf8_lossy(&err));
        (output.status.code().expect("a code"), said)
    }

    fn folder(&self) -> std::path::PathBuf {
        self.harness.path("home/.config/systemd/user")
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder()).map_or(0, Iterator::count)
    }

    fn asked(&self) -> String {
        std::fs::read_to_string(self.harness.path("home/asked")).unwrap_or_default()
    }

    /// Makes the service manager fail while `during` runs: at everything, or at a restart.
    fn with(&self, failure: &str, during: impl FnOnce()) {
        let flag = self.harness.path("home").join(failure);
        std::fs::write(&flag, "").expect("written");
        during();
        std::fs::remove_file(&flag).expect("removed");
    }
}

#[test]
fn units_are_shown_written_and_removed() {
    let scene = Scene::new();
    let harness = &scene.harness;
    let (code, shown) = scene.run(&["service", "install", "--dry-run"]);
    assert_eq!((code, scene.files(), scene.asked()), (0, 0, String::new()), "{shown}");
    let socket = format!("ListenStream={}/daemon.sock", harness.data().display());
    for line in [&*socket, "SocketMode=0600", "WatchdogSec=120", "KillMode=process"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(scene.run(&["service", "status"]).0, 3);
    assert_eq!(scene.run(&["service", "uninstall"]).0, 3);

    // A daemon that runs is ended: its socket would be in the way.
    harness.ok(&["ls"]);
    let (code, said) = scene.run(&["service", "install"]);
    assert_eq!((code, scene.files()), (0, 2), "{said}");
    assert_eq!(harness.gk(&["daemon", "status"]).0, 3);
    let asked = scene.asked();
    assert!(asked.contains("daemon-reload\n--user enable groundskeeper-"), "{asked}");
    let (code, said) = scene.run(&["service", "status"]);
    assert_eq!((code, said.trim()), (0, "active"));
    assert_eq!(scene.run(&["service", "install"]).0, 0, "again");
    assert_eq!((scene.run(&["service", "uninstall"]).0, scene.files()), (0, 0));
}

#[test]
fn failing_service_manager_is_told() {
    let scene = Scene::new();
    let harness = &scene.harness;
    harness.ok(&["ls"]);
    scene.with("dead", || {
        let (code, said) = scene.run(&["service", "install"]);
        assert_eq!((code, scene.files()), (2, 0), "nothing changes: {said}");
        assert_eq!(harness.gk(&["daemon", "status"]).0, 0, "the daemon goes on");
    });
    scene.with("fails", || {
        let (code, said) = scene.run(&["service", "install"]);
        assert!(code == 2 && said.contains("no unit") && said.contains("install` again"), "{said}");
    });
    assert_eq!((scene.run(&["service", "install"]).0, scene.files()), (0, 2));
    scene.with("dead", || {
        let (code, said) = scene.run(&["service", "uninstall"]);
        assert_eq!((code, scene.files()), (2, 0), "the files are gone all the same: {said}");
        assert!(said.contains("are removed already"), "{said}");
    });
}

#[test]
fn foreign_units_and_odd_paths_are_refused() {
    let scene = Scene::new();
    assert_eq!(scene.run(&["service", "install"]).0, 0);
    let unit = std::fs::read_dir(scene.folder()).expect("there").flatten().next().expect("a file");
    std::fs::write(unit.path(), "[Socket]\n").expect("written");
    for verb in ["install", "uninstall"] {
        let (code, said) = scene.run(&["service", verb]);
        assert_eq!((code, scene.files()), (1, 2), "{said}");
        assert!(said.contains("was not written by groundskeeper"), "{said}");
    }
    // A line break would begin a line of the unit.
    let odd = scene.harness.path("a\nExecStartPre=b");
    let (code, said) = scene.run(&["--data-dir", text(&odd), "service", "install", "--dry-run"]);
    assert_eq!(code, 64, "{said}");
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("text")
}
