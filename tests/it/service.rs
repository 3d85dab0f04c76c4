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
path, program, data = sys.argv[1:4]
os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(16)
print("listening", flush=True)
while True:
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
    fn start(harness: &Harness) -> Self {
        let mut command = harness.command(&[]);
        let program = command.get_program().to_owned();
        command = {
            let mut python = Command::new("python3");
            python.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            python
        };
        let data = harness.data();
        command.arg("-c").arg(MANAGER).arg(data.join("daemon.sock")).arg(program).arg(&data);
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
    let _manager = Manager::start(&harness);
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

#[test]
fn passed_socket_of_other_directory_is_refused() {
    let harness = Harness::new();
    let _manager = Manager::start(&harness);
    let socket = harness.data().join("daemon.sock");
    std::fs::rename(&socket, harness.path("elsewhere.sock")).expect("moved");
    std::fs::write(&socket, "theirs").expect("written");
    let _asked = std::os::unix::net::UnixStream::connect(harness.path("elsewhere.sock"));
    let said = || std::fs::read_to_string(harness.path("manager.err")).unwrap_or_default();
    wait_for("the refusal", || {
        said().contains("the socket that the service manager opened is not")
    });
    assert!(said().contains("`groundskeeper service install`"), "{}", said());
    assert_eq!(std::fs::read(&socket).expect("there"), b"theirs");
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
    assert!(next().1.contains("READY=1"));
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
    case \"$*\" in *enable*--now*) test ! -e \"$HOME/fails\" || { echo no bus >&2; exit 1; } ;; esac\n\
    case \"$*\" in *status*) echo active ;; esac\n";

#[test]
fn units_are_shown_written_and_removed() {
    let harness = Harness::new();
    let tools = harness.path("tools");
    harness.write(&tools.join("systemctl"), SYSTEMCTL);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(tools.join("systemctl"), mode).expect("mode");
    let path = format!("{}:/usr/bin:/bin", tools.display());
    let run = |args: &[&str]| {
        let output = harness.command(args).env("PATH", &path).output().expect("it runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), output.stderr);
        (output.status.code(), format!("{out}{}", String::from_utf8_lossy(&err)))
    };
    let folder = harness.path("home/.config/systemd/user");
    let files = || std::fs::read_dir(&folder).map_or(0, Iterator::count);
    let asked = || std::fs::read_to_string(harness.path("home/asked")).unwrap_or_default();

    let (code, shown) = run(&["service", "install", "--dry-run"]);
    assert_eq!((code, files(), asked()), (Some(0), 0, String::new()), "{shown}");
    let socket = format!("ListenStream={}/daemon.sock", harness.data().display());
    for line in [&*socket, "SocketMode=0600", "WatchdogSec=120", "then: systemctl --user enable"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(run(&["service", "status"]).0, Some(3));
    assert_eq!(run(&["service", "uninstall"]).0, Some(3));

    // A daemon that runs is ended: its socket would be in the way.
    harness.ok(&["ls"]);
    let (code, said) = run(&["service", "install"]);
    assert_eq!((code, files()), (Some(0), 2), "{said}");
    assert_eq!(harness.gk(&["daemon", "status"]).0, 3);
    assert!(asked().contains("daemon-reload\n--user enable --now groundskeeper-"), "{}", asked());
    let (code, said) = run(&["service", "status"]);
    assert_eq!((code, said.trim()), (Some(0), "active"));
    assert_eq!(run(&["service", "install"]).0, Some(0), "again");

    std::fs::write(harness.path("home/fails"), "").expect("written");
    let (code, said) = run(&["service", "install"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no bus"), "{said}");

    let name = std::fs::read_dir(&folder).expect("there").flatten().next().expect("a file");
    std::fs::write(name.path(), "[Socket]\n").expect("written");
    let (code, said) = run(&["service", "uninstall"]);
    assert_eq!((code, files()), (Some(1), 2), "{said}");
    assert!(said.contains("was not written by groundskeeper"), "{said}");
    std::fs::remove_file(name.path()).expect("removed");
    assert_eq!((run(&["service", "uninstall"]).0, files()), (Some(0), 0));
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("text")
}
